package mta

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"

	"scripta/mta/pec"
	"scripta/mta/relay"
	"scripta/register/receipts"
	"scripta/register/record"
)

// maxReturnedHeader bounds what a report gives back of the author's header, octets.
const maxReturnedHeader = 64 << 10

// returned tells the author that ordinary recipients did not get the message. Nothing
// about them is certified, so it is told as any mail server would (RFC 3464), and that
// report reaches him as every message that is not certified does: in an anomaly
// envelope. It is a message of its own, under an identifier of its own.
func (w *teller) returned() error {
	p, s, at := w.p, w.d.s, w.turn.Moment
	n := uint32(w.turn.Places[0])
	tx := pec.Transaction{ID: w.t.job.ID, Time: at.Time}
	envelope := tx.Issue(stepReturnedEnvelope, n)
	header, err := w.header()
	if err != nil {
		return err
	}
	provider := p.composer.Provider
	report := relay.Report{Host: provider.Domain, From: "postmaster@" + provider.Domain, To: s.Sender, MessageID: tx.Issue(stepReturned, n).MessageID(provider),
		Date: at.Time.In(p.composer.Location), Arrival: s.Moment.Time, Answers: w.turn.Answers, Header: header}
	octets, err := report.Compose()
	if err != nil {
		return err
	}
	original, err := pec.ReadOriginal(bytes.NewReader(octets), pec.DefaultLimits())
	if err != nil {
		return err
	}
	about := func(kind record.Kind) *record.Record {
		return &record.Record{Kind: kind, Time: at.Time, MessageID: trimID(envelope.MessageID(provider)), OriginalID: report.MessageID, Sender: report.From,
			Recipients: []record.Recipient{{Address: s.Sender, Certified: true}}, Subject: original.Subject, About: []string{s.Sender}, Provider: provider.Name, Detail: at.detail()}
	}
	digest := sha256.Sum256(octets)
	came := about(record.UncertifiedReceived)
	came.Digest, came.Size = digest[:], uint64(len(octets))
	came.Detail = at.detail(record.Pair{Name: "reason", Value: pec.AnomalyUnsupported}, record.Pair{Name: "about", Value: trimID(w.d.envelopeID)})
	if w.t.rerun { // what other servers answered may be known from the register alone, and that is not every word
		if told, err := p.recorded(record.MakeID(w.t.job.ID, stepReturned, n)); err != nil {
			return err
		} else if told != nil {
			came = told
		}
	}
	w.b.event(record.MakeID(w.t.job.ID, stepReturned, n), came)
	m, err := w.b.message(record.MakeID(w.t.job.ID, stepReturnedEnvelope, n), about(record.AnomalyEnveloped), nil, func() (*pec.Message, error) {
		included := pec.Included{Bytes: bytes.NewReader(octets), Size: int64(len(octets)), Encoding: pec.SevenBit}
		m, err := p.composer.AnomalyEnvelope(envelope, pec.Anomaly{Sender: report.From, Recipients: []string{s.Sender}, Subject: original.Subject,
			MessageID: report.MessageID, Inherited: original.Inherited(), Reason: pec.AnomalyUnsupported}, included)
		if err != nil {
			return nil, err
		}
		m.Prefix, m.Original = append(m.Prefix, octets...), nil // it is kept nowhere else
		return m, nil
	})
	if err != nil {
		return err
	}
	w.about = func() *record.Record { return about(record.NotificationDelivered) }
	w.toAuthor(m, record.MakeID(w.t.job.ID, stepReturnedNotified, n))
	p.metrics.Returned.Add(uint64(len(w.turn.Places)))
	return nil
}

// header is that of the author's message, as he wrote it, as far as it is kept.
func (w *teller) header() ([]byte, error) {
	content, err := w.t.held.OpenContent(w.t.job.ID, w.d.s.ContentMonth)
	if errors.Is(err, receipts.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	b := make([]byte, min(content.Size(), maxReturnedHeader))
	if _, err := content.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if end := bytes.Index(b, []byte("\r\n\r\n")); end >= 0 {
		return b[:end+2], nil
	}
	return b[:bytes.LastIndexByte(b, '\n')+1], nil // not the half of a line
}
