package merkle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"scripta/internal/durable"
	"scripta/merkle/checkpoint"
)

// CheckpointFile is the name of the checkpoint file below Options.Dir.
const CheckpointFile = "checkpoint"

func (l *Log) checkpointFile() string { return filepath.Join(l.opt.Dir, CheckpointFile) }

// resume compares the tree with the last published checkpoint and, in a log that
// has none, publishes the first. The file is outside the database, so that a
// database that went back in time without it is noticed before anything is
// signed that contradicts what others hold.
func (l *Log) resume(ctx context.Context) error {
	now, _, err := l.latest(ctx, 0)
	if err != nil {
		return err
	}
	l.grown(now.size)
	refuse := func(published uint64, reason, err error) error {
		return &CheckpointError{File: l.checkpointFile(), Published: published, Size: now.size, Reason: reason, Err: err}
	}
	b, err := readFile(l.opt.FS, l.checkpointFile(), checkpoint.MaxNoteSize+1)
	switch {
	case errors.Is(err, fs.ErrNotExist) && now.size > 0 && !l.opt.AdoptWithoutCheckpoint:
		return refuse(0, ErrMissing, nil)
	case errors.Is(err, fs.ErrNotExist) && l.opt.ReadOnly:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		_, err := l.Publish(ctx)
		return err
	case err != nil:
		return fmt.Errorf("couldn't read the checkpoint file: %w", err)
	}
	last, err := checkpoint.Open(b, l.opt.Verifier)
	if err != nil {
		return refuse(0, ErrUnreadable, err)
	}
	if last.Size > now.size {
		return refuse(last.Size, ErrBehind, nil)
	}
	was, err := l.RootAt(ctx, last.Size)
	if err != nil {
		return err
	}
	if was != last.Root {
		return refuse(last.Size, ErrInconsistent, fmt.Errorf("the root of %d leaves was published as %x, the database gives %x", last.Size, last.Root, was))
	}
	l.signed = last
	l.published.Store(last)
	return nil
}

// readFile reads a file of which at most limit bytes are wanted.
func readFile(fsys durable.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
