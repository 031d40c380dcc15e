package merkle

import (
	"errors"
	"fmt"

	"scripta/merkle/badgerlog"
	"scripta/merkle/tiles"
)

var (
	// ErrFatal says that the log has stopped after a failed commit; see
	// badgerlog.ErrFatal.
	ErrFatal = badgerlog.ErrFatal
	// ErrClosed says that the log is closed.
	ErrClosed = badgerlog.ErrClosed
	// ErrReadOnly says that the log was opened for reading.
	ErrReadOnly = badgerlog.ErrReadOnly
	// ErrDiskFull says that leaves are refused until there is free space.
	ErrDiskFull = badgerlog.ErrDiskFull
	// ErrLeafSize says that a leaf's value or extra data has a wrong length.
	ErrLeafSize = badgerlog.ErrLeafSize
	// ErrCorrupt says that the database is damaged; the error is a
	// badgerlog.CorruptError.
	ErrCorrupt = badgerlog.ErrCorrupt
	// ErrBeyond says that leaves, a proof or a tile were asked for that the tree
	// does not have, or not yet.
	ErrBeyond = tiles.ErrBeyond
	// ErrOrigin says that the database holds the log of another origin.
	ErrOrigin = errors.New("the database holds another log")
)

// ConflictError says that a leaf can't be added because the log has another at
// its index, or its identity elsewhere. Nothing of the call was added.
type ConflictError struct {
	// Index is where the leaf should have gone.
	Index uint64
	// Identity is the leaf's.
	Identity [32]byte
	// At is the index of the leaf that the log has.
	At uint64
	// SameIdentity says that the log's leaf has the same identity, at At, which
	// is not Index or has another value.
	SameIdentity bool
	// SameValue says that the log's leaf has the same value: with SameIdentity,
	// the leaf was added before, at another index.
	SameValue bool
}

func (e *ConflictError) Error() string {
	switch {
	case e.SameIdentity && e.SameValue:
		return fmt.Sprintf("the leaf for index %d is in the log already, at index %d", e.Index, e.At)
	case e.SameIdentity:
		return fmt.Sprintf("the identity of the leaf for index %d stands in the log at index %d, with another value", e.Index, e.At)
	}
	return fmt.Sprintf("index %d of the log has another leaf", e.Index)
}

// GapError says that leaves were to be added beyond the end of the log. Nothing
// of the call was added.
type GapError struct {
	// First is the index of the first leaf of the call.
	First uint64
	// Next is the number of leaves in the tree: the index of the next leaf,
	// unless others are being added.
	Next uint64
}

func (e *GapError) Error() string {
	return fmt.Sprintf("leaves can't be added at %d: the log has %d", e.First, e.Next)
}

// What a CheckpointError can be about, for errors.Is.
var (
	// ErrBehind says that the database has fewer leaves than the checkpoint
	// file: a backup was restored, or a disk rolled back.
	ErrBehind = errors.New("the database has fewer leaves than the published checkpoint")
	// ErrInconsistent says that the database has another history than the
	// checkpoint file.
	ErrInconsistent = errors.New("the database contradicts the published checkpoint")
	// ErrMissing says that there is no checkpoint file although the log has
	// leaves.
	ErrMissing = errors.New("the checkpoint file is missing")
	// ErrUnreadable says that the checkpoint file is damaged, or not of this
	// log and key.
	ErrUnreadable = errors.New("the checkpoint file is not this log's")
)

// CheckpointError says that the log does not go on because of the last checkpoint
// that it published, and what to do.
type CheckpointError struct {
	// File is the checkpoint file's name.
	File string
	// Published is the size that it speaks of, 0 if it is missing or unreadable.
	Published uint64
	// Size is the number of leaves in the database.
	Size uint64
	// Reason is one of ErrBehind, ErrInconsistent, ErrMissing and ErrUnreadable.
	Reason error
	// Err is the cause, if there is more to say.
	Err error
}

// accept is the way on when a copy that would do is nowhere to be found.
const accept = "scripta log accept-rollback freezes this origin and begins a new log id"

func (e *CheckpointError) Error() string {
	var do string
	switch e.Reason {
	case ErrMissing:
		do = "bring the file back from a copy; if there is none, " + accept
	case ErrUnreadable:
		do = "check log.id in the configuration and public/log.vkey, or bring the file back from a copy; if there is none, " + accept
	default:
		do = "do not remove the file: bring the database back from its newest copy; if records are lost for good, " + accept
	}
	s := fmt.Sprintf("%v (checkpoint file %s: %d leaves, database: %d)", e.Reason, e.File, e.Published, e.Size)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + ". What to do: " + do
}

// Unwrap returns the reason and the cause.
func (e *CheckpointError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}
