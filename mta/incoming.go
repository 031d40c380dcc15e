package mta

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"scripta/internal/cms"
	"scripta/mta/mailbox"
	"scripta/mta/pec"
	"scripta/register/receipts"
	"scripta/register/record"
)

// errBadEnvelope says that a transport envelope is not what its provider must
// send (RFC 6109 §3.2). Of our own envelopes it means that keys or
// configuration are wrong: the job waits, and a person is called.
var errBadEnvelope = errors.New("mta: the envelope is not correct")

// envelope is a transport envelope that the Incoming Point has checked.
type envelope struct {
	issued *receipts.Issued
	signed *pec.Signed
	facts  pec.Facts
}

// checkEnvelope runs the checks of RFC 6109 §3.2 over an envelope: signature and
// chain at the time of receipt, a certificate that the index of providers knows,
// whose e-mail address is the From, and certification data that say "transport
// envelope".
func (p *Pipeline) checkEnvelope(t *task, e *receipts.Issued, at moment) (*envelope, error) {
	msg, err := t.held.Open(e)
	if err != nil {
		return nil, err
	}
	defer msg.Close()
	signed, err := pec.ReadSigned(io.NewSectionReader(msg, 0, msg.Size()), pec.DefaultLimits())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadEnvelope, err)
	}
	if signed.Fault != nil {
		return nil, fmt.Errorf("%w: %w", errBadEnvelope, signed.Fault)
	}
	if signed.Kind != pec.TransportEnvelope || signed.Original == nil {
		return nil, fmt.Errorf("%w: it is of kind %v", errBadEnvelope, signed.Kind)
	}
	sig, err := cms.Verify(signed.Signature, signed.ContentDigest, cms.Policy{Roots: p.roots, At: at.Time, EKU: x509.ExtKeyUsageEmailProtection, Chains: &p.chains})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadEnvelope, err)
	}
	if _, known := p.index().OfCertificate(sig.Certificate); !known {
		return nil, fmt.Errorf("%w: no provider of the index signs with certificate %v", errBadEnvelope, sig.Certificate.SerialNumber)
	}
	if from := signed.From; len(from) != 1 || len(sig.Certificate.EmailAddresses) != 1 || !pec.SameAddress(from[0], sig.Certificate.EmailAddresses[0]) {
		return nil, fmt.Errorf("%w: From %q is not the signer %q", errBadEnvelope, from, sig.Certificate.EmailAddresses)
	}
	return &envelope{issued: e, signed: signed, facts: signed.Certification.Facts()}, nil
}

// A stage of deliveries is bounded, so that a message to many recipients holds
// few files open, and so that messages and records of a stage, each of which
// names all recipients, fit into memory.
const (
	stageSize  = 64      // mailboxes
	stageBytes = 8 << 20 // weight of the submission, times mailboxes
)

// stageOf is how many mailboxes a stage fills. It is the same on every run: the
// stages' notes count by it.
func stageOf(weight int) int { return min(stageSize, max(1, stageBytes/weight)) }

// receive takes an envelope in charge and delivers it (RFC 6109 §3.2.1, §3.3).
// b holds what the Access Point issued. It is stored and recorded together with
// what is issued here, in this order, because nobody sees the one or the other
// before: between two providers the envelope would go out first.
func (p *Pipeline) receive(ctx context.Context, t *task, b *batch, acceptance, issuedEnvelope *receipts.Issued, log *slog.Logger) error {
	s := t.submission
	var at moment // the Incoming Point's one time reading
	noted := make(chan error, 1)
	var noting sync.WaitGroup
	defer noting.Wait() // also when the check panics: the next run must see the note or its absence
	if done, err := t.job.Noted("received", &at); err != nil {
		return err
	} else if done {
		noted <- nil
	} else {
		if at, err = p.now(); err != nil {
			return err
		}
		// Durable before anything that tells of it is, while the envelope is
		// being checked.
		noting.Go(func() { noted <- p.spool.Note(t.job, "received", at) })
	}
	env, err := p.checkEnvelope(t, issuedEnvelope, at)
	if err != nil {
		p.metrics.Alarms.Add(1)
	}
	if err = errors.Join(err, <-noted); err != nil {
		return err
	}
	tx := pec.Transaction{ID: s.Incoming, Time: at.Time}

	var taken []string // every recipient of ours, existing or not
	for _, r := range env.facts.Recipients {
		taken = append(taken, r.Address)
	}
	received := env.record(p, record.Received, at)
	received.About, received.Digest, received.Content, received.Size = taken, issuedEnvelope.Digest[:], issuedEnvelope.Content[:], uint64(issuedEnvelope.Size)
	b.event(record.MakeID(s.Incoming, stepReceived, 0), received)
	charge := env.record(p, record.TakeChargeIssued, at)
	charge.About = taken
	takeCharge, err := b.message(record.MakeID(s.Incoming, stepTakeCharge, 0), charge, nil, func() (*pec.Message, error) {
		return p.composer.TakeCharge(tx.Issue(stepTakeCharge, 0), env.facts, p.composer.Provider.ServiceAddress, taken)
	})
	if err != nil {
		return err
	}
	if err := b.commit(ctx); err != nil {
		return err
	}

	// The first stage also carries the acceptance and the take-charge, so that
	// they share its syncs.
	first := []*placement{
		{mailbox: s.Sender, message: acceptance, bypassQuota: true},
		{mailbox: p.composer.Provider.ServiceAddress, message: takeCharge.Issued, bypassQuota: true},
	}
	weight, err := s.weight(p)
	if err != nil {
		return err
	}
	stage := stageOf(weight)
	for from := 0; from < len(taken); from += stage {
		group := &delivery{p: p, t: t, env: env, tx: tx, from: from, recipients: taken[from:min(from+stage, len(taken))]}
		if err := group.run(ctx, first, log); err != nil {
			return err
		}
		first = nil
	}
	return nil
}

// record begins a record about the envelope.
func (e *envelope) record(p *Pipeline, kind record.Kind, at moment) *record.Record {
	r := &record.Record{Kind: kind, Time: at.Time, MessageID: trimID(e.facts.EnvelopeID), OriginalID: e.facts.OriginalID, Sender: e.facts.Sender,
		Subject: e.facts.Subject, Provider: e.signed.Certification.Provider, ReceiptType: e.facts.ReceiptType.String(), Detail: at.detail()}
	for _, x := range e.facts.Recipients {
		r.Recipients = append(r.Recipients, record.Recipient{Address: x.Address, Certified: x.Certified})
	}
	return r
}

// delivery is the Delivery Point's work for a group of an envelope's recipients.
type delivery struct {
	p          *Pipeline
	t          *task
	env        *envelope
	tx         pec.Transaction
	from       int // place of the first recipient in the envelope
	recipients []string
}

func (d *delivery) stage(name string) string { return fmt.Sprintf("%s/%d", name, d.from) }

// run puts the envelope into the mailboxes and reports to the sender. first are
// further messages for the first stage: acceptance and take-charge.
func (d *delivery) run(ctx context.Context, first []*placement, log *slog.Logger) error {
	p, s := d.p, d.t.submission
	all := first
	for _, r := range d.recipients {
		all = append(all, &placement{mailbox: r, message: d.env.issued})
	}
	at, err := p.place(d.t, d.stage("deliver"), s.Moment.Time, all, func(i int) error {
		if i < len(first) {
			return nil
		}
		return p.admits(all[i].mailbox, all[i].message.Size)
	})
	if err != nil {
		return err
	}
	b := p.batch(d.t)
	outcomes := make([]*placement, len(d.recipients))
	for i, x := range all[len(first):] {
		if outcomes[i], err = d.outcome(b, uint32(d.from+i), x, at); err != nil {
			return err
		}
	}
	if len(first) > 0 {
		b.notification(s, d.env.facts.EnvelopeID, record.MakeID(d.t.job.ID, stepNotified, 0), first[0], at)
		b.notification(s, d.env.facts.EnvelopeID, record.MakeID(s.Incoming, stepTakeChargeNotified, 0), first[1], at)
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	if at, err = p.place(d.t, d.stage("outcome"), s.Moment.Time, outcomes, nil); err != nil {
		return err
	}
	b = p.batch(d.t)
	for i, x := range outcomes {
		b.notification(s, d.env.facts.EnvelopeID, record.MakeID(s.Incoming, stepOutcomeNotified, uint32(d.from+i)), x, at)
	}
	return b.commit(ctx)
}

// outcome records what became of one recipient and issues the delivery receipt
// (RFC 6109 §3.3.2) or the non-delivery (§3.3.3). The receipt's time is that of
// the delivery.
func (d *delivery) outcome(b *batch, n uint32, x *placement, at moment) (*placement, error) {
	p, s, env := d.p, d.t.submission, d.env
	tx := pec.Transaction{ID: s.Incoming, Time: at.Time}
	about := func(kind record.Kind) *record.Record {
		r := env.record(p, kind, at)
		r.About = []string{x.mailbox}
		return r
	}
	if x.failed != nil {
		kind, text := pec.OtherError, pec.MailboxFull()
		if x.failed.Error() == noMailbox.Error() {
			kind, text = pec.UnknownRecipient, pec.InvalidAddress()
		}
		rec := about(record.NonDeliveryIssued)
		rec.Outcome = record.Outcome{Code: text.Code, Text: text.Text}
		m, err := b.message(record.MakeID(s.Incoming, stepNonDelivery, n), rec, nil, func() (*pec.Message, error) {
			return p.composer.NonDelivery(tx.Issue(stepNonDelivery, n), env.facts, x.mailbox, kind, text.Extended(p.composer.Provider.Name))
		})
		if err != nil {
			return nil, err
		}
		p.metrics.NotDelivered.Add(1)
		return &placement{mailbox: env.facts.Sender, message: m.Issued, bypassQuota: true}, nil
	}
	rec := about(record.Delivered)
	rec.Digest, rec.Content, rec.Size = env.issued.Digest[:], env.issued.Content[:], uint64(env.issued.Size)
	b.event(record.MakeID(s.Incoming, stepDelivered, n), rec)

	kind := env.facts.ReceiptType.For(x.mailbox, s.Facts.To, s.Facts.Cc)
	original := env.signed.Original
	rec = about(record.DeliveryIssued)
	rec.ReceiptType = kind.String()
	source := &receipts.Included{Source: receipts.Source{Issued: true, ID: env.issued.ID}, Offset: original.Offset, Length: original.Length}
	m, err := b.message(record.MakeID(s.Incoming, stepDelivery, n), rec, source, func() (*pec.Message, error) {
		if kind == pec.Concise {
			return p.composer.Delivery(tx.Issue(stepDelivery, n), env.facts, x.mailbox, kind, nil)
		}
		msg, err := d.t.held.Open(env.issued)
		if err != nil {
			return nil, err
		}
		defer msg.Close()
		included := original.Included(msg)
		if kind == pec.Brief {
			short, err := included.Brief()
			if err != nil {
				return nil, err
			}
			source.Edits = edits(short, original.Offset)
			if included, err = included.Edited(short); err != nil {
				return nil, err
			}
		}
		return p.composer.Delivery(tx.Issue(stepDelivery, n), env.facts, x.mailbox, kind, &included)
	})
	if err != nil {
		return nil, err
	}
	p.metrics.Delivered.Add(1)
	return &placement{mailbox: env.facts.Sender, message: m.Issued, bypassQuota: true}, nil
}

// Why a mailbox does not get an envelope. Their texts are kept in notes.
var (
	noMailbox   = mailbox.ErrNoMailbox
	mailboxFull = mailbox.ErrMailboxFull
)

// admits says whether a mailbox exists, is not closed and has room. Receipts are
// put into a closed mailbox nevertheless: they answer what its holder sent before.
func (p *Pipeline) admits(address string, size int64) error {
	if !p.boxes.Exists(address) || p.closed(address) {
		return noMailbox
	}
	if err := p.boxes.CheckQuota(address, size); errors.Is(err, mailboxFull) {
		return mailboxFull
	} else if err != nil {
		return err
	}
	return nil
}

// notification records that a receipt or notice was put into its mailbox, or
// could not be: the latter is an alarm and never causes another receipt.
func (b *batch) notification(s *submission, envelopeID string, id record.ID, x *placement, at moment) {
	r := s.record(b.p, record.NotificationDelivered, envelopeID)
	r.Time, r.Detail = at.Time, at.detail()
	r.About, r.Generated = []string{x.mailbox}, []string{trimID(x.message.MessageID)}
	r.Digest, r.Content, r.Size = x.message.Digest[:], x.message.Content[:], uint64(x.message.Size)
	if x.failed != nil {
		r.Kind = record.NotificationFailed
		r.Outcome = record.Outcome{Code: "5.2.0", Text: x.failed.Error()}
		b.p.metrics.Alarms.Add(1)
		b.p.log.Error("a receipt could not be put into its mailbox", "record", id.String(), "err", x.failed)
	}
	b.event(id, r)
}
