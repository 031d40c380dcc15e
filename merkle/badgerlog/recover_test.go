package badgerlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/testonly"
	"google.golang.org/protobuf/proto"

	"scripta/internal/durable"
	"scripta/merkle/tiles"
)

var testTime = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// waitFor waits for a condition that another goroutine brings about.
func waitFor(t testing.TB, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}

// stop opens the log anew, without a sequencer.
func stop(t testing.TB, l *testLog) {
	t.Helper()
	opt := l.opt
	if err := l.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-l.ended; err != nil && !errors.Is(err, ErrClosed) { // it may not have begun
		t.Fatal(err)
	}
	l.DB = open(t, opt)
	l.client = l.Client(l.tree)
}

func TestReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opt := Options{Dir: dir, MaxBatch: 1000}
	l := newPreordered(t, opt)
	size := int64(0)
	for _, next := range []int64{0, 1, 2, 255, 256, 257, 511, 513, 1500, 65_535, 65_536, 65_537} {
		if next > size {
			l.mustAdd(size, next-size)
			size = next
		}
		before := l.root()
		l = l.reopen(opt)
		if after := l.root(); string(after.RootHash) != string(before.RootHash) || after.TimestampNanos != before.TimestampNanos {
			t.Fatalf("at %d leaves the root was %+v and is %+v", size, before, after)
		}
		l.check(size)
		if rs, err := l.add([]*trillian.LogLeaf{leaf(size + 1)}); err != nil || rs[0].Status.GetCode() == 0 {
			t.Fatalf("at %d leaves a gap was taken: %v, %v", size, rs, err)
		}
	}
	tile, err := l.LogStorage().Tile(l.tree.TreeId, tiles.Tile{Level: 1, Index: 0, Width: 256})
	if err != nil {
		t.Fatal(err)
	}
	if root, _ := tiles.Root(tile); string(root[:]) == string(l.root().RootHash) {
		t.Error("the tile of 65,536 leaves has the root of 65,537")
	}
	if index, ok, err := l.LogStorage().IndexOf(l.tree.TreeId, tiles.Hash(leaf(65_000).LeafIdentityHash)); index != 65_000 || !ok || err != nil {
		t.Errorf("leaf 65,000 is found at %d, %v, %v", index, ok, err)
	}
	if _, ok, err := l.LogStorage().IndexOf(l.tree.TreeId, tiles.Hash(leaf(65_537).LeafIdentityHash)); ok || err != nil {
		t.Errorf("a leaf that is not there is found: %v, %v", ok, err)
	}
}

// damage changes a closed database behind its back.
func damage(t *testing.T, dir string, change func(*badger.Txn) error) {
	t.Helper()
	b, err := badger.OpenManaged(badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	v := b.MaxVersion()
	txn := b.NewTransactionAt(v, true)
	defer txn.Discard()
	if err := change(txn); err != nil {
		t.Fatal(err)
	}
	if err := txn.CommitAt(v+1, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// rewrite replaces the leaf file of a closed database by one with other records.
func rewrite(t *testing.T, dir string, change func(recs [][]byte) [][]byte) {
	t.Helper()
	name := filepath.Join(dir, leavesDir, "00000001.leaves")
	var recs [][]byte
	open := func(visit func(int64, []byte) error) *durable.Journal {
		j, err := durable.OpenJournal(durable.OS, name, visit)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	if err := open(func(_ int64, rec []byte) error { recs = append(recs, rec); return nil }).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	j := open(nil)
	if _, err := j.Append(change(recs)...); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// lastLeaf is the number of the last leaf's record in the leaf file.
func lastLeaf(recs [][]byte) int { return len(recs) - 2 }

func TestDamageIsRefused(t *testing.T) {
	t.Parallel()
	const size = 600
	inBadger := func(change func(txn *badger.Txn, tree int64) error) func(*testing.T, string, int64) {
		return func(t *testing.T, dir string, tree int64) {
			damage(t, dir, func(txn *badger.Txn) error { return change(txn, tree) })
		}
	}
	inLeaves := func(change func(recs [][]byte) [][]byte) func(*testing.T, string, int64) {
		return func(t *testing.T, dir string, _ int64) { rewrite(t, dir, change) }
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string, tree int64)
		says   string
	}{
		"a leaf changed": {inLeaves(func(recs [][]byte) [][]byte {
			recs[lastLeaf(recs)][recordValue]++
			return recs
		}), "give root"},
		"a leaf gone":      {inLeaves(func(recs [][]byte) [][]byte { return recs[:lastLeaf(recs)] }), "leaf 599 is missing"},
		"the end gone":     {inLeaves(func(recs [][]byte) [][]byte { return recs[:len(recs)-1] }), "it was cut"},
		"no leaf":          {inLeaves(func(recs [][]byte) [][]byte { recs[lastLeaf(recs)][0] = 'x'; return recs }), "leaf 599"},
		"a leaf too many":  {inLeaves(func(recs [][]byte) [][]byte { return append(recs, []byte("noise")) }), "unreadable"},
		"a batch too many": {inLeaves(func(recs [][]byte) [][]byte { return append(recs, recs[len(recs)-2:]...) }), "unreadable"},
		"other leaves": {inLeaves(func(recs [][]byte) [][]byte {
			end := bytes.Clone(recs[len(recs)-1])
			binary.BigEndian.PutUint32(end[commitCount:], 1) // of a tree that has them all
			return append(recs, recs[lastLeaf(recs)], end)
		}), "not 601"},
		"a bit flipped": {func(t *testing.T, dir string, _ int64) {
			name := filepath.Join(dir, leavesDir, "00000001.leaves")
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b[bytes.Index(b, leaf(size-1).LeafValue)] ^= 1
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "leaf 599"},
		"the leaf files gone": {func(t *testing.T, dir string, _ int64) {
			if err := os.RemoveAll(filepath.Join(dir, leavesDir)); err != nil {
				t.Fatal(err)
			}
		}, "leaf 512"},
		"the first leaf file gone": {func(t *testing.T, dir string, _ int64) {
			name := filepath.Join(dir, leavesDir, "00000001.leaves")
			if err := os.Rename(name, filepath.Join(filepath.Dir(name), "00000002.leaves")); err != nil {
				t.Fatal(err)
			}
		}, "00000001.leaves is missing"},
		"places gone": {inBadger(func(txn *badger.Txn, tree int64) error {
			return txn.Delete(appendPlacesKey(nil, tree, size/tiles.Width))
		}), "0 of 88 places"},
		"a tile changed": {inBadger(func(txn *badger.Txn, tree int64) error {
			return txn.Set(appendTileKey(nil, tree, 0, 1), make([]byte, tiles.TileSize))
		}), "give root"},
		"a tile gone": {inBadger(func(txn *badger.Txn, tree int64) error {
			return txn.Delete(appendTileKey(nil, tree, 0, 0))
		}), "tile 0/0 is missing"},
		"a tile cut": {inBadger(func(txn *badger.Txn, tree int64) error {
			return txn.Set(appendTileKey(nil, tree, 0, 0), make([]byte, 32))
		}), "tile 0/0 has 32 bytes"},
		"the root unreadable": {inBadger(func(txn *badger.Txn, tree int64) error {
			return txn.Set(appendKey(nil, kindRoot, tree), []byte("no root"))
		}), "the stored root is unreadable"},
		"the mark unreadable": {inBadger(func(txn *badger.Txn, _ int64) error {
			return txn.Set([]byte{kindMark}, []byte("no mark"))
		}), "written in 7 bytes"},
		"a root of long ago": {inBadger(func(txn *badger.Txn, tree int64) error {
			return txn.Set([]byte{kindMark}, binary.BigEndian.AppendUint64(nil, uint64(placeAt(1, 0))))
		}), "leaves, not"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := newPreordered(t, Options{Dir: dir})
			l.mustAdd(0, size)
			if err := l.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			c.change(t, dir, l.tree.TreeId)
			db, err := Open(Options{Dir: dir})
			if err == nil || !errors.Is(err, ErrCorrupt) && !errors.As(err, new(*durable.CorruptError)) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("opened as %v, %v; want an error of damage that says %q", db, err, c.says)
			}
		})
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*badger.Txn) error{
		"another version": func(txn *badger.Txn) error { return txn.Set([]byte{kindFormat}, []byte("scripta badgerlog 1")) },
		"none":            func(txn *badger.Txn) error { return txn.Set([]byte("x"), []byte("y")) },
	} {
		dir := t.TempDir()
		damage(t, dir, change)
		if db, err := Open(Options{Dir: dir}); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %v", name, db, err)
		}
	}
	dir := t.TempDir()
	open(t, Options{Dir: dir})
	if db, err := Open(Options{Dir: dir}); err == nil {
		t.Errorf("opened twice: %v", db)
	}
}

// TestClockStepsBack holds that nothing stops when the clock goes back, and that
// root timestamps grow all the same, across a restart too.
func TestClockStepsBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var now atomic.Int64
	now.Store(testTime.UnixNano())
	opt := Options{Dir: dir, Now: func() time.Time { return time.Unix(0, now.Load()) }}
	l := newPreordered(t, opt)
	last := uint64(0)
	step := func(i int64) {
		t.Helper()
		l.mustAdd(i, 1)
		if got := l.root().TimestampNanos; got <= last {
			t.Errorf("root %d has time %d, not after %d", i, got, last)
		} else {
			last = got
		}
	}
	step(0) // at the very time at which the log was initialised
	now.Add(int64(time.Second))
	step(1)
	now.Add(-int64(24 * time.Hour))
	step(2)
	step(3)
	l = l.reopen(opt)
	step(4)
	if want := uint64(testTime.Add(time.Second).UnixNano()) + 3; last != want {
		t.Errorf("the last root has time %d, want %d", last, want)
	}
}

func TestFailedCommitIsFatal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newPreordered(t, Options{Dir: dir})
	l.mustAdd(0, 10)
	snapshot, err := l.LogStorage().SnapshotForTree(context.Background(), l.tree)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("the disk is gone")
	l.leavesMu.Lock()
	l.beforeCommit = func() error { return cause }
	l.leavesMu.Unlock()
	if rs, err := l.add(leaves(10, 5)); !errors.Is(err, ErrFatal) || !errors.Is(err, cause) {
		t.Fatalf("the leaves of a failed commit: %v, %v", rs, err)
	}
	if err := <-l.ended; !errors.Is(err, ErrFatal) {
		t.Errorf("the sequencer ended with %v", err)
	}
	ctx := context.Background()
	for what, do := range map[string]func() error{
		"adding":       func() error { _, err := l.add(leaves(10, 5)); return err },
		"adding again": func() error { _, err := l.add(leaves(0, 5)); return err },
		"a snapshot":   func() error { _, err := l.LogStorage().SnapshotForTree(ctx, l.tree); return err },
		"sequencing":   func() error { return l.LogStorage().Sequence(ctx, l.tree) },
		"a lookup":     func() error { _, _, err := l.LogStorage().IndexOf(l.tree.TreeId, tiles.Hash{}); return err },
		"a tile":       func() error { _, err := l.LogStorage().Tile(l.tree.TreeId, tiles.Tile{Width: 1}); return err },
		"active logs":  func() error { _, err := l.LogStorage().GetActiveLogIDs(ctx); return err },
		"access":       func() error { return l.LogStorage().CheckDatabaseAccessible(ctx) },
		"the trees":    func() error { _, err := storage.ListTrees(ctx, l.AdminStorage(), true); return err },
		"a new tree": func() error {
			_, err := storage.CreateTree(ctx, l.AdminStorage(), proto.Clone(testonly.LogTree).(*trillian.Tree))
			return err
		},
	} {
		if err := do(); !errors.Is(err, ErrFatal) {
			t.Errorf("%s after a failed commit: %v", what, err)
		}
	}
	if err := snapshot.Close(); err != nil {
		t.Error(err)
	}
	again := l.reopen(Options{Dir: dir})
	again.check(10)
	again.mustAdd(10, 5)
	again.check(15)
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, ok := freeSpace(dir); !ok {
		t.Skip("free space is not known on this system")
	}
	l := newPreordered(t, Options{Dir: dir})
	l.mustAdd(0, 1)
	l = l.reopen(Options{Dir: dir, MinFree: math.MaxUint64})
	if rs, err := l.add(leaves(1, 1)); !errors.Is(err, ErrDiskFull) {
		t.Errorf("with a full disk: %v, %v", rs, err)
	}
	l.check(1) // reading goes on
	l = l.reopen(Options{Dir: dir})
	l.mustAdd(1, 1)
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newPreordered(t, Options{Dir: dir})
	l.mustAdd(0, 300)
	if err := l.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	ro := use(t, open(t, Options{Dir: dir, ReadOnly: true}), l.tree)
	ro.check(300)
	if _, err := ro.add(leaves(300, 1)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("adding: %v", err)
	}
	if err := ro.LogStorage().Sequence(context.Background(), l.tree); !errors.Is(err, ErrReadOnly) {
		t.Errorf("sequencing: %v", err)
	}
}

// TestCloseDrains closes a log while leaves wait: all that were taken are in it.
func TestCloseDrains(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newPreordered(t, Options{Dir: dir, MaxBatch: 10})
	stop(t, l)
	answers := make(chan error, 3)
	for i := range int64(3) {
		go func() { _, err := l.add(leaves(100*i, 100)); answers <- err }()
		waitFor(t, func() bool {
			tl := l.treeLog()
			tl.queueMu.Lock()
			defer tl.queueMu.Unlock()
			return len(tl.waiters) == int(i)+1
		})
	}
	l.sequence()
	waitFor(t, func() bool { return l.treeLog().state.Load().size > 0 })
	if err := l.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if _, err := l.add(leaves(300, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("adding to a closed log: %v", err)
	}
	again := use(t, open(t, Options{Dir: dir}), l.tree)
	again.check(300)
}

// TestCloseWithoutSequencer answers those who wait for one that never comes.
func TestCloseWithoutSequencer(t *testing.T) {
	t.Parallel()
	l := newPreordered(t, Options{Dir: t.TempDir()})
	stop(t, l)
	answer := make(chan error, 1)
	go func() { _, err := l.add(leaves(0, 1)); answer <- err }()
	waitFor(t, func() bool {
		tl := l.treeLog()
		tl.queueMu.Lock()
		defer tl.queueMu.Unlock()
		return len(tl.waiters) == 1
	})
	if err := l.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; !errors.Is(err, ErrClosed) {
		t.Errorf("who waited got %v", err)
	}
}

func TestSeveralTrees(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := open(t, Options{Dir: dir})
	a := newLog(t, db, testonly.PreorderedLogTree)
	b := newLog(t, db, testonly.PreorderedLogTree)
	a.mustAdd(0, 300)
	b.mustAdd(0, 20) // the same identities: trees know nothing of each other
	a.mustAdd(300, 10)
	a.check(310)
	b.check(20)
	ctx := context.Background()
	ids, err := db.LogStorage().GetActiveLogIDs(ctx)
	if err != nil || len(ids) != 2 {
		t.Errorf("active logs: %v, %v", ids, err)
	}
	if _, err := storage.SoftDeleteTree(ctx, db.AdminStorage(), b.tree.TreeId); err != nil {
		t.Fatal(err)
	}
	if ids, err := db.LogStorage().GetActiveLogIDs(ctx); err != nil || len(ids) != 1 || ids[0] != a.tree.TreeId {
		t.Errorf("active logs after a deletion: %v, %v", ids, err)
	}
	if err := storage.HardDeleteTree(ctx, db.AdminStorage(), b.tree.TreeId); err == nil {
		t.Error("a log with leaves was removed")
	}
	a = a.reopen(Options{Dir: dir})
	a.check(310)
	if s, err := a.log(b.tree.TreeId); err != nil || s.state.Load().size != 20 {
		t.Errorf("the deleted tree is %v, %v", s, err)
	}
}

// TestNothingInTheValueLog holds that no value goes to Badger's value log, whose failed
// syncs nobody hears of.
func TestNothingInTheValueLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newPreordered(t, Options{Dir: dir})
	ls := leaves(0, 300)
	ls[7].ExtraData = make([]byte, MaxExtraSize)
	if _, err := l.add(ls); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 100 {
			t.Errorf("%s has %d bytes", f, info.Size())
		}
	}
}
