// Package backup makes backups of a provider's data while it runs, checks them,
// and brings them back.
//
// A backup is a folder whose name is the time it was begun. It is whole or it is
// not there: it gets its name in the last step, after everything in it was read
// back and checked.
//
//	20261123T101500Z/
//	  backup.json       format, origin, size of the log, when
//	  checkpoint        the log's checkpoint at which it was taken
//	  leaves/00000000   leaves with their sealed records, 16,384 in each file
//	  files/…           everything else, as it lies in the provider's folder
//	  SHA256SUMS        of all the files above
//	  SHA256SUMS.note   the log's signature over it (c2sp.org/signed-note)
//
// What it promises: everything that was acknowledged before the backup was begun
// is in it. What refers to something is read before what it refers to: jobs, then
// the log, then receipts and contents, then mailboxes; so a backup may hold a
// receipt without its record, and never a record without its receipt. The log is
// copied leaf by leaf, not as a database: any engine can give it, and bringing it
// back recomputes every hash up to the signed root.
//
// What it never holds: month secrets and their master key. They have copies of
// their own (internal/keys), or a month that was disposed of would come back.
//
// Files that did not change since the backup before, in the same folder, are
// linked to it.
package backup
