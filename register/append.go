package register

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register/index"
	"scripta/register/record"
)

const (
	maxQueued = 4096    // appends that may wait for the sequencer
	maxBatch  = 4096    // leaves of one commit
	maxBytes  = 3 << 20 // of one commit
)

// MaxRecord is how many bytes the fields of a record may have when they are
// encoded ([record.Fields.Size]). It leaves room for what sealing adds.
const MaxRecord = merkle.MaxExtra - 1<<10

var (
	// ErrConflict says that a record id was used for another record. The
	// transaction that meets it must stop and raise an alarm.
	ErrConflict = errors.New("register: this record id already names another record")
	// ErrStopped says that the log cannot be written any more; what was
	// acknowledged is safe, and a restart decides what else was.
	ErrStopped = errors.New("register: stopped")
	// ErrTooLarge says that a record has more than MaxRecord bytes. Nothing of
	// the call was appended, and nobody else is concerned.
	ErrTooLarge = fmt.Errorf("register: the record has more than %d bytes", MaxRecord)
)

// Entry is a record to be appended under its id.
type Entry struct {
	ID     record.ID
	Record *record.Record
}

// Appended tells where a record is.
type Appended struct {
	Index uint64
	Leaf  record.Leaf
}

// unit is one record on its way into the log.
type unit struct {
	id     record.ID
	leaf   record.Leaf
	sealed record.Sealed
	entry  index.Entry // Index is set by the sequencer

	ready chan struct{} // closed when index or err is set
	index uint64
	err   error
}

// batch is what one commit added.
type batch struct {
	entries []index.Entry
	next    uint64
}

// Append seals records and returns when all are durable and in the tree, in the
// order given unless other appends come between. An id that was appended before
// with the same content answers its old index; with other content the call
// returns [ErrConflict]. [ErrTooLarge] and what cannot be encoded is told before
// any of the records is appended; after another error some may be in the log,
// and appending them again is safe.
func (r *Register) Append(ctx context.Context, entries ...Entry) ([]Appended, error) {
	start := time.Now()
	units := make([]*unit, len(entries))
	for i, e := range entries {
		var err error
		if units[i], err = r.prepare(e); err != nil {
			return nil, err
		}
	}
	var fresh []*unit // those that nobody appended yet
	for i, u := range units {
		var err error
		if units[i], err = r.claim(ctx, u); err != nil {
			for _, f := range fresh {
				r.answer(f, 0, err)
			}
			return nil, err
		}
		if units[i] == u && !u.answered() {
			fresh = append(fresh, u)
		}
	}
	for len(fresh) > 0 {
		group := fresh[:head(fresh)]
		select {
		case r.queue <- group:
			fresh = fresh[len(group):]
		case <-ctx.Done():
			for _, f := range fresh {
				r.answer(f, 0, ctx.Err())
			}
			return nil, fmt.Errorf("register: too many appends are waiting: %w", ctx.Err())
		}
	}
	out := make([]Appended, len(units))
	for i, u := range units {
		select {
		case <-u.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if u.err != nil {
			return nil, u.err
		}
		out[i] = Appended{u.index, u.leaf}
	}
	r.metrics.appended(len(entries), time.Since(start))
	return out, nil
}

// head is how many units, one at least, go into the queue together: what one
// commit may have.
func head(units []*unit) int {
	n, bytes := 0, 0
	for n < len(units) && n < maxBatch {
		if bytes += units[n].size(); n > 0 && bytes > maxBytes {
			break
		}
		n++
	}
	return n
}

// size is what a unit adds to a commit, bytes.
func (u *unit) size() int { return len(u.sealed) + record.LeafSize }

func (u *unit) answered() bool {
	select {
	case <-u.ready:
		return true
	default:
		return false
	}
}

// prepare computes what the sequencer needs. It refuses what the log would: one
// caller's mistake must not reach a batch with the records of others.
func (r *Register) prepare(e Entry) (*unit, error) {
	f, err := e.Record.Fields()
	if err != nil {
		return nil, err
	}
	if n := f.Size(); n > MaxRecord {
		return nil, fmt.Errorf("%w: %v record %v has %d", ErrTooLarge, e.Record.Kind, e.ID, n)
	}
	class := e.Record.Kind.Class()
	var month uint16
	if class == record.Personal {
		month = uint16(keys.MonthOf(e.Record.Time))
	}
	k, err := r.keys.of(month, true)
	if err != nil {
		return nil, err
	}
	nonce := record.NewNonce(&k.nonce, r.origin, e.ID)
	leaf := f.Commit(nonce, class)
	return &unit{id: e.ID, leaf: leaf, sealed: record.Seal(&k.seal, r.origin, month, leaf, e.ID, nonce, f),
		entry: indexEntry(0, month, k.index, e.Record), ready: make(chan struct{})}, nil
}

// claim returns the unit that answers for u's id: u itself, or the one with
// which another caller is appending the same record. While an id is in inflight
// nobody else looks for it in the log, so it cannot be added twice.
func (r *Register) claim(ctx context.Context, u *unit) (*unit, error) {
	r.mu.Lock()
	if r.broken != nil {
		r.mu.Unlock()
		return nil, r.broken
	}
	if other := r.inflight[u.id]; other != nil {
		r.mu.Unlock()
		if other.leaf != u.leaf {
			return nil, fmt.Errorf("%w: %v", ErrConflict, u.id)
		}
		return other, nil
	}
	r.inflight[u.id] = u
	r.mu.Unlock()

	at, old, found, err := r.log.Find(ctx, record.Identity(u.id))
	if found && string(old.Value) != string(u.leaf[:]) {
		err = fmt.Errorf("%w: %v", ErrConflict, u.id)
	}
	if err != nil || found {
		r.answer(u, at, err)
	}
	return u, err
}

// answer releases a unit's waiters.
func (r *Register) answer(u *unit, at uint64, err error) {
	u.index, u.err = at, err
	r.mu.Lock()
	delete(r.inflight, u.id)
	r.mu.Unlock()
	close(u.ready)
}

// sequence is the only goroutine that adds to the log. The order of its steps:
//
//  1. take everything that waits, up to the bounds of one commit;
//  2. add the leaves at the log's end; when that returns they are durable and in
//     the tree, and have their indices;
//  3. answer the waiters, and only then hand the batch to the indexer: a crash
//     between leaves the index behind, which opening mends.
//
// A full disk refuses a batch whole and the next may pass. A cluster that does not
// answer in time leaves open what was committed; the log finds that out before it
// adds the next batch. Any other error in step 2 leaves it open too, and nothing
// more is added until the log is opened again.
func (r *Register) sequence() {
	defer r.wait.Done()
	defer close(r.done)
	next := r.log.Size()
	for {
		units := r.gather()
		if units == nil {
			return
		}
		leaves := make([]merkle.Leaf, len(units))
		for i, u := range units {
			leaves[i] = merkle.Leaf{Value: u.leaf[:], Extra: u.sealed, Identity: record.Identity(u.id)}
		}
		err := r.Health()
		var at []uint64
		if err == nil {
			at, err = r.log.Append(context.Background(), leaves)
			switch {
			case err == nil:
			case errors.Is(err, merkle.ErrDiskFull): // refused whole: nothing is in doubt
				err = fmt.Errorf("register: %w: %w", err, syscall.ENOSPC)
			case errors.Is(err, merkle.ErrUnavailable):
				err = fmt.Errorf("register: %w", err)
				r.logger.Error("records were not taken: whoever brought them tries again", "records", len(units), "err", err)
			default:
				err = fmt.Errorf("%w: %w", ErrStopped, err)
				r.logger.Error("the log cannot be written: appends are refused until a restart", "err", err)
				r.fail(err)
			}
		}
		if err != nil {
			for _, u := range units {
				r.answer(u, 0, err)
			}
			continue
		}
		b := &batch{entries: make([]index.Entry, len(units)), next: next + uint64(len(units))}
		alone := r.log.Size() == b.next // the log grew by these leaves and no others
		for i, u := range units {
			u.entry.Index = at[i]
			b.entries[i] = u.entry
			alone = alone && at[i] == next+uint64(i)
		}
		if !alone {
			b.next = r.log.Size()
			if b.entries, err = r.readEntries(context.Background(), next, b.next); err != nil {
				err = fmt.Errorf("%w: %w", ErrStopped, err)
				r.logger.Error("records of the log cannot be read for the index: appends are refused until a restart", "err", err)
				r.fail(err)
			}
		}
		for i, u := range units {
			r.answer(u, at[i], nil)
		}
		if err != nil {
			continue // the index stays behind the log
		}
		next = b.next
		r.metrics.batch(len(units))
		r.done <- b
	}
}

// gather waits for an append and takes all that wait behind it; nil after Close.
func (r *Register) gather() []*unit {
	var (
		units []*unit
		bytes int
	)
	add := func(group []*unit) (more bool) {
		units = append(units, group...)
		for _, u := range group {
			bytes += u.size()
		}
		return len(units) < maxBatch && bytes < maxBytes
	}
	select {
	case g := <-r.queue:
		add(g)
	case <-r.stop:
		select { // what came before Close is still served
		case g := <-r.queue:
			add(g)
		default:
			return nil
		}
	}
	for {
		select {
		case g := <-r.queue:
			if !add(g) {
				return units
			}
		default:
			return units
		}
	}
}

// follow keeps the index behind the log.
func (r *Register) follow() {
	defer r.wait.Done()
	for b := range r.done {
		entries, next := b.entries, b.next
	more:
		for len(entries) < 4*maxBatch {
			select {
			case b, ok := <-r.done:
				if !ok {
					break more
				}
				entries, next = append(entries, b.entries...), b.next
			default:
				break more
			}
		}
		err := r.index.Add(entries, next)
		for errors.Is(err, syscall.ENOSPC) {
			// Nothing is lost: searches wait, and so do appends before long.
			select {
			case <-time.After(time.Second):
				err = r.index.Add(entries, next)
			case <-r.stop:
				for range r.done {
				}
				return
			}
		}
		if err != nil {
			// The index is a projection: it is made again on opening, from
			// here. Records are not lost, but searches would miss them.
			r.logger.Error("the index cannot be written: appends are refused until a restart", "err", err)
			r.fail(fmt.Errorf("%w: couldn't write the index: %w", ErrStopped, err))
			for range r.done { // let the sequencer finish
			}
			return
		}
		r.mu.Lock()
		r.indexed = next
		close(r.grown)
		r.grown = make(chan struct{})
		r.mu.Unlock()
	}
}

// waitIndexed returns when the index covers the log as it is now.
func (r *Register) waitIndexed(ctx context.Context) error {
	size := r.log.Size()
	for {
		r.mu.Lock()
		indexed, grown, broken := r.indexed, r.grown, r.broken
		r.mu.Unlock()
		if indexed >= size {
			return nil
		}
		if broken != nil {
			return broken
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
