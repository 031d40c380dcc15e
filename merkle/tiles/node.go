package tiles

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/transparency-dev/merkle/compact"
)

var (
	// ErrBeyond says that a node is not determined by the tiles at hand: the
	// tree is too small for it.
	ErrBeyond = errors.New("tiles: node beyond the tree")
	// ErrSize says that a tile does not have the length that it should.
	ErrSize = errors.New("tiles: wrong number of hashes")
)

// Getter returns the hashes, concatenated, that tile (level, index) has so far.
type Getter func(level int, index uint64) ([]byte, error)

// Locate says where a node of the tree stands: it is the root of the 2^depth
// hashes from position first on of tile (level, index).
func Locate(id compact.NodeID) (level int, index uint64, first int, depth uint) {
	depth = id.Level % 8
	pos := id.Index << depth
	return int(id.Level / 8), pos / Width, int(pos % Width), depth
}

// Node computes one node of the tree out of a tile. The error is ErrBeyond if
// the tile is too short for it, or get's.
func Node(id compact.NodeID, get Getter) (Hash, error) {
	level, index, first, depth := Locate(id)
	tile, err := get(level, index)
	if err != nil {
		return Hash{}, err
	}
	return NodeIn(tile, first, depth)
}

// NodeIn is the root of the 2^depth hashes from position first on of a tile,
// full or partial. The error is ErrBeyond if the tile is shorter.
func NodeIn(tile []byte, first int, depth uint) (Hash, error) {
	lo, hi := first*HashSize, (first+1<<depth)*HashSize
	if hi > len(tile) {
		return Hash{}, fmt.Errorf("%w: hashes %d to %d of a tile of %d", ErrBeyond, first, first+1<<depth, len(tile)/HashSize)
	}
	return Root(tile[lo:hi])
}

// Root computes the root of a complete subtree out of its hashes, whose number
// is a power of two of at most 256; otherwise the error is ErrSize.
func Root(hashes []byte) (Hash, error) {
	n := len(hashes) / HashSize
	if n == 0 || n > Width || len(hashes)%HashSize != 0 || bits.OnesCount(uint(n)) != 1 {
		return Hash{}, fmt.Errorf("%w: %d bytes", ErrSize, len(hashes))
	}
	if n == 1 {
		return Hash(hashes), nil
	}
	var row [TileSize / 2]byte
	from := hashes
	for n /= 2; ; n /= 2 {
		for i := range n {
			pair(row[i*HashSize:], from[2*i*HashSize:])
		}
		if n == 1 {
			return Hash(row[:HashSize]), nil
		}
		from = row[:]
	}
}

// nodesInTile is the number of nodes of a full tile with everything above its
// hashes: 256 + 128 + … + 1.
const nodesInTile = 2*Width - 1

// Full is a full tile together with the nodes above its hashes, up to the one
// root. It never changes and may be shared.
type Full struct {
	rows [nodesInTile * HashSize]byte // the rows, from the hashes up to the root
}

// Expand computes the nodes of a full tile. The error is ErrSize if it is not
// full.
func Expand(tile []byte) (*Full, error) {
	if len(tile) != TileSize {
		return nil, fmt.Errorf("%w: %d bytes, a full tile has %d", ErrSize, len(tile), TileSize)
	}
	f := new(Full)
	copy(f.rows[:], tile)
	// The parent of nodes 2i and 2i+1, counted through all rows, is node 256+i.
	for i := range Width - 1 {
		pair(f.rows[(Width+i)*HashSize:], f.rows[2*i*HashSize:])
	}
	return f, nil
}

// Hashes returns the tile itself. It must not be changed.
func (f *Full) Hashes() []byte { return f.rows[:TileSize:TileSize] }

// Node returns the root of the 2^depth hashes from position first on, which is
// a multiple of 2^depth; depth is at most 8. It must not be changed.
func (f *Full) Node(first int, depth uint) []byte {
	at := (2*Width - 2*Width>>depth + first>>depth) * HashSize
	return f.rows[at : at+HashSize : at+HashSize]
}
