package merkle

import (
	"context"
	"fmt"

	"github.com/google/trillian"

	"scripta/merkle/badgerlog"
	"scripta/merkle/tiles"
)

// Find returns the leaf with an identity and its index; ok is false if no leaf in
// the tree has it.
func (l *Log) Find(ctx context.Context, identity [32]byte) (index uint64, leaf Leaf, ok bool, err error) {
	index, ok, err = l.engine.indexOf(identity)
	if err != nil || !ok {
		return 0, Leaf{}, false, err
	}
	leaves, err := l.chunk(ctx, index, 1)
	if err != nil {
		return 0, Leaf{}, false, err
	}
	if leaves[0].Identity != identity {
		return 0, Leaf{}, false, &badgerlog.CorruptError{Tree: l.tree, Size: l.Size(), Reason: fmt.Sprintf("leaf %d has not the identity that led to it", index)}
	}
	return index, leaves[0], true, nil
}

// Leaves returns count leaves from index first on. The error is ErrBeyond if the
// tree has not got them all. It keeps them all in memory; for many there is
// Scan.
func (l *Log) Leaves(ctx context.Context, first, count uint64) ([]Leaf, error) {
	if first > l.Size() || count > l.Size()-first {
		return nil, fmt.Errorf("%w: %d leaves from %d, of %d", ErrBeyond, count, first, l.Size())
	}
	var leaves []Leaf
	for uint64(len(leaves)) < count {
		chunk, err := l.chunk(ctx, first+uint64(len(leaves)), count-uint64(len(leaves)))
		if err != nil {
			return nil, err
		}
		if leaves == nil {
			leaves = chunk
		} else {
			leaves = append(leaves, chunk...)
		}
	}
	return leaves, nil
}

// scanChunk is how many leaves Scan asks the engine for at once.
const scanChunk = 1024

// Scan calls visit with the leaves from index first on, before index end, in
// order, until it returns an error, which Scan returns. The error is ErrBeyond
// if the tree has not got them all. It holds about a thousand leaves in memory,
// or 4 MiB.
func (l *Log) Scan(ctx context.Context, first, end uint64, visit func(index uint64, leaf Leaf) error) error {
	if first > end || end > l.Size() {
		return fmt.Errorf("%w: leaves %d to %d, of %d", ErrBeyond, first, end, l.Size())
	}
	for first < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk, err := l.chunk(ctx, first, min(end-first, scanChunk))
		if err != nil {
			return err
		}
		for _, leaf := range chunk {
			if err := visit(first, leaf); err != nil {
				return err
			}
			first++
		}
	}
	return nil
}

// chunk reads at least one leaf, and as many of count as the engine gives at
// once.
func (l *Log) chunk(ctx context.Context, first, count uint64) ([]Leaf, error) {
	resp, err := l.client.GetLeavesByRange(ctx, &trillian.GetLeavesByRangeRequest{LogId: l.tree, StartIndex: int64(first), Count: int64(count)})
	if err != nil {
		return nil, fmt.Errorf("couldn't read leaves from %d: %w", first, err)
	}
	if n := uint64(len(resp.Leaves)); n == 0 || n > count {
		return nil, fmt.Errorf("%w: %d leaves from %d, where %d were asked for", ErrBeyond, n, first, count)
	}
	leaves := make([]Leaf, len(resp.Leaves))
	for i, leaf := range resp.Leaves {
		if leaf.LeafIndex != int64(first)+int64(i) || len(leaf.LeafIdentityHash) != tiles.HashSize {
			return nil, fmt.Errorf("the engine gave leaf %d with an identity of %d bytes in the place of %d", leaf.LeafIndex, len(leaf.LeafIdentityHash), first+uint64(i))
		}
		leaves[i] = Leaf{Value: leaf.LeafValue, Extra: leaf.ExtraData, Identity: [32]byte(leaf.LeafIdentityHash)}
	}
	return leaves, nil
}

// Tile returns the first width hashes, concatenated, of a tile of hashes
// (c2sp.org/tlog-tiles). It is served from the whole tree, published or not. The
// error is ErrBeyond if the tree does not determine them.
func (l *Log) Tile(_ context.Context, level int, index uint64, width int) ([]byte, error) {
	return l.engine.tile(level, index, width)
}

// Entries returns the first width entries of a bundle, encoded
// (c2sp.org/tlog-tiles). It is served from the whole tree, published or not. The
// error is ErrBeyond if the tree has not got them.
func (l *Log) Entries(ctx context.Context, index uint64, width int) ([]byte, error) {
	t := tiles.Tile{Level: tiles.Entries, Index: index, Width: width}
	if !t.In(l.Size()) {
		return nil, fmt.Errorf("%w: %v in a tree of %d", ErrBeyond, t, l.Size())
	}
	var bundle []byte
	for first, end := index*tiles.Width, index*tiles.Width+uint64(width); first < end; {
		chunk, err := l.chunk(ctx, first, end-first)
		if err != nil {
			return nil, err
		}
		for _, leaf := range chunk {
			if bundle, err = tiles.AppendEntry(bundle, leaf.Value); err != nil {
				return nil, err
			}
		}
		first += uint64(len(chunk))
	}
	return bundle, nil
}
