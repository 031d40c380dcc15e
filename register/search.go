package register

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"scripta/internal/keys"
	"scripta/register/index"
	"scripta/register/record"
)

// Found is one record of the register, opened.
type Found struct {
	Index  uint64
	Month  uint16
	Opened *record.Opened
	Record *record.Record
}

// Query says which records are sought. Mailbox, Identifier, or both must be set.
type Query struct {
	Mailbox    string    // full address; only records about it
	Identifier string    // a message identifier, PEC or original, with or without < >
	From, To   time.Time // of the records' time, From included, To not; zero: no bound
	After      uint64    // with Mailbox: only records with at least this index
}

// maxMonths bounds how far back a query without From goes: the 30 months of
// retention (DPR 68/2005 art. 11), with a margin for those not yet disposed of.
const maxMonths = 36

// ErrNoQuery says that a query names neither a mailbox nor an identifier.
var ErrNoQuery = errors.New("register: a search needs a mailbox or a message identifier")

// Search calls visit with the records that match, by month and index ascending,
// until it returns false. Records of disposed months are skipped. now bounds a
// query without To.
func (r *Register) Search(ctx context.Context, q Query, now time.Time, visit func(*Found) bool) error {
	q.Mailbox, q.Identifier = strings.ToLower(q.Mailbox), strings.Trim(q.Identifier, "<>")
	if q.Mailbox == "" && q.Identifier == "" {
		return ErrNoQuery
	}
	if err := r.waitIndexed(ctx); err != nil {
		return err
	}
	last := now
	if !q.To.IsZero() && q.To.Before(now) {
		last = q.To
	}
	// A month later than now: a record may be newer than the caller's clock.
	end := keys.MonthOf(last) + 1
	begin := end - maxMonths
	if !q.From.IsZero() {
		begin = max(begin, keys.MonthOf(q.From))
	}
	for m := begin; m <= end; m++ {
		more, err := r.searchMonth(ctx, uint16(m), q, visit)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (r *Register) searchMonth(ctx context.Context, month uint16, q Query, visit func(*Found) bool) (more bool, err error) {
	k, err := r.keys.of(month, false)
	if errors.Is(err, keys.ErrNoSecret) || errors.Is(err, keys.ErrDisposed) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	token := index.Mailbox(&k.index, q.Mailbox)
	if q.Identifier != "" {
		token = index.Identifier(&k.index, q.Identifier)
	}
	more = true
	var failed error
	err = r.index.Search(month, token, q.After, func(at uint64) bool {
		f, err := r.Read(ctx, at)
		if err != nil {
			failed = err
			return false
		}
		switch t := f.Record.Time; {
		case q.Mailbox != "" && !slices.Contains(f.Record.Mailboxes(), q.Mailbox):
			return true
		case !q.From.IsZero() && t.Before(q.From), !q.To.IsZero() && !t.Before(q.To):
			return true
		}
		more = visit(f)
		return more
	})
	return more, errors.Join(err, failed)
}

// Read opens the record at an index.
func (r *Register) Read(ctx context.Context, at uint64) (*Found, error) {
	leaves, err := r.log.Leaves(ctx, at, 1)
	if err != nil {
		return nil, fmt.Errorf("couldn't read record %d: %w", at, err)
	}
	if len(leaves) != 1 {
		return nil, fmt.Errorf("couldn't read record %d: the log has %d", at, r.log.Size())
	}
	o, month, err := r.openLeaf(leaves[0])
	if err != nil {
		return nil, fmt.Errorf("couldn't open record %d: %w", at, err)
	}
	rec, err := o.Fields.Record()
	if err != nil {
		return nil, fmt.Errorf("couldn't open record %d: %w", at, err)
	}
	return &Found{Index: at, Month: month, Opened: o, Record: rec}, nil
}

// Lookup finds a record by its id; ok is false when it is not in the log.
func (r *Register) Lookup(ctx context.Context, id record.ID) (at Appended, ok bool, err error) {
	i, l, ok, err := r.log.Find(ctx, record.Identity(id))
	if err != nil || !ok {
		return at, false, err
	}
	leaf, err := record.ParseLeaf(l.Value)
	return Appended{i, leaf}, true, err
}
