package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"scripta/merkle/checkpoint"
	"scripta/merkle/tiles"
)

func TestAddAndRead(t *testing.T) {
	t.Parallel()
	onEngines(t, testAddAndRead)
}

func testAddAndRead(t *testing.T, opt Options) {
	ctx := context.Background()
	l := open(t, opt)
	if l.Size() != 0 || l.Checkpoint().Size != 0 || l.Checkpoint().Root != tiles.EmptyRoot() {
		t.Errorf("a new log has size %d and checkpoint %+v", l.Size(), l.Checkpoint())
	}
	const size = 5000
	mustAdd(t, l, 0, 1)
	mustAdd(t, l, 1, size-1)
	mustAdd(t, l, 300, 700) // again
	if l.Size() != size {
		t.Fatalf("size %d", l.Size())
	}
	for _, c := range [][2]uint64{{0, 1}, {0, 10}, {17, 1000}, {4990, 10}, {0, size}, {size, 0}} {
		got, err := l.Leaves(ctx, c[0], c[1])
		if err != nil || uint64(len(got)) != c[1] {
			t.Fatalf("%d leaves from %d: %d, %v", c[1], c[0], len(got), err)
		}
		for i, leaf := range got {
			same(t, c[0]+uint64(i), leaf)
		}
	}
	next := uint64(100)
	if err := l.Scan(ctx, 100, size, func(index uint64, leaf Leaf) error {
		if index != next {
			return fmt.Errorf("leaf %d after %d", index, next)
		}
		same(t, index, leaf)
		next++
		return nil
	}); err != nil || next != size {
		t.Errorf("scanned up to %d: %v", next, err)
	}
	enough := errors.New("enough")
	if err := l.Scan(ctx, 0, size, func(index uint64, _ Leaf) error {
		if index == 1500 {
			return enough
		}
		return nil
	}); err != enough {
		t.Errorf("a scan that was ended: %v", err)
	}
	for _, i := range []uint64{0, 4096, size - 1} {
		index, leaf, ok, err := l.Find(ctx, testLeaf(i).Identity)
		if err != nil || !ok || index != i {
			t.Fatalf("leaf %d is found at %d, %v, %v", i, index, ok, err)
		}
		same(t, i, leaf)
	}
	if _, _, ok, err := l.Find(ctx, testLeaf(size).Identity); ok || err != nil {
		t.Errorf("a leaf that is not there: %v, %v", ok, err)
	}
	if err := l.Verify(ctx); err != nil {
		t.Error(err)
	}
}

func same(t *testing.T, index uint64, got Leaf) {
	t.Helper()
	want := testLeaf(index)
	if !bytes.Equal(got.Value, want.Value) || !bytes.Equal(got.Extra, want.Extra) || got.Identity != want.Identity {
		t.Fatalf("leaf %d is %+v", index, got)
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	onEngines(t, testConflicts)
}

func testConflicts(t *testing.T, opt Options) {
	ctx := context.Background()
	l := open(t, opt)
	mustAdd(t, l, 0, 10)
	changed, moved, both := testLeaf(4), testLeaf(3), testLeaf(3)
	changed.Value = []byte("another")
	both.Value = []byte("another")
	for name, c := range map[string]struct {
		first  uint64
		leaves []Leaf
		want   ConflictError
	}{
		"index taken":               {4, []Leaf{testLeaf(77)}, ConflictError{Index: 4, Identity: testLeaf(77).Identity, At: 4}},
		"another value":             {3, []Leaf{testLeaf(3), changed}, ConflictError{Index: 4, Identity: changed.Identity, At: 4, SameIdentity: true}},
		"again, at another index":   {10, []Leaf{testLeaf(10), moved}, ConflictError{Index: 11, Identity: moved.Identity, At: 3, SameIdentity: true, SameValue: true}},
		"again, with another value": {10, []Leaf{both}, ConflictError{Index: 10, Identity: both.Identity, At: 3, SameIdentity: true}},
	} {
		err := l.AddSequenced(ctx, c.first, c.leaves)
		var got *ConflictError
		if !errors.As(err, &got) || *got != c.want {
			t.Errorf("%s: %v (%+v), want %+v", name, err, got, c.want)
		}
	}
	var gap *GapError
	if err := l.AddSequenced(ctx, 12, testLeaves(12, 1)); !errors.As(err, &gap) || *gap != (GapError{First: 12, Next: 10}) {
		t.Errorf("a gap: %v", err)
	}
	if err := l.AddSequenced(ctx, 10, []Leaf{{Extra: []byte("x")}}); !errors.Is(err, ErrLeafSize) {
		t.Errorf("an empty leaf: %v", err)
	}
	if err := l.AddSequenced(ctx, 10, []Leaf{{Value: make([]byte, 65536)}}); !errors.Is(err, ErrLeafSize) {
		t.Errorf("a long leaf: %v", err)
	}
	if err := l.AddSequenced(ctx, 10, nil); err != nil {
		t.Errorf("no leaves: %v", err)
	}
	mustAdd(t, l, 10, 2) // nothing of the above is in the log
	if l.Size() != 12 {
		t.Errorf("size %d", l.Size())
	}
}

func TestProofs(t *testing.T) {
	t.Parallel()
	onEngines(t, testProofs)
}

func testProofs(t *testing.T, opt Options) {
	ctx := context.Background()
	l := open(t, opt)
	const size = 1300
	roots := make([][32]byte, size+1)
	var f tiles.Frontier
	roots[0] = f.Root()
	for i := range uint64(size) {
		f.Append(tiles.LeafHash(testLeaf(i).Value))
		roots[i+1] = f.Root()
	}
	mustAdd(t, l, 0, 700)
	mustAdd(t, l, 700, size-700)
	sizes := []uint64{0, 1, 2, 3, 255, 256, 257, 511, 512, 700, 1023, 1024, 1025, size - 1, size}
	for _, n := range sizes {
		if root, err := l.RootAt(ctx, n); err != nil || root != roots[n] {
			t.Errorf("root of %d: %x, %v", n, root, err)
		}
		hashes, err := l.Frontier(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		g := tiles.Frontier{Size: n, Hashes: hashes}
		for i := n; i < min(n+3, size); i++ {
			g.Append(tiles.LeafHash(testLeaf(i).Value))
		}
		if g.Root() != roots[g.Size] {
			t.Errorf("the frontier of %d does not lead to the root of %d", n, g.Size)
		}
		for _, i := range []uint64{0, n / 3, n / 2, n - 1} {
			if i >= n {
				continue
			}
			proof, err := l.Inclusion(ctx, i, n)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkpoint.VerifyInclusion(proof, i, n, tiles.LeafHash(testLeaf(i).Value), roots[n]); err != nil {
				t.Error(err)
			}
		}
		for _, m := range sizes {
			if m > n {
				continue
			}
			proof, err := l.Consistency(ctx, m, n)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkpoint.VerifyConsistency(proof, m, n, roots[m], roots[n]); err != nil {
				t.Error(err)
			}
		}
	}
	for what, do := range map[string]func() error{
		"inclusion, size":  func() error { _, err := l.Inclusion(ctx, 0, size+1); return err },
		"inclusion, index": func() error { _, err := l.Inclusion(ctx, 7, 7); return err },
		"consistency":      func() error { _, err := l.Consistency(ctx, 1, size+1); return err },
		"backwards":        func() error { _, err := l.Consistency(ctx, 2, 1); return err },
		"root":             func() error { _, err := l.RootAt(ctx, size+1); return err },
		"frontier":         func() error { _, err := l.Frontier(ctx, 1<<63); return err },
		"leaves":           func() error { _, err := l.Leaves(ctx, size, 1); return err },
		"leaves, overflow": func() error { _, err := l.Leaves(ctx, 1, 1<<64-1); return err },
		"scan":             func() error { return l.Scan(ctx, 0, size+1, nil) },
		"scan, backwards":  func() error { return l.Scan(ctx, 2, 1, nil) },
		"tile":             func() error { _, err := l.Tile(ctx, 0, 5, 21); return err },
		"tile, level":      func() error { _, err := l.Tile(ctx, 9, 0, 1); return err },
		"tile, entries":    func() error { _, err := l.Tile(ctx, tiles.Entries, 0, 1); return err },
		"entries":          func() error { _, err := l.Entries(ctx, 5, 21); return err },
	} {
		if err := do(); !errors.Is(err, ErrBeyond) {
			t.Errorf("%s beyond the tree: %v", what, err)
		}
	}
}

// TestPipelinedAdds begins each call before the last is answered.
func TestPipelinedAdds(t *testing.T) {
	t.Parallel()
	onEngines(t, testPipelinedAdds)
}

func testPipelinedAdds(t *testing.T, opt Options) {
	l := open(t, opt)
	var all sync.WaitGroup
	const calls, each = 12, 150
	for i := range uint64(calls) {
		all.Go(func() {
			for { // until those before are in the queue
				err := l.AddSequenced(context.Background(), i*each, testLeaves(i*each, each))
				var gap *GapError
				if !errors.As(err, &gap) {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	all.Wait()
	f := reference(calls * each)
	if root, err := l.RootAt(context.Background(), calls*each); err != nil || root != f.Root() {
		t.Errorf("root %x, %v", root, err)
	}
}
