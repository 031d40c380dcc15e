package mta

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"scripta/mta/pec"
	"scripta/mta/spool"
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
	rec := r.record(p, id, record.AnomalyEnveloped)
	rec.About = r.Recipients
	if len(r.Results) > 0 {
		rec.Detail = r.Moment.detail(record.Pair{Name: authenticationDetail, Value: strings.Join(r.Results, "; ")})
	}
	source := &receipts.Included{Source: contentOf(id, r.ContentMonth)}
	b := p.batch(t)
	m, err := b.message(record.MakeID(id, stepAnomaly, 0), rec, source, func() (*pec.Message, error) {
		o, err := pec.ReadOriginal(io.NewSectionReader(content, 0, content.Size()), pec.Limits{HeaderBytes: pec.DefaultLimits().SignedHeaderBytes})
		if err != nil {
			return nil, err
		}
		inherited := o.Inherited()
		inherited.Received = append([]string{r.trace(p, id)}, inherited.Received...)
		return p.composer.AnomalyEnvelope(r.transaction(id).Issue(stepAnomaly, 0), pec.Anomaly{Sender: r.apparent(), Recipients: r.Recipients, Subject: r.Message.Subject,
			MessageID: r.Message.MessageID, Inherited: inherited, Reason: r.Reason, ReversePath: r.From, Results: r.Results, Spam: r.spamMark()}, o.Whole(content))
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

// trace is the Received field of the message's way to us (RFC 5321 §4.4). Certified
// messages get none: they stay as they are.
func (r *reception) trace(p *Pipeline, id spool.ID) string {
	name := r.Helo
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-.[]:", c)
	}) {
		name = "unknown"
	}
	with := "ESMTP"
	if r.Peer.TLS != "" {
		with = "ESMTPS"
	}
	return fmt.Sprintf("Received: from %s ([%s])\r\n by %s with %s id %x;\r\n %s\r\n", name, addressOf(r.Peer), p.composer.Provider.Domain, with, id,
		r.Moment.Time.In(p.composer.Location).Format("Mon, 02 Jan 2006 15:04:05 -0700"))
}

// addressOf is a peer's address without its port.
func addressOf(peer record.Peer) string {
	host, _, err := net.SplitHostPort(peer.Address)
	if err != nil {
		return peer.Address
	}
	return host
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
