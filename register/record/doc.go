// Package record is the format of the register's records and of the leaves that
// commit to them: the one format that can never change.
//
// A record is one event of the service (RFC 6109 §2.3), in 18 numbered fields.
// Its leaf is what the log publishes for ever: 34 bytes that commit to every
// field and reveal none. A field, or one element of a list field, is disclosed
// by showing its value and its salt; the others stay behind their digests.
//
//	leaf    0x01 ‖ class ‖ commit
//	commit  SHA-256("scripta/record/v1" ‖ d_1 ‖ … ‖ d_18)
//	scalar  d_i  = SHA-256(0x10 ‖ i ‖ salt_i ‖ value)
//	list    d_i  = SHA-256(0x11 ‖ i ‖ uint32 m ‖ e_1 ‖ … ‖ e_m)
//	        e_j  = SHA-256(0x12 ‖ i ‖ uint32 j ‖ salt_ij ‖ element)
//	salts   salt_i = HMAC-SHA-256(nonce, i),  salt_ij = HMAC-SHA-256(nonce, i ‖ uint32 j)
//	nonce   HMAC-SHA-256(K_nonce, uint16 length of origin ‖ origin ‖ record id)
//
// Version, class and i are one byte, integers are big-endian, labels are ASCII
// without terminator. Values are bytes as received, never normalised; an empty
// scalar has zero bytes and an empty list no elements. The format is specified
// with test vectors in docs/format.md.
//
// The package is pure: it reads no clock, no file and no randomness.
package record
