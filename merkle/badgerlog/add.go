package badgerlog

import (
	"context"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// AddSequencedLeaves adds leaves, whose indices are contiguous, to a
// PREORDERED_LOG and returns when they are integrated and durable. It goes
// further than storage.LogStorage asks: the leaves of a call are all added or
// none, and none is taken beyond a gap. The status of each leaf:
//
//   - OK: it was added.
//   - AlreadyExists: it was there before, at this index, with the same value and
//     identity; the stored leaf is returned. Extra data is not compared.
//   - FailedPrecondition: this index has another leaf, or this identity stands
//     at another index; the stored leaf, with its index, is returned.
//   - OutOfRange: its index is beyond the next one of the log.
//   - Aborted: it was not added because another leaf of the call could not be.
//
// The error is ErrLeafSize, ErrFatal, ErrClosed, ErrReadOnly, ErrDiskFull, a
// status ResourceExhausted when too much waits, or the context's: then the
// leaves may be added yet. The leaves' memory is not used after the return.
func (s *LogStorage) AddSequencedLeaves(ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, at time.Time) ([]*trillian.QueuedLogLeaf, error) {
	l, err := s.write(tree)
	if err != nil {
		return nil, err
	}
	defer s.db.leave()
	if len(leaves) == 0 {
		return nil, nil
	}
	for i, leaf := range leaves {
		if want := leaves[0].LeafIndex + int64(i); leaf.LeafIndex != want || want < 0 {
			return nil, status.Errorf(codes.InvalidArgument, "leaf %d has index %d, not %d", i, leaf.LeafIndex, want)
		}
	}
	ps, err := newPending(leaves, at)
	if err != nil {
		return nil, err
	}
	for i := range ps {
		ps[i].index = uint64(leaves[i].LeafIndex)
	}
	c := call{l: l, leaves: leaves, ps: ps, results: make([]*trillian.QueuedLogLeaf, len(leaves))}
	if err := c.enqueue(); err != nil {
		return nil, err
	}
	if c.refused {
		return c.results, nil
	}
	if err := l.wait(ctx, c.end); err != nil {
		return nil, err
	}
	return c.results, nil
}

// call is one AddSequencedLeaves.
type call struct {
	l       *treeLog
	leaves  []*trillian.LogLeaf
	ps      []pending
	results []*trillian.QueuedLogLeaf
	stored  int    // how many leaves of the call have an index within the tree
	old     int    // how many have an index within the tree or the queue
	end     uint64 // the size of the tree that has them all
	refused bool   // a leaf can't be added, so none is
}

// enqueue decides about every leaf and puts the new ones into the queue, if none
// is refused.
func (c *call) enqueue() error {
	c.l.addMu.Lock()
	defer c.l.addMu.Unlock()
	// First the queue, then the database: a leaf that is integrated meanwhile
	// leaves the queue only when the database shows it.
	c.checkQueue()
	err := c.checkDatabase()
	if err == nil && !c.refused {
		err = c.l.enqueue(c.ps[c.old:])
	}
	if err != nil || c.refused {
		c.l.forget(c.ps[c.old:])
	}
	if err != nil {
		return err
	}
	slab := make([]trillian.QueuedLogLeaf, len(c.leaves))
	for i, r := range c.results {
		switch {
		case r == nil && c.refused:
			c.set(i, codes.Aborted, "not added: another leaf of the call can't be", nil)
		case r == nil:
			slab[i].Leaf = c.leaves[i]
			c.results[i] = &slab[i]
		case c.refused && i >= c.stored && r.Status.GetCode() == int32(codes.AlreadyExists):
			c.set(i, codes.Aborted, "still waiting to be integrated", nil)
		}
	}
	return nil
}

// checkQueue compares the leaves with those that wait, and announces the
// identities of the new ones.
func (c *call) checkQueue() {
	l := c.l
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	first, n := uint64(c.leaves[0].LeafIndex), uint64(len(c.leaves))
	size, next := l.state.Load().size, l.next()
	c.end = first + n
	if first > next {
		for i := range c.leaves {
			c.refuse(i, codes.OutOfRange, "the next index is %d", next)
		}
		c.old = len(c.leaves)
		return
	}
	c.stored = int(min(n, size-min(first, size)))
	c.old = int(min(n, next-first))
	for i := c.stored; i < c.old; i++ {
		p := l.at(first + uint64(i))
		if sameLeaf(p.record, c.ps[i].record) {
			c.set(i, codes.AlreadyExists, "the leaf is being integrated", p.whole())
		} else {
			c.conflict(i, p.whole())
		}
	}
	for i := c.old; i < len(c.ps); i++ {
		if p := l.byIdentity[c.ps[i].identity]; p != nil {
			c.conflict(i, p.whole())
			continue
		}
		l.byIdentity[c.ps[i].identity] = &c.ps[i]
	}
}

// checkDatabase compares the leaves with those in the tree.
func (c *call) checkDatabase() error {
	l := c.l
	s := l.state.Load()
	for i := range c.ps {
		switch {
		case i < c.stored:
			index := uint64(c.leaves[i].LeafIndex)
			r, err := l.db.readRecord(s, l.tree, index)
			if err != nil {
				return err
			}
			leaf, err := leafOf(r, index)
			if err != nil {
				return err
			}
			if sameLeaf(r, c.ps[i].record) {
				c.set(i, codes.AlreadyExists, "the leaf exists", leaf)
			} else {
				c.conflict(i, leaf)
			}
		case i >= c.old:
			if err := c.checkIdentity(i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *call) checkIdentity(i int) error {
	index, r, err := c.l.lookup(c.ps[i].identity)
	if err != nil || r == nil {
		return err
	}
	leaf, err := leafOf(r, index)
	if err != nil {
		return err
	}
	c.conflict(i, leaf)
	return nil
}

// conflict refuses leaf i because of the one that the log has.
func (c *call) conflict(i int, has *trillian.LogLeaf) {
	if has.LeafIndex == c.leaves[i].LeafIndex {
		c.refuse(i, codes.FailedPrecondition, "the index has another leaf")
	} else {
		c.refuse(i, codes.FailedPrecondition, "the identity stands at index %d", has.LeafIndex)
	}
	c.results[i].Leaf = has
}

func (c *call) refuse(i int, code codes.Code, format string, a ...any) {
	c.refused = true
	c.results[i] = &trillian.QueuedLogLeaf{Status: status.Newf(code, format, a...).Proto()}
}

func (c *call) set(i int, code codes.Code, text string, leaf *trillian.LogLeaf) {
	c.results[i] = &trillian.QueuedLogLeaf{Leaf: leaf, Status: status.New(code, text).Proto()}
}

// QueueLeaves adds leaves to a LOG, in the order of the calls, and returns when
// they are integrated and durable. A leaf whose identity is in the log gets the
// status AlreadyExists and the stored leaf. In a LOG the identity must be the
// Merkle hash, so that the one index serves GetLeavesByHash. Errors are as for
// AddSequencedLeaves.
func (s *LogStorage) QueueLeaves(ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, at time.Time) ([]*trillian.QueuedLogLeaf, error) {
	l, err := s.write(tree)
	if err != nil {
		return nil, err
	}
	defer s.db.leave()
	for i, leaf := range leaves {
		if string(leaf.LeafIdentityHash) != string(leaf.MerkleLeafHash) {
			return nil, status.Errorf(codes.InvalidArgument, "leaf %d: the identity hash must be the Merkle hash", i)
		}
	}
	ps, err := newPending(leaves, at)
	if err != nil {
		return nil, err
	}
	results, end := make([]*trillian.QueuedLogLeaf, len(leaves)), uint64(0)
	for i := range ps {
		has, err := l.queueOne(ps[i : i+1 : i+1])
		if err != nil {
			return nil, err
		}
		if has != nil {
			results[i] = &trillian.QueuedLogLeaf{Leaf: has, Status: status.New(codes.AlreadyExists, "the leaf exists").Proto()}
			end = max(end, uint64(has.LeafIndex)+1)
		} else {
			results[i] = &trillian.QueuedLogLeaf{Leaf: leaves[i]}
			end = max(end, ps[i].index+1)
		}
	}
	if err := l.wait(ctx, end); err != nil {
		return nil, err
	}
	return results, nil
}

// queueOne puts one leaf into the queue, or returns the one that has its
// identity.
func (l *treeLog) queueOne(p []pending) (*trillian.LogLeaf, error) {
	l.addMu.Lock()
	defer l.addMu.Unlock()
	l.queueMu.Lock()
	has := l.byIdentity[p[0].identity]
	if has == nil {
		l.byIdentity[p[0].identity] = &p[0]
	}
	l.queueMu.Unlock()
	if has != nil {
		return has.whole(), nil
	}
	index, r, err := l.lookup(p[0].identity)
	if err == nil && r == nil {
		err = l.enqueue(p)
	}
	if err != nil || r != nil {
		l.forget(p)
	}
	if err != nil || r == nil {
		return nil, err
	}
	return leafOf(r, index)
}

// write begins a call that adds leaves to a tree.
func (s *LogStorage) write(tree *trillian.Tree) (*treeLog, error) {
	if err := s.db.enterToWrite(); err != nil {
		return nil, err
	}
	l, err := s.db.log(tree.TreeId)
	if err == nil && l.state.Load().root == nil {
		err = storage.ErrTreeNeedsInit
	}
	if err != nil {
		s.db.leave()
		return nil, err
	}
	return l, nil
}
