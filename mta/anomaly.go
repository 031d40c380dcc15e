package mta

import (
	"context"
	"io"
	"strings"

	"scripta/mta/pec"
	"scripta/register/receipts"
	"scripta/register/record"
)

// passAnomaly puts a message that is no correct PEC message into mailboxes, inside
// an envelope that certifies nothing (RFC 6109 §3.2.2). Nobody gets a receipt.
func (p *Pipeline) passAnomaly(ctx context.Context, t *task, r *reception) error {
	id := t.job.ID
	content, err := t.held.OpenContent(id, r.ContentMonth)
	if err != nil {
		return err
	}
	results, err := p.authenticate(ctx, t, r, content)
	if err != nil {
		return err
	}
	rec := r.record(p, id, record.AnomalyEnveloped)
	rec.About = r.Recipients
	if len(results) > 0 {
		rec.Detail = r.Moment.detail(record.Pair{Name: "authentication", Value: strings.Join(results, "; ")})
	}
	source := &receipts.Included{Source: contentOf(id, r.ContentMonth)}
	b := p.batch(t)
	m, err := b.message(record.MakeID(id, stepAnomaly, 0), rec, source, func() (*pec.Message, error) {
		o, err := pec.ReadOriginal(io.NewSectionReader(content, 0, content.Size()), pec.Limits{HeaderBytes: pec.DefaultLimits().SignedHeaderBytes})
		if err != nil {
			return nil, err
		}
		return p.composer.AnomalyEnvelope(r.transaction(id).Issue(stepAnomaly, 0), pec.Anomaly{Sender: r.apparent(), Recipients: r.Recipients, Subject: r.Message.Subject,
			MessageID: r.Message.MessageID, Inherited: o.Inherited(), Reason: r.Reason, ReversePath: r.From, Results: results}, o.Whole(content))
	})
	if err != nil {
		return err
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	p.metrics.Anomalies.Add(1)
	return p.reach(ctx, t, r, m.Issued, func() *record.Record { return r.record(p, id, record.NotificationDelivered) })
}

// apparent is who a message seems to be from.
func (r *reception) apparent() string {
	switch {
	case r.From != "":
		return r.From
	case len(r.Message.From) > 0:
		return r.Message.From[0]
	}
	return "MAILER-DAEMON"
}
