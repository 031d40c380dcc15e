package mta

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"scripta/mta/pec"
	"scripta/mta/scan"
	"scripta/mta/spool"
	"scripta/register"
	"scripta/register/receipts"
	"scripta/register/record"
)

// reception is the job of a message that came in on the port of other mail
// servers: everything decided about it before any effect. A rerun takes nothing
// from elsewhere.
type reception struct {
	Kind         string        `json:"kind"` // kindReception
	Moment       moment        `json:"moment"`
	Class        class         `json:"class"`
	ContentMonth uint16        `json:"content_month"`      // under which the message's octets are sealed
	From         string        `json:"from"`               // reverse path; "" is the null one
	Helo         string        `json:"helo,omitempty"`     // what the client called itself
	Recipients   []string      `json:"recipients"`         // of ours, each once; who gets the message
	Provider     string        `json:"provider,omitempty"` // that signed it
	Service      string        `json:"service,omitempty"`  // its address for take-charges
	Vouched      []string      `json:"vouched,omitempty"`  // recipients that a notification is about, as far as its signer is their provider
	Reason       string        `json:"reason,omitempty"`   // in the anomaly envelope
	Detail       []record.Pair `json:"detail,omitempty"`   // of the checks
	Peer         record.Peer   `json:"peer"`
	Message      received      `json:"message"`
	inspection
	Spam    *scan.Spam `json:"spam,omitempty"`    // of ordinary mail that was scored
	Results []string   `json:"results,omitempty"` // what the sender of ordinary mail showed for himself

	// Of a certified message: what it certifies, and where its original is.
	Certification *pec.CertificationData `json:"certification,omitempty"`
	Original      *pec.Section           `json:"original,omitempty"`

	id     string  // of the transaction, for logging
	coming *coming // nil: it did not come in this process, or may come again
}

// received is what is known of a message without believing it.
type received struct {
	MessageID string   `json:"message_id"` // with angle brackets; may be empty
	Kind      pec.Kind `json:"kind"`       // as it is marked
	From      []string `json:"from"`
	To        []string `json:"to"`
	Cc        []string `json:"cc"`
	Subject   string   `json:"subject"`
	Digest    []byte   `json:"digest"`
	Content   []byte   `json:"content"` // SHA-256 of its signed entity, if it has one
	Size      int64    `json:"size"`
}

func decodeReception(j *spool.Job) (*reception, error) {
	r := &reception{}
	if err := json.Unmarshal(j.Body, r); err != nil {
		return nil, fmt.Errorf("job %x cannot be read: %w", j.ID, err)
	}
	return r, nil
}

// begun implements [work].
func (r *reception) begun() moment { return r.Moment }

// content implements [work].
func (r *reception) content() (month uint16, ok bool) { return r.ContentMonth, true }

// transactions implements [work].
func (r *reception) transactions(id spool.ID) []spool.ID { return []spool.ID{id} }

// first implements [work].
func (r *reception) first(p *Pipeline, id spool.ID) register.Entry {
	kind := record.UncertifiedReceived
	switch r.Class {
	case isEnvelope:
		kind = record.Received
	case isNotification:
		kind = record.NotificationReceived
	}
	rec := r.record(p, id, kind)
	details := r.inspection.detail(slices.Clone(r.Detail)) // of its own: it is appended to, and sorted
	rec.About = r.Recipients
	rec.Digest, rec.Content, rec.Size, rec.Peer = r.Message.Digest, r.Message.Content, uint64(r.Message.Size), r.Peer
	if r.Class == isNotification {
		c := r.Certification
		rec.About, rec.Generated = notified(c), []string{trimID(r.Message.MessageID)}
		rec.Outcome = outcomeOf(c.Detail)
		details = append(details, record.Pair{Name: "type", Value: r.Message.Kind.String()}, record.Pair{Name: mailboxesDetail, Value: strings.Join(r.Recipients, " ")})
	}
	rec.Detail = r.Moment.detail(details...)
	return register.Entry{ID: record.MakeID(id, r.step(), 0), Record: rec}
}

// step is that of the first record.
func (r *reception) step() uint16 {
	switch r.Class {
	case isEnvelope:
		return stepReceived
	case isNotification:
		return stepNotificationReceived
	}
	return stepUncertifiedReceived
}

// outcomeOf reads errore-esteso: a code, the provider, a text, between dashes or
// commas.
func outcomeOf(extended string) record.Outcome {
	i := strings.IndexAny(extended, " ,-")
	if i < 0 || strings.Trim(extended[:i], "0123456789.") != "" {
		return record.Outcome{Text: extended}
	}
	return record.Outcome{Code: extended[:i], Text: strings.TrimLeft(extended[i:], " ,-")}
}

// notified are the recipients that a receipt or notice is about.
func notified(c *pec.CertificationData) []string {
	switch {
	case c.Kind == pec.TakeCharge:
		return c.Taken
	case c.Recipient != "":
		return []string{c.Recipient}
	}
	return nil
}

// record begins a record about the message. A message that is not certified gets
// an identifier of ours: by its own, a stranger would write into the history of a
// certified message.
func (r *reception) record(p *Pipeline, id spool.ID, kind record.Kind) *record.Record {
	rec := &record.Record{Kind: kind, Time: r.Moment.Time, Provider: r.Provider, Detail: r.Moment.detail()}
	if c := r.Certification; c != nil {
		f := c.Facts()
		rec.MessageID, rec.OriginalID, rec.Sender, rec.Subject, rec.ReceiptType = trimID(f.EnvelopeID), f.OriginalID, f.Sender, f.Subject, f.ReceiptType.String()
		for _, x := range f.Recipients {
			rec.Recipients = append(rec.Recipients, record.Recipient{Address: x.Address, Certified: x.Certified})
		}
		return rec
	}
	rec.MessageID = trimID(r.transaction(id).Issue(stepAnomaly, 0).MessageID(p.composer.Provider))
	rec.OriginalID, rec.Sender, rec.Subject = r.Message.MessageID, r.From, r.Message.Subject
	index := p.index()
	for _, a := range r.Recipients {
		_, certified := index.OfAddress(a)
		rec.Recipients = append(rec.Recipients, record.Recipient{Address: a, Certified: certified})
	}
	return rec
}

func (r *reception) transaction(id spool.ID) pec.Transaction {
	return pec.Transaction{ID: id, Time: r.Moment.Time}
}

// issued is the message in the form in which messages are put into mailboxes.
func (r *reception) issued(id spool.ID) *receipts.Issued {
	return receivedMessage(record.MakeID(id, r.step(), 0), r.ContentMonth, r.Message.MessageID, [32]byte(r.Message.Digest), digest32(r.Message.Content), r.Message.Size)
}

func digest32(b []byte) (d [32]byte) {
	copy(d[:], b)
	return d
}

// carry implements [work].
func (r *reception) carry(ctx context.Context, p *Pipeline, t *task, log *slog.Logger) error {
	if r.coming != nil {
		r.coming.end(true) // its first record is in the log: the same again finds it
	}
	switch {
	case r.Class == isEnvelope:
		return p.takeCharge(ctx, t, r)
	case r.infected():
		if err := p.refuseInfectedReception(ctx, t, r); err != nil {
			return err
		}
		return p.hear(ctx, r) // what it says holds, though nobody gets to see it
	case r.Class == isNotification:
		return p.passNotification(ctx, t, r)
	}
	return p.passAnomaly(ctx, t, r)
}

// takeCharge takes an envelope of another provider in charge and delivers it (RFC
// 6109 §3.2.1, §3.3).
func (p *Pipeline) takeCharge(ctx context.Context, t *task, r *reception) error {
	id := t.job.ID
	tx := r.transaction(id)
	env := &envelope{message: r.issued(id), kept: contentOf(id, r.ContentMonth), facts: r.Certification.Facts(),
		signed: &pec.Signed{Kind: pec.TransportEnvelope, Certification: r.Certification, Original: r.Original}, to: r.Message.To, cc: r.Message.Cc}
	b := p.batch(t)
	charge := env.record(p, record.TakeChargeIssued, r.Moment)
	charge.About = r.Recipients
	m, err := b.message(record.MakeID(id, stepTakeCharge, 0), charge, nil, func() (*pec.Message, error) {
		return p.composer.TakeCharge(tx.Issue(stepTakeCharge, 0), env.facts, r.Service, r.Recipients)
	})
	if err != nil {
		return err
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	about := func() *record.Record { return r.record(p, id, record.NotificationDelivered) }
	var held waits
	err = held.keep(p.handOver(ctx, t, "take-charge", r.Moment.Time, []notice{
		{&placement{mailbox: r.Service, message: m.Issued, bypassQuota: true}, record.MakeID(id, stepTakeChargeNotified, 0)}}, about))
	if err != nil {
		return err
	}
	if r.infected() {
		if err := held.keep(p.refuseInfectedReception(ctx, t, r)); err != nil {
			return err
		}
		return held.err()
	}
	weight, err := r.weight(p, id)
	if err != nil {
		return err
	}
	d := &delivery{p: p, t: t, env: env, tx: id, begun: r.Moment.Time, recipients: r.Recipients, about: about}
	if err := held.keep(d.run(ctx, stageOf(weight))); err != nil {
		return err
	}
	return held.err()
}

// passNotification puts a receipt or notice of another provider unchanged into the
// mailboxes it came for, and draws what follows from it for the message that it is
// about.
func (p *Pipeline) passNotification(ctx context.Context, t *task, r *reception) error {
	id := t.job.ID
	about := func() *record.Record { return r.record(p, id, record.NotificationDelivered) }
	var held waits // it counts, though a mailbox does not have it yet
	if err := held.keep(p.reach(ctx, t, r, r.issued(id), about)); err != nil {
		return err
	}
	if err := p.hear(ctx, r); err != nil {
		return err
	}
	return held.err()
}

// hear tells the message that a notification is about what it says of its
// recipients.
func (p *Pipeline) hear(ctx context.Context, r *reception) error {
	if len(r.Vouched) == 0 {
		return nil
	}
	c := r.Certification
	return p.heard(ctx, c.Kind, c.EnvelopeID, r.Vouched, r.Moment, r.Provider, c.Detail)
}

// reach puts one message into the mailboxes of a reception, each time with a
// record of it. There is room for what is not delivered by a receipt: it is
// checked before 250.
func (p *Pipeline) reach(ctx context.Context, t *task, r *reception, m *receipts.Issued, about func() *record.Record) error {
	weight, err := r.weight(p, t.job.ID)
	if err != nil {
		return err
	}
	stage := stageOf(weight)
	var held waits
	for from := 0; from < len(r.Recipients); from += stage {
		var all []notice
		for i, a := range r.Recipients[from:min(from+stage, len(r.Recipients))] {
			all = append(all, notice{&placement{mailbox: a, message: m, bypassQuota: true}, record.MakeID(t.job.ID, stepReached, uint32(from+i))})
		}
		if err := held.keep(p.handOver(ctx, t, fmt.Sprintf("reach/%d", from), r.Moment.Time, all, about)); err != nil {
			return err
		}
	}
	return held.err()
}

// weight is about the size of the largest record that any step of the reception
// makes, bytes, but for less than 4 KiB: see submission.weight.
func (r *reception) weight(p *Pipeline, id spool.ID) (int, error) {
	rec := r.first(p, id).Record
	if len(rec.About) < len(r.Recipients) {
		rec.About = r.Recipients
	}
	f, err := rec.Fields()
	if err != nil {
		return 0, err
	}
	n := f.Size()
	if r.Certification != nil {
		n += len(r.Certification.ReplyTo)
	}
	return n, nil
}
