package merkle

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/trillian"
	"github.com/google/trillian/types"

	"scripta/merkle/tiles"
)

// root is the tree at a moment.
type root struct {
	size uint64
	hash [32]byte
}

// latest reads the tree's root, and the proof that it continues the tree of from
// leaves; there is none from 0.
func (l *Log) latest(ctx context.Context, from uint64) (root, [][32]byte, error) {
	resp, err := l.client.GetLatestSignedLogRoot(ctx, &trillian.GetLatestSignedLogRootRequest{LogId: l.tree, FirstTreeSize: int64(from)})
	if err != nil {
		return root{}, nil, fmt.Errorf("couldn't read the log's root: %w", err)
	}
	var r types.LogRootV1
	if err := r.UnmarshalBinary(resp.GetSignedLogRoot().GetLogRoot()); err != nil || len(r.RootHash) != tiles.HashSize {
		return root{}, nil, fmt.Errorf("couldn't read the log's root of %d bytes: %w", len(r.RootHash), err)
	}
	proof, err := hashes(resp.GetProof().GetHashes())
	return root{r.TreeSize, [32]byte(r.RootHash)}, proof, err
}

// Inclusion proves that the leaf at index is in the tree of the first size
// leaves (RFC 6962 §2.1.1); checkpoint.VerifyInclusion checks it. The error is
// ErrBeyond unless index < size <= Size.
func (l *Log) Inclusion(ctx context.Context, index, size uint64) ([][32]byte, error) {
	if index >= size || size > l.Size() {
		return nil, fmt.Errorf("%w: leaf %d in a tree of %d, of %d", ErrBeyond, index, size, l.Size())
	}
	resp, err := l.client.GetInclusionProof(ctx, &trillian.GetInclusionProofRequest{LogId: l.tree, LeafIndex: int64(index), TreeSize: int64(size)})
	if err != nil {
		return nil, fmt.Errorf("couldn't prove that leaf %d is in the tree of %d: %w", index, size, err)
	}
	if resp.Proof == nil {
		return nil, fmt.Errorf("%w: the log has not got %d leaves", ErrBeyond, size)
	}
	return hashes(resp.Proof.Hashes)
}

// Consistency proves that the tree of the first size1 leaves is a prefix of that
// of size2 (RFC 6962 §2.1.2); checkpoint.VerifyConsistency checks it. It is empty
// if size1 is 0 or size2. The error is ErrBeyond unless size1 <= size2 <= Size.
func (l *Log) Consistency(ctx context.Context, size1, size2 uint64) ([][32]byte, error) {
	if size1 > size2 || size2 > l.Size() {
		return nil, fmt.Errorf("%w: from %d to %d leaves, of %d", ErrBeyond, size1, size2, l.Size())
	}
	if size1 == 0 || size1 == size2 {
		return [][32]byte{}, nil
	}
	resp, err := l.client.GetConsistencyProof(ctx, &trillian.GetConsistencyProofRequest{LogId: l.tree, FirstTreeSize: int64(size1), SecondTreeSize: int64(size2)})
	if err != nil {
		return nil, fmt.Errorf("couldn't prove that the tree of %d continues that of %d: %w", size2, size1, err)
	}
	if resp.Proof == nil {
		return nil, fmt.Errorf("%w: the log has not got %d leaves", ErrBeyond, size2)
	}
	return hashes(resp.Proof.Hashes)
}

// RootAt is the root of the tree of the first size leaves. The error is ErrBeyond
// if the log has fewer.
func (l *Log) RootAt(ctx context.Context, size uint64) ([32]byte, error) {
	f, err := l.frontier(ctx, size)
	return f.Root(), err
}

// Frontier returns the roots of the complete subtrees that cover the first size
// leaves, largest first (a compact range): with them as a tiles.Frontier one can
// compute the roots of all later sizes from the leaves that follow. The error is
// ErrBeyond if the log has fewer.
func (l *Log) Frontier(ctx context.Context, size uint64) ([][32]byte, error) {
	f, err := l.frontier(ctx, size)
	return f.Hashes, err
}

// frontier takes it from the inclusion proof of the last leaf, whose hashes are
// the subtrees left of that leaf, from the bottom.
func (l *Log) frontier(ctx context.Context, size uint64) (tiles.Frontier, error) {
	if size == 0 {
		return tiles.Frontier{}, nil
	}
	if size > l.Size() {
		return tiles.Frontier{}, fmt.Errorf("%w: a tree of %d, of %d", ErrBeyond, size, l.Size())
	}
	resp, err := l.client.GetEntryAndProof(ctx, &trillian.GetEntryAndProofRequest{LogId: l.tree, LeafIndex: int64(size - 1), TreeSize: int64(size)})
	if err != nil {
		return tiles.Frontier{}, fmt.Errorf("couldn't read the right edge of the tree of %d: %w", size, err)
	}
	if resp.Proof == nil || resp.Leaf == nil {
		return tiles.Frontier{}, fmt.Errorf("%w: the log has not got %d leaves", ErrBeyond, size)
	}
	left, err := hashes(resp.Proof.Hashes)
	if err != nil {
		return tiles.Frontier{}, err
	}
	slices.Reverse(left)
	f := tiles.Frontier{Size: size - 1, Hashes: left}
	f.Append(tiles.LeafHash(resp.Leaf.LeafValue))
	return f, nil
}

// hashes checks the lengths of an answer's hashes.
func hashes(in [][]byte) ([][32]byte, error) {
	out := make([][32]byte, len(in))
	for i, h := range in {
		if len(h) != tiles.HashSize {
			return nil, fmt.Errorf("the engine gave a hash of %d bytes", len(h))
		}
		out[i] = [32]byte(h)
	}
	return out, nil
}
