package badgerlog

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/tree"
	"github.com/transparency-dev/merkle/compact"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"scripta/merkle/tiles"
)

const (
	// maxRange and maxRangeBytes bound what one GetLeavesByRange returns.
	maxRange      = 4096
	maxRangeBytes = 4 << 20
)

// readTX is storage.ReadOnlyLogTreeTX: a view of a log after a commit.
type readTX struct {
	log *treeLog
	*state
	preordered bool
	closed     bool
}

// Commit does nothing: what a snapshot shows is consistent from the start.
func (t *readTX) Commit(context.Context) error { return nil }

// Close releases the transaction. It may be called again.
func (t *readTX) Close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	t.log.db.leave()
	return nil
}

// LatestSignedLogRoot returns the root of the view, which has no signature.
func (t *readTX) LatestSignedLogRoot(context.Context) (*trillian.SignedLogRoot, error) {
	if t.root == nil {
		return nil, storage.ErrTreeNeedsInit
	}
	return t.root, nil
}

// GetMerkleNodes returns complete nodes of the tree. The error is
// tiles.ErrBeyond for one that the tree does not have.
func (t *readTX) GetMerkleNodes(_ context.Context, ids []compact.NodeID) ([]tree.Node, error) {
	nodes := make([]tree.Node, len(ids))
	for i, id := range ids {
		h, err := t.node(id, t.full)
		if err != nil {
			return nil, err
		}
		nodes[i] = tree.Node{ID: id, Hash: h}
	}
	return nodes, nil
}

// full returns a full tile and its nodes, from memory if it was used lately.
func (t *readTX) full(level int, index uint64) (*tiles.Full, error) {
	id := tileID{t.log.tree, level, index}
	if f := t.log.db.cache.get(id); f != nil {
		return f, nil
	}
	b, err := t.readTile(level, index)
	if err != nil {
		return nil, err
	}
	f, err := tiles.Expand(b)
	if err != nil {
		return nil, t.corrupt("tile %d/%d: %v", level, index, err)
	}
	t.log.db.cache.put(id, f)
	return f, nil
}

// readTile reads a full tile.
func (t *readTX) readTile(level int, index uint64) ([]byte, error) {
	b, err := t.log.db.get(appendTileKey(nil, t.log.tree, level, index))
	if err != nil {
		return nil, fmt.Errorf("couldn't read tile %d/%d: %w", level, index, err)
	}
	if len(b) != tiles.TileSize {
		return nil, t.corrupt("tile %d/%d has %d bytes", level, index, len(b))
	}
	return b, nil
}

func (t *readTX) corrupt(format string, a ...any) error {
	return &CorruptError{Tree: t.log.tree, Size: t.size, Reason: fmt.Sprintf(format, a...)}
}

// GetLeavesByRange returns leaves from start on: up to count, the end of the
// tree, 4096 of them or 4 MiB. Beyond the tree there are none stored; asking
// for them gives nothing in a PREORDERED_LOG and OutOfRange in a LOG.
func (t *readTX) GetLeavesByRange(_ context.Context, start, count int64) ([]*trillian.LogLeaf, error) {
	switch {
	case start < 0 || count <= 0:
		return nil, status.Errorf(codes.InvalidArgument, "no range: %d leaves from %d", count, start)
	case uint64(start) >= t.size && t.preordered:
		return nil, nil
	case uint64(start) >= t.size:
		return nil, status.Errorf(codes.OutOfRange, "leaf %d is beyond the tree of %d", start, t.size)
	}
	n := min(uint64(count), t.size-uint64(start), maxRange)
	leaves, size := make([]*trillian.LogLeaf, 0, n), 0
	var block []place // the places of the leaf's block
	for i := uint64(start); i < uint64(start)+n && size < maxRangeBytes; i++ {
		if block == nil || i%tiles.Width == 0 {
			var err error
			if block, err = t.log.db.placesOf(t.state, t.log.tree, i/tiles.Width, int(min(tiles.Width, uint64(start)+n-i/tiles.Width*tiles.Width))); err != nil {
				return nil, err
			}
		}
		r, err := t.log.db.readLeaf(t.state, t.log.tree, i, block)
		if err != nil {
			return nil, err
		}
		leaf, err := leafOf(r, i)
		if err != nil {
			return nil, t.corrupt("leaf %d: %v", i, err)
		}
		leaves, size = append(leaves, leaf), size+len(r)
	}
	return leaves, nil
}

// GetLeavesByHash returns the leaves with the given Merkle hashes; hashes that no
// leaf has give nothing. It serves LOG trees, where the identity is the Merkle
// hash; a PREORDERED_LOG keeps no index by Merkle hash and answers
// Unimplemented.
func (t *readTX) GetLeavesByHash(_ context.Context, hashes [][]byte, inOrder bool) ([]*trillian.LogLeaf, error) {
	if t.preordered {
		return nil, unimplemented("a PREORDERED_LOG has no index by Merkle hash")
	}
	var leaves []*trillian.LogLeaf
	for _, h := range hashes {
		if len(h) != tiles.HashSize {
			return nil, status.Errorf(codes.InvalidArgument, "a hash of %d bytes", len(h))
		}
		index, r, err := t.log.lookup(tiles.Hash(h))
		if err != nil {
			return nil, err
		}
		if r == nil || index >= t.size {
			continue
		}
		leaf, err := leafOf(r, index)
		if err != nil {
			return nil, t.corrupt("leaf %d: %v", index, err)
		}
		leaves = append(leaves, leaf)
	}
	if inOrder {
		slices.SortFunc(leaves, func(a, b *trillian.LogLeaf) int { return cmp.Compare(a.LeafIndex, b.LeafIndex) })
	}
	return leaves, nil
}
