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
	Stamp    func(context.Context) error // asks for a stamp over what is not covered yet; may be nil
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
// records are in it. now is the time it is made.
func (x *Extractor) Write(ctx context.Context, w io.Writer, q evidence.Query, now time.Time) (int, error) {
	found, err := x.find(ctx, q, now)
	if err != nil {
		return 0, err
	}
	covering, all, err := x.checkpoints(ctx, found)
	if err != nil {
		return 0, err
	}
	log := x.o.Register.Log()
	b := &evidence.Bundle{Origin: x.o.Register.Origin(), Provider: x.o.Provider, Created: now, Query: q, Certificates: x.o.Certificates, Signer: x.o.Signer}
	for i, c := range all {
		if i > 0 {
			if c.Consistency, err = log.Consistency(ctx, all[i-1].Signed.Size, c.Signed.Size); err != nil {
				return 0, fmt.Errorf("couldn't prove the checkpoints consistent: %w", err)
			}
		}
		b.Checkpoints = append(b.Checkpoints, c)
	}
	for i, f := range found {
		r := evidence.Record{Index: f.Index, Opened: f.Opened, Checkpoint: covering[i], Show: Shows(q.Mailbox, f.Record)}
		if r.Proof, err = log.Inclusion(ctx, f.Index, covering[i]); err != nil {
			return 0, fmt.Errorf("couldn't prove record %d: %w", f.Index, err)
		}
		if r.Receipt, err = x.receipt(f); err != nil {
			return 0, err
		}
		b.Records = append(b.Records, r)
	}
	return len(found), b.Write(w)
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
	case len(found) == 0:
		return nil, ErrNothing
	case len(found) > maxRecords:
		return nil, ErrTooMany
	}
	slices.SortFunc(found, func(a, b *register.Found) int { return int(int64(a.Index) - int64(b.Index)) })
	return found, nil
}

// checkpoints returns the size of the checkpoint that each record is proved
// against, and all that belong into the file, ascending: the first stamped one
// that covers each record, the stamped one before it, the latest published one
// for records that no stamp covers, and one that witnesses cosigned, of which
// all the others are shown to be the beginning.
func (x *Extractor) checkpoints(ctx context.Context, found []*register.Found) (covering []uint64, all []evidence.Checkpoint, err error) {
	last := found[len(found)-1].Index
	if _, ok := x.o.Stamps.Covering(last); !ok && x.o.Stamp != nil {
		if err := x.o.Stamp(ctx); err != nil {
			x.o.Logger.Warn("an extract goes out with its time stamp pending", "err", err)
		}
	}
	var latest *checkpoint.Signed
	need := map[uint64]bool{}
	for _, f := range found {
		size, ok := x.o.Stamps.Covering(f.Index)
		if !ok {
			if latest == nil {
				if latest, err = x.o.Register.Log().Publish(ctx); err != nil {
					return nil, nil, err
				}
			}
			size = latest.Size
		}
		covering = append(covering, size)
		need[size] = true
		if before, ok := x.o.Stamps.Before(f.Index); ok {
			need[before] = true
		}
	}
	sizes := make([]uint64, 0, len(need))
	for size := range need {
		sizes = append(sizes, size)
	}
	cosigned := x.cosigned(ctx, last+1)
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
		st, err := x.o.Stamps.Get(size)
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
	if errors.Is(err, receipts.ErrNotFound) {
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
