// Package checkpoint is what a log signs: its origin, size and root
// (c2sp.org/tlog-checkpoint) as a signed note (c2sp.org/signed-note) under the
// log's Ed25519 key, and the checks that anyone makes against it: inclusion and
// consistency proofs (RFC 6962 §2.1).
//
// A checkpoint in the text form of the specification:
//
//	log.example/scripta/1
//	202944
//	sP9Z4gjHfG7D/LCsJhFU1I4uOPtc2zhid/nTAk94GXM=
//
//	— log.example/scripta/1 xHG2UulB/ckF…
//	— witness.example/w1 tBa6wgAAAABr…
//
// This project's logs sign no extension lines, and [Open] refuses them; [Parse]
// reads them, for the checkpoints of others.
//
// The package is pure: no I/O, no clock, nothing of this project. An auditor can
// use it alone.
package checkpoint
