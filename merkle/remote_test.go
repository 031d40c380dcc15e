package merkle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"scripta/merkle/tiles"
)

// voidNumber is added to an index for the number of the test leaf that fills it.
const voidNumber = 1 << 40

// openRemoteLog opens a log on the shared cluster, which fills holes.
func openRemoteLog(t *testing.T, change ...func(*Options)) (*Log, Options) {
	t.Helper()
	opt := clusterOptions(t, shared.cluster(t), t.TempDir())
	opt.Cluster.Void = func(_ context.Context, index uint64) (Leaf, error) { return testLeaf(voidNumber + index), nil }
	for _, c := range change {
		c(&opt)
	}
	return open(t, opt), opt
}

// raw is the cluster's own client of a log, past its lease: what another node
// does.
func raw(l *Log) (trillian.TrillianLogClient, int64) {
	r := l.engine.(*remote)
	return r.conn.Log, r.tree
}

// intrude stores test leaves of the given numbers at index first and so on,
// without waiting for anything.
func intrude(t *testing.T, l *Log, first uint64, numbers ...uint64) {
	t.Helper()
	client, tree := raw(l)
	if err := storeRaw(t, client, tree, first, numbers...); err != nil {
		t.Fatal(err)
	}
}

// storeRaw calls AddSequencedLeaves itself.
func storeRaw(t *testing.T, client trillian.TrillianLogClient, tree int64, first uint64, numbers ...uint64) error {
	t.Helper()
	req := &trillian.AddSequencedLeavesRequest{LogId: tree}
	for i, n := range numbers {
		leaf := testLeaf(n)
		req.Leaves = append(req.Leaves, &trillian.LogLeaf{LeafValue: leaf.Value, ExtraData: leaf.Extra, LeafIdentityHash: leaf.Identity[:], LeafIndex: int64(first) + int64(i)})
	}
	resp, err := client.AddSequencedLeaves(t.Context(), req)
	if err != nil {
		return err
	}
	for i, r := range resp.Results {
		if r.GetStatus().GetCode() != 0 {
			return fmt.Errorf("leaf %d of another node: %v", i, r.Status)
		}
	}
	return nil
}

func mustAppend(t *testing.T, l *Log, numbers ...uint64) []uint64 {
	t.Helper()
	var leaves []Leaf
	for _, n := range numbers {
		leaves = append(leaves, testLeaf(n))
	}
	at, err := l.Append(t.Context(), leaves)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// holds checks that the log consists of the test leaves with the given numbers,
// and that root, tiles and lookups agree.
func holds(t *testing.T, l *Log, numbers ...uint64) {
	t.Helper()
	if l.Size() != uint64(len(numbers)) {
		t.Fatalf("the log has %d leaves, want %d", l.Size(), len(numbers))
	}
	var f tiles.Frontier
	if err := l.Scan(t.Context(), 0, l.Size(), func(index uint64, got Leaf) error {
		want := testLeaf(numbers[index])
		f.Append(tiles.LeafHash(want.Value))
		if got.Identity != want.Identity || string(got.Value) != string(want.Value) || string(got.Extra) != string(want.Extra) {
			return fmt.Errorf("leaf %d is not the one of number %d", index, numbers[index])
		}
		at, _, ok, err := l.Find(t.Context(), want.Identity)
		if err != nil || !ok || at != index {
			return fmt.Errorf("leaf %d is found at %d, %v, %v", index, at, ok, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if c := mustPublish(t, l); c.Root != f.Root() {
		t.Errorf("root %x, want %x", c.Root, f.Root())
	}
	if err := l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestStragglers is about leaves that come from another node's calls in between,
// on their way when the lease changed hands.
func TestStragglers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]func(t *testing.T, l *Log){
		"before ours": func(t *testing.T, l *Log) {
			intrude(t, l, 2, 50, 51)
			if at := mustAppend(t, l, 2, 3); at[0] != 4 || at[1] != 5 {
				t.Errorf("at %v", at)
			}
			holds(t, l, 0, 1, 50, 51, 2, 3)
		},
		"in the midst of ours": func(t *testing.T, l *Log) {
			intrude(t, l, 3, 50)
			at := mustAppend(t, l, 2, 3, 4)
			// Trillian takes the first and the third at once.
			if at[0] != 2 || at[1] != 5 || at[2] != 4 {
				t.Errorf("at %v", at)
			}
			holds(t, l, 0, 1, 2, 50, 4, 3)
		},
		"some of ours came before": func(t *testing.T, l *Log) {
			intrude(t, l, 2, 3, 4)
			at := mustAppend(t, l, 2, 3, 4, 5)
			// Trillian takes the last at once, and index 4 stays empty.
			if at[0] != 6 || at[1] != 2 || at[2] != 3 || at[3] != 5 {
				t.Errorf("at %v", at)
			}
			holds(t, l, 0, 1, 3, 4, voidNumber+4, 5, 2)
		},
		"all of ours came before": func(t *testing.T, l *Log) {
			intrude(t, l, 2, 2, 3)
			if at := mustAppend(t, l, 2, 3); at[0] != 2 || at[1] != 3 {
				t.Errorf("at %v", at)
			}
			holds(t, l, 0, 1, 2, 3)
		},
		"ours are stored behind a hole": func(t *testing.T, l *Log) {
			intrude(t, l, 4, 7)
			// The leaf is refused for its identity, its index stays empty.
			if at := mustAppend(t, l, 7); at[0] != 4 {
				t.Errorf("at %v", at)
			}
			holds(t, l, 0, 1, voidNumber+2, voidNumber+3, 7)
			mustAppend(t, l, 8)
			holds(t, l, 0, 1, voidNumber+2, voidNumber+3, 7, 8)
		},
		"one of ours is stored behind a hole": func(t *testing.T, l *Log) {
			intrude(t, l, 5, 7)
			at := mustAppend(t, l, 6, 7, 8)
			if at[0] != 2 || at[1] != 5 || at[2] != 4 {
				t.Errorf("at %v", at)
			}
			holds(t, l, 0, 1, 6, voidNumber+3, 8, 7)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, _ := openRemoteLog(t)
			mustAppend(t, l, 0, 1)
			c(t, l)
		})
	}
	t.Run("a hole and nothing to fill it", func(t *testing.T) {
		t.Parallel()
		l, _ := openRemoteLog(t, func(o *Options) { o.Cluster.Void = nil })
		mustAppend(t, l, 0, 1)
		intrude(t, l, 3, 7)
		if _, err := l.Append(t.Context(), []Leaf{testLeaf(7)}); !errors.Is(err, ErrHole) {
			t.Errorf("appended: %v", err)
		}
	})
	t.Run("into an empty log", func(t *testing.T) {
		t.Parallel()
		l, _ := openRemoteLog(t)
		intrude(t, l, 0, 50, 51)
		if at := mustAppend(t, l, 2, 3); at[0] != 2 || at[1] != 3 {
			t.Errorf("at %v", at)
		}
		holds(t, l, 50, 51, 2, 3)
	})
	t.Run("a sequenced call says what it met", func(t *testing.T) {
		t.Parallel()
		l, _ := openRemoteLog(t)
		mustAdd(t, l, 0, 3)
		intrude(t, l, 3, 50)
		var conflict *ConflictError
		if err := l.AddSequenced(t.Context(), 3, testLeaves(3, 1)); !errors.As(err, &conflict) || conflict.At != 3 || conflict.SameIdentity {
			t.Errorf("added: %v", err)
		}
	})
}

// fickle loses calls or their answers.
type fickle struct {
	trillian.TrillianLogClient
	lose func(method string) (before, after bool)
}

var errLine = status.Error(codes.Unavailable, "the line is dead (test)")

func (f *fickle) AddSequencedLeaves(ctx context.Context, in *trillian.AddSequencedLeavesRequest, opts ...grpc.CallOption) (*trillian.AddSequencedLeavesResponse, error) {
	before, after := f.lose("add")
	if before {
		return nil, errLine
	}
	out, err := f.TrillianLogClient.AddSequencedLeaves(ctx, in, opts...)
	if after {
		return nil, errLine
	}
	return out, err
}

func (f *fickle) GetLatestSignedLogRoot(ctx context.Context, in *trillian.GetLatestSignedLogRootRequest, opts ...grpc.CallOption) (*trillian.GetLatestSignedLogRootResponse, error) {
	if before, after := f.lose("root"); before || after {
		return nil, errLine
	}
	return f.TrillianLogClient.GetLatestSignedLogRoot(ctx, in, opts...)
}

func (f *fickle) GetLeavesByRange(ctx context.Context, in *trillian.GetLeavesByRangeRequest, opts ...grpc.CallOption) (*trillian.GetLeavesByRangeResponse, error) {
	if before, after := f.lose("read"); before || after {
		return nil, errLine
	}
	return f.TrillianLogClient.GetLeavesByRange(ctx, in, opts...)
}

// TestLostAnswers loses calls and answers at random: each leaf must be in the log
// once, in the order in which they were appended.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	l, _ := openRemoteLog(t)
	r := l.engine.(*remote)
	lost := map[string]int{}
	r.conn.Log = &fickle{r.conn.Log, func(method string) (bool, bool) {
		n := rand.IntN(8)
		if n < 2 {
			lost[method]++
		}
		return n == 0, n == 1
	}}
	var numbers []uint64
	for n := uint64(0); n < 120; {
		var call []uint64
		for range 1 + rand.IntN(9) {
			call = append(call, n)
			n++
		}
		for i, at := range mustAppend(t, l, call...) {
			if at != call[i] {
				t.Fatalf("leaf %d is at %d", call[i], at)
			}
		}
		numbers = append(numbers, call...)
	}
	if lost["add"] == 0 || lost["root"] == 0 {
		t.Errorf("nothing was lost: %v", lost)
	}
	r.conn.Log = r.conn.Log.(*fickle).TrillianLogClient
	holds(t, l, numbers...)
}

// TestImpatience holds that an addition gives up in time with an error that says
// so, and that the same leaves are then added once.
func TestImpatience(t *testing.T) {
	t.Parallel()
	l, _ := openRemoteLog(t)
	mustAppend(t, l, 0)
	r := l.engine.(*remote)
	whole, patience := r.conn.Log, r.opt.Patience
	r.opt.Patience = 300 * time.Millisecond
	for _, method := range []string{"add", "root"} {
		r.conn.Log = &fickle{whole, func(m string) (bool, bool) { return m == method, false }}
		_, err := l.Append(t.Context(), []Leaf{testLeaf(1), testLeaf(2)})
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "the line is dead") {
			t.Errorf("calls of %q are lost: %v", method, err)
		}
	}
	r.conn.Log, r.opt.Patience = whole, patience
	if at := mustAppend(t, l, 1, 2); at[0] != 1 || at[1] != 2 {
		t.Errorf("at %v", at)
	}
	holds(t, l, 0, 1, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, []Leaf{testLeaf(3)}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if at := mustAppend(t, l, 3); at[0] != 3 {
		t.Errorf("at %v", at)
	}
}

// TestAdoption lets a second node take a log over while the first still writes.
func TestAdoption(t *testing.T) {
	t.Parallel()
	first, opt := openRemoteLog(t, func(o *Options) { o.Cluster.Lease.TTL = time.Minute })
	if _, _, ok := first.Adoption(); ok {
		t.Error("a new log was adopted")
	}
	mustAppend(t, first, 0, 1, 2)
	mustPublish(t, first)

	// The second has the checkpoint file, and no projection.
	second := opt
	second.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(second.Dir, CheckpointFile), first.Checkpoint().Note, 0o644); err != nil {
		t.Fatal(err)
	}
	c := *opt.Cluster
	c.Lease.Node, c.Lease.TTL = "b", 100*time.Millisecond
	second.Cluster = &c
	if l, err := Open(t.Context(), second); err == nil || !strings.Contains(err.Error(), `belongs to node "a"`) {
		t.Fatalf("opened while the first is alive: %v, %v", l, err)
	}
	c.Lease.Adopt, c.Lease.TTL = true, time.Minute
	mustAppend(t, first, 3)
	b := open(t, second)
	if epoch, from, ok := b.Adoption(); !ok || epoch != 2 || from != "a" {
		t.Errorf("adopted from %q in epoch %d, %v", from, epoch, ok)
	}
	holds(t, b, 0, 1, 2, 3) // from the cluster
	if _, err := first.Append(t.Context(), []Leaf{testLeaf(4)}); !errors.Is(err, ErrFenced) {
		t.Errorf("the first was not fenced: %v", err)
	}
	mustAppend(t, b, 5)
	// A call of the first that was on its way still comes.
	intrude(t, first, 5, 50)
	mustAppend(t, b, 6)
	holds(t, b, 0, 1, 2, 3, 5, 50, 6)
	if _, err := first.Append(t.Context(), []Leaf{testLeaf(4)}); !errors.Is(err, ErrFenced) {
		t.Errorf("the first is not fenced any more: %v", err)
	}
	closeLog(t, b)
	// In good order given back, no adoption needed. The first node's process has
	// ended by now.
	closeLog(t, first)
	again := open(t, opt)
	if epoch, from, ok := again.Adoption(); !ok || epoch != 3 || from != "b" {
		t.Errorf("taken back from %q in epoch %d, %v", from, epoch, ok)
	}
	holds(t, again, 0, 1, 2, 3, 5, 50, 6)
}

// TestProjectionIsMadeAgain removes it.
func TestProjectionIsMadeAgain(t *testing.T) {
	t.Parallel()
	l, opt := openRemoteLog(t)
	mustAdd(t, l, 0, 3000)
	closeLog(t, l)
	if err := os.RemoveAll(filepath.Join(opt.Dir, projectionDir)); err != nil {
		t.Fatal(err)
	}
	l = open(t, opt)
	numbers := make([]uint64, 3000)
	for i := range numbers {
		numbers[i] = uint64(i)
	}
	holds(t, l, numbers...)
	closeLog(t, l)
	// A projection of another tree is not taken.
	other := clusterOptions(t, shared.cluster(t), t.TempDir())
	other.Origin, other.Signer, other.Verifier = opt.Origin, opt.Signer, opt.Verifier
	other.Dir = opt.Dir
	if err := shared.cluster(t).Exec(fmt.Sprintf("UPDATE scripta_lease SET tree = 12345 WHERE origin = '%s'", opt.Origin)); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(t.Context(), other); err == nil || !strings.Contains(err.Error(), "is this its database?") {
		t.Errorf("opened with another tree: %v, %v", l, err)
	}
}

// TestClusterThatLies changes what PostgreSQL holds.
func TestClusterThatLies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql    string // %[1]d is the tree
		reason error
		says   string
	}{
		"restored from a backup": {`DELETE FROM SequencedLeafData WHERE TreeId = %[1]d AND SequenceNumber >= 10; DELETE FROM TreeHead WHERE TreeId = %[1]d AND TreeSize > 10`, ErrLost, "bring the cluster's database back"},
		"another root": {`UPDATE TreeHead SET RootHash = decode(repeat('ab', 32), 'hex') WHERE TreeId = %[1]d AND TreeSize = 20`,
			ErrDiverged, "stop every node"},
		"a leaf that does not lead to the root": {`UPDATE LeafData SET LeafValue = '\x0101' FROM SequencedLeafData s
			WHERE LeafData.TreeId = %[1]d AND s.TreeId = %[1]d AND s.LeafIdentityHash = LeafData.LeafIdentityHash AND s.SequenceNumber = 15`, ErrDiverged, "leaf 15"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, opt := openRemoteLog(t)
			mustAppend(t, l, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
			mustAppend(t, l, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
			_, tree := raw(l)
			closeLog(t, l)
			if err := shared.cluster(t).Exec(fmt.Sprintf(c.sql, tree)); err != nil {
				t.Fatal(err)
			}
			l, err := Open(t.Context(), opt)
			if err == nil { // the change shows when leaves are read
				t.Cleanup(func() { l.Close() })
				err = l.Verify(t.Context())
			}
			var is *ClusterError
			if !errors.As(err, &is) || !errors.Is(err, c.reason) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %v, want %v and %q", err, c.reason, c.says)
			}
		})
	}
}
