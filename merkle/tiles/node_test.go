package tiles

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
)

// tree is a reference tree and the tiles that follow from its leaf hashes.
type tree struct {
	*testonly.Tree
	rows [][]byte // hashes of tile levels 0, 1, 2
}

func newTree(t testing.TB, size int) *tree {
	t.Helper()
	tr := &tree{Tree: testonly.New(rfc6962.DefaultHasher), rows: make([][]byte, 3)}
	for i := range size {
		entry := fmt.Appendf(nil, "entry %d", i)
		tr.AppendData(entry)
		h := LeafHash(entry)
		tr.rows[0] = append(tr.rows[0], h[:]...)
	}
	for level := 1; level < len(tr.rows); level++ {
		for below := tr.rows[level-1]; len(below) >= TileSize; below = below[TileSize:] {
			h, err := Root(below[:TileSize])
			if err != nil {
				t.Fatal(err)
			}
			tr.rows[level] = append(tr.rows[level], h[:]...)
		}
	}
	return tr
}

func (tr *tree) get(level int, index uint64) ([]byte, error) {
	row := tr.rows[level]
	lo := min(int(index)*TileSize, len(row))
	return row[lo:min(lo+TileSize, len(row))], nil
}

func TestNodesGiveProofs(t *testing.T) {
	t.Parallel()
	const size = 66_000
	tr := newTree(t, size)
	for _, n := range []uint64{1, 2, 3, 255, 256, 257, 511, 1000, 65_535, 65_536, 65_537, size} {
		for _, i := range []uint64{0, n / 3, n / 2, n - 1} {
			nodes, err := proof.Inclusion(i, n)
			if err != nil {
				t.Fatal(err)
			}
			hashes := make([][]byte, len(nodes.IDs))
			for j, id := range nodes.IDs {
				h, err := Node(id, tr.get)
				if err != nil {
					t.Fatalf("node %v for leaf %d of %d: %v", id, i, n, err)
				}
				hashes[j] = h[:]
				full(t, tr, id, h)
			}
			p, err := nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, i, n, tr.LeafHash(i), p, tr.HashAt(n)); err != nil {
				t.Errorf("leaf %d of %d: %v", i, n, err)
			}
		}
	}
	if _, err := Node(compact.NewNodeID(8, size>>8), tr.get); !errors.Is(err, ErrBeyond) {
		t.Errorf("a node over leaves that do not exist: %v", err)
	}
}

// full compares a node with the one that its full, expanded tile gives.
func full(t *testing.T, tr *tree, id compact.NodeID, want Hash) {
	t.Helper()
	level, index, first, depth := Locate(id)
	tile, _ := tr.get(level, index)
	if len(tile) < TileSize {
		return
	}
	f, err := Expand(tile)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Node(first, depth); !bytes.Equal(got, want[:]) {
		t.Errorf("node %v: the expanded tile gives %x, want %x", id, got, want)
	}
	if !bytes.Equal(f.Hashes(), tile) {
		t.Error("the expanded tile has other hashes")
	}
	if root, _ := Root(tile); !bytes.Equal(f.Node(0, 8), root[:]) {
		t.Error("the expanded tile has another root")
	}
}

func TestFrontier(t *testing.T) {
	t.Parallel()
	tr := testonly.New(rfc6962.DefaultHasher)
	var f Frontier
	for i := range 1100 {
		if got := f.Root(); !bytes.Equal(got[:], tr.Hash()) {
			t.Fatalf("root of %d leaves is %x, want %x", i, got, tr.Hash())
		}
		if got, want := len(f.Hashes), compact.RangeSize(0, f.Size); got != want {
			t.Fatalf("frontier of %d leaves has %d hashes, want %d", i, got, want)
		}
		entry := bytes.Repeat([]byte{byte(i)}, i) // lengths on both sides of LeafHash's buffer
		tr.AppendData(entry)
		f.Append(LeafHash(entry))
	}
}

func TestWrongSizes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 31, 33, 3 * HashSize, 255 * HashSize, 512 * HashSize} {
		if _, err := Root(make([]byte, n)); !errors.Is(err, ErrSize) {
			t.Errorf("root of %d bytes: %v", n, err)
		}
		if _, err := Expand(make([]byte, n)); !errors.Is(err, ErrSize) {
			t.Errorf("tile of %d bytes: %v", n, err)
		}
	}
}

// TestGolden holds the published bytes of a tree of 300 entries ("entry 0" to
// "entry 299"): they must never change. testdata/README says how they were made.
func TestGolden(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 300)
	var bundle []byte
	for i := 256; i < 300; i++ {
		var err error
		if bundle, err = AppendEntry(bundle, fmt.Appendf(nil, "entry %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for name, got := range map[string][]byte{
		"tile-0-001.p-44":       tr.rows[0][TileSize:],
		"tile-1-000.p-1":        tr.rows[1],
		"tile-entries-001.p-44": bundle,
	} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is %x, want %x", name, got, want)
		}
	}
}

func BenchmarkExpand(b *testing.B) {
	tile := make([]byte, TileSize)
	for b.Loop() {
		if _, err := Expand(tile); err != nil {
			b.Fatal(err)
		}
	}
}
