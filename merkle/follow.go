package merkle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc/codes"

	"scripta/merkle/checkpoint"
	"scripta/merkle/tiles"
)

// followChunk is how many leaves the projection reads at once.
const followChunk = 1024

// Waiting for the signer begins with pollFirst between two looks and ends with
// pollLast.
const (
	pollFirst = 2 * time.Millisecond
	pollLast  = 50 * time.Millisecond
)

// follow brings the projection up to the cluster's tree.
func (r *remote) follow(ctx context.Context) error {
	now, err := r.root(ctx)
	if err != nil {
		return err
	}
	return r.followTo(ctx, now, nil)
}

// followTo brings the projection up to a root of the cluster's tree. The leaves
// are read from there, but for those that known has: it saves reading what was
// just written. Nothing enters the projection that does not lead to the root.
func (r *remote) followTo(ctx context.Context, now root, known []*trillian.LogLeaf) error {
	switch {
	case now.size < r.edge.Size:
		return r.fail(&ClusterError{Size: r.edge.Size, ClusterSize: now.size, Reason: ErrLost, Detail: "the size of its tree went back"})
	case now.size == r.edge.Size && now.hash != r.edge.Root():
		return r.diverged(now)
	}
	for r.edge.Size < now.size {
		want := now.size - r.edge.Size
		leaves := from(known, r.edge.Size, want)
		mine := leaves != nil
		if !mine {
			var err error
			if leaves, err = r.read(ctx, r.edge.Size, min(want, followChunk)); err != nil {
				return err
			}
		}
		next := tiles.Frontier{Size: r.edge.Size, Hashes: slices.Clone(r.edge.Hashes)}
		for _, leaf := range leaves {
			next.Append(tiles.LeafHash(leaf.LeafValue))
		}
		leads, err := r.leads(ctx, &next, now)
		switch {
		case err != nil:
			return err
		case !leads && mine:
			known = nil // others' leaves are there
			continue
		case !leads:
			return r.diverged(now)
		}
		if err := r.project(ctx, leaves); err != nil {
			return err
		}
		r.edge = next
		r.grown(next.Size)
	}
	return nil
}

// from returns the leaves of known from an index on, n at most.
func from(known []*trillian.LogLeaf, index, n uint64) []*trillian.LogLeaf {
	if len(known) == 0 || index < uint64(known[0].LeafIndex) {
		return nil
	}
	skip := index - uint64(known[0].LeafIndex)
	if skip >= uint64(len(known)) {
		return nil
	}
	known = known[skip:]
	return known[:min(n, uint64(len(known)))]
}

// leads reports whether the tree of now continues the one at next.
func (r *remote) leads(ctx context.Context, next *tiles.Frontier, now root) (bool, error) {
	if next.Size == now.size {
		return next.Root() == now.hash, nil
	}
	resp, err := r.conn.Log.GetConsistencyProof(ctx, &trillian.GetConsistencyProofRequest{LogId: r.tree, FirstTreeSize: int64(next.Size), SecondTreeSize: int64(now.size)})
	if err != nil {
		return false, fmt.Errorf("couldn't prove that the cluster's tree of %d continues that of %d: %w", now.size, next.Size, err)
	}
	proof, err := hashes(resp.GetProof().GetHashes())
	if err != nil {
		return false, err
	}
	return checkpoint.VerifyConsistency(proof, next.Size, now.size, next.Root(), now.hash) == nil, nil
}

// project adds leaves to the projection, without their extra data.
func (r *remote) project(ctx context.Context, leaves []*trillian.LogLeaf) error {
	req := &trillian.AddSequencedLeavesRequest{LogId: r.local.tree.TreeId, Leaves: make([]*trillian.LogLeaf, len(leaves))}
	for i, leaf := range leaves {
		req.Leaves[i] = &trillian.LogLeaf{LeafValue: leaf.LeafValue, LeafIdentityHash: leaf.LeafIdentityHash, LeafIndex: leaf.LeafIndex}
	}
	// It is on the disk here in a moment, or the disk has failed: nothing to cut off.
	resp, err := r.local.client.AddSequencedLeaves(context.WithoutCancel(ctx), req)
	if errors.Is(err, ErrDiskFull) {
		// Not said as such: who hears of a full disk takes it that nothing was added.
		return fmt.Errorf("%w: couldn't bring the log's projection up to date: %v", ErrUnavailable, err)
	}
	if err != nil {
		return fmt.Errorf("couldn't bring the log's projection up to date: %w", err)
	}
	for i, q := range resp.Results {
		if code := codes.Code(q.GetStatus().GetCode()); code != codes.OK && code != codes.AlreadyExists {
			return r.fail(&ClusterError{Size: r.edge.Size, ClusterSize: uint64(leaves[i].LeafIndex) + 1, Reason: ErrDiverged,
				Detail: fmt.Sprintf("leaf %d is refused by the projection: %s", leaves[i].LeafIndex, q.Status.Message)})
		}
	}
	return nil
}

func (r *remote) diverged(now root) error {
	return r.fail(&ClusterError{Size: r.edge.Size, ClusterSize: now.size, Reason: ErrDiverged, Detail: fmt.Sprintf("its root of %d leaves, %x, does not follow from ours of %d, %x", now.size, now.hash, r.edge.Size, r.edge.Root())})
}

// fail stops all additions.
func (r *remote) fail(err error) error {
	if r.fatal == nil {
		r.fatal = err
		r.stopped.set(err)
		r.log.Error("nothing is added to the log any more", "origin", r.origin, "err", err)
	}
	return r.fatal
}
