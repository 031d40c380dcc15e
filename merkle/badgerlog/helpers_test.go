package badgerlog

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/testonly"
	"github.com/google/trillian/types"
	"google.golang.org/protobuf/proto"

	"scripta/internal/durable"
	"scripta/merkle/tiles"
)

func TestMain(m *testing.M) {
	quietKlog()
	os.Exit(m.Run())
}

// open opens a database that is closed at the end of the test.
func open(t testing.TB, opt Options) *DB {
	t.Helper()
	if opt.MinFree == 0 {
		opt.MinFree = 1
	}
	db, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return db
}

// testLog is one tree of a database, with its sequencer running.
type testLog struct {
	*DB
	t      testing.TB
	tree   *trillian.Tree
	client trillian.TrillianLogClient
	ended  chan error // gets what Sequence returns
}

// newLog makes a tree of a kind and initialises it.
func newLog(t testing.TB, db *DB, kind *trillian.Tree) *testLog {
	t.Helper()
	ctx := context.Background()
	tree, err := storage.CreateTree(ctx, db.AdminStorage(), proto.Clone(kind).(*trillian.Tree))
	if err != nil {
		t.Fatal(err)
	}
	l := use(t, db, tree)
	if _, err := l.client.InitLog(ctx, &trillian.InitLogRequest{LogId: tree.TreeId}); err != nil {
		t.Fatal(err)
	}
	l.sequence()
	return l
}

func use(t testing.TB, db *DB, tree *trillian.Tree) *testLog {
	return &testLog{DB: db, t: t, tree: tree, client: db.Client(tree), ended: make(chan error, 1)}
}

func (l *testLog) sequence() {
	go func() { l.ended <- l.LogStorage().Sequence(context.Background(), l.tree) }()
}

// reopen closes the database and opens it again, the log with it.
func (l *testLog) reopen(opt Options) *testLog {
	l.t.Helper()
	if err := l.Close(context.Background()); err != nil {
		l.t.Fatal(err)
	}
	again := use(l.t, open(l.t, opt), l.tree)
	again.sequence()
	return again
}

// leaf is the test leaf of an index.
func leaf(i int64) *trillian.LogLeaf {
	identity := tiles.LeafHash(fmt.Appendf(nil, "identity %d", i))
	return &trillian.LogLeaf{
		LeafIndex: i, LeafIdentityHash: identity[:],
		LeafValue: fmt.Appendf(nil, "value %d", i), ExtraData: fmt.Appendf(nil, "extra %d", i),
	}
}

func leaves(first, n int64) []*trillian.LogLeaf {
	ls := make([]*trillian.LogLeaf, n)
	for i := range ls {
		ls[i] = leaf(first + int64(i))
	}
	return ls
}

func (l *testLog) add(ls []*trillian.LogLeaf) ([]*trillian.QueuedLogLeaf, error) {
	r, err := l.client.AddSequencedLeaves(context.Background(), &trillian.AddSequencedLeavesRequest{LogId: l.tree.TreeId, Leaves: ls})
	return r.GetResults(), err
}

// mustAdd adds test leaves, which must all be new.
func (l *testLog) mustAdd(first, n int64) {
	l.t.Helper()
	rs, err := l.add(leaves(first, n))
	if err != nil {
		l.t.Fatal(err)
	}
	for i, r := range rs {
		if r.Status.GetCode() != 0 {
			l.t.Fatalf("leaf %d: %v", first+int64(i), r.Status)
		}
	}
}

func (l *testLog) root() *types.LogRootV1 {
	l.t.Helper()
	r, err := l.client.GetLatestSignedLogRoot(context.Background(), &trillian.GetLatestSignedLogRootRequest{LogId: l.tree.TreeId})
	if err != nil {
		l.t.Fatal(err)
	}
	var root types.LogRootV1
	if err := root.UnmarshalBinary(r.SignedLogRoot.LogRoot); err != nil {
		l.t.Fatal(err)
	}
	return &root
}

// check reads all leaves back, compares them with the test leaves and the root
// with the one that they give.
func (l *testLog) check(size int64) {
	l.t.Helper()
	root := l.root()
	if root.TreeSize != uint64(size) {
		l.t.Fatalf("the tree has %d leaves, want %d", root.TreeSize, size)
	}
	var f tiles.Frontier
	for f.Size < uint64(size) {
		r, err := l.client.GetLeavesByRange(context.Background(), &trillian.GetLeavesByRangeRequest{LogId: l.tree.TreeId, StartIndex: int64(f.Size), Count: size})
		if err != nil {
			l.t.Fatal(err)
		}
		for _, got := range r.Leaves {
			want := leaf(int64(f.Size))
			if string(got.LeafValue) != string(want.LeafValue) || string(got.ExtraData) != string(want.ExtraData) ||
				string(got.LeafIdentityHash) != string(want.LeafIdentityHash) || got.LeafIndex != want.LeafIndex {
				l.t.Fatalf("leaf %d is %v", f.Size, got)
			}
			if got.IntegrateTimestamp.AsTime().Before(got.QueueTimestamp.AsTime().Add(-time.Hour)) {
				l.t.Fatalf("leaf %d was integrated at %v, queued at %v", f.Size, got.IntegrateTimestamp, got.QueueTimestamp)
			}
			f.Append(tiles.LeafHash(got.LeafValue))
		}
	}
	if got := f.Root(); string(got[:]) != string(root.RootHash) {
		l.t.Fatalf("the leaves give root %x, the tree has %x", got, root.RootHash)
	}
}

func newPreordered(t testing.TB, opt Options) *testLog {
	t.Helper()
	return newLog(t, open(t, opt), testonly.PreorderedLogTree)
}

// newPreorderedOn is newPreordered with leaf files on a file system that may break;
// nil if it broke before there was a log.
func newPreorderedOn(t testing.TB, dir string, fsys durable.FS) *testLog {
	t.Helper()
	ctx := context.Background()
	db, err := Open(Options{Dir: dir, MinFree: 1, FS: fsys})
	if err != nil {
		return nil
	}
	t.Cleanup(func() { _ = db.Close(ctx) })
	tree, err := storage.CreateTree(ctx, db.AdminStorage(), proto.Clone(testonly.PreorderedLogTree).(*trillian.Tree))
	if err != nil {
		t.Fatal(err)
	}
	l := use(t, db, tree)
	if _, err := l.client.InitLog(ctx, &trillian.InitLogRequest{LogId: tree.TreeId}); err != nil {
		if err := db.Close(ctx); err != nil {
			t.Error(err)
		}
		return nil
	}
	l.sequence()
	return l
}
