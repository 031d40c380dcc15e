package register

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register/index"
	"scripta/register/record"
)

// Found is one record of the register, opened.
type Found struct {
	Origin string // of its log
	Index  uint64 // in its log
	// Position counts through all logs of the register: the Index unless a
	// rollback was accepted.
	Position uint64
	Month    uint16
	Opened   *record.Opened
	Record   *record.Record
}

// Query says which records are sought: those that match all of it. Mailbox or an
// identifier must be set; Counterpart, Kinds and Subject go with a
// mailbox only, as it sees them.
type Query struct {
	Mailbox     string        // full address; only records about it
	Identifier  string        // a message identifier, PEC or original, or one that the event generated, with or without < >
	MessageID   string        // a message identifier, PEC or original, with or without < >
	Generated   string        // identifier of a message that the event generated, such as a receipt's, with or without < >
	Counterpart string        // full address of another party of the event, [record.Record.Counterparts]
	Kinds       []record.Kind // any of them
	Subject     string        // words that all stand in the subject, [index.Words]
	From, To    time.Time     // of the records' time, From included, To not; zero: no bound
	After       uint64        // only records with at least this position
}

// maxMonths bounds how far back a query without From goes: the 30 months of
// retention (DPR 68/2005 art. 11), with a margin for those not yet disposed of.
const maxMonths = 36

// Errors of a query that cannot be answered.
var (
	// ErrNoQuery says that a query names neither a mailbox nor an identifier.
	ErrNoQuery = errors.New("register: a search needs a mailbox or a message identifier")
	// ErrNoMailbox says that a query asks for what only a mailbox has.
	ErrNoMailbox = errors.New("register: a search by counterpart, kind or subject needs a mailbox")
	// ErrNoWord says that a query's subject has no word of two letters or digits.
	ErrNoWord = errors.New("register: the subject that is sought has no word of two letters or digits")
)

// Matcher tells whether records match a query.
type Matcher struct {
	q     Query
	words []string
}

// NewMatcher prepares a query. The errors are [ErrNoQuery], [ErrNoMailbox] and
// [ErrNoWord].
func NewMatcher(q Query) (*Matcher, error) {
	q.Mailbox, q.Counterpart = strings.ToLower(q.Mailbox), strings.ToLower(q.Counterpart)
	for _, id := range []*string{&q.Identifier, &q.MessageID, &q.Generated} {
		*id = strings.Trim(*id, "<>")
	}
	m := &Matcher{q, index.Words(q.Subject)}
	switch {
	case q.Mailbox == "" && q.Identifier == "" && q.MessageID == "" && q.Generated == "":
		return nil, ErrNoQuery
	case q.Mailbox == "" && (q.Counterpart != "" || len(q.Kinds) > 0 || q.Subject != ""):
		return nil, ErrNoMailbox
	case q.Subject != "" && len(m.words) == 0:
		return nil, ErrNoWord
	}
	return m, nil
}

// Match says whether a record matches. After is not looked at.
func (m *Matcher) Match(rec *record.Record) bool {
	q := &m.q
	switch t := rec.Time; {
	case !q.From.IsZero() && t.Before(q.From), !q.To.IsZero() && !t.Before(q.To),
		q.Mailbox != "" && !slices.Contains(rec.Mailboxes(), q.Mailbox),
		q.Identifier != "" && !slices.Contains(rec.Identifiers(), q.Identifier),
		q.MessageID != "" && q.MessageID != strings.Trim(rec.MessageID, "<>") && q.MessageID != strings.Trim(rec.OriginalID, "<>"),
		q.Generated != "" && !slices.ContainsFunc(rec.Generated, func(g string) bool { return strings.Trim(g, "<>") == q.Generated }),
		q.Counterpart != "" && !slices.Contains(rec.Counterparts(q.Mailbox), q.Counterpart),
		len(q.Kinds) > 0 && !slices.Contains(q.Kinds, rec.Kind):
		return false
	}
	if len(m.words) > 0 {
		have := index.Words(rec.Subject)
		for _, w := range m.words {
			if !slices.Contains(have, w) {
				return false
			}
		}
	}
	return true
}

// tokens are those that a record must all have. The mailbox's own, the longest
// list, is left out where another one is as good.
func (m *Matcher) tokens(k *index.Key) []index.Token {
	var ts []index.Token
	q := &m.q
	for _, w := range m.words {
		ts = append(ts, k.Word(q.Mailbox, w))
	}
	if q.Counterpart != "" {
		ts = append(ts, k.Counterpart(q.Mailbox, q.Counterpart))
	}
	if len(q.Kinds) == 1 {
		ts = append(ts, k.Kind(q.Mailbox, uint16(q.Kinds[0])))
	}
	if q.Mailbox != "" && len(ts) == 0 {
		ts = append(ts, k.Mailbox(q.Mailbox))
	}
	for _, id := range []string{q.Identifier, q.MessageID, q.Generated} {
		if id != "" {
			ts = append(ts, k.Identifier(id))
		}
	}
	return ts
}

// Search calls visit with the records that match, by month and index ascending,
// until it returns false. Records of disposed months are skipped, unless they are held. now bounds a
// query without To. After an error, what was visited is not all.
func (r *Register) Search(ctx context.Context, q Query, now time.Time, visit func(*Found) bool) error {
	m, err := NewMatcher(q)
	if err != nil {
		return err
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
	for month := begin; month <= end; month++ {
		for _, b := range r.books() {
			more, err := b.search(ctx, uint16(month), m, visit)
			if err != nil || !more {
				return err
			}
		}
	}
	return nil
}

func (b book) search(ctx context.Context, month uint16, m *Matcher, visit func(*Found) bool) (more bool, err error) {
	k, err := b.keys.of(month, false)
	if errors.Is(err, keys.ErrDisposed) {
		return b.searchHeld(ctx, month, m, visit)
	} else if errors.Is(err, keys.ErrNoSecret) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	more = true
	var failed error
	q := index.Query{Month: month, Tokens: m.tokens(k.index), First: max(m.q.After, b.base) - b.base, From: m.q.From, To: m.q.To}
	err = b.index.Search(q, func(at uint64) bool {
		if at >= b.size {
			return false
		}
		f, err := readFrom(ctx, b.log, b.keys, at)
		if err != nil {
			failed = err
			return false
		}
		f.Position = b.base + at
		if m.Match(f.Record) {
			more = visit(f)
		}
		return more
	})
	return more, errors.Join(err, failed)
}

// searchHeld goes through the held records of a month that was disposed of.
func (b book) searchHeld(ctx context.Context, month uint16, m *Matcher, visit func(*Found) bool) (more bool, err error) {
	for _, at := range b.keys.held.of(b.log.Origin(), month) {
		if b.base+at < m.q.After || at >= b.size {
			continue
		}
		f, err := readFrom(ctx, b.log, b.keys, at)
		if err != nil {
			return false, err
		}
		f.Position = b.base + at
		if m.Match(f.Record) && !visit(f) {
			return false, nil
		}
	}
	return true, nil
}

// Disposed lists the months between two times, the retention's if they are zero,
// whose records were disposed of. now bounds a period without end.
func (r *Register) Disposed(from, to, now time.Time) []keys.Month {
	var all []keys.Month
	if to.IsZero() {
		to = now
	}
	for _, m := range r.keys.months.Disposed() {
		if !to.Before(m.Start()) && (from.IsZero() && keys.MonthOf(now)-m < maxMonths || !from.IsZero() && from.Before(m.Next().Start())) {
			all = append(all, m)
		}
	}
	slices.Sort(all)
	return all
}

// Read opens the record at an index of the register's own log.
func (r *Register) Read(ctx context.Context, at uint64) (*Found, error) {
	return readFrom(ctx, r.log, r.keys, at)
}

func readFrom(ctx context.Context, log *merkle.Log, ring *keyring, at uint64) (*Found, error) {
	leaves, err := log.Leaves(ctx, at, 1)
	if err != nil {
		return nil, fmt.Errorf("couldn't read record %d: %w", at, err)
	}
	if len(leaves) != 1 {
		return nil, fmt.Errorf("couldn't read record %d: the log has %d", at, log.Size())
	}
	o, month, err := ring.open(log.Origin(), leaves[0])
	if err != nil {
		return nil, fmt.Errorf("couldn't open record %d: %w", at, err)
	}
	rec, err := o.Fields.Record()
	if err != nil {
		return nil, fmt.Errorf("couldn't open record %d: %w", at, err)
	}
	return &Found{Origin: log.Origin(), Index: at, Position: at, Month: month, Opened: o, Record: rec}, nil
}

// Lookup finds a record by its id; ok is false when it is neither in the log nor
// in one that was frozen before it, whose index the answer then has.
func (r *Register) Lookup(ctx context.Context, id record.ID) (at Appended, ok bool, err error) {
	i, l, ok, err := r.log.Find(ctx, record.Identity(id))
	if err != nil {
		return at, false, err
	}
	if !ok {
		return r.lookPast(ctx, id)
	}
	leaf, err := record.ParseLeaf(l.Value)
	return Appended{i, leaf}, true, err
}
