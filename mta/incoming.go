package mta

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"scripta/internal/cms"
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
	message *receipts.Issued // as it is put into mailboxes: made here, or received (see [receivedMessage])
	kept    receipts.Source  // where its octets are kept, for the receipts that include the original
	signed  *pec.Signed
	facts   pec.Facts
	to, cc  []string // of the original, which decide the type of delivery receipts
}

// receivedMessage is a message of somebody else, kept in the content store as it
// came in a transaction, in the form in which messages are put into mailboxes. id
// names its files there. Only a [receipts.Held] opens it: it is not stored.
func receivedMessage(id record.ID, month uint16, messageID string, digest, content [32]byte, size int64) *receipts.Issued {
	return &receipts.Issued{ID: id, Month: month, MessageID: messageID, Digest: digest, Content: content, Size: size,
		Included: &receipts.Included{Source: contentOf(id.Transaction(), month), Length: size}}
}

// contentOf names the octets that a transaction took in.
func contentOf(tx [16]byte, month uint16) receipts.Source {
	return receipts.Source{ID: record.MakeID(tx, 0, 0), Month: month}
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
	return &envelope{message: e, kept: receipts.Source{Issued: true, ID: e.ID}, signed: signed, facts: signed.Certification.Facts()}, nil
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

// receive takes an envelope of ours in charge for recipients of ours and delivers it
// (RFC 6109 §3.2.1, §3.3). b holds what the Access Point issued. It is stored and
// recorded together with what is issued here, in this order, because nobody sees the
// one or the other before: between two providers the envelope would go out first.
// out goes out with the first stage; the acceptance is its first.
func (p *Pipeline) receive(ctx context.Context, t *task, s *submission, b *batch, issuedEnvelope *receipts.Issued, out []notice) error {
	var at moment // the Incoming Point's one time reading
	noted := make(chan error, 1)
	var noting sync.WaitGroup
	defer noting.Wait() // also when the check panics: the next run must see the note or its absence
	if done, err := t.noted("received", &at); err != nil {
		return err
	} else if done {
		noted <- nil
	} else {
		if at, err = p.nowOr(t, record.MakeID(s.Incoming, stepReceived, 0)); err != nil {
			return err
		}
		// Durable before anything that tells of it is, while the envelope is
		// being checked.
		noting.Go(func() { noted <- p.note(t, "received", at) })
	}
	env, err := p.checkEnvelope(t, issuedEnvelope, at)
	if err != nil {
		p.metrics.Alarms.Add(1)
	}
	if err = errors.Join(err, <-noted); err != nil {
		return err
	}
	tx := pec.Transaction{ID: s.Incoming, Time: at.Time}

	var (
		taken  []string // every recipient of ours, existing or not
		places []uint32
	)
	for i, r := range s.Recipients {
		if !slices.Contains(s.Remote, i) {
			taken, places = append(taken, r.Address), append(places, uint32(i))
		}
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
	s.isAccepted(t)
	weight, err := s.weight(p)
	if err != nil {
		return err
	}
	// The first stage also carries what goes out and the take-charge, so that they
	// share its syncs.
	out = slices.Insert(out, 1, notice{&placement{mailbox: p.composer.Provider.ServiceAddress, message: takeCharge.Issued, bypassQuota: true}, record.MakeID(s.Incoming, stepTakeChargeNotified, 0)})
	env.to, env.cc = s.Facts.To, s.Facts.Cc
	d := &delivery{p: p, t: t, env: env, tx: s.Incoming, begun: s.Moment.Time, recipients: taken, places: places, notices: out, about: func() *record.Record {
		return s.record(p, record.NotificationDelivered, env.facts.EnvelopeID)
	}}
	return d.run(ctx, stageOf(weight))
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
