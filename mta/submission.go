package mta

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"time"

	"scripta/internal/keys"
	"scripta/mta/mailbox"
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
	ContentMonth uint16          `json:"content_month"` // under which the message's octets are sealed
	Sender       string          `json:"sender"`        // reverse path
	Recipients   []pec.Recipient `json:"recipients"`    // forward paths, each once
	Reasons      []string        `json:"reasons"`       // not empty: not to be accepted
	Provider     string          `json:"provider"`      // the provider's name when the message came
	Actor        string          `json:"actor"`
	Peer         record.Peer     `json:"peer"`
	Incoming     spool.ID        `json:"incoming"` // id of the Incoming Point's transaction
	Digest       []byte          `json:"digest"`
	Facts        submissionFacts `json:"facts"`

	id string // of the transaction, for logging
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
	r := s.record(p, record.Submitted, s.transaction(id).Issue(stepEnvelope, 0).MessageID(p.composer.Provider))
	r.Digest, r.Size, r.Peer, r.Actor = s.Digest, uint64(s.Facts.Size), s.Peer, s.Actor
	return r
}

// run carries a job to its end and forgets it.
func (p *Pipeline) run(ctx context.Context, t *task, log *slog.Logger) error {
	if err := p.carry(ctx, t, log); err != nil {
		return err
	}
	return p.finish(t)
}

// carry carries a job to its end. Every step may be run again.
func (p *Pipeline) carry(ctx context.Context, t *task, log *slog.Logger) (err error) {
	if t.placed {
		p.leave()
		t.placed = false
	}
	if t.unrecorded {
		if err := p.recordSubmission(ctx, t); err != nil {
			return err
		}
		t.unrecorded = false
	}
	s := t.submission
	t.held, t.moved = p.register.Receipts().Hold(p.register.Contents()), nil
	defer func() {
		t.rerun = true // from now on something may be stored
		err = errors.Join(err, t.held.Close())
	}()
	if len(s.Reasons) > 0 {
		return p.refuse(ctx, t)
	}
	return p.accept(ctx, t, log)
}

// finish forgets jobs that came to their end, when what they put into mailboxes
// is there for good. Should a crash come before, they are run again, which
// changes nothing.
func (p *Pipeline) finish(ts ...*task) error {
	var (
		moved []*mailbox.Prepared
		jobs  []*spool.Job
	)
	for _, t := range ts {
		moved, jobs = append(moved, t.moved...), append(jobs, t.job)
	}
	if err := p.boxes.Sync(moved...); err != nil {
		return err
	}
	if err := p.spool.Done(jobs...); err != nil {
		return err
	}
	for _, j := range jobs {
		p.backlog.remove(j.ID)
	}
	if p.keep {
		return nil
	}
	for _, t := range ts {
		if err := p.register.Contents().Remove(t.job.ID, t.submission.ContentMonth); err != nil {
			p.log.Warn("the content of a finished message could not be deleted", "tx", t.submission.id, "err", err)
		}
	}
	return nil
}

// refuse issues the non-acceptance (RFC 6109 §3.1.2).
func (p *Pipeline) refuse(ctx context.Context, t *task) error {
	s, tx := t.submission, t.submission.transaction(t.job.ID)
	envelopeID := tx.Issue(stepEnvelope, 0).MessageID(p.composer.Provider) // of no envelope
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
	notice := &placement{mailbox: s.Sender, message: m.Issued, bypassQuota: true}
	at, err := p.place(t, "refused", s.Moment.Time, []*placement{notice}, nil)
	if err != nil {
		return err
	}
	b = p.batch(t)
	b.notification(s, envelopeID, record.MakeID(t.job.ID, stepNotified, 0), notice, at)
	return b.commit(ctx)
}

// accept issues the acceptance and the envelope (RFC 6109 §3.1.4, §3.1.5) and
// hands the envelope to the Incoming Point of each recipient's provider.
func (p *Pipeline) accept(ctx context.Context, t *task, log *slog.Logger) error {
	s, tx := t.submission, t.submission.transaction(t.job.ID)
	at := tx.Issue(stepEnvelope, 0)
	envelopeID := at.MessageID(p.composer.Provider)
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
	if t.original == nil {
		if t.original, err = pec.ReadOriginal(io.NewSectionReader(content, 0, content.Size()), pec.DefaultLimits()); err != nil {
			return err
		}
	}
	source := &receipts.Included{Source: receipts.Source{ID: record.MakeID(t.job.ID, 0, 0), Month: s.ContentMonth}, Edits: edits(t.original.Patch(envelopeID), 0)}
	envelope, err := b.message(record.MakeID(t.job.ID, stepEnvelope, 0), s.record(p, record.Enveloped, envelopeID), source,
		func() (*pec.Message, error) {
			included, err := t.original.Included(content, envelopeID)
			if err != nil {
				return nil, err
			}
			return p.composer.TransportEnvelope(at, s.facts(envelopeID), t.original.Inherited(), included)
		})
	if err != nil {
		return err
	}
	return p.receive(ctx, t, b, acceptance.Issued, envelope.Issued, log)
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
	for _, r := range recipients {
		_, certified := p.index().OfAddress(r)
		s.Recipients = append(s.Recipients, pec.Recipient{Address: r, Certified: certified})
	}
	return s
}

// errNoSpace is answered before a disk is so full that the register would stop.
var errNoSpace = fmt.Errorf("mta: less free space than mail.min_free_bytes: %w", syscall.ENOSPC)

// room refuses when the provider says so, or the disk has less left than the
// reserve.
func (p *Pipeline) room() error {
	if err := p.hold(); err != nil {
		return err
	}
	free, err := p.free()
	if err != nil {
		return err
	}
	if free < p.limits.MinFreeBytes {
		return errNoSpace
	}
	return nil
}

// handIn takes a message at the Access Point: it reads it once from r, sealing
// its octets as they come, and returns nil when it is safe. judge sees the
// outcome of reading and says whether the message counts as whole. Nothing of
// what is refused is durable, and nothing that is taken is too large for any of
// its later steps.
func (p *Pipeline) handIn(ctx context.Context, r io.Reader, sender string, recipients []string, actor string, peer record.Peer, judge func(error) error) (*submission, error) {
	if err := p.room(); err != nil {
		return nil, err
	}
	var id spool.ID
	rand.Read(id[:])
	begun, err := p.now() // only its month counts: the octets are sealed under it
	if err != nil {
		return nil, err
	}
	month := keys.MonthOf(begun.Time)
	w, err := p.register.Contents().Create(id, uint16(month))
	if err != nil {
		return nil, err
	}
	original, err := pec.ReadOriginal(io.TeeReader(r, w), pec.DefaultLimits())
	if err = judge(err); err == nil {
		switch {
		case original.NUL || original.BareNewline:
			err = replyBareControl
		case original.HeaderLen == 0:
			err = replyEmpty
		}
	}
	var s *submission
	if err == nil {
		s = p.newSubmission(original, month, sender, recipients, actor, peer)
		err = p.checkFacts(s)
	}
	if err == nil {
		err = p.enter()
	}
	if err != nil {
		w.Abort()
		return nil, err
	}
	if s.Moment, err = p.now(); err != nil {
		p.leave()
		w.Abort()
		return nil, err
	}
	s.id = hex.EncodeToString(id[:])
	rand.Read(s.Incoming[:])
	if err := p.take(ctx, id, w, s, original); err != nil {
		p.leave()
		return s, err
	}
	return s, nil
}

// errStopping is answered when a message comes while the pipeline stops.
var errStopping = errors.New("mta: the pipeline is stopping")

// enter waits for a place among the accepted messages that wait for a worker.
// Nothing of the message is durable yet, and its time has not been read: under
// a load that is beyond the machine its client waits for the 250, and not,
// after it, its author for the acceptance.
func (p *Pipeline) enter() error {
	select {
	case p.places <- struct{}{}:
		return nil
	case <-p.ctx.Done():
		return errStopping
	}
}

// leave gives the place up.
func (p *Pipeline) leave() { <-p.places }

// take makes a message's job durable and appends its first record, in this
// order: 1. the octets and the job, at the same time; 2. the octets' place, which
// the job tells of; 3. the record, which is the point of no return; 4. the job
// goes to a worker. The caller then answers 250. When take fails before 3, the
// message is forgotten; after 3 the job stays, and the client, which got no 250,
// may send the message again.
func (p *Pipeline) take(ctx context.Context, id spool.ID, w *receipts.ContentWriter, s *submission, o *pec.Original) error {
	stored := make(chan error, 1)
	go func() { stored <- w.Sync() }()
	job, err := p.spool.Add(id, uint16(keys.MonthOf(s.Moment.Time)), s)
	if err = errors.Join(err, <-stored); err == nil {
		err = w.Commit()
	}
	if err != nil {
		w.Abort()
		p.abandon(id, job, s)
		return err
	}
	t := &task{job: job, submission: s, original: o}
	switch err := p.recordSubmission(ctx, t); {
	case err == nil:
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, register.ErrTooLarge): // refused whole: the record is not in doubt
		p.abandon(id, job, s)
		return err
	case errors.Is(err, register.ErrStopped): // a restart finds out
		return err
	default:
		// The record may be in the log, or get there yet, and then the message
		// must not stay without an outcome.
		t.unrecorded = true
		p.backlog.add(id, s.Moment.Time)
		p.putOff(t, err, p.log.With("tx", s.id))
		return err
	}
	p.backlog.add(id, s.Moment.Time)
	t.placed = true
	select {
	case p.tasks <- t:
	case <-p.ctx.Done(): // stopping: the job is run after the restart
	}
	return nil
}

// recordSubmission appends the transaction's first record.
func (p *Pipeline) recordSubmission(ctx context.Context, t *task) error {
	_, err := p.register.Append(ctx, register.Entry{ID: record.MakeID(t.job.ID, stepSubmitted, 0), Record: p.submitted(t.submission, t.job.ID)})
	return err
}

// abandon forgets a message that was refused on the way; job is nil when there
// is none. A full disk may put it off: until then the message counts as under
// way, and a restart would drop it.
func (p *Pipeline) abandon(id spool.ID, job *spool.Job, s *submission) {
	err := p.register.Contents().Remove(id, s.ContentMonth)
	if err == nil && job != nil {
		err = p.spool.Done(job)
	}
	if err == nil {
		return
	}
	p.log.Error("a refused message could not be forgotten yet", "tx", s.id, "err", err)
	time.AfterFunc(time.Second, func() {
		if p.ctx.Err() == nil {
			p.abandon(id, job, s)
		}
	})
}
