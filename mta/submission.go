package mta

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"scripta/internal/keys"
	"scripta/mta/pec"
	"scripta/mta/spool"
	"scripta/register"
	"scripta/register/receipts"
	"scripta/register/record"
)

// submission is the job of a message handed in at the Access Point: everything
// decided about it before any effect. A rerun takes nothing from elsewhere.
type submission struct {
	Moment       moment          `json:"moment"`
	ContentMonth uint16          `json:"content_month"`    // under which the message's octets are sealed
	Sender       string          `json:"sender"`           // reverse path
	Recipients   []pec.Recipient `json:"recipients"`       // forward paths, each once
	Remote       []int           `json:"remote,omitempty"` // places of those that are not ours
	Reasons      []string        `json:"reasons"`          // not empty: not to be accepted
	Provider     string          `json:"provider"`         // the provider's name when the message came
	Actor        string          `json:"actor"`
	Peer         record.Peer     `json:"peer"`
	Incoming     spool.ID        `json:"incoming"` // id of the Incoming Point's transaction
	Digest       []byte          `json:"digest"`
	Facts        submissionFacts `json:"facts"`
	inspection

	id       string        // of the transaction, for logging
	accepted bool          // acceptance and envelope are in the register; only who carries the job uses it
	original *pec.Original // as it was read when it came in; nil: to be read again
}

// submissionFacts is what records and notices say of the message.
type submissionFacts struct {
	MessageID   string          `json:"message_id"` // the author's, with angle brackets
	Subject     string          `json:"subject"`
	ReplyTo     string          `json:"reply_to"`
	ReceiptType pec.ReceiptType `json:"receipt_type"`
	To          []string        `json:"to"`
	Cc          []string        `json:"cc"`
	Size        int64           `json:"size"`
}

func decodeSubmission(j *spool.Job) (*submission, error) {
	s := &submission{id: hex.EncodeToString(j.ID[:])}
	if err := json.Unmarshal(j.Body, s); err != nil {
		return nil, fmt.Errorf("job %x cannot be read: %w", j.ID, err)
	}
	return s, nil
}

// transaction is the Access Point's.
func (s *submission) transaction(id spool.ID) pec.Transaction {
	return pec.Transaction{ID: id, Time: s.Moment.Time}
}

// envelopeID is the Message-ID of the submission's envelope, with angle brackets.
func (s *submission) envelopeID(p *Pipeline, id spool.ID) string {
	return s.transaction(id).Issue(stepEnvelope, 0).MessageID(p.composer.Provider)
}

// facts returns what every message issued about this one says.
func (s *submission) facts(envelopeID string) pec.Facts {
	return pec.Facts{Sender: s.Sender, Recipients: s.Recipients, ReplyTo: s.Facts.ReplyTo, Subject: s.Facts.Subject,
		OriginalID: s.Facts.MessageID, EnvelopeID: envelopeID, ReceiptType: s.Facts.ReceiptType}
}

// record begins a record about the submission.
func (s *submission) record(p *Pipeline, kind record.Kind, envelopeID string) *record.Record {
	r := &record.Record{Kind: kind, Time: s.Moment.Time, MessageID: trimID(envelopeID), OriginalID: s.Facts.MessageID,
		Sender: s.Sender, Subject: s.Facts.Subject, Provider: s.Provider, ReceiptType: s.Facts.ReceiptType.String(),
		Detail: s.Moment.detail()}
	for _, x := range s.Recipients {
		r.Recipients = append(r.Recipients, record.Recipient{Address: x.Address, Certified: x.Certified})
	}
	return r
}

// maxFacts bounds a submission's weight, bytes. It is far below
// register.MaxRecord, and no daticert.xml of such facts, which may take five
// octets for one, is longer than what the Incoming Point reads
// (pec.Limits.CertificationBytes). Five hundred recipients with addresses of 254
// octets weigh 267 KB.
const maxFacts = 384 << 10

// weight is about the size of the largest record that any step of the
// submission makes, bytes: one about all of its recipients. What differs from
// step to step (identifiers, digests, marks of the clock) adds less than 4 KiB.
func (s *submission) weight(p *Pipeline) (int, error) {
	r := s.record(p, record.Submitted, "")
	for _, x := range s.Recipients {
		r.About = append(r.About, x.Address)
	}
	r.Outcome.Text, r.Peer, r.Actor = joinReasons(s.Reasons), s.Peer, s.Actor
	f, err := r.Fields()
	if err != nil {
		return 0, err
	}
	return f.Size() + len(s.Facts.ReplyTo), nil // which messages state, too
}

// checkFacts refuses a submission that is too heavy for the register, and gives
// one that would be too heavy for its author's mailbox a reason not to be
// accepted: each delivery receipt names every recipient.
func (p *Pipeline) checkFacts(s *submission) error {
	weight, err := s.weight(p)
	if err != nil {
		return err
	}
	if n := len(s.Recipients); int64(weight)*int64(n) > p.limits.BytesTimesRecipients {
		s.Reasons = append(s.Reasons, pec.ReasonFactsTooLarge)
		weight += len(pec.ReasonFactsTooLarge) + len("; ")
	}
	if weight > maxFacts {
		return replyFactsTooBig
	}
	return nil
}

// submitted is the transaction's first record, appended before 250.
func (p *Pipeline) submitted(s *submission, id spool.ID) *record.Record {
	r := s.record(p, record.Submitted, s.envelopeID(p, id))
	r.Digest, r.Size, r.Peer, r.Actor = s.Digest, uint64(s.Facts.Size), s.Peer, s.Actor
	r.Detail = s.inspection.detail(r.Detail)
	return r
}

// begun implements [work].
func (s *submission) begun() moment { return s.Moment }

// content implements [work].
func (s *submission) content() (month uint16, ok bool) { return s.ContentMonth, true }

// transactions implements [work].
func (s *submission) transactions(id spool.ID) []spool.ID { return []spool.ID{id, s.Incoming} }

// first implements [work].
func (s *submission) first(p *Pipeline, id spool.ID) register.Entry {
	return register.Entry{ID: record.MakeID(id, stepSubmitted, 0), Record: p.submitted(s, id)}
}

// carry implements [work].
func (s *submission) carry(ctx context.Context, p *Pipeline, t *task, _ *slog.Logger) error {
	if s.infected() {
		return p.refuseInfected(ctx, t, s)
	}
	if len(s.Reasons) > 0 {
		return p.refuse(ctx, t, s)
	}
	if t.dispatch == nil && len(s.Remote) > 0 {
		if err := p.prepareTask(t); err != nil {
			return err
		}
	}
	if t.dispatch != nil {
		return s.follow(ctx, p, t, t.dispatch)
	}
	err := p.accept(ctx, t, s)
	if err == nil || !s.accepted || !p.isLate(s) {
		return err
	}
	// Recipients of ours alone, and the job fails for hours: from now on it is
	// followed, because its author is to be told.
	d, derr := p.newDispatch(t, s)
	if derr != nil {
		return errors.Join(err, derr)
	}
	d.accepted, t.dispatch = true, d
	p.dispatches.add(d)
	return errors.Join(err, p.lateHere(d), p.tell(ctx, t, d), p.flush(t))
}

// refuse issues the non-acceptance (RFC 6109 §3.1.2).
func (p *Pipeline) refuse(ctx context.Context, t *task, s *submission) error {
	tx := s.transaction(t.job.ID)
	envelopeID := s.envelopeID(p, t.job.ID) // of no envelope
	rec := s.record(p, record.NonAcceptanceIssued, envelopeID)
	rec.Outcome = record.Outcome{Code: "5.6.0", Text: joinReasons(s.Reasons)}
	b := p.batch(t)
	m, err := b.message(record.MakeID(t.job.ID, stepNonAcceptance, 0), rec, nil, func() (*pec.Message, error) {
		return p.composer.NonAcceptance(tx.Issue(stepNonAcceptance, 0), s.facts(envelopeID), s.Reasons)
	})
	if err != nil {
		return err
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	p.metrics.NonAccepted.Add(1)
	toAuthor := notice{&placement{mailbox: s.Sender, message: m.Issued, bypassQuota: true}, record.MakeID(t.job.ID, stepNotified, 0)}
	return p.handOver(ctx, t, "refused", s.Moment.Time, []notice{toAuthor}, func() *record.Record {
		return s.record(p, record.NotificationDelivered, envelopeID)
	})
}

// accept issues the acceptance and the envelope (RFC 6109 §3.1.4, §3.1.5) and
// hands the envelope to the Incoming Point of each recipient's provider.
func (p *Pipeline) accept(ctx context.Context, t *task, s *submission) error {
	tx := s.transaction(t.job.ID)
	at := tx.Issue(stepEnvelope, 0)
	envelopeID := s.envelopeID(p, t.job.ID)
	content, err := t.held.OpenContent(t.job.ID, s.ContentMonth)
	if err != nil {
		return err
	}
	b := p.batch(t)
	acceptance, err := b.message(record.MakeID(t.job.ID, stepAcceptance, 0), s.record(p, record.AcceptanceIssued, envelopeID), nil,
		func() (*pec.Message, error) {
			return p.composer.Acceptance(tx.Issue(stepAcceptance, 0), s.facts(envelopeID))
		})
	if err != nil {
		return err
	}
	if s.original == nil {
		if s.original, err = pec.ReadOriginal(io.NewSectionReader(content, 0, content.Size()), pec.DefaultLimits()); err != nil {
			return err
		}
	}
	source := &receipts.Included{Source: contentOf(t.job.ID, s.ContentMonth), Edits: edits(s.original.Patch(envelopeID), 0)}
	envelope, err := b.message(record.MakeID(t.job.ID, stepEnvelope, 0), s.record(p, record.Enveloped, envelopeID), source,
		func() (*pec.Message, error) {
			included, err := s.original.Included(content, envelopeID)
			if err != nil {
				return nil, err
			}
			return p.composer.TransportEnvelope(at, s.facts(envelopeID), s.original.Inherited(), included)
		})
	if err != nil {
		return err
	}
	// The acceptance, and the envelope for those who are not ours, go out together.
	out := []notice{{&placement{mailbox: s.Sender, message: acceptance.Issued, bypassQuota: true}, record.MakeID(t.job.ID, stepNotified, 0)}}
	for _, i := range s.Remote {
		to := s.Recipients[i]
		out = append(out, notice{placement: &placement{mailbox: to.Address, message: envelope.Issued, from: s.Sender, ordinary: !to.Certified, envelope: true, place: i}})
	}
	if len(s.Remote) < len(s.Recipients) {
		return p.receive(ctx, t, s, b, envelope.Issued, out)
	}
	if _, err := p.checkEnvelope(t, envelope.Issued, s.Moment); err != nil {
		p.metrics.Alarms.Add(1)
		return err
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	s.isAccepted(t)
	return p.handOver(ctx, t, "accepted", s.Moment.Time, out, func() *record.Record {
		return s.record(p, record.NotificationDelivered, envelopeID)
	})
}

// isAccepted remembers that acceptance and envelope are in the register.
func (s *submission) isAccepted(t *task) {
	s.accepted = true
	if d := t.dispatch; d != nil {
		d.mu.Lock()
		d.accepted = true
		d.mu.Unlock()
	}
}

func joinReasons(reasons []string) string {
	var all []byte
	for i, r := range reasons {
		if i > 0 {
			all = append(all, "; "...)
		}
		all = append(all, r...)
	}
	return string(all)
}

// newSubmission fixes what is decided when the message's last octet is there, but
// for its ids and its time.
func (p *Pipeline) newSubmission(o *pec.Original, content keys.Month, sender string, recipients []string, actor string, peer record.Peer) *submission {
	s := &submission{ContentMonth: uint16(content), Sender: sender, Reasons: p.checkForm(o, sender, recipients), Provider: p.composer.Provider.Name,
		Actor: actor, Peer: peer, Digest: o.Digest[:], Facts: submissionFacts{MessageID: o.MessageID, Subject: o.Subject, ReplyTo: o.ReplyTo, ReceiptType: o.ReceiptType,
			To: o.To, Cc: o.Cc, Size: o.Size}}
	index := p.index()
	for i, r := range recipients {
		_, certified := index.OfAddress(r)
		s.Recipients = append(s.Recipients, pec.Recipient{Address: r, Certified: certified})
		if !p.ours(r) {
			s.Remote = append(s.Remote, i)
		}
	}
	return s
}
