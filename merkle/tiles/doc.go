// Package tiles is the layout of a published log: the paths, sizes and contents
// of its files (c2sp.org/tlog-tiles), and the Merkle tree's nodes computed out
// of them (RFC 6962 §2.1).
//
// A tile holds 256 consecutive hashes of one level of the tree, at levels 0, 8,
// 16 and so on; tile level L holds the hashes of tree level 8·L. Every other
// node follows from those. The last tile of a level is partial while the tree
// has fewer hashes there, and a partial tile is a prefix of the full one. An
// entry bundle holds the 256 entries whose leaf hashes a tile of level 0 has.
//
// The package is pure: no I/O, no clock, nothing of this project. An auditor can
// use it alone.
package tiles
