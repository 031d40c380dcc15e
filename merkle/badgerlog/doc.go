// Package badgerlog is Trillian's storage (storage.LogStorage and
// storage.AdminStorage) on files of leaves and Badger, an embedded key-value
// store: with Trillian's log server and sequencer it makes a verifiable log inside one process.
//
// What it promises:
//
//   - A leaf that AddSequencedLeaves or QueueLeaves answered is on the disk and
//     in the tree, at its index. There is no durable queue: leaves wait in
//     memory, and the commit that integrates them answers whoever waits.
//   - Leaves enter the tree in the order of their indices, without gaps, once
//     per identity.
//   - A commit whose outcome is unknown stops everything (ErrFatal) until the
//     database is opened again, which decides from the disk.
//   - Opening recomputes the tree's right edge from the leaves and refuses a
//     database whose root does not follow from them (CorruptError).
//
// What it never does: forget a leaf, drop a key range, delete a tree that has
// leaves.
//
// The life of a batch:
//
//  1. The adder checks the leaves against the queue and the database and puts
//     them into the queue; it waits.
//  2. Sequence is woken and runs log.IntegrateBatch, which takes leaves from the
//     queue, bounded in number and bytes, and computes the nodes and the root.
//  3. The leaves and the unsigned root are appended to the last leaf file by
//     one write and one fdatasync for the whole batch.
//  4. Only then the new state becomes visible to readers and the adders are
//     answered. A crash before the sync loses leaves that nobody was told
//     about; a crash after it finds them all.
//  5. What follows from the leaves (identities, places, tiles that became full,
//     the root) waits in memory, where readers find it, and goes into Badger a
//     tenth of a second later, many batches in one synced transaction, which also
//     says up to which place Badger has the leaf files. Opening reads on from
//     there.
//
// What Badger holds, below a prefix with the tree's id: the index under the
// first half of each leaf's identity hash, where the leaves stand in the leaf
// files, the full hash tiles of c2sp.org/tlog-tiles, the root. Unfinished tiles
// are in memory only. The leaf files (durable.Journal, below leaves/) hold the
// truth: whatever else there is follows from them.
//
// Why not all in Badger: it copies a value into its write-ahead log, its memory
// and two or three tables, and syncs the first by msync(2), which takes the
// kernel three times as long as fdatasync(2) of an appended file; a sealed
// record is six times as long as all that is looked up by.
//
// Traps of Badger v4.9.6 that the code steps around: writes are not synced
// unless asked (SyncWrites); each transaction is synced by itself, so that
// grouping must happen above; a failed sync of the value log is only logged, so
// that no value may go there (ValueThreshold); a transaction holds at most 15 %
// of a memtable; a read transaction waits for the commit under way, fsync
// included, unless the caller manages the timestamps (OpenManaged); it writes
// through mapped files, so that a full disk kills the process, which MinFree
// forestalls, and a sync may write a megabyte of read-ahead (adviseWAL); it does not fsync
// the folder after making a write-ahead log (followWAL); dropping prefixes lost writes in earlier versions, so none is
// ever dropped.
package badgerlog
