package merkle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/trillian"
	"golang.org/x/mod/sumdb/note"

	"scripta/internal/durable"
	"scripta/merkle/checkpoint"
)

// Options of a log.
type Options struct {
	// Dir is the log's folder: the database is in Dir/db, the last published
	// checkpoint in Dir/checkpoint. It is made if it is not there.
	Dir string
	// Origin names the log for ever: "<provider domain>/scripta/<log id>".
	Origin string
	// Signer signs checkpoints, in the name of the origin. It may be nil if the
	// log is opened for reading.
	Signer note.Signer
	// Verifier verifies what Signer signs.
	Verifier note.Verifier
	// FS has the checkpoint file; durable.OS if nil. The database is always on
	// the real file system.
	FS durable.FS
	// Now is the clock; time.Now if nil. It may step back.
	Now func() time.Time
	// Logger gets what goes wrong, of Badger and Trillian too; slog.Default() if
	// nil.
	Logger *slog.Logger
	// ReadOnly opens a log that was closed in an orderly way, for reading: it
	// adds and publishes nothing.
	ReadOnly bool
	// AdoptWithoutCheckpoint accepts a log with leaves whose checkpoint file is
	// missing. Only a person can know that no checkpoint of it was given out
	// which it contradicts.
	AdoptWithoutCheckpoint bool
	// Cluster says that the log is on a Trillian log server that runs elsewhere,
	// or is copied there; nil keeps it in this process alone.
	Cluster *Cluster
	// MinFree is how many bytes must be free on the file system for leaves to be
	// taken; 512 MiB if 0.
	MinFree uint64
}

// Log is an open log. Its methods may be called concurrently.
type Log struct {
	opt    Options
	engine engine
	client trillian.TrillianLogClient
	tree   int64
	size   atomic.Uint64 // of the tree, as far as this process saw it; only grows

	// addMu is held for reading while leaves are being added. This guarantees
	// that the last checkpoint, which Close publishes, covers all of them.
	addMu  sync.RWMutex
	closed bool

	// publishMu is held for the entire duration of Publish. This guarantees that
	// checkpoints are signed, written and published in the order of their sizes.
	publishMu sync.Mutex
	signed    *checkpoint.Signed // the last one that was signed, perhaps not written; guarded by publishMu
	published atomic.Pointer[checkpoint.Signed]

	closeErr error // of the first Close; guarded by addMu
}

// engine is what a Log needs besides Trillian's client, which has no calls for
// it. The remote engine keeps it as a projection, made of the leaves.
type engine interface {
	// indexOf finds a leaf in the tree by its identity.
	indexOf(identity [32]byte) (index uint64, ok bool, err error)
	// tile returns the hashes of a tile; the error is ErrBeyond if the tree does
	// not determine it.
	tile(level int, index uint64, width int) ([]byte, error)
	// close finishes what was taken and lets go.
	close() error
}

// Open opens the log in a folder, or begins one. The errors are CheckpointError,
// ErrOrigin, badgerlog.CorruptError and badgerlog.ErrFormat, besides those of the
// file system.
func Open(ctx context.Context, opt Options) (*Log, error) {
	if opt.FS == nil {
		opt.FS = durable.OS
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if v := opt.Verifier; v == nil || v.Name() != opt.Origin {
		return nil, fmt.Errorf("%w: the log %q needs the verifier of that name", ErrOrigin, opt.Origin)
	}
	if s := opt.Signer; !opt.ReadOnly && (s == nil || s.Name() != opt.Origin || s.KeyHash() != opt.Verifier.KeyHash()) {
		return nil, fmt.Errorf("%w: the log %q needs the signer of that name and of the verifier's key", ErrOrigin, opt.Origin)
	}
	redirectKlog(opt.Logger)
	if !opt.ReadOnly {
		if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("couldn't make the log's folder: %w", err)
		}
		if err := durable.OS.SyncDir(filepath.Dir(filepath.Clean(opt.Dir))); err != nil {
			return nil, fmt.Errorf("couldn't sync what the log's folder is in: %w", err)
		}
	}
	l := &Log{opt: opt}
	if err := l.openEngine(ctx); err != nil {
		return nil, err
	}
	if err := l.resume(ctx); err != nil {
		return nil, errors.Join(err, l.engine.close())
	}
	return l, nil
}

// openEngine opens the engine that the options ask for.
func (l *Log) openEngine(ctx context.Context) error {
	switch {
	case l.opt.Cluster == nil, l.opt.Cluster.CrossCheck && l.opt.ReadOnly:
		e, err := openLocal(ctx, l.opt, DatabaseDir, treeName)
		if err != nil {
			return err
		}
		l.engine, l.client, l.tree = e, e.client, e.tree.TreeId
	case l.opt.Cluster.CrossCheck:
		e, err := openChecked(ctx, l.opt)
		if err != nil {
			return err
		}
		l.engine, l.client, l.tree = e, e.facade(), e.local.tree.TreeId
	default:
		e, err := openRemote(ctx, l.opt, l.grown)
		if err != nil {
			return err
		}
		l.engine, l.client, l.tree = e, e.facade(), e.local.tree.TreeId
	}
	return nil
}

// Origin is the log's name.
func (l *Log) Origin() string { return l.opt.Origin }

// Verifier verifies the log's checkpoints.
func (l *Log) Verifier() note.Verifier { return l.opt.Verifier }

// Size is the number of leaves that are durable and in the tree. The next leaf
// gets this index.
func (l *Log) Size() uint64 { return l.size.Load() }

// grown notes that the tree has at least size leaves.
func (l *Log) grown(size uint64) {
	for was := l.size.Load(); was < size && !l.size.CompareAndSwap(was, size); {
		was = l.size.Load()
	}
}

// Close takes no more leaves, waits for those that were taken, publishes a last
// checkpoint if the tree grew, and closes the database. Later calls return what
// the first one did.
func (l *Log) Close() error {
	l.addMu.Lock()
	defer l.addMu.Unlock()
	if l.closed {
		return l.closeErr
	}
	l.closed = true
	if !l.opt.ReadOnly {
		if _, err := l.Publish(context.Background()); err != nil && !errors.Is(err, ErrFatal) {
			l.closeErr = err
		}
	}
	l.closeErr = errors.Join(l.closeErr, l.engine.close())
	return l.closeErr
}
