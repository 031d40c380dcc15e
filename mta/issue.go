package mta

import (
	"context"
	"errors"

	"scripta/internal/keys"
	"scripta/mta/pec"
	"scripta/register"
	"scripta/register/receipts"
	"scripta/register/record"
)

// issued is a message of ours that is stored and about to be recorded.
type issued struct {
	*receipts.Issued
	record *record.Record
}

// issue makes a message once: if an earlier run stored it, those bytes are used;
// otherwise compose makes them. from says where the original in them is kept, and
// may be completed by compose. Nothing is durable yet. The first run of a job
// need not look: its transaction's id was drawn for it.
func (b *batch) issue(id record.ID, rec *record.Record, from *receipts.Included, compose func() (*pec.Message, error)) (*issued, bool, error) {
	var (
		stored *receipts.Issued
		err    = receipts.ErrNotFound
	)
	if b.t.rerun {
		stored, err = b.p.register.Receipts().Get(id)
	}
	fresh := errors.Is(err, receipts.ErrNotFound)
	if fresh {
		var m *pec.Message
		if m, err = compose(); err != nil {
			return nil, false, err
		}
		stored = &receipts.Issued{ID: id, Month: uint16(keys.MonthOf(rec.Time)), MessageID: m.MessageID, Digest: m.Digest,
			Content: m.Content, Size: m.Size, Prefix: m.Prefix, Suffix: m.Suffix}
		if m.Original != nil {
			from.Length = m.Original.Size
			stored.Included = from
		}
	} else if err != nil {
		return nil, false, err
	}
	b.t.held.Add(stored)
	rec.Digest, rec.Content, rec.Size = stored.Digest[:], stored.Content[:], uint64(stored.Size)
	rec.Generated = []string{trimID(stored.MessageID)}
	return &issued{stored, rec}, fresh, nil
}

// batch collects what is stored together and recorded together.
type batch struct {
	p       *Pipeline
	t       *task
	store   []*receipts.Issued
	entries []register.Entry
}

func (p *Pipeline) batch(t *task) *batch { return &batch{p: p, t: t} }

// message adds an issued message and its record.
func (b *batch) message(id record.ID, rec *record.Record, from *receipts.Included, compose func() (*pec.Message, error)) (*issued, error) {
	m, fresh, err := b.issue(id, rec, from, compose)
	if err != nil {
		return nil, err
	}
	if fresh {
		b.store = append(b.store, m.Issued)
	}
	b.entries = append(b.entries, register.Entry{ID: id, Record: m.record})
	return m, nil
}

// event adds a record of something that issued no message.
func (b *batch) event(id record.ID, rec *record.Record) {
	b.entries = append(b.entries, register.Entry{ID: id, Record: rec})
}

// commit stores the messages, and only when they are on the disk appends the
// records: so there is no receipt without its record, because it is sent after
// both, nor a record without its receipt.
func (b *batch) commit(ctx context.Context) error {
	if len(b.store) > 0 {
		if err := b.p.register.Receipts().Put(b.store...); err != nil {
			return err
		}
	}
	if len(b.entries) > 0 {
		if _, err := b.p.register.Append(ctx, b.entries...); err != nil {
			return err
		}
	}
	return nil
}

// edits are those of a message that begins at offset at of what is kept.
func edits(in []pec.Edit, at int64) []receipts.Edit {
	out := make([]receipts.Edit, len(in))
	for i, e := range in {
		out[i] = receipts.Edit{Offset: at + e.Offset, Delete: e.Delete, Insert: e.Insert}
	}
	return out
}

// trimID takes the angle brackets off a Message-ID.
func trimID(id string) string {
	if len(id) > 2 && id[0] == '<' && id[len(id)-1] == '>' {
		return id[1 : len(id)-1]
	}
	return id
}
