// Package cluster is what a log needs to stand on a Trillian log server that
// runs elsewhere, over PostgreSQL: the connection, the tree of an origin, and the
// lease that says which node adds to it. How leaves get into the tree is package
// merkle's.
//
// The lease is a row in PostgreSQL with an epoch that only grows. It keeps two
// nodes from working at one log: a node whose epoch was passed finds that out
// before its next batch. What it does not guarantee: a batch that was on its way
// when the epoch was raised may still arrive, because Trillian's calls carry no
// epoch. Nothing is lost or doubled by that. A leaf's index and its identity
// are each unique in the tree, so that of two batches for the same indices
// Trillian takes each leaf once or not at all, and both writers are told; what
// was acknowledged was read in the tree's root before, which only grows. Such a
// straggler costs an answer that must be resolved, and order, no more.
//
// It never touches Trillian's own tables, and links no storage of Trillian's.
package cluster
