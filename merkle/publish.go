package merkle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"scripta/internal/durable"
	"scripta/merkle/checkpoint"
)

// Checkpoint returns the latest published checkpoint, without cosignatures. It
// is nil only in a log that was opened for reading and has no checkpoint file.
func (l *Log) Checkpoint() *checkpoint.Signed { return l.published.Load() }

// Publish publishes a checkpoint of the tree as it is and returns it, or the
// latest one if the tree did not grow. The order of its steps is what the log's
// honesty rests on:
//
//  1. The root and the proof that it continues the last published one are read
//     and verified. A contradiction is a CheckpointError.
//  2. The checkpoint is signed, unless one of this size was: a crash or a failed
//     write never leads to a second one for a size.
//  3. The checkpoint file is replaced and fsynced. After a crash the log goes on
//     from what it says, whether or not anyone saw it.
//  4. Only now the checkpoint is given to anyone.
//
// A file that can't be written leaves everything as it was; the next call tries
// again.
func (l *Log) Publish(ctx context.Context) (*checkpoint.Signed, error) {
	if l.opt.ReadOnly {
		return nil, ErrReadOnly
	}
	l.publishMu.Lock()
	defer l.publishMu.Unlock()
	last := l.published.Load()
	var from uint64
	if last != nil {
		from = last.Size
	}
	now, consistency, err := l.latest(ctx, from)
	if err != nil {
		return nil, err
	}
	if last != nil {
		if err := l.continues(last, now, consistency); err != nil {
			return nil, err
		}
		if last.Size == now.size {
			return last, nil
		}
	}
	if l.signed != nil && l.signed.Size == now.size && l.signed.Root != now.hash {
		return nil, &CheckpointError{File: l.checkpointFile(), Published: from, Size: now.size, Reason: ErrInconsistent,
			Err: fmt.Errorf("another root of %d leaves was signed", now.size)}
	}
	if l.signed == nil || l.signed.Size != now.size {
		l.signed, err = checkpoint.Sign(checkpoint.Checkpoint{Origin: l.opt.Origin, Size: now.size, Root: now.hash}, l.opt.Signer)
		if err != nil {
			return nil, err
		}
	}
	if err := durable.WriteFile(l.opt.FS, l.checkpointFile(), l.signed.Note, 0o644); err != nil {
		return nil, fmt.Errorf("couldn't publish the checkpoint of %d leaves: %w", now.size, err)
	}
	l.published.Store(l.signed)
	return l.signed, nil
}

// continues checks that the tree is the published one with more leaves.
func (l *Log) continues(last *checkpoint.Signed, now root, consistency [][32]byte) error {
	reason, err := ErrInconsistent, error(nil)
	switch {
	case now.size < last.Size:
		reason = ErrBehind
	default:
		if err = checkpoint.VerifyConsistency(consistency, last.Size, now.size, last.Root, now.hash); err == nil {
			return nil
		}
	}
	return &CheckpointError{File: l.checkpointFile(), Published: last.Size, Size: now.size, Reason: reason, Err: err}
}

// DefaultInterval is how often Run publishes, unless told otherwise.
const DefaultInterval = time.Second

// Run publishes a checkpoint at each interval in which the tree grew, until ctx
// ends; 0 is DefaultInterval. It returns nil then, or earlier the error after
// which nothing can be published any more: ErrFatal, ErrClosed or a
// CheckpointError. Other errors are logged, and tried again.
func (l *Log) Run(ctx context.Context, interval time.Duration) error {
	if interval <= 0 {
		interval = DefaultInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if last := l.Checkpoint(); last != nil && last.Size == l.Size() {
			continue
		}
		_, err := l.Publish(ctx)
		var refused *CheckpointError
		switch {
		case err == nil:
			if failing {
				l.opt.Logger.Info("checkpoints are published again", "origin", l.opt.Origin)
			}
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrFatal), errors.Is(err, ErrClosed), errors.Is(err, ErrReadOnly), errors.As(err, &refused):
			return err
		case !failing:
			l.opt.Logger.Error("couldn't publish a checkpoint; trying again", "origin", l.opt.Origin, "err", err)
		}
		failing = err != nil
	}
}
