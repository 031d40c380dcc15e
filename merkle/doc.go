// Package merkle is the verifiable log: a Merkle tree of leaves (RFC 6962) that
// only grows, whose checkpoints anyone can verify.
//
// The engine is Trillian, reached only through trillian.TrillianLogClient: in
// this process over package badgerlog, or in a cluster (Options.Cluster) a log
// server that runs elsewhere. The tree is a PREORDERED_LOG: the caller gives the
// indices.
//
// What it promises:
//
//   - AddSequenced returns when the leaves are on the disk and in the tree.
//   - A checkpoint is published, that is given to anyone, only after its signed
//     note is on the disk in a file outside the database. There are never two
//     notes for one size.
//   - A checkpoint is signed only for a tree that continues the one published
//     before. On opening, a database that is behind the checkpoint file or
//     contradicts it is refused (CheckpointError): this is what a restored
//     backup or a rolled-back disk looks like, and going on would give two
//     histories one name.
//   - What Handler serves are the files of c2sp.org/tlog-tiles, up to the
//     published size, so that tools that are not ours can read and verify the
//     log.
//
// What it never does: sign extension lines, remove or change a leaf, look into
// one.
//
// The life of a leaf:
//
//  1. AddSequenced: one synced transaction puts it into the tree (badgerlog).
//  2. Publish, about once a second: reads the root, checks that it continues the
//     last one, signs, writes and fsyncs the checkpoint file, then publishes.
//  3. Time stamps and witnesses take the published note (packages tsa and
//     register).
//
// A disk that was rolled back whole, checkpoint file included, is noticed only by
// a witness or by a copy of the checkpoint elsewhere.
//
// Subpackages: tiles and checkpoint are the published formats, pure; badgerlog
// is the storage; cluster is the connection to a remote log server, and the lease
// that says which node may add.
package merkle
