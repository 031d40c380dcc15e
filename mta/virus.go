package mta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"scripta/mta/pec"
	"scripta/mta/scan"
	"scripta/mta/spool"
	"scripta/register/receipts"
	"scripta/register/record"
)

// VirusScanner looks for viruses (mta/scan). It returns nil for nothing found,
// and an error for a message that it could not scan.
type VirusScanner interface {
	Scan(ctx context.Context, r io.Reader) (*scan.Finding, error)
}

// inspection is what the virus check of a message came to. It is decided once,
// when the message comes in, and is part of its job: a rerun asks nobody again.
type inspection struct {
	Virus  *scan.Finding `json:"virus,omitempty"`
	Missed bool          `json:"missed,omitempty"` // it was not scanned, and policy lets it pass
}

// infected reports whether there is a virus.
func (i inspection) infected() bool { return i.Virus != nil }

// detail marks the record of a message that nobody scanned though there is an
// engine.
func (i inspection) detail(of []record.Pair) []record.Pair {
	if !i.Missed {
		return of
	}
	return record.SortDetail(append(of, record.Pair{Name: "scan", Value: "missed"}))
}

// errNotScanned says that the engine gave no verdict: the message is put off.
var errNotScanned = errors.New("mta: the message could not be scanned for viruses")

// inspect has a message that came in whole scanned, as it was sealed, before
// anything is decided about it (RFC 6109 §3.1.3, §3.2.3, §5.4). Without a verdict
// it is an error, unless policy says otherwise.
func (p *Pipeline) inspect(ctx context.Context, w *receipts.ContentWriter, id spool.ID, month uint16) (inspection, error) {
	if p.scanner == nil {
		return inspection{}, nil
	}
	c, err := w.Written(id, month)
	if err != nil {
		return inspection{}, err
	}
	defer c.Close()
	found, err := p.scanner.Scan(ctx, io.NewSectionReader(c, 0, c.Size()))
	switch {
	case err == nil:
		p.metrics.Scanned.Add(1)
		if found != nil {
			p.metrics.Infected.Add(1)
		}
		return inspection{Virus: found}, nil
	case !errors.Is(err, scan.ErrUnavailable) && !errors.Is(err, scan.ErrTooLarge):
		return inspection{}, err
	}
	p.metrics.NotScanned.Add(1)
	if p.passUnscanned {
		p.log.Error("a message passes that was not scanned for viruses (scan.on_failure)", "tx", fmt.Sprintf("%x", id), "err", err)
		return inspection{Missed: true}, nil
	}
	return inspection{}, fmt.Errorf("%w: %w", errNotScanned, err)
}

// quarantine keeps an infected message apart and adds the records of it to b:
// what was found, and that it is kept (DPR 68/2005 art. 12: 30 months, which is
// how long its month's secret lives). The message is in quarantine, for good,
// before anything tells so. about begins a record about the message.
func (p *Pipeline) quarantine(b *batch, month uint16, v *scan.Finding, digest []byte, size int64, about func(record.Kind) *record.Record) error {
	job := b.t.job.ID
	if err := p.register.Contents().MoveTo(p.register.Quarantine(), job, month); err != nil {
		return err
	}
	found := about(record.VirusFound)
	found.Detail = record.SortDetail(append(found.Detail, record.Pair{Name: "engine", Value: v.Engine}, record.Pair{Name: "signatures", Value: v.Signatures},
		record.Pair{Name: "virus", Value: v.Virus}))
	kept := about(record.Quarantined)
	for _, r := range []*record.Record{found, kept} {
		r.Digest, r.Size = digest, uint64(size)
	}
	b.event(record.MakeID(job, stepVirusFound, 0), found)
	b.event(record.MakeID(job, stepQuarantined, 0), kept)
	return nil
}

// refuseInfected keeps an infected submission and tells its author, and nobody
// else, that it was not accepted (RFC 6109 §3.1.3).
func (p *Pipeline) refuseInfected(ctx context.Context, t *task, s *submission) error {
	tx := s.transaction(t.job.ID)
	envelopeID := tx.Issue(stepEnvelope, 0).MessageID(p.composer.Provider) // of no envelope
	about := func(kind record.Kind) *record.Record { return s.record(p, kind, envelopeID) }
	b := p.batch(t)
	if err := p.quarantine(b, s.ContentMonth, s.Virus, s.Digest, s.Facts.Size, about); err != nil {
		return err
	}
	rec, text := about(record.NonAcceptanceIssued), pec.VirusFound(s.Virus.Virus)
	rec.Outcome = record.Outcome{Code: text.Code, Text: text.Text}
	m, err := b.message(record.MakeID(t.job.ID, stepNonAcceptance, 0), rec, nil, func() (*pec.Message, error) {
		return p.composer.NonAcceptanceVirus(tx.Issue(stepNonAcceptance, 0), s.facts(envelopeID), s.Virus.Virus)
	})
	if err != nil {
		return err
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	p.metrics.NonAccepted.Add(1)
	toAuthor := notice{&placement{mailbox: s.Sender, message: m.Issued, bypassQuota: true}, record.MakeID(t.job.ID, stepNotified, 0)}
	return p.handOver(ctx, t, "refused", s.Moment.Time, []notice{toAuthor}, func() *record.Record { return about(record.NotificationDelivered) })
}

// sentInfected notices that an account handed in a virus: one may be an accident,
// several are an account in wrong hands.
func (p *Pipeline) sentInfected(ctx context.Context, account, tx string, v *scan.Finding) {
	account = strings.ToLower(account)
	p.log.Warn("an account handed in an infected message", "tx", tx, "account", account, "virus", v.Virus)
	p.abused(ctx, account)
}

// VirusRecord is the id of the record that tells what was found in the message of
// a transaction that is in quarantine.
func VirusRecord(transaction [16]byte) record.ID {
	return record.MakeID(transaction, stepVirusFound, 0)
}
