// Package extract makes evidence files out of the register: it finds the
// records of a mailbox or of a message, proves each against the first stamped
// checkpoint that covers it, and adds the messages that were issued.
//
// A holder's extract shows what concerns his mailbox only. Of events that he did
// not cause, the network address and the account of whoever did stay hidden
// behind their digests.
package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/register"
	"scripta/register/evidence"
	"scripta/register/receipts"
	"scripta/register/record"
	"scripta/register/stamps"
)

// Options say what an extractor is made of.
type Options struct {
	Register *register.Register
	Stamps   *stamps.Store
	// PastStamps are those of the logs that were frozen, by origin.
	PastStamps map[string]*stamps.Store
	Stamp      func(context.Context) error // asks for a stamp over what is not covered yet; may be nil
	// Cosigned gives a checkpoint of at least so many leaves that enough witnesses
	// cosigned, or nil if none can be had; may be nil.
	Cosigned     func(ctx context.Context, size uint64) *checkpoint.Signed
	Signer       evidence.Signer
	Provider     string
	Certificates []evidence.File
	Logger       *slog.Logger
}

// Extractor makes evidence files. Its methods may be called concurrently.
type Extractor struct{ o Options }

// New makes an extractor.
func New(o Options) *Extractor { return &Extractor{o} }

var (
	// ErrNothing says that no record matches.
	ErrNothing = errors.New("no event of the register matches")
	// ErrTooMany says that more records match than one file holds.
	ErrTooMany = fmt.Errorf("more than %d events match: ask for a shorter period", maxRecords)
)

// maxRecords bounds one evidence file.
const maxRecords = 200_000

// Write finds what q asks for and writes the evidence file; it returns how many
// records of the query are in it. now is the time it is made.
//
// When logs were frozen before the register's own ([register.Past]), what they
// hold comes as an evidence file of each inside the file, and a gap that the
// query's period touches is stated, with the record that commits it.
func (x *Extractor) Write(ctx context.Context, w io.Writer, q evidence.Query, now time.Time) (int, error) {
	found, err := x.find(ctx, q, now)
	if err != nil {
		return 0, err
	}
	all := x.logs()
	b := make([]*evidence.Bundle, len(all))
	any := false
	for i, l := range all {
		own := slices.DeleteFunc(slices.Clone(found), func(f *register.Found) bool { return f.Origin != l.log.Origin() })
		if b[i], err = x.bundle(ctx, l, own, q, now, any && i == len(all)-1); err != nil {
			return 0, err
		}
		any = any || b[i] != nil
	}
	if !any {
		return 0, ErrNothing
	}
	last := b[len(b)-1] // never nil: with anything before it, it has its first record
	for _, p := range b[:len(b)-1] {
		if p != nil {
			last.Previous = append(last.Previous, p)
		}
	}
	return len(found), last.Write(w)
}

// book is one log with what proves it.
type book struct {
	log    *merkle.Log
	stamps *stamps.Store
	past   bool
	gap    *record.Gap // that its first record commits; nil: it is the provider's first log
	read   func(ctx context.Context, at uint64) (*register.Found, error)
}

// logs are the register's logs, its own last.
func (x *Extractor) logs() []book {
	var all []book
	var gap *record.Gap
	for _, p := range x.o.Register.Past() {
		all = append(all, book{log: p.Log(), stamps: x.o.PastStamps[p.Origin()], past: true, gap: gap, read: p.Read})
		g := p.Gap()
		gap = &g
	}
	return append(all, book{log: x.o.Register.Log(), stamps: x.o.Stamps, gap: gap, read: x.o.Register.Read})
}

// bundle makes the evidence file of what was found in one log; nil if there is
// nothing to show. The record that commits a gap in the query's period is shown
// too, or with must in any case.
func (x *Extractor) bundle(ctx context.Context, l book, found []*register.Found, q evidence.Query, now time.Time, must bool) (*evidence.Bundle, error) {
	var from, to time.Time
	if q.From != nil {
		from = *q.From
	}
	if q.To != nil {
		to = *q.To
	}
	gap := l.gap != nil && l.gap.Overlaps(from, to)
	if (gap || must) && l.gap != nil && (len(found) == 0 || found[0].Index != 0) {
		first, err := l.read(ctx, 0)
		if err != nil {
			return nil, err
		}
		found = append([]*register.Found{first}, found...)
	}
	if len(found) == 0 {
		return nil, nil
	}
	covering, all, err := x.checkpoints(ctx, l, found)
	if err != nil {
		return nil, err
	}
	b := &evidence.Bundle{Origin: l.log.Origin(), Provider: x.o.Provider, Created: now, Query: q, Certificates: x.o.Certificates, Signer: x.o.Signer}
	for _, m := range x.o.Register.Disposed(from, to, now) {
		b.Disposed = append(b.Disposed, m.String())
	}
	if gap {
		b.Gaps = []record.Gap{*l.gap}
	}
	for i, c := range all {
		if i > 0 {
			if c.Consistency, err = l.log.Consistency(ctx, all[i-1].Signed.Size, c.Signed.Size); err != nil {
				return nil, fmt.Errorf("couldn't prove the checkpoints consistent: %w", err)
			}
		}
		b.Checkpoints = append(b.Checkpoints, c)
	}
	for i, f := range found {
		r := evidence.Record{Index: f.Index, Opened: f.Opened, Checkpoint: covering[i], Show: Shows(q.Mailbox, f.Record)}
		if r.Proof, err = l.log.Inclusion(ctx, f.Index, covering[i]); err != nil {
			return nil, fmt.Errorf("couldn't prove record %d: %w", f.Index, err)
		}
		if r.Receipt, err = x.receipt(f); err != nil {
			return nil, err
		}
		b.Records = append(b.Records, r)
	}
	return b, nil
}

func (x *Extractor) find(ctx context.Context, q evidence.Query, now time.Time) ([]*register.Found, error) {
	query := register.Query{Mailbox: q.Mailbox, Identifier: q.MessageID, Generated: q.ReceiptID, Counterpart: q.Counterpart, Subject: q.Subject}
	for _, name := range q.Kinds {
		k, ok := record.KindNamed(name)
		if !ok {
			return nil, fmt.Errorf("there is no kind of event %.40q", name)
		}
		query.Kinds = append(query.Kinds, k)
	}
	if q.From != nil {
		query.From = *q.From
	}
	if q.To != nil {
		query.To = *q.To
	}
	var found []*register.Found
	err := x.o.Register.Search(ctx, query, now, func(f *register.Found) bool {
		found = append(found, f)
		return len(found) <= maxRecords
	})
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0 && len(x.o.Register.Gaps(query.From, query.To)) == 0:
		return nil, ErrNothing
	case len(found) > maxRecords:
		return nil, ErrTooMany
	}
	slices.SortFunc(found, func(a, b *register.Found) int { return int(int64(a.Position) - int64(b.Position)) })
	return found, nil
}

// checkpoints returns the size of the checkpoint that each record is proved
// against, and all that belong into the file, ascending: the first stamped one
// that covers each record, the stamped one before it, the latest published one
// for records that no stamp covers, and one that witnesses cosigned, of which
// all the others are shown to be the beginning.
func (x *Extractor) checkpoints(ctx context.Context, l book, found []*register.Found) (covering []uint64, all []evidence.Checkpoint, err error) {
	last := found[len(found)-1].Index
	if _, ok := l.covering(last); !ok && x.o.Stamp != nil && !l.past {
		if err := x.o.Stamp(ctx); err != nil {
			x.o.Logger.Warn("an extract goes out with its time stamp pending", "err", err)
		}
	}
	var latest *checkpoint.Signed
	need := map[uint64]bool{}
	for _, f := range found {
		size, ok := l.covering(f.Index)
		if !ok {
			if latest == nil {
				if latest, err = l.latest(ctx); err != nil {
					return nil, nil, err
				}
			}
			size = latest.Size
		}
		covering = append(covering, size)
		need[size] = true
		if before, ok := l.stamps.Before(f.Index); ok {
			need[before] = true
		}
	}
	sizes := make([]uint64, 0, len(need))
	for size := range need {
		sizes = append(sizes, size)
	}
	var cosigned *checkpoint.Signed // of a frozen log the record that follows it in the next is cosigned
	if !l.past {
		cosigned = x.cosigned(ctx, last+1)
	}
	if cosigned != nil && !need[cosigned.Size] {
		sizes = append(sizes, cosigned.Size)
	}
	slices.Sort(sizes)
	for _, size := range sizes {
		if cosigned != nil && size == cosigned.Size && !need[size] {
			all = append(all, evidence.Checkpoint{Signed: cosigned, Cosigned: cosigned.Note})
			continue
		}
		if latest != nil && size == latest.Size {
			all = append(all, evidence.Checkpoint{Signed: latest})
			continue
		}
		st, err := l.stamps.Get(size)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, evidence.Checkpoint{Signed: st.Signed, Reply: st.Reply})
	}
	for i := range all {
		if cosigned != nil && all[i].Signed.Size == cosigned.Size {
			all[i].Cosigned = cosigned.Note
		}
	}
	return covering, all, nil
}

// cosigned is a checkpoint of at least size leaves with cosignatures, nil if there
// is none.
func (x *Extractor) cosigned(ctx context.Context, size uint64) *checkpoint.Signed {
	if x.o.Cosigned == nil {
		return nil
	}
	cp := x.o.Cosigned(ctx, size)
	if cp == nil {
		x.o.Logger.Warn("an extract goes out without cosignatures of witnesses", "leaves", size)
	}
	return cp
}

// latest is the newest checkpoint of the log; that of a frozen one is its last.
func (l *book) latest(ctx context.Context) (*checkpoint.Signed, error) {
	if l.past {
		return l.log.Checkpoint(), nil
	}
	return l.log.Publish(ctx)
}

// covering is the size of the first stamped checkpoint over a leaf; of a frozen
// log, whose stamps may go beyond what is left of it, only those count that the
// log still gives.
func (l *book) covering(leaf uint64) (uint64, bool) {
	size, ok := l.stamps.Covering(leaf)
	if ok && l.past && size > l.log.Checkpoint().Size {
		return 0, false
	}
	return size, ok
}

// Shows says which fields of a record the holder of a mailbox may see; without
// a mailbox (the provider's own extract) all. Whatever shows records to holders
// asks it: evidence files, and the API.
func Shows(mailbox string, rec *record.Record) func(record.Field) bool {
	own := mailbox == "" || strings.EqualFold(mailbox, rec.Actor)
	return func(i record.Field) bool { return own || (i != record.FieldPeer && i != record.FieldActor) }
}

// receipt finds the message that a record tells of. One that is not kept, or
// whose original is not, is left out.
func (x *Extractor) receipt(f *register.Found) (*evidence.Receipt, error) {
	if !f.Record.Kind.Issued() {
		return nil, nil
	}
	open := func() (*receipts.Message, error) {
		return x.o.Register.Receipts().Open(f.Opened.ID, x.o.Register.Contents())
	}
	m, err := open()
	if errors.Is(err, receipts.ErrNotFound) || errors.Is(err, keys.ErrDisposed) { // the record may be held, the message is gone
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("couldn't reproduce the message of record %d: %w", f.Index, err)
	}
	size := m.Size()
	if err := m.Close(); err != nil {
		return nil, err
	}
	return &evidence.Receipt{Size: size, Open: func() (io.ReadCloser, error) {
		m, err := open()
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(m, 0, m.Size()), m}, nil
	}}, nil
}
