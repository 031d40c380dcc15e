package badgerlog

import (
	"bytes"
	"fmt"

	"github.com/google/trillian"
	"github.com/google/trillian/storage/tree"
	"github.com/google/trillian/types"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"scripta/merkle/tiles"
)

// state is a log after a commit. It never changes: a commit makes a new one.
type state struct {
	root *trillian.SignedLogRoot // nil until the tree is initialised
	size uint64
	time uint64 // the root's, nanoseconds since 1970
	// tails are the unfinished tiles, by tile level.
	tails [tiles.Levels][]byte
	// places are those of the leaves in the unfinished tile of level 0.
	places []place
	// frontier is the root of the complete subtree at the right edge, by tree
	// level: there is one for each one bit of size. IntegrateBatch starts each
	// batch from these; they follow from tails, at up to 255 hashes each.
	frontier [64][]byte
}

// onFrontier reports whether a node of the given level and index is in the
// frontier of a tree of size leaves.
func onFrontier(id compact.NodeID, size uint64) bool {
	return id.Level < 64 && size>>id.Level&1 == 1 && id.Index == size>>id.Level-1
}

// node returns a node of the tree; full gives the full tiles.
func (s *state) node(id compact.NodeID, full func(level int, index uint64) (*tiles.Full, error)) ([]byte, error) {
	if onFrontier(id, s.size) {
		return s.frontier[id.Level], nil
	}
	level, index, first, depth := tiles.Locate(id)
	unfinished, _ := tiles.Partial(s.size, level)
	switch {
	case level >= tiles.Levels || index > unfinished:
		return nil, fmt.Errorf("%w: node %+v in a tree of %d", tiles.ErrBeyond, id, s.size)
	case index == unfinished:
		h, err := tiles.NodeIn(s.tails[level], first, depth)
		return h[:], err
	}
	tile, err := full(level, index)
	if err != nil {
		return nil, err
	}
	return tile.Node(first, depth), nil
}

// grow returns the state after the nodes and the root of a batch, and the tiles
// that became full in it, by key. The nodes come in no order; there must be all
// the new nodes of levels 0, 8, 16 and so on.
func (s *state) grow(treeID int64, nodes []tree.Node, root *types.LogRootV1, signed *trillian.SignedLogRoot) (*state, map[string][]byte, error) {
	n := &state{root: signed, size: root.TreeSize, time: root.TimestampNanos}
	n.frontier = s.frontier
	for level := range n.frontier {
		if n.size>>level&1 == 0 {
			n.frontier[level] = nil
		}
	}
	// Each row has the hashes of the unfinished tile and the new ones.
	var rows [tiles.Levels][]byte
	var missing [tiles.Levels]uint64
	for level := range rows {
		first, width := tiles.Partial(s.size, level)
		last, newWidth := tiles.Partial(n.size, level)
		hashes := (last-first)*tiles.Width + uint64(newWidth)
		missing[level] = hashes - uint64(width)
		if missing[level] == 0 {
			n.tails[level] = s.tails[level]
			continue
		}
		rows[level] = make([]byte, hashes*tiles.HashSize)
		copy(rows[level], s.tails[level])
	}
	for _, node := range nodes {
		if len(node.Hash) != tiles.HashSize {
			return nil, nil, fmt.Errorf("node %+v has a hash of %d bytes", node.ID, len(node.Hash))
		}
		if onFrontier(node.ID, n.size) {
			n.frontier[node.ID.Level] = node.Hash
		}
		if node.ID.Level%8 != 0 {
			continue
		}
		level := int(node.ID.Level / 8)
		first, width := tiles.Partial(s.size, level)
		if level >= tiles.Levels || node.ID.Index < first*tiles.Width+uint64(width) || (node.ID.Index-first*tiles.Width)*tiles.HashSize >= uint64(len(rows[level])) {
			return nil, nil, fmt.Errorf("node %+v is not new between %d and %d leaves", node.ID, s.size, n.size)
		}
		copy(rows[level][(node.ID.Index-first*tiles.Width)*tiles.HashSize:], node.Hash)
		missing[level]--
	}
	full := map[string][]byte{}
	for level, row := range rows {
		if missing[level] != 0 {
			return nil, nil, fmt.Errorf("%d new nodes of level %d are missing or given twice", missing[level], 8*level)
		}
		if row == nil {
			continue
		}
		index, _ := tiles.Partial(s.size, level)
		for ; len(row) >= tiles.TileSize; index++ {
			full[string(appendTileKey(nil, treeID, level, index))] = row[:tiles.TileSize:tiles.TileSize]
			row = row[tiles.TileSize:]
		}
		n.tails[level] = bytes.Clone(row) // lets go of the full tiles
	}
	return n, full, nil
}

// loadState reads a log's state: the root as it is stored, the unfinished tiles
// out of the leaves and the full tiles below them. The error is a CorruptError
// if the root does not follow from them.
func (db *DB) loadState(treeID int64) (*state, error) {
	b, err := db.get(appendKey(nil, kindRoot, treeID))
	if err != nil {
		return nil, fmt.Errorf("couldn't read the root of tree %d: %w", treeID, err)
	}
	s := new(state)
	if b == nil {
		return s, nil
	}
	corrupt := func(format string, a ...any) error {
		return &CorruptError{Tree: treeID, Size: s.size, Reason: fmt.Sprintf(format, a...)}
	}
	var root types.LogRootV1
	if err := root.UnmarshalBinary(b); err != nil {
		return nil, corrupt("the stored root is unreadable: %v", err)
	}
	s.root, s.size, s.time = &trillian.SignedLogRoot{LogRoot: b}, root.TreeSize, root.TimestampNanos
	if n := int(s.size % tiles.Width); n > 0 {
		b, err := db.get(appendPlacesKey(nil, treeID, s.size/tiles.Width))
		if err == nil {
			s.places, err = parsePlaces(b, n)
		}
		if err != nil {
			return nil, corrupt("the places of the last leaves: %v", err)
		}
	}
	for level := range tiles.Levels {
		if s.tails[level], err = db.loadTail(s, treeID, level); err != nil {
			return nil, corrupt("%v", err)
		}
	}
	f := tiles.Frontier{Size: s.size}
	for _, id := range compact.RangeNodes(0, s.size, nil) {
		level, _, first, depth := tiles.Locate(id)
		h, err := tiles.NodeIn(s.tails[level], first, depth)
		if err != nil {
			return nil, corrupt("%v", err)
		}
		s.frontier[id.Level] = h[:]
		f.Hashes = append(f.Hashes, h)
	}
	if got := f.Root(); !bytes.Equal(got[:], root.RootHash) {
		return nil, corrupt("the leaves and tiles give root %x, stored is %x", got, root.RootHash)
	}
	return s, nil
}

// extend returns the state after a batch as it stands in the leaf files, and the
// tiles that became full in it, by key. The error is a CorruptError if the
// leaves do not give the batch's root.
func (s *state) extend(treeID int64, leaves []tiles.Hash, rootBytes []byte) (*state, map[string][]byte, error) {
	corrupt := func(format string, a ...any) error {
		return &CorruptError{Tree: treeID, Size: s.size, Reason: fmt.Sprintf(format, a...)}
	}
	var root types.LogRootV1
	if err := root.UnmarshalBinary(rootBytes); err != nil {
		return nil, nil, corrupt("a root in the leaf files is unreadable: %v", err)
	}
	if want := s.size + uint64(len(leaves)); root.TreeSize != want {
		return nil, nil, corrupt("a root in the leaf files has %d leaves, not %d", root.TreeSize, want)
	}
	f := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	var edge [][]byte
	for level := len(s.frontier) - 1; level >= 0; level-- {
		if s.frontier[level] != nil {
			edge = append(edge, s.frontier[level])
		}
	}
	r, err := f.NewRange(0, s.size, edge)
	if err != nil {
		return nil, nil, corrupt("%v", err)
	}
	var nodes []tree.Node
	for _, h := range leaves {
		if err := r.Append(h[:], func(id compact.NodeID, hash []byte) { nodes = append(nodes, tree.Node{ID: id, Hash: hash}) }); err != nil {
			return nil, nil, corrupt("%v", err)
		}
	}
	got, err := r.GetRootHash(nil)
	if s.size+uint64(len(leaves)) == 0 {
		got = rfc6962.DefaultHasher.EmptyRoot()
	}
	if err != nil || !bytes.Equal(got, root.RootHash) {
		return nil, nil, corrupt("the leaves in the leaf files give root %x, theirs is %x (%v)", got, root.RootHash, err)
	}
	return s.grow(treeID, nodes, &root, &trillian.SignedLogRoot{LogRoot: rootBytes})
}

// loadTail computes the unfinished tile of a level.
func (db *DB) loadTail(s *state, treeID int64, level int) ([]byte, error) {
	index, width := tiles.Partial(s.size, level)
	tail := make([]byte, 0, width*tiles.HashSize)
	for i := index * tiles.Width; i < index*tiles.Width+uint64(width); i++ {
		what := fmt.Sprintf("leaf %d", i)
		var b []byte
		var err error
		if level > 0 {
			what = fmt.Sprintf("tile %d/%d", level-1, i)
			b, err = db.get(appendTileKey(nil, treeID, level-1, i))
		} else {
			b, err = db.readRecord(s, treeID, i)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if b == nil {
			return nil, fmt.Errorf("%s is missing", what)
		}
		h := tiles.Hash{}
		if level > 0 {
			if len(b) != tiles.TileSize {
				return nil, fmt.Errorf("%s has %d bytes", what, len(b))
			}
			h, err = tiles.Root(b)
		} else if b, err = valueOf(b); err == nil {
			h = tiles.LeafHash(b)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		tail = append(tail, h[:]...)
	}
	return tail, nil
}
