// Package register is the legal log register: it turns the events of the
// service into sealed records of a verifiable log, and finds and exhibits them.
//
// What it promises. An event whose Append returned is durable, integrated into
// the Merkle tree at the index it got, and can neither be changed nor removed
// without every later proof failing. Appending the same record id again answers
// the same index; with other content it is a conflict ([ErrConflict]). The
// bytes of every issued message come back as they were sent.
//
// How it works. The caller's goroutine seals the record and computes its leaf;
// one sequencer gives the waiting leaves their indices and adds them to the log
// in one batch (group commit); an indexer follows behind. The index and the
// receipts' places are projections that are made again after a crash.
//
// Sources: RFC 6109 §2.3 (what a provider records), DPR 68/2005 art. 11 (30
// months), DM 2/11/2005 art. 9 (one time reference per transaction). Formats:
// docs/format.md.
package register
