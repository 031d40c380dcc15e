// Package cms signs and verifies the CMS SignedData (RFC 5652) that certified
// mail and conservation need: detached signatures of messages (S/MIME,
// RFC 8551; RFC 6109 §4.1), attached .p7m files, and the frame of RFC 3161
// time-stamp tokens.
//
// A [Signer] needs only the SHA-256 of what it signs, so a message of any size
// is signed without being held in memory. Its signatures are CAdES-BES
// (ETSI EN 319 122-1): content-type, signing-time, message-digest and
// signing-certificate-v2 (RFC 5035) are signed.
//
// [Verify] and [VerifyAttached] are stricter than the general libraries. They
// promise that exactly one signer signed, that its certificate is the one the
// signature names and not just one of the bag, that the attributes were signed
// and say what they must, that every byte was accounted for, and that the chain
// holds at the time the caller gives, never at the time the signer claims. Each
// way to fail has its own error, which errors.Is finds.
//
// Input may be BER: peers sign while they stream. It is turned into DER in a
// single bounded pass by this package, because the usual transcoders take time
// that grows with the square of the input. Whoever reads from the network may
// therefore hand in what he got.
//
// The package does no I/O, reads no clock, and asks for no revocation status.
package cms
