package merkle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/klog/v2"

	"scripta/merkle/badgerlog"
	"scripta/merkle/tiles"
)

// DatabaseDir is the database's folder below Options.Dir.
const DatabaseDir = "db"

// treeName is the display name of the log's tree.
const treeName = "scripta"

// local is the engine in this process: Trillian's server and sequencer over
// badgerlog.
type local struct {
	db        *badgerlog.DB
	logs      *badgerlog.LogStorage
	tree      *trillian.Tree
	client    trillian.TrillianLogClient
	sequencer sync.WaitGroup
}

// openLocal opens the database in a folder below Options.Dir and lets its
// sequencer run. name is the tree's display name.
func openLocal(ctx context.Context, opt Options, dir, name string) (*local, error) {
	db, err := badgerlog.Open(badgerlog.Options{
		Dir: filepath.Join(opt.Dir, dir), ReadOnly: opt.ReadOnly,
		Now: opt.Now, Logger: opt.Logger, MinFree: opt.MinFree,
	})
	if err != nil {
		return nil, err
	}
	e := &local{db: db, logs: db.LogStorage()}
	if err := e.begin(ctx, opt, name); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// begin finds the tree, or makes it: one tree for one folder, whose description
// is the origin.
func (e *local) begin(ctx context.Context, opt Options, name string) error {
	trees, err := storage.ListTrees(ctx, e.db.AdminStorage(), true)
	if err != nil {
		return fmt.Errorf("couldn't list the trees: %w", err)
	}
	switch {
	case len(trees) > 1:
		return fmt.Errorf("%w: %d trees in one folder", ErrOrigin, len(trees))
	case len(trees) == 1 && trees[0].Description != opt.Origin:
		return fmt.Errorf("%w: the database in %s is of the log %q, not %q", ErrOrigin, opt.Dir, trees[0].Description, opt.Origin)
	case len(trees) == 1:
		e.tree = trees[0]
	case opt.ReadOnly:
		return fmt.Errorf("%w: %s has none", ErrOrigin, opt.Dir)
	default:
		e.tree, err = storage.CreateTree(ctx, e.db.AdminStorage(), &trillian.Tree{
			TreeState: trillian.TreeState_ACTIVE, TreeType: trillian.TreeType_PREORDERED_LOG,
			DisplayName: name, Description: opt.Origin, MaxRootDuration: durationpb.New(0),
		})
		if err != nil {
			return fmt.Errorf("couldn't make the tree: %w", err)
		}
	}
	e.client = e.db.Client(e.tree)
	if opt.ReadOnly {
		return nil
	}
	// A crash may have come between the two.
	_, err = e.client.InitLog(ctx, &trillian.InitLogRequest{LogId: e.tree.TreeId})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("couldn't initialise the tree: %w", err)
	}
	e.sequencer.Go(func() {
		// What it returns stopped the database, which said so to the logger and
		// says it to every caller.
		_ = e.logs.Sequence(context.WithoutCancel(ctx), e.tree)
	})
	return nil
}

func (e *local) indexOf(identity [32]byte) (uint64, bool, error) {
	return e.logs.IndexOf(e.tree.TreeId, identity)
}

func (e *local) tile(level int, index uint64, width int) ([]byte, error) {
	return e.logs.Tile(e.tree.TreeId, tiles.Tile{Level: level, Index: index, Width: width})
}

func (e *local) close() error {
	err := e.db.Close(context.Background())
	e.sequencer.Wait()
	return err
}

// redirectKlog sends what Trillian logs to slog. klog is global, and may be set
// up only while nobody logs: the first log that is opened does it.
func redirectKlog(to *slog.Logger) {
	klogOnce.Do(func() { klog.SetSlogLogger(slog.New(atLeastWarn{to.Handler()})) })
}

// klogOnce guards klog's global state, which is why it is itself global.
var klogOnce sync.Once

// atLeastWarn drops what is below level warn. klog hands its warnings over as
// information, so that only Trillian's errors pass.
type atLeastWarn struct{ slog.Handler }

func (h atLeastWarn) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h atLeastWarn) WithAttrs(a []slog.Attr) slog.Handler {
	return atLeastWarn{h.Handler.WithAttrs(a)}
}
func (h atLeastWarn) WithGroup(name string) slog.Handler {
	return atLeastWarn{h.Handler.WithGroup(name)}
}
