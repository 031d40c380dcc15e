// Package index finds records: by mailbox, counterpart, kind, words of the
// subject, message identifier and time, month by month, and the place of stored
// receipts.
//
// It is a projection: everything in it can be computed again from the log and the
// receipt store. So nothing is written until there is enough for a whole file,
// and after a crash the register adds what is missing from the place that
// [DB.Next] names, which is on the disk only together with everything before it.
//
// What is on the disk. A posting says that a record, by the index of its leaf, is
// found under a token. The postings of a month lie in a folder of their own, in
// runs: files that are written once, sorted by token and leaf, fsynced, and then
// named by the manifest, which is replaced whole. Later runs of a month hold
// later leaves; many small runs are merged into a larger one. Removing a month
// is removing its folder.
//
// Tokens are keyed hashes of 8 bytes (K_index of the month), never the values, so
// that destroying a month's secret disposes of its part of the index too. What
// is asked about a mailbox (counterpart, kind, words) is hashed together with
// it: two mailboxes have nothing in common on the disk, and one list answers.
// Two values may share a token: whoever searches compares the record.
//
// What it never does: answer with less than there is. Every block has its
// checksum, the manifest names every run with its size and checksum; what does
// not agree is [ErrDamaged], and the next opening begins an empty index.
package index
