package badgerlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/trillian"
	"github.com/google/trillian/storage/testonly"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"scripta/merkle/tiles"
)

// codesOf are the statuses of an answer.
func codesOf(rs []*trillian.QueuedLogLeaf) []codes.Code {
	cs := make([]codes.Code, len(rs))
	for i, r := range rs {
		cs[i] = codes.Code(r.Status.GetCode())
	}
	return cs
}

func TestAddSequencedLeavesStatuses(t *testing.T) {
	t.Parallel()
	l := newPreordered(t, Options{Dir: t.TempDir()})
	l.mustAdd(0, 10)
	otherValue, otherIdentity, moved := leaf(4), leaf(4), leaf(11)
	otherValue.LeafValue = []byte("another")
	otherIdentity.LeafIdentityHash = leaf(99).LeafIdentityHash
	moved.LeafIdentityHash = leaf(3).LeafIdentityHash
	twice := leaf(11)
	twice.LeafIdentityHash = leaf(10).LeafIdentityHash
	otherExtra := leaf(4)
	otherExtra.ExtraData = []byte("sealed anew")
	const (
		ok, exists, conflict = codes.OK, codes.AlreadyExists, codes.FailedPrecondition
		gap, aborted         = codes.OutOfRange, codes.Aborted
	)
	for _, c := range []struct {
		name   string
		leaves []*trillian.LogLeaf
		want   []codes.Code
		has    []int64 // indices of the returned leaves, -1 for none
		size   int64
	}{
		{"again", leaves(2, 3), []codes.Code{exists, exists, exists}, []int64{2, 3, 4}, 10},
		{"again, sealed anew", []*trillian.LogLeaf{otherExtra}, []codes.Code{exists}, []int64{4}, 10},
		{"another value", []*trillian.LogLeaf{leaf(3), otherValue, leaf(5)}, []codes.Code{exists, conflict, exists}, []int64{3, 4, 5}, 10},
		{"another identity", []*trillian.LogLeaf{otherIdentity}, []codes.Code{conflict}, []int64{4}, 10},
		{"identity elsewhere", []*trillian.LogLeaf{leaf(9), leaf(10), moved}, []codes.Code{exists, aborted, conflict}, []int64{9, -1, 3}, 10},
		{"identity twice in a call", []*trillian.LogLeaf{leaf(10), twice}, []codes.Code{aborted, conflict}, []int64{-1, 10}, 10},
		{"a gap", leaves(11, 2), []codes.Code{gap, gap}, []int64{-1, -1}, 10},
		{"old and new", leaves(8, 4), []codes.Code{exists, exists, ok, ok}, []int64{8, 9, 10, 11}, 12},
	} {
		rs, err := l.add(c.leaves)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := codesOf(rs); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		for i, r := range rs {
			if has := c.has[i]; (r.Leaf == nil) != (has < 0) || r.Leaf != nil && r.Leaf.LeafIndex != has {
				t.Errorf("%s: leaf %d comes with %v, want index %d", c.name, i, r.Leaf, has)
			}
		}
		l.check(c.size) // what was refused left no trace, extra data stays
	}
	if len(l.treeLog().byIdentity) > 0 {
		t.Errorf("%d identities are left in the queue", len(l.treeLog().byIdentity))
	}
}

// treeLog is what is under the log.
func (l *testLog) treeLog() *treeLog {
	l.t.Helper()
	tl, err := l.log(l.tree.TreeId)
	if err != nil {
		l.t.Fatal(err)
	}
	return tl
}

// TestWaitingLeaves adds leaves that meet others in the queue: no sequencer runs
// until all wait.
func TestWaitingLeaves(t *testing.T) {
	t.Parallel()
	db := open(t, Options{Dir: t.TempDir()})
	l := newLog(t, db, testonly.PreorderedLogTree)
	stop(t, l)
	other, elsewhere := leaf(1), leaf(4)
	other.LeafValue = []byte("another")
	elsewhere.LeafIdentityHash = leaf(0).LeafIdentityHash
	results := make([]chan []codes.Code, 3)
	for i, ls := range [][]*trillian.LogLeaf{leaves(0, 3), leaves(1, 2), leaves(2, 2)} {
		results[i] = make(chan []codes.Code, 1)
		go func() {
			rs, err := l.add(ls)
			if err != nil {
				t.Error(err)
			}
			results[i] <- codesOf(rs)
		}()
		// The next comes when this one waits.
		waitFor(t, func() bool {
			tl := l.treeLog()
			tl.queueMu.Lock()
			defer tl.queueMu.Unlock()
			return len(tl.waiters) == i+1
		})
	}
	// These are refused at once, without a sequencer.
	for name, ls := range map[string][]*trillian.LogLeaf{"value": {other}, "identity": {elsewhere}} {
		rs, err := l.add(ls)
		if err != nil || codesOf(rs)[0] != codes.FailedPrecondition {
			t.Errorf("another %s while the first waits: %v, %v", name, rs, err)
		}
	}
	rs, err := l.add([]*trillian.LogLeaf{leaf(3), elsewhere})
	if want := []codes.Code{codes.Aborted, codes.FailedPrecondition}; err != nil || !slices.Equal(codesOf(rs), want) {
		t.Errorf("a waiting leaf and a conflict: %v, %v; nothing may be called stored that is not yet", rs, err)
	}
	l.sequence()
	for i, want := range [][]codes.Code{{codes.OK, codes.OK, codes.OK}, {codes.AlreadyExists, codes.AlreadyExists}, {codes.AlreadyExists, codes.OK}} {
		if got := <-results[i]; !slices.Equal(got, want) {
			t.Errorf("call %d: %v, want %v", i, got, want)
		}
	}
	l.check(4)
}

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	l := newPreordered(t, Options{Dir: t.TempDir()})
	s := l.LogStorage()
	ctx := context.Background()
	whole := func(change func(*trillian.LogLeaf)) []*trillian.LogLeaf {
		x := leaf(0)
		h := tiles.LeafHash(x.LeafValue)
		x.MerkleLeafHash = h[:]
		change(x)
		return []*trillian.LogLeaf{x}
	}
	for name, c := range map[string]struct {
		leaves []*trillian.LogLeaf
		want   func(error) bool
	}{
		"empty value":    {whole(func(x *trillian.LogLeaf) { x.LeafValue = nil }), isSize},
		"long value":     {whole(func(x *trillian.LogLeaf) { x.LeafValue = make([]byte, MaxValueSize+1) }), isSize},
		"long extra":     {whole(func(x *trillian.LogLeaf) { x.ExtraData = make([]byte, MaxExtraSize+1) }), isSize},
		"short identity": {whole(func(x *trillian.LogLeaf) { x.LeafIdentityHash = make([]byte, 31) }), isInvalid},
		"no Merkle hash": {whole(func(x *trillian.LogLeaf) { x.MerkleLeafHash = nil }), isInvalid},
		"negative index": {whole(func(x *trillian.LogLeaf) { x.LeafIndex = -1 }), isInvalid},
		"not contiguous": {append(whole(func(*trillian.LogLeaf) {}), whole(func(*trillian.LogLeaf) {})...), isInvalid},
	} {
		if _, err := s.AddSequencedLeaves(ctx, l.tree, c.leaves, testTime); !c.want(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	largest := whole(func(x *trillian.LogLeaf) {
		x.LeafValue, x.ExtraData = make([]byte, MaxValueSize), make([]byte, MaxExtraSize)
		h := tiles.LeafHash(x.LeafValue)
		x.MerkleLeafHash = h[:]
	})
	if _, err := s.AddSequencedLeaves(ctx, l.tree, largest, testTime); err != nil {
		t.Errorf("the largest leaf: %v", err)
	}
	if got := l.root().TreeSize; got != 1 {
		t.Errorf("%d leaves", got)
	}
}

func isSize(err error) bool    { return errors.Is(err, ErrLeafSize) }
func isInvalid(err error) bool { return status.Code(err) == codes.InvalidArgument }

// TestLargeBatches adds more bytes than a commit takes.
func TestLargeBatches(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newPreordered(t, Options{Dir: dir})
	const n = 24
	ls := leaves(0, n)
	for _, x := range ls {
		x.ExtraData = make([]byte, 800<<10)
	}
	if rs, err := l.add(ls); err != nil || codesOf(rs)[n-1] != codes.OK {
		t.Fatal(rs, err)
	}
	again := l.reopen(Options{Dir: dir})
	r, err := again.client.GetLeavesByRange(context.Background(), &trillian.GetLeavesByRangeRequest{LogId: l.tree.TreeId, Count: n})
	if err != nil || len(r.Leaves) == 0 || len(r.Leaves) == n {
		t.Errorf("%d leaves of 800 KiB at once, %v; the answer should be bounded", len(r.GetLeaves()), err)
	}
	if again.root().TreeSize != n {
		t.Errorf("%d leaves", again.root().TreeSize)
	}
}

func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	l := newLog(t, open(t, Options{Dir: t.TempDir(), MaxBatch: 50}), testonly.LogTree)
	const writers, each = 20, 40
	var all sync.WaitGroup
	indices := make([][]int64, writers)
	for w := range writers {
		all.Go(func() {
			for i := range each {
				// Every leaf comes from two writers.
				r, err := l.client.QueueLeaf(context.Background(), &trillian.QueueLeafRequest{
					LogId: l.tree.TreeId, Leaf: &trillian.LogLeaf{LeafValue: fmt.Appendf(nil, "leaf %d of %d", i, w/2)},
				})
				if err != nil {
					t.Error(err)
					return
				}
				if l.root().TreeSize == 0 {
					t.Error("answered before anything was integrated")
				}
				indices[w] = append(indices[w], int64(r.QueuedLeaf.Status.GetCode()))
			}
		})
	}
	all.Wait()
	fresh := 0
	for _, c := range slices.Concat(indices...) {
		switch codes.Code(c) {
		case codes.OK:
			fresh++
		case codes.AlreadyExists:
		default:
			t.Errorf("status %v", codes.Code(c))
		}
	}
	if want := writers / 2 * each; fresh != want || l.root().TreeSize != uint64(want) {
		t.Errorf("%d leaves were new, the tree has %d, want %d", fresh, l.root().TreeSize, want)
	}
	// In a LOG leaves are found by their Merkle hash.
	h := tiles.LeafHash([]byte("leaf 7 of 3"))
	p, err := l.client.GetInclusionProofByHash(context.Background(), &trillian.GetInclusionProofByHashRequest{LogId: l.tree.TreeId, LeafHash: h[:], TreeSize: int64(l.root().TreeSize)})
	if err != nil || len(p.Proof) != 1 {
		t.Errorf("proof by hash: %v, %v", p, err)
	}
	if _, err := l.LogStorage().QueueLeaves(context.Background(), l.tree, []*trillian.LogLeaf{{LeafValue: []byte("x"), LeafIdentityHash: make([]byte, 32), MerkleLeafHash: h[:]}}, testTime); !isInvalid(err) {
		t.Errorf("an identity that is not the Merkle hash: %v", err)
	}
}

func TestByHashNotInPreordered(t *testing.T) {
	t.Parallel()
	l := newPreordered(t, Options{Dir: t.TempDir()})
	l.mustAdd(0, 1)
	h := tiles.LeafHash(leaf(0).LeafValue)
	_, err := l.client.GetInclusionProofByHash(context.Background(), &trillian.GetInclusionProofByHashRequest{LogId: l.tree.TreeId, LeafHash: h[:], TreeSize: 1})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "PREORDERED_LOG") {
		t.Errorf("proof by hash: %v; a false \"not found\" would be worse than none", err)
	}
}

func TestCancelledAdder(t *testing.T) {
	t.Parallel()
	l := newPreordered(t, Options{Dir: t.TempDir()})
	stop(t, l)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	ls := leaves(0, 2)
	_, err := l.client.AddSequencedLeaves(ctx, &trillian.AddSequencedLeavesRequest{LogId: l.tree.TreeId, Leaves: ls})
	if status.Code(err) != codes.Canceled {
		t.Fatalf("a cancelled call: %v", err)
	}
	clear(ls[0].LeafValue) // the caller's memory is its own again
	clear(ls[1].MerkleLeafHash)
	l.sequence()
	if rs, err := l.add(leaves(0, 2)); err != nil || codesOf(rs)[1] != codes.AlreadyExists {
		t.Errorf("adding them again: %v, %v", rs, err)
	}
	l.check(2)
}
