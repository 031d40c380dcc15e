package merkle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"scripta/merkle/badgerlog"
)

// What one call to the cluster has at most. The server takes messages of 4 MiB.
const (
	maxCallLeaves = 2000
	maxCallBytes  = 2 << 20
)

// errMoved says that the tree has grown by leaves of others, or by ones of which
// the answer was lost.
var errMoved = errors.New("the tree has grown")

// add adds leaves at their indices. Its steps, for one batch after the other:
//
//  1. Compare the leaves with the projection: what the log has is answered from
//     there.
//  2. Ask whether the lease is still ours.
//  3. AddSequencedLeaves: the leaves are stored, in one transaction there.
//  4. Wait until the signer has integrated them: read the root, see that our
//     leaves lead to it, bring the projection up to it on the disk. Only now they
//     count as added.
//
// Whatever answer of step 3 or 4 is not OK leaves in doubt what is in the log:
// see settle.
func (r *remote) add(ctx context.Context, leaves []*trillian.LogLeaf) ([]*trillian.QueuedLogLeaf, error) {
	for i, leaf := range leaves {
		if len(leaf.LeafValue) == 0 || len(leaf.LeafValue) > badgerlog.MaxValueSize || len(leaf.ExtraData) > badgerlog.MaxExtraSize {
			return nil, fmt.Errorf("%w: leaf %d has %d and %d", ErrLeafSize, i, len(leaf.LeafValue), len(leaf.ExtraData))
		}
	}
	patient, cancel := context.WithTimeout(ctx, r.opt.Patience)
	defer cancel()
	for {
		if r.fatal != nil {
			return nil, r.fatal
		}
		if err := r.local.db.Writable(); err != nil {
			return nil, err
		}
		results, fresh, err := r.compare(patient, leaves)
		if err != nil || len(fresh) == 0 {
			return results, err
		}
		n := callSize(fresh)
		err = r.write(patient, fresh[:n])
		switch {
		case err == nil && n == len(fresh):
			for i := range results {
				if results[i] == nil {
					results[i] = &trillian.QueuedLogLeaf{Leaf: leaves[i]}
				}
			}
			return results, nil
		case err == nil, errors.Is(err, errMoved):
		case ctx.Err() != nil:
			return nil, ctx.Err()
		default:
			return nil, err
		}
	}
}

// callSize is how many leaves fit into one call.
func callSize(leaves []*trillian.LogLeaf) int {
	size := 0
	for i, leaf := range leaves {
		size += len(leaf.LeafValue) + len(leaf.ExtraData) + 64
		if i > 0 && (i == maxCallLeaves || size > maxCallBytes) {
			return i
		}
	}
	return len(leaves)
}

// compare decides about leaves as badgerlog does, and returns those that the log
// does not have, unless one is refused.
func (r *remote) compare(ctx context.Context, leaves []*trillian.LogLeaf) (results []*trillian.QueuedLogLeaf, fresh []*trillian.LogLeaf, err error) {
	results = make([]*trillian.QueuedLogLeaf, len(leaves))
	refused := false
	set := func(i int, code codes.Code, has *trillian.LogLeaf, format string, a ...any) {
		results[i] = &trillian.QueuedLogLeaf{Leaf: has, Status: status.Newf(code, format, a...).Proto()}
		refused = refused || code != codes.AlreadyExists
	}
	first, size := uint64(leaves[0].LeafIndex), r.edge.Size
	if first > size {
		for i := range leaves {
			set(i, codes.OutOfRange, nil, "the next index is %d", size)
		}
		return results, nil, nil
	}
	stored := int(min(uint64(len(leaves)), size-first))
	for i := 0; i < stored; {
		has, err := r.projected(ctx, first+uint64(i), uint64(stored-i))
		if err != nil {
			return nil, nil, err
		}
		for _, leaf := range has {
			if sameLeaf(leaf, leaves[i]) {
				set(i, codes.AlreadyExists, leaf, "the leaf exists")
			} else {
				set(i, codes.FailedPrecondition, leaf, "the index has another leaf")
			}
			i++
		}
	}
	inCall := make(map[string]int, len(leaves)-stored)
	for i := stored; i < len(leaves); i++ {
		id := leaves[i].LeafIdentityHash
		if j, twice := inCall[string(id)]; twice {
			set(i, codes.FailedPrecondition, leaves[j], "the identity stands at index %d", leaves[j].LeafIndex)
			continue
		}
		inCall[string(id)] = i
		at, ok, err := r.local.indexOf([32]byte(id))
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			continue
		}
		has, err := r.projected(ctx, at, 1)
		if err != nil {
			return nil, nil, err
		}
		set(i, codes.FailedPrecondition, has[0], "the identity stands at index %d", at)
	}
	if !refused {
		return results, leaves[stored:], nil
	}
	for i := range results {
		if results[i] == nil {
			set(i, codes.Aborted, nil, "not added: another leaf of the call can't be")
		}
	}
	return results, nil, nil
}

// projected reads at least one leaf of the projection, n at most.
func (r *remote) projected(ctx context.Context, first, n uint64) ([]*trillian.LogLeaf, error) {
	resp, err := r.local.client.GetLeavesByRange(ctx, &trillian.GetLeavesByRangeRequest{LogId: r.local.tree.TreeId, StartIndex: int64(first), Count: int64(n)})
	if err != nil {
		return nil, err
	}
	if len(resp.Leaves) == 0 {
		return nil, fmt.Errorf("%w: leaf %d", ErrBeyond, first)
	}
	return resp.Leaves, nil
}

// write puts leaves, which the log does not have, at its end, and tries until
// they are in the tree or ctx ends. The error is errMoved if the end is not where
// they should go.
func (r *remote) write(ctx context.Context, leaves []*trillian.LogLeaf) error {
	var cause error
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := r.attempt(ctx, leaves)
		if err == nil || errors.Is(err, errMoved) {
			r.failing.set(nil)
		}
		if errors.Is(err, ErrFenced) {
			r.stopped.set(err)
		}
		switch {
		case err == nil, r.fatal != nil, errors.Is(err, errMoved), errors.Is(err, ErrFenced), errors.Is(err, ErrHole),
			errors.Is(err, ErrFatal), errors.Is(err, ErrClosed):
			return err
		case hopeless(err):
			return fmt.Errorf("the log server refuses leaves: %w", err)
		}
		if cause == nil || ctx.Err() == nil { // the deadline itself says little
			if cause == nil && ctx.Err() == nil {
				r.log.Warn("leaves don't get into the cluster's tree; trying again", "origin", r.origin, "leaves", len(leaves), "from", leaves[0].LeafIndex, "err", err)
			}
			cause = err
			r.failing.set(err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %d leaves from %d: %w", ErrUnavailable, len(leaves), leaves[0].LeafIndex, cause)
		case <-time.After(wait):
		}
	}
}

// hopeless reports whether a call would be refused for ever.
func hopeless(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return true
	}
	return false
}

// attempt is one try of write.
func (r *remote) attempt(ctx context.Context, leaves []*trillian.LogLeaf) error {
	if err := r.ours(ctx); err != nil {
		return err
	}
	if r.doubt {
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
	if r.edge.Size != uint64(leaves[0].LeafIndex) {
		return errMoved
	}
	refused, err := r.send(ctx, leaves)
	if err != nil {
		return err
	}
	if refused > 0 {
		// Another node's leaves, or ours of which the answer was lost.
		r.log.Warn("the cluster refused leaves: finding out what it has", "origin", r.origin, "leaves", len(leaves), "refused", refused, "from", leaves[0].LeafIndex)
		if err := r.settle(ctx); err != nil {
			return err
		}
		return errMoved
	}
	if err := r.integrated(ctx, leaves); err != nil {
		return err
	}
	r.doubt, r.beyond = false, 0
	return nil
}

// send calls AddSequencedLeaves and counts the leaves that were refused. From its
// beginning there is doubt.
func (r *remote) send(ctx context.Context, leaves []*trillian.LogLeaf) (refused int, err error) {
	r.doubt = true
	resp, err := r.conn.Log.AddSequencedLeaves(ctx, &trillian.AddSequencedLeavesRequest{LogId: r.tree, Leaves: leaves})
	if err != nil {
		return 0, fmt.Errorf("couldn't add %d leaves at %d: %w", len(leaves), leaves[0].LeafIndex, err)
	}
	if len(resp.Results) != len(leaves) {
		return 0, fmt.Errorf("couldn't add %d leaves at %d: %d answers", len(leaves), leaves[0].LeafIndex, len(resp.Results))
	}
	for i, q := range resp.Results {
		end := uint64(leaves[i].LeafIndex) + 1
		if codes.Code(q.GetStatus().GetCode()) == codes.OK {
			r.beyond = max(r.beyond, end)
			continue
		}
		refused++
		if i == 0 {
			// Either its index is taken, and the tree will have it, or its
			// identity is stored behind an index that has no leaf.
			r.beyond = max(r.beyond, end)
		}
	}
	return refused, nil
}

// integrated waits until the cluster's tree has the leaves and brings the
// projection up to there.
func (r *remote) integrated(ctx context.Context, leaves []*trillian.LogLeaf) error {
	end := uint64(leaves[0].LeafIndex) + uint64(len(leaves))
	for wait := pollFirst; ; wait = min(wait*3/2, pollLast) {
		now, err := r.root(ctx)
		if err == nil && now.size >= end {
			return r.followTo(ctx, now, leaves)
		}
		if err == nil {
			err = pause(ctx, wait, end, now.size)
		}
		if err != nil {
			return err
		}
	}
}

// pause waits for the signer.
func pause(ctx context.Context, wait time.Duration, stored, integrated uint64) error {
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("leaves are stored up to %d, the tree has %d: is the log signer running, and its clock right? (%w)", stored, integrated, ctx.Err())
	}
}

// settle finds out what the log has after an answer that was not OK or did not
// come. Trillian may have stored some leaves of a call and not others, and says
// only that, not which leaf is in the way; even a leaf that it has is refused.
//
//  1. Wait until the signer has integrated all that follows the tree without a
//     gap, and read it into the projection.
//  2. If leaves are known to be stored further on, the next index has none, and
//     nothing behind it would ever get into the tree: fill it with a void leaf,
//     and begin again.
//
// Afterwards the projection knows by their identities which leaves are in the
// log, and its size is where the next one goes.
func (r *remote) settle(ctx context.Context) error {
	for wait := pollFirst; ; wait = min(wait*3/2, pollLast) {
		if err := r.follow(ctx); err != nil {
			return err
		}
		waits, err := r.waiting(ctx)
		if err != nil {
			return err
		}
		if !waits {
			if r.edge.Size >= r.beyond {
				r.doubt, r.beyond = false, 0
				return nil
			}
			if err := r.fill(ctx, r.edge.Size); err != nil {
				return err
			}
		}
		if err := pause(ctx, wait, max(r.beyond, r.edge.Size+1), r.edge.Size); err != nil {
			return err
		}
	}
}

// waiting reports whether a leaf is stored at the index that follows the tree. Of
// an empty tree that can't be asked: the server shows no leaves of it.
func (r *remote) waiting(ctx context.Context) (bool, error) {
	if r.edge.Size == 0 {
		return false, nil
	}
	leaves, err := r.read(ctx, r.edge.Size-1, 2)
	return len(leaves) == 2, err
}

// fill puts a void leaf at an index. Its being refused is as good: then there is
// a leaf.
func (r *remote) fill(ctx context.Context, index uint64) error {
	if r.opt.Void == nil {
		return fmt.Errorf("%w at index %d", ErrHole, index)
	}
	leaf, err := r.opt.Void(ctx, index)
	if err != nil {
		return fmt.Errorf("couldn't make the void leaf for index %d: %w", index, err)
	}
	refused, err := r.send(ctx, []*trillian.LogLeaf{{LeafValue: leaf.Value, ExtraData: leaf.Extra, LeafIdentityHash: leaf.Identity[:], LeafIndex: int64(index)}})
	if err == nil && refused == 0 {
		r.log.Warn("an index of the log to which no leaf had come was filled", "origin", r.origin, "index", index)
	}
	return err
}
