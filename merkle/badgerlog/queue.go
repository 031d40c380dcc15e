package badgerlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"scripta/internal/durable"
	"scripta/merkle/tiles"
)

// treeLog is one log: its state and the leaves that wait to get into it.
type treeLog struct {
	db   *DB
	tree int64

	// state is replaced by commits only, under txMu and queueMu.
	state atomic.Pointer[state]

	// txMu is held for the entire duration of a read-write transaction. This
	// guarantees that the leaves which it took are still the head of the queue
	// when it commits.
	txMu sync.Mutex

	// addMu is held while leaves are checked and put into the queue. This
	// guarantees that no leaf comes in between, so that indices are given in
	// order and each identity once.
	addMu sync.Mutex

	queueMu sync.Mutex // guards what follows, and is held for moments only
	// queue has leaves state.size, state.size+1, and so on.
	queue      []*pending
	queueBytes int
	byIdentity map[tiles.Hash]*pending // those in queue, and those that an adder is checking
	waiters    []waiter
	stopped    error // why nothing goes into the queue any more
	sequencing bool

	wake chan struct{} // has room for one: there is something in the queue
}

// pending is a leaf in the queue.
type pending struct {
	leaf     trillian.LogLeaf // the sequencer's, once it is in the queue
	index    uint64
	identity tiles.Hash
	merkle   tiles.Hash
	record   []byte
}

// waiter is a call that waits until the tree has end leaves.
type waiter struct {
	end  uint64
	done chan error // room for one
}

func newTreeLog(db *DB, tree int64, s *state) *treeLog {
	l := &treeLog{db: db, tree: tree, byIdentity: map[tiles.Hash]*pending{}, wake: make(chan struct{}, 1)}
	l.state.Store(s)
	return l
}

// next is the index that the next leaf in the queue gets. Under queueMu.
func (l *treeLog) next() uint64 { return l.state.Load().size + uint64(len(l.queue)) }

// at returns the leaf of an index from state.size on; nil if it is not in the
// queue. Under queueMu.
func (l *treeLog) at(index uint64) *pending {
	if i := index - l.state.Load().size; i < uint64(len(l.queue)) {
		return l.queue[i]
	}
	return nil
}

// enqueue puts leaves, whose identities are in byIdentity already, into the
// queue and gives them their indices.
func (l *treeLog) enqueue(ps []pending) error {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	if l.stopped != nil {
		return l.stopped
	}
	size := 0
	for i := range ps {
		size += len(ps[i].record)
	}
	if l.queueBytes+size > maxQueueBytes && l.queueBytes > 0 {
		return status.Errorf(codes.ResourceExhausted, "%d MiB of leaves are waiting already", l.queueBytes>>20)
	}
	l.queueBytes += size
	next := l.next()
	for i := range ps {
		ps[i].index = next + uint64(i)
		ps[i].leaf.LeafIndex = int64(ps[i].index)
		l.queue = append(l.queue, &ps[i])
	}
	return nil
}

// forget takes identities that were not enqueued out of byIdentity.
func (l *treeLog) forget(ps []pending) {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	for i := range ps {
		if l.byIdentity[ps[i].identity] == &ps[i] {
			delete(l.byIdentity, ps[i].identity)
		}
	}
}

// wait blocks until the tree has end leaves, durably.
func (l *treeLog) wait(ctx context.Context, end uint64) error {
	l.queueMu.Lock()
	if l.state.Load().size >= end {
		l.queueMu.Unlock()
		return nil
	}
	if l.stopped != nil {
		l.queueMu.Unlock()
		return l.stopped
	}
	w := waiter{end, make(chan error, 1)}
	l.waiters = append(l.waiters, w)
	l.queueMu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return status.FromContextError(fmt.Errorf("gave up waiting for the leaves to be integrated, which they may be yet: %w", ctx.Err())).Err()
	}
}

// integrated makes a new state, which has the first n leaves of the queue,
// visible and answers who waits for them.
func (l *treeLog) integrated(s *state, n int) {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	l.state.Store(s)
	for i, p := range l.queue[:n] {
		delete(l.byIdentity, p.identity)
		l.queueBytes -= len(p.record)
		l.queue[i] = nil
	}
	l.queue = l.queue[n:]
	later := l.waiters[:0]
	for _, w := range l.waiters {
		if w.end <= s.size {
			w.done <- nil
		} else {
			later = append(later, w)
		}
	}
	clear(l.waiters[len(later):])
	l.waiters = later
}

// giveUp answers everyone who waits, now or later, with err.
func (l *treeLog) giveUp(err error) {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	l.giveUpLocked(err)
}

func (l *treeLog) giveUpLocked(err error) {
	if l.stopped == nil {
		l.stopped = err
	}
	for _, w := range l.waiters {
		w.done <- l.stopped
	}
	l.waiters = nil
}

// close lets the sequencer, if there is one, finish the queue.
func (l *treeLog) close() {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	if !l.sequencing {
		l.giveUpLocked(ErrClosed)
	}
}

// newPending copies leaves into the form in which they wait, so that the
// caller's memory is not needed after the call.
func newPending(leaves []*trillian.LogLeaf, at time.Time) ([]pending, error) {
	size := 0
	for i, leaf := range leaves {
		switch {
		case len(leaf.LeafValue) == 0 || len(leaf.LeafValue) > MaxValueSize || len(leaf.ExtraData) > MaxExtraSize:
			return nil, fmt.Errorf("%w: leaf %d has %d and %d", ErrLeafSize, i, len(leaf.LeafValue), len(leaf.ExtraData))
		case len(leaf.LeafIdentityHash) != tiles.HashSize || len(leaf.MerkleLeafHash) != tiles.HashSize:
			return nil, status.Errorf(codes.InvalidArgument, "leaf %d: identity and Merkle hash must have %d bytes", i, tiles.HashSize)
		}
		size += recordValue + len(leaf.LeafValue) + len(leaf.ExtraData)
	}
	ps, records, queued := make([]pending, len(leaves)), make([]byte, 0, size), timestamppb.New(at)
	for i, leaf := range leaves {
		start := len(records)
		records = appendRecord(records, leaf)
		p := &ps[i]
		p.identity = tiles.Hash(leaf.LeafIdentityHash)
		p.record = records[start:len(records):len(records)]
		p.merkle = tiles.Hash(leaf.MerkleLeafHash)
		p.leaf.MerkleLeafHash = p.merkle[:]
		p.leaf.LeafIdentityHash = p.record[recordIdentity:recordLength]
		p.leaf.QueueTimestamp = queued
	}
	return ps, nil
}

// whole returns a waiting leaf with its contents. It has no integration time,
// which the sequencer may be writing.
func (p *pending) whole() *trillian.LogLeaf {
	value, err := valueOf(p.record)
	if err != nil {
		panic(err) // newPending made the record
	}
	return &trillian.LogLeaf{
		MerkleLeafHash: p.merkle[:], LeafValue: value, ExtraData: p.record[recordValue+len(value):],
		LeafIndex: int64(p.index), LeafIdentityHash: p.identity[:], QueueTimestamp: p.leaf.QueueTimestamp,
	}
}

// sameLeaf reports whether two records hold the same leaf: value and identity.
// The extra data may differ: it is a sealed record, whose nonce is drawn anew
// each time; what was stored first stays.
func sameLeaf(a, b []byte) bool {
	va, errA := valueOf(a)
	vb, errB := valueOf(b)
	return errA == nil && errB == nil && bytes.Equal(va, vb) &&
		bytes.Equal(a[recordIdentity:recordLength], b[recordIdentity:recordLength])
}

// placesOf returns the places of the first n leaves of a block, which the tree
// has. The error is a CorruptError if they are not known.
func (db *DB) placesOf(s *state, tree int64, block uint64, n int) ([]place, error) {
	if block == s.size/tiles.Width {
		return s.places[:n], nil
	}
	b, err := db.get(appendPlacesKey(nil, tree, block))
	if err != nil {
		return nil, fmt.Errorf("couldn't read the places of leaves: %w", err)
	}
	ps, err := parsePlaces(b, n)
	if err != nil {
		return nil, &CorruptError{Tree: tree, Size: s.size, Reason: fmt.Sprintf("block %d of the leaves has %v", block, err)}
	}
	return ps, nil
}

// readLeaf returns the record of a leaf in the tree; block has the places of its
// block, up to its own. The error is a CorruptError if it is not there.
func (db *DB) readLeaf(s *state, tree int64, index uint64, block []place) ([]byte, error) {
	r, err := db.leaves.read(block[index%tiles.Width])
	if errors.Is(err, durable.ErrNoRecord) || errors.Is(err, fs.ErrNotExist) {
		return nil, &CorruptError{Tree: tree, Size: s.size, Reason: fmt.Sprintf("leaf %d is missing: %v", index, err)}
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read leaf %d: %w", index, err)
	}
	return r, nil
}

// readRecord returns the record of a leaf in the tree.
func (db *DB) readRecord(s *state, tree int64, index uint64) ([]byte, error) {
	block, err := db.placesOf(s, tree, index/tiles.Width, int(index%tiles.Width)+1)
	if err != nil {
		return nil, err
	}
	return db.readLeaf(s, tree, index, block)
}

// lookup returns the index and record of the leaf with an identity; the record
// is nil if there is none in the tree as it is now.
func (l *treeLog) lookup(identity tiles.Hash) (uint64, []byte, error) {
	index, ok, err := l.db.indexOf(l.tree, identity)
	s := l.state.Load() // after the index was read, which becomes known first
	if err != nil || !ok || index >= s.size {
		return 0, nil, err
	}
	r, err := l.db.readRecord(s, l.tree, index)
	if err != nil {
		return 0, nil, err
	}
	if len(r) < recordValue || !bytes.Equal(r[recordIdentity:recordLength], identity[:]) {
		return 0, nil, &CorruptError{Tree: l.tree, Size: s.size, Reason: fmt.Sprintf("identity %x leads to leaf %d, which is another", identity, index)}
	}
	return index, r, nil
}
