// Package archive closes days: it writes what the register recorded in an
// interval into a conservation package, verifies it from the disk, and records
// that it did.
//
// What it promises. Intervals tile without gaps and are at most 24 hours long:
// they are split at UTC midnight, and a day without records has its package,
// too. A package either has its name, and then it is whole and on the disk, or
// it does not exist; it never changes afterwards. After a crash at any instant
// the next [Closer.Close] goes on where the last one stopped: no gap, no second
// package, no second record. Every package commits the index of the one before,
// and the log commits the index of every package.
//
// What it never does: look into messages, change or remove a package.
//
// # Sources
//
// Confirmed in the text: DM 2 November 2005 art. 9 (one time reference, within
// one second of UTC); whoever gives Options.Now keeps to it. Not confirmed, known
// at second hand only: art. 10 of the same decree, by which the provider chooses
// a unit of time of at most 24 hours, saves the log of each without interruption,
// and has each saved file time-stamped; and DPR 68/2005 art. 11 (30 months). The
// package follows them: midnights are those of UTC, because a day of local time
// has 25 hours once a year. The form that conservation asks of a package (UNI
// 11386 SInCRO), its retention and its storage are not made here yet.
//
// # The interval's records
//
// The log numbers records in the order in which they were appended, which is
// nearly that of their times. A package has the records from the end of the one
// before up to the first whose time is not before the interval's end. A record
// that was appended late, with an older time, is in the package of the interval
// in which it was appended. Until a package has its name, closing again may find
// such records more; everything else comes out the same, but for the time of
// creation and the signature.
//
// # The package, format "scripta/package/v1"
//
// A folder START_END (20261123T000000Z_20261124T000000Z) of these files:
//
//	records.sealed       the interval's records, sealed under keys of this package
//	leaves.bin           their leaves in the log, 34 bytes each (package record)
//	checkpoint.txt       signed checkpoint of the log, at least as long as the interval's end
//	frontier.txt         the roots of the complete subtrees at the interval's begin, largest first
//	consistency.txt      RFC 6962 §2.1.2: from the interval's begin to its end, and on to the checkpoint
//	timestamps/SIZE.txt  what was stamped: a checkpoint with the log's own signature
//	timestamps/SIZE.tsq  the request, where it is kept (RFC 3161)
//	timestamps/SIZE.tsr  the whole reply
//	certificates/…       what the provider publishes; a verifier uses its own copies
//	index.json           what all this is, and the SHA-256 of each file above
//	index.json.p7s       the provider's CAdES signature over index.json (DER)
//	SHA256SUMS           of all the files above, for sha256sum -c
//
// SIZE is decimal with 12 digits. Hashes in text are in lower-case hexadecimal,
// one on a line; a proof in consistency.txt has the line "consistency FROM TO"
// before its hashes. index.json has one canonical form: the members in the order
// of [Index], indented by one space, no escapes that are not needed, a line feed
// at the end.
//
// With the leaves anyone computes the root at the interval's end out of
// frontier.txt, finds it in the log's signed checkpoint by consistency.txt, and
// dates it by the time stamp. The stamps within the interval (SIZE between its
// begin and its end) date parts of it: the leaves give their roots on the way.
//
// # Sealed records
//
// records.sealed has one frame for each leaf, in the same order:
//
//	uint32 length of body ‖ uint64 leaf index ‖ uint16 month ‖ body
//	body       nonce (24) ‖ XChaCha20-Poly1305 ciphertext and tag
//	plaintext  record id (22) ‖ record nonce (32) ‖ fields (record.Fields.AppendTo)
//	key        HKDF-SHA-256(month secret, "scripta/package/v1" ‖ package id)
//	data       "scripta/packaged/v1" ‖ package id ‖ uint64 leaf index ‖ uint16 month ‖ leaf
//	nonce      first 24 bytes of SHA-256("scripta/package-nonce/v1" ‖ uint64 leaf index ‖ leaf)
//
// Integers are big-endian, labels ASCII without terminator, the package id is
// the log's origin ‖ "/" ‖ the package's name. month is year × 12 + month − 1 of
// the record's time in UTC, or 0 for records of the service, which hold nothing
// about people. Destroying a month's secret thus reaches every copy of every
// package, and leaves all that proves the log. A frame without a body is a
// record whose month was disposed of before the closing. For each month
// index.json has the SHA-256 of the frames with the plaintext as body, which can
// be checked as long as the month's secret lives ([VerifyRecords]).
//
// # Time stamps
//
// A closing takes the smallest stamped checkpoint that covers the interval, and
// asks an authority only if there is none; what it was granted is kept by the
// register and found again after a crash. If no stamp can be had the package is
// made all the same, with "timestamp": "pending", and stays as it is. The stamp
// of the next package that has one covers it: consistency.txt and the chain of
// packages prove that the log of the earlier is a part of the later one's
// ([VerifyAll] says so). Nothing is added to a package that has its name.
//
// The stamp is over the log's checkpoint, which commits every record, not over
// index.json; the index is committed by the record day-closed, and so by the
// first stamp after it.
package archive
