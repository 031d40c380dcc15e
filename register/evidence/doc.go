// Package evidence is the evidence file: one container that holds records of the
// register, the proofs that they are in its log, time stamps and receipts, so
// that a court can check them offline without trusting the provider.
//
// The file is a ZIP archive in one canonical form: entries stored, in a fixed
// order, without dates or extra fields, so that [Verify] rebuilds it and
// compares every byte.
//
//	LEGGIMI.txt                 what it is, and how to check it with openssl and sha256sum
//	manifest.json               what was asked, by whom it was made, every other file's SHA-256
//	manifest.json.p7s           the provider's CAdES signature over manifest.json (DER)
//	certificates/ca.pem …       what the provider publishes; a verifier uses its own copies
//	checkpoints/SIZE.txt        signed checkpoint of the log (C2SP signed note)
//	checkpoints/SIZE.tsr        RFC 3161 time stamp over SIZE.txt, when there is one
//	checkpoints/SIZE.proof      consistency with the checkpoint before it, hashes in hexadecimal
//	records/INDEX.json          a record: disclosed fields with salts, leaf, inclusion proof
//	receipts/INDEX.eml          the message that the record tells of, byte for byte
//	previous/LOG.zip            an evidence file of a log that was frozen before this one began
//	SHA256SUMS                  of all the files above
//
// SIZE and INDEX are decimal with 12 digits. Formats: docs/format.md.
package evidence
