package merkle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"scripta/internal/durable"
	"scripta/merkle/checkpoint"
	"scripta/merkle/tiles"
)

// Survey is what a database holds against what its log is known to have
// published. An origin is given up with it: see ErrContinues.
type Survey struct {
	Origin string
	// Size and Root are the database's.
	Size uint64
	Root [32]byte
	// Known is the newest checkpoint that the log is known to have published, nil
	// if none is known; with Contradicted, the newest that the database does not
	// give.
	Known *checkpoint.Signed
	// Kept is the newest signed checkpoint that the database gives: every leaf
	// below its size can be proved in the origin's name.
	Kept *checkpoint.Signed
	// Contradicted says that the database has another history than a checkpoint
	// of the log: some leaves are not those that were published.
	Contradicted bool
	// Newest is the time of the newest leaf below Kept's size, by timeOf of
	// TakeSurvey; zero if none tells.
	Newest time.Time
}

// Lost is how many leaves the log is known to have published that the database
// does not prove.
func (s *Survey) Lost() uint64 {
	if s.Known == nil || s.Known.Size <= s.Kept.Size {
		return 0
	}
	return s.Known.Size - s.Kept.Size
}

// ErrContinues says that a log continues everything that is known of it: nothing
// was rolled back.
var ErrContinues = errors.New("the log continues every checkpoint that is known of it: there is no rollback to accept")

// newestLeaves is how many leaves are asked for their time: they are in order but
// for transactions that overlap.
const newestLeaves = 256

// TakeSurvey opens the database of a log whose opening Open refuses, brings it
// into order after a crash, compares it with the checkpoint file and with others
// (time-stamped ones, a witness's, a copy), and closes it. It adds nothing and
// publishes nothing.
//
// Leaves that no signed checkpoint covers could never be proved once the origin
// is frozen; so if nothing contradicts the database, its tree as it is gets a
// last signature, which the caller must keep with the database and for which
// the signer's key is used for the last time.
//
// timeOf, if not nil, tells when a leaf's event was; false if that cannot be
// known.
//
// The error is ErrContinues if Open would not refuse and nothing in others does,
// or an error of Open.
func TakeSurvey(ctx context.Context, opt Options, timeOf func(Leaf) (time.Time, bool), others ...*checkpoint.Signed) (*Survey, error) {
	if opt.FS == nil {
		opt.FS = durable.OS
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if s, v := opt.Signer, opt.Verifier; s == nil || v == nil || s.Name() != opt.Origin || v.Name() != opt.Origin || s.KeyHash() != v.KeyHash() {
		return nil, fmt.Errorf("%w: the log %q needs the signer and the verifier of that name", ErrOrigin, opt.Origin)
	}
	redirectKlog(opt.Logger)
	opt.ReadOnly = false
	if opt.Cluster != nil {
		return nil, errors.New("the log is kept by a cluster: bring its database back there; only a log in this folder can be given up")
	}
	l := &Log{opt: opt}
	if err := l.openEngine(ctx); err != nil {
		return nil, err
	}
	s, err := l.survey(ctx, others)
	if err == nil && timeOf != nil {
		n := min(s.Kept.Size, newestLeaves)
		err = l.Scan(ctx, s.Kept.Size-n, s.Kept.Size, func(_ uint64, leaf Leaf) error {
			if t, ok := timeOf(leaf); ok && t.After(s.Newest) {
				s.Newest = t
			}
			return nil
		})
	}
	return s, errors.Join(err, l.engine.close())
}

func (l *Log) survey(ctx context.Context, others []*checkpoint.Signed) (*Survey, error) {
	now, _, err := l.latest(ctx, 0)
	if err != nil {
		return nil, err
	}
	l.grown(now.size)
	s := &Survey{Origin: l.opt.Origin, Size: now.size, Root: now.hash}
	refused := false
	b, err := readFile(l.opt.FS, l.checkpointFile(), checkpoint.MaxNoteSize+1)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		refused = now.size > 0
	case err != nil:
		return nil, fmt.Errorf("couldn't read the checkpoint file: %w", err)
	default:
		if last, err := checkpoint.Open(b, l.opt.Verifier); err != nil {
			refused = true
		} else {
			others = append([]*checkpoint.Signed{last}, others...)
		}
	}
	var missing *checkpoint.Signed // the newest that the database does not give
	for _, c := range others {
		if c.Origin != s.Origin {
			return nil, fmt.Errorf("%w: a checkpoint of %q was given", ErrOrigin, c.Origin)
		}
		if s.Known == nil || c.Size > s.Known.Size {
			s.Known = c
		}
		if c.Size > now.size {
			refused, missing = true, newer(missing, c)
			continue
		}
		root, err := l.RootAt(ctx, c.Size)
		switch {
		case err != nil:
			return nil, err
		case root != c.Root:
			s.Contradicted, refused, missing = true, true, newer(missing, c)
		case s.Kept == nil || c.Size > s.Kept.Size:
			s.Kept = c
		}
	}
	if !refused {
		return nil, ErrContinues
	}
	if missing != nil {
		s.Known = missing
	}
	if !s.Contradicted && (s.Kept == nil || s.Kept.Size < now.size) {
		s.Kept, err = checkpoint.Sign(checkpoint.Checkpoint{Origin: s.Origin, Size: now.size, Root: now.hash}, l.opt.Signer)
		if err != nil {
			return nil, err
		}
	}
	if s.Kept == nil { // every signed one is contradicted: nothing is provable, which the empty tree says
		s.Kept, err = checkpoint.Sign(checkpoint.Checkpoint{Origin: s.Origin, Root: tiles.EmptyRoot()}, l.opt.Signer)
	}
	return s, err
}

func newer(a, b *checkpoint.Signed) *checkpoint.Signed {
	if a == nil || b.Size > a.Size {
		return b
	}
	return a
}
