package merkle

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/trillian"
	"google.golang.org/grpc"

	"scripta/merkle/badgerlog"
)

// run audits in steps and returns the leaves that it saw and what was wrong.
func run(t *testing.T, a *Audit, step uint64) (seen []uint64, wrong []error) {
	t.Helper()
	for done := false; !done; {
		var err error
		done, err = a.Next(t.Context(), step, func(i uint64, l Leaf) {
			seen = append(seen, i)
			if string(l.Value) != string(testLeaf(i).Value) {
				t.Errorf("leaf %d is another", i)
			}
			if f := reference(i + 1); i%97 == 0 && a.Root() != f.Root() {
				t.Errorf("leaf %d: another root", i)
			}
		}, func(err error) { wrong = append(wrong, err) })
		if err != nil {
			t.Fatal(err)
		}
	}
	return seen, wrong
}

func TestAuditIsResumed(t *testing.T) {
	t.Parallel()
	const size = 3000
	l := open(t, options(t, t.TempDir()))
	mustAdd(t, l, 0, size)
	var at uint64
	var hashes [][32]byte
	for _, step := range []uint64{1, 254, 1, 1, 255, 300, 1236, 2000} {
		a, err := l.Audit(t.Context(), at, hashes)
		if err != nil {
			t.Fatal(err)
		}
		done, err := a.Next(t.Context(), step, func(uint64, Leaf) {}, func(err error) { t.Error(err) })
		if err != nil || done != (at+step >= size) || a.Size() != size {
			t.Fatalf("at %d: %t, %v", at, done, err)
		}
		at, hashes = a.Position()
		if f := reference(at); a.Root() != f.Root() {
			t.Errorf("at %d: another root", at)
		}
		hashes = slices.Clone(hashes)
	}
	for _, c := range []struct {
		size   uint64
		hashes [][32]byte
	}{{size - 1, hashes}, {size, hashes[1:]}, {size + 1, hashes}, {size, append([][32]byte{{}}, hashes[1:]...)}} {
		if _, err := l.Audit(t.Context(), c.size, c.hashes); !errors.Is(err, ErrBeyond) {
			t.Errorf("resumed at %d: %v", c.size, err)
		}
	}
}

// liar changes a tile.
type liar struct {
	engine
	level int
	index uint64
}

func (e liar) tile(level int, index uint64, width int) ([]byte, error) {
	b, err := e.engine.tile(level, index, width)
	if err == nil && level == e.level && index == e.index {
		b[len(b)-1] ^= 1
	}
	return b, err
}

// deaf cannot read some leaves.
type deaf struct {
	trillian.TrillianLogClient
	lost []int64
}

func (c deaf) GetLeavesByRange(ctx context.Context, in *trillian.GetLeavesByRangeRequest, o ...grpc.CallOption) (*trillian.GetLeavesByRangeResponse, error) {
	for _, i := range c.lost {
		if in.StartIndex <= i && i < in.StartIndex+in.Count {
			return nil, errors.New("a bad sector")
		}
	}
	return c.TrillianLogClient.GetLeavesByRange(ctx, in, o...)
}

func TestAuditGoesOn(t *testing.T) {
	t.Parallel()
	const size = 1000
	l := open(t, options(t, t.TempDir()))
	mustAdd(t, l, 0, size)
	l.engine = liar{l.engine, 0, 2}
	l.client = deaf{l.client, []int64{7, 300, 301, 999}}
	a, err := l.Audit(t.Context(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen, wrong := run(t, a, 10_000)
	if len(seen) != size-4 || slices.Contains(seen, 300) || len(wrong) != 5 {
		t.Fatalf("%d leaves, %v", len(seen), wrong)
	}
	for i, say := range []string{"leaf 7 cannot be read", "leaf 300 ", "leaf 301 ", "tile 0/2 does not follow", "leaf 999 "} {
		if !strings.Contains(wrong[i].Error(), say) || !errors.Is(wrong[i], badgerlog.ErrCorrupt) {
			t.Errorf("%v", wrong[i])
		}
	}
	if err := l.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), "leaf 7 ") {
		t.Errorf("verify: %v", err)
	}
}

func TestAuditIsGivenUp(t *testing.T) {
	t.Parallel()
	l := open(t, options(t, t.TempDir()))
	mustAdd(t, l, 0, 3000)
	a, err := l.Audit(t.Context(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = a.Next(ctx, 3000, func(i uint64, _ Leaf) {
		if i == 1500 {
			cancel()
		}
	}, func(err error) { t.Error(err) })
	if at, _ := a.Position(); !errors.Is(err, context.Canceled) || at < 1500 || at == 3000 {
		t.Errorf("at %d: %v", at, err)
	}
	if _, wrong := run(t, a, 4000); wrong != nil {
		t.Error(wrong)
	}
}
