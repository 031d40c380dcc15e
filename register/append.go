package register

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register/index"
	"scripta/register/record"
)

const (
	maxBatch = 4096    // leaves of one commit
	maxBytes = 3 << 20 // of one commit
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
	// ErrInDoubt says that it is not known whether the records are in the log, or
	// will be: the caller's context ended, or a cluster did not answer in time. The
	// register goes on; appending them again finds out.
	ErrInDoubt = errors.New("register: not known to be recorded")
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
	bytes  int         // for which there was room
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
// order given unless other appends come between. Whoever appends at the same
// time shares one write and one fdatasync. An id that was appended before with
// the same content answers its old index; with other content the call returns
// [ErrConflict]. [ErrTooLarge] and what cannot be encoded is told before any of
// the records is appended; after another error ([ErrBusy], [ErrStopped],
// ENOSPC, [ErrInDoubt]) some may be in the log, and appending them again is
// safe. Of a call with one record, it is in doubt only after [ErrStopped] and
// [ErrInDoubt].
func (r *Register) Append(ctx context.Context, entries ...Entry) ([]Appended, error) {
	if len(r.past) > 0 {
		return r.appendNew(ctx, entries)
	}
	return r.append(ctx, entries)
}

func (r *Register) append(ctx context.Context, entries []Entry) ([]Appended, error) {
	start := time.Now()
	drafts := make([]draft, len(entries))
	for i, e := range entries {
		var err error
		if drafts[i], err = r.encode(e); err != nil {
			return nil, err
		}
	}
	units := make([]*unit, 0, len(entries))
	for len(drafts) > 0 {
		n, bytes := head(drafts)
		if err := r.room.enter(ctx, n, bytes); err != nil {
			if errors.Is(err, ErrBusy) {
				r.metrics.Refused.Add(1)
			}
			return nil, err
		}
		group, err := r.submit(drafts[:n])
		if err != nil {
			return nil, err
		}
		units, drafts = append(units, group...), drafts[n:]
	}
	out := make([]Appended, len(units))
	for i, u := range units {
		select {
		case <-u.ready:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrInDoubt, ctx.Err())
		}
		if u.err != nil {
			return nil, u.err
		}
		out[i] = Appended{u.index, u.leaf}
	}
	r.metrics.appended(len(entries), time.Since(start))
	return out, nil
}

// head is how many drafts, one at least, go into the queue together: what one
// commit may have. bytes is their size.
func head(drafts []draft) (n, bytes int) {
	for n < len(drafts) && n < maxBatch {
		size := drafts[n].size()
		if n > 0 && bytes+size > maxBytes {
			break
		}
		bytes += size
		n++
	}
	return n, bytes
}

// submit seals drafts, for which there is room, and hands them to the sequencer.
// It returns the units that answer for them, some perhaps of other callers.
func (r *Register) submit(drafts []draft) ([]*unit, error) {
	units := make([]*unit, len(drafts))
	for i := range drafts {
		units[i] = r.seal(&drafts[i])
	}
	fresh := make([]*unit, 0, len(units)) // those that nobody is appending
	records, bytes := 0, 0                // of the others
	r.mu.Lock()
	err := r.broken
	for i, u := range units {
		other := r.inflight[u.id]
		switch {
		case err != nil:
		case other == nil:
			r.inflight[u.id] = u
			fresh = append(fresh, u)
			continue
		case other.leaf != u.leaf:
			err = fmt.Errorf("%w: %v", ErrConflict, u.id)
		default:
			units[i] = other
		}
		records, bytes = records+1, bytes+u.bytes
	}
	if err != nil {
		for _, u := range fresh {
			delete(r.inflight, u.id)
			records, bytes = records+1, bytes+u.bytes
		}
	} else if len(fresh) > 0 {
		// It has room for all that may wait, and nobody else waits for this.
		r.queue <- fresh
	}
	r.mu.Unlock()
	if records > 0 {
		r.room.leave(records, bytes)
	}
	return units, err
}

// draft is a record that is encoded and not sealed yet.
type draft struct {
	id     record.ID
	fields *record.Fields
	class  record.Class
	month  uint16
	keys   *monthKeys
	record *record.Record
}

// size is about what a draft adds to a commit, bytes.
func (d *draft) size() int { return d.fields.Size() + sealOverhead }

// sealOverhead is about what sealing and the leaf add to a record's fields,
// bytes.
const sealOverhead = 160

// encode refuses what the log would: one caller's mistake must not reach a batch
// with the records of others.
func (r *Register) encode(e Entry) (d draft, err error) {
	d.id, d.record = e.ID, e.Record
	if d.fields, err = e.Record.Fields(); err != nil {
		return d, err
	}
	if n := d.fields.Size(); n > MaxRecord {
		return d, fmt.Errorf("%w: %v record %v has %d", ErrTooLarge, e.Record.Kind, e.ID, n)
	}
	if d.class = e.Record.Kind.Class(); d.class == record.Personal {
		d.month = uint16(keys.MonthOf(e.Record.Time))
	}
	if d.keys, err = r.keys.of(d.month, true); err != nil {
		return d, err
	}
	return d, nil
}

// seal computes what the sequencer needs.
func (r *Register) seal(d *draft) *unit {
	k := d.keys
	nonce := record.NewNonce(&k.nonce, r.origin, d.id)
	leaf := d.fields.Commit(nonce, d.class)
	return &unit{id: d.id, leaf: leaf, sealed: record.Seal(&k.seal, r.origin, d.month, leaf, d.id, nonce, d.fields), bytes: d.size(),
		entry: indexEntry(0, d.month, k.index, d.record), ready: make(chan struct{})}
}

// answer releases the waiters of units: at has their indices, unless err is set.
func (r *Register) answer(units []*unit, at []uint64, err error) {
	bytes := 0
	r.mu.Lock()
	for i, u := range units {
		if u.err = err; err == nil {
			u.index = at[i]
		}
		bytes += u.bytes
		delete(r.inflight, u.id)
	}
	r.mu.Unlock()
	r.room.leave(len(units), bytes)
	for _, u := range units {
		close(u.ready)
	}
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
		at, err := r.add(&units)
		if err != nil {
			r.answer(units, nil, err)
		}
		if err != nil || len(units) == 0 {
			continue
		}
		b := &batch{entries: make([]index.Entry, 0, len(units)), next: r.log.Size()}
		for i, u := range units {
			if u.entry.Index = at[i]; at[i] >= next { // others were in the log before
				b.entries = append(b.entries, u.entry)
			}
		}
		if uint64(len(b.entries)) != b.next-next { // there are leaves of others
			if b.entries, err = r.own().readEntries(context.Background(), next, b.next); err != nil {
				err = fmt.Errorf("%w: %w", ErrStopped, err)
				r.logger.Error("records of the log cannot be read for the index: appends are refused until a restart", "err", err)
				r.fail(err)
			}
		}
		r.metrics.batch(len(units))
		r.answer(units, at, nil)
		if err != nil {
			continue // the index stays behind the log
		}
		next = b.next
		r.done <- b
	}
}

// add adds units to the log and returns their indices. Whether an id was appended
// before, the log finds out. One that names another record is answered here and
// taken out of units; the others are added without it.
func (r *Register) add(units *[]*unit) (at []uint64, err error) {
	for {
		if err := r.Health(); err != nil || len(*units) == 0 {
			return nil, err
		}
		leaves := make([]merkle.Leaf, len(*units))
		for i, u := range *units {
			leaves[i] = merkle.Leaf{Value: u.leaf[:], Extra: u.sealed, Identity: record.Identity(u.id)}
		}
		at, err := r.log.Append(context.Background(), leaves)
		var conflict *merkle.ConflictError
		switch {
		case err == nil:
			return at, nil
		case errors.Is(err, merkle.ErrDiskFull): // refused whole: nothing is in doubt
			return nil, fmt.Errorf("register: %w: %w", err, syscall.ENOSPC)
		case errors.Is(err, merkle.ErrUnavailable):
			r.logger.Error("records were not taken: whoever brought them tries again", "records", len(leaves), "err", err)
			return nil, fmt.Errorf("%w: %w", ErrInDoubt, err)
		case errors.As(err, &conflict) && conflict.SameIdentity:
			i := slices.IndexFunc(leaves, func(l merkle.Leaf) bool { return l.Identity == conflict.Identity })
			if i >= 0 {
				u := (*units)[i]
				r.answer([]*unit{u}, nil, fmt.Errorf("%w: %v", ErrConflict, u.id))
				*units = slices.Delete(*units, i, i+1)
				continue
			}
		}
		err = fmt.Errorf("%w: %w", ErrStopped, err)
		r.logger.Error("the log cannot be written: appends are refused until a restart", "err", err)
		r.fail(err)
		return nil, err
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
			bytes += u.bytes
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
