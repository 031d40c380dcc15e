package badgerlog

import (
	"context"
	"fmt"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/storage/tree"
	"github.com/google/trillian/types"
)

// writeTX is storage.LogTreeTX: one batch on its way into the tree. Its owner
// holds the log's txMu. Nothing reaches Badger before Commit.
type writeTX struct {
	*readTX
	taken   []*pending // the head of the queue
	nodes   []tree.Node
	newRoot *trillian.SignedLogRoot
}

// DequeueLeaves returns the head of the queue: up to limit leaves and 4 MiB, at
// least one if there is one. They stay in the queue until the commit. The
// cutoff is not looked at: there is no guard window, and with a clock that
// stepped back it would hold up leaves for as long as the step.
func (t *writeTX) DequeueLeaves(_ context.Context, limit int, _ time.Time) ([]*trillian.LogLeaf, error) {
	l := t.log
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	n, size := 0, 0
	for n < min(limit, len(l.queue)) {
		size += len(l.queue[n].record) + recordOverhead
		if n > 0 && size > maxBatchBytes {
			break
		}
		n++
	}
	t.taken = l.queue[:n:n]
	leaves := make([]*trillian.LogLeaf, n)
	for i, p := range t.taken {
		leaves[i] = &p.leaf
	}
	return leaves, nil
}

// UpdateSequencedLeaves checks that the indices are those that the queue gave.
func (t *writeTX) UpdateSequencedLeaves(_ context.Context, leaves []*trillian.LogLeaf) error {
	for i, leaf := range leaves {
		if i >= len(t.taken) || leaf != &t.taken[i].leaf || leaf.LeafIndex != int64(t.size)+int64(i) {
			return fmt.Errorf("leaf %d is not the one that was dequeued", leaf.LeafIndex)
		}
	}
	return nil
}

// SetMerkleNodes keeps the nodes for the commit.
func (t *writeTX) SetMerkleNodes(_ context.Context, nodes []tree.Node) error {
	t.nodes = append(t.nodes, nodes...)
	return nil
}

// StoreSignedLogRoot keeps the root for the commit.
func (t *writeTX) StoreSignedLogRoot(_ context.Context, root *trillian.SignedLogRoot) error {
	t.newRoot = root
	return nil
}

// Commit makes the batch durable, then visible, then answers who waits for it.
// Without a root there is nothing to commit.
func (t *writeTX) Commit(context.Context) error {
	if t.newRoot == nil {
		return nil
	}
	var root types.LogRootV1
	if err := root.UnmarshalBinary(t.newRoot.LogRoot); err != nil {
		return fmt.Errorf("couldn't read the new root: %w", err)
	}
	if want := t.size + uint64(len(t.taken)); root.TreeSize != want {
		return fmt.Errorf("the new root has %d leaves, not %d", root.TreeSize, want)
	}
	if t.root != nil && root.TimestampNanos <= t.time {
		return fmt.Errorf("the new root's time %d is not after %d", root.TimestampNanos, t.time)
	}
	next, tiles, err := t.grow(t.log.tree, t.nodes, &root, t.newRoot)
	if err != nil {
		return err
	}
	// The point of no return: after an error the batch may be on the disk or
	// not, so that the database stops.
	if err := t.log.db.commitLeaves(t, next, tiles); err != nil {
		return err
	}
	t.log.integrated(next, len(t.taken))
	return nil
}

// commitLeaves appends a batch to the leaf files and fsyncs them, once. Then it is
// durable, and next, the log's state with it, may be shown; Badger gets what
// follows from it later. It completes next with the places of the leaves.
func (db *DB) commitLeaves(t *writeTX, next *state, values map[string][]byte) error {
	recs := make([][]byte, len(t.taken)+1)
	for i, p := range t.taken {
		setIntegrated(p.record, p.leaf.IntegrateTimestamp.AsTime())
		recs[i] = p.record
	}
	recs[len(t.taken)] = appendCommit(nil, t.log.tree, len(t.taken), t.newRoot.LogRoot)
	db.leavesMu.Lock()
	defer db.leavesMu.Unlock()
	for db.behind.full() && db.err() == nil {
		select {
		case <-db.behind.drained:
		case <-db.failed:
		}
	}
	err := db.err()
	if err != nil {
		return err
	}
	if db.beforeCommit != nil {
		err = db.beforeCommit()
	}
	var at []place
	var end place
	if err == nil {
		at, end, err = db.leaves.append(recs)
	}
	if err != nil {
		return db.fail(fmt.Errorf("couldn't commit: %w", err))
	}
	next.places = growPlaces(t.log.tree, t.size, t.places, at[:len(t.taken)], values)
	values[string(appendKey(nil, kindRoot, t.log.tree))] = t.newRoot.LogRoot
	db.behind.add(t.log.tree, t.size, t.taken, values, end)
	return nil
}
