package badgerlog

import (
	"errors"
	"fmt"
)

var (
	// ErrFatal says that a commit failed, or that a batch could not be
	// integrated. Whether its leaves are in the log is unknown until the
	// database is closed and opened again; until then every call answers this
	// error.
	ErrFatal = errors.New("the log has stopped after a failed commit: fix the cause (see the log), then restart, which finds out what was written")
	// ErrClosed says that the database is closed, or closing.
	ErrClosed = errors.New("the log is closed")
	// ErrReadOnly says that the database was opened for reading.
	ErrReadOnly = errors.New("the log is open for reading only")
	// ErrDiskFull says that the file system has less free space than
	// Options.MinFree. Nothing was written; adding works again when there is
	// space.
	ErrDiskFull = errors.New("too little free disk space for the log: free some and try again")
	// ErrLeafSize says that a leaf is empty, or its value or extra data too
	// long.
	ErrLeafSize = fmt.Errorf("the leaf's value must have 1 to %d bytes and its extra data at most %d", MaxValueSize, MaxExtraSize)
	// ErrFormat says that the database was written by another program, or by
	// another version of this one.
	ErrFormat = errors.New("not a log database of this version")
)

// CorruptError says that the database contradicts itself: it is damaged.
// Nothing short of a backup repairs it, and what the backup has must then be
// compared with the last checkpoint that was published.
type CorruptError struct {
	// Tree is the tree's id.
	Tree int64
	// Size is the number of leaves that the stored root speaks of.
	Size uint64
	// Reason says what contradicts what.
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("the log database is damaged (tree %d, %d leaves): %s; restore a backup and compare it with the last published checkpoint", e.Tree, e.Size, e.Reason)
}

// Unwrap makes CorruptError an ErrCorrupt for errors.Is.
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

// ErrCorrupt is what errors.Is finds in every CorruptError.
var ErrCorrupt = errors.New("corrupt log database")
