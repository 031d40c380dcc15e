package register

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register/index"
	"scripta/register/record"
)

// Past is a log whose origin was frozen when a rollback was accepted: it can be
// read and proved, and nothing is added to it any more. Its methods may be
// called concurrently.
type Past struct {
	log   *merkle.Log
	index *index.DB
	keys  *keyring
	gap   record.Gap
	size  uint64 // leaves that are proved and shown: those below the gap

	logger *slog.Logger
}

// OpenPast opens a frozen log, which is open for reading, with an index of its
// own in dir, which is made if it is not there or not complete.
func OpenPast(ctx context.Context, dir string, log *merkle.Log, months *keys.Months, holds *Holds, gap record.Gap, logger *slog.Logger) (*Past, error) {
	p := &Past{log: log, keys: newKeyring(months, holds), gap: gap, size: min(gap.Kept, log.Size()), logger: logger}
	var err error
	if p.index, err = index.Open(durable.OS, dir, log.Origin(), logger); err != nil {
		return nil, err
	}
	if _, err = p.book(0).catchUp(ctx, p.size, nil); err != nil {
		return nil, errors.Join(err, p.index.Close())
	}
	return p, nil
}

// Origin is the frozen log's name.
func (p *Past) Origin() string { return p.log.Origin() }

// Log is the frozen log; leaves from Size on are not proved.
func (p *Past) Log() *merkle.Log { return p.log }

// Size is how many of its leaves are proved.
func (p *Past) Size() uint64 { return p.size }

// Gap is what was lost after it.
func (p *Past) Gap() record.Gap { return p.gap }

// Close closes the index. It does not close the log.
func (p *Past) Close() error { return p.index.Close() }

// Read opens the record at an index.
func (p *Past) Read(ctx context.Context, at uint64) (*Found, error) {
	if at >= p.size {
		return nil, fmt.Errorf("couldn't read record %d of %s: %w", at, p.Origin(), merkle.ErrBeyond)
	}
	return readFrom(ctx, p.log, p.keys, at)
}

// book is one log to be searched: the register's own, or a past one.
type book struct {
	log   *merkle.Log
	index *index.DB
	keys  *keyring
	base  uint64 // leaves of the logs before it: Found.Position counts on
	size  uint64 // index entries from here on are not looked at

	logger *slog.Logger
}

func (p *Past) book(base uint64) book { return book{p.log, p.index, p.keys, base, p.size, p.logger} }

// own is the register's own log.
func (r *Register) own() book {
	b := book{log: r.log, index: r.index, keys: r.keys, size: ^uint64(0), logger: r.logger}
	for _, p := range r.past {
		b.base += p.size
	}
	return b
}

// books are the logs in the order of their beginnings, the register's own last.
func (r *Register) books() []book {
	all := make([]book, 0, len(r.past)+1)
	var base uint64
	for _, p := range r.past {
		all = append(all, p.book(base))
		base += p.size
	}
	return append(all, r.own())
}

// Past are the logs that were frozen before the register's own, the oldest
// first.
func (r *Register) Past() []*Past { return r.past }

// Gaps are what the register lost in a period; a zero time is no bound.
func (r *Register) Gaps(from, to time.Time) []record.Gap {
	var gaps []record.Gap
	for _, p := range r.past {
		if p.gap.Overlaps(from, to) {
			gaps = append(gaps, p.gap)
		}
	}
	return gaps
}

// appendNew appends the records that no past log has, and answers for the others
// with their index there: a transaction that the rollback interrupted goes on
// instead of being recorded twice.
func (r *Register) appendNew(ctx context.Context, entries []Entry) ([]Appended, error) {
	out := make([]Appended, len(entries))
	var fresh []Entry
	var where []int
	for i, e := range entries {
		at, found, err := r.inPast(ctx, e)
		if err != nil {
			return nil, err
		}
		if out[i] = at; !found {
			fresh, where = append(fresh, e), append(where, i)
		}
	}
	if len(fresh) == 0 {
		return out, nil
	}
	added, err := r.append(ctx, fresh)
	if err != nil {
		return nil, err
	}
	for i, at := range added {
		out[where[i]] = at
	}
	return out, nil
}

// inPast finds a record that a past log has. With other content it is
// [ErrConflict].
func (r *Register) inPast(ctx context.Context, e Entry) (at Appended, found bool, err error) {
	for _, p := range r.past {
		index, leaf, found, err := p.log.Find(ctx, record.Identity(e.ID))
		if err != nil {
			return at, false, err
		}
		if !found || index >= p.size {
			continue
		}
		d, err := r.encode(e)
		if err != nil {
			return at, false, err
		}
		want := d.fields.Commit(record.NewNonce(&d.keys.nonce, p.Origin(), e.ID), d.class)
		if string(leaf.Value) != string(want[:]) {
			err = fmt.Errorf("%w: %v, in %s", ErrConflict, e.ID, p.Origin())
		}
		return Appended{index, want}, true, err
	}
	return at, false, nil
}

// lookPast finds a record by its id in the past logs.
func (r *Register) lookPast(ctx context.Context, id record.ID) (at Appended, ok bool, err error) {
	for _, p := range r.past {
		i, l, ok, err := p.log.Find(ctx, record.Identity(id))
		if err != nil {
			return at, false, err
		}
		if ok && i < p.size {
			leaf, err := record.ParseLeaf(l.Value)
			return Appended{i, leaf}, true, err
		}
	}
	return at, false, nil
}

// firstOrigin is what receipts, contents and requests are bound to for ever: the
// name of the provider's first log.
func firstOrigin(past []*Past, origin string) string {
	if len(past) > 0 {
		return past[0].Origin()
	}
	return origin
}

// FirstOrigin is the name of the provider's first log, which everything that is
// sealed outside the logs is bound to.
func (r *Register) FirstOrigin() string { return firstOrigin(r.past, r.origin) }
