package mta

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"scripta/mta/pec"
	"scripta/register"
	"scripta/register/record"
)

// Incoming says how the Incoming Point judges what comes in.
type Incoming struct {
	Roots      *x509.CertPool // of other providers' signing certificates, and ours
	AllowSHA1  bool           // signatures under SHA-1 count, and it is recorded
	Revocation RevocationPolicy
	Revoked    RevocationChecker         // who is asked, unless the policy is off
	Ordinary   func(address string) bool // whether a mailbox takes ordinary mail; nil: none does
	Resolver   SenderResolver            // asked about the senders of ordinary mail; nil: nobody is
	Spam       SpamScorer                // scores ordinary mail; nil: nobody does
	// SpamLimit is the score from which on a mailbox wants no ordinary mail; ok is
	// false for one that wants all of it. nil: all want all of it.
	SpamLimit func(address string) (limit int, ok bool)
}

// takeIn takes a message that came in on the port of other mail servers: it reads
// it once from r, sealing its octets as they come and following its signature, and
// returns what became of it when it is safe. It returns nothing, and no error, for
// a message that came before. whole sees the outcome of reading and says whether
// the message counts. Nothing of what is refused is durable.
func (p *Pipeline) takeIn(ctx context.Context, r io.Reader, m transit, whole func(error) error) (*reception, error) {
	a, err := p.arrive()
	if err != nil {
		return nil, err
	}
	rec, err := p.judge(ctx, a, r, &m, whole)
	if rec != nil {
		defer rec.settled()
	}
	if err != nil || rec == nil || len(rec.Recipients) == 0 {
		a.refuse()
		return nil, err
	}
	err = a.settle(ctx, func(at moment) work {
		rec.Moment, rec.id = at, fmt.Sprintf("%x", a.id)
		return rec
	})
	var doubt *inDoubt
	if errors.As(err, &doubt) && rec.coming != nil {
		rec.coming.doubt() // until its first record is in the log, which carry sees
	}
	if err != nil {
		return nil, err
	}
	return rec, nil
}

// settled lets others take the same message, which they will find, unless it is
// not known yet whether they can.
func (r *reception) settled() {
	if r.coming != nil {
		r.coming.end(false)
	}
}

// judge reads a message and decides everything about it but its time. Nobody else
// takes the same certified message until settled is called. When it came before,
// there are no recipients left.
func (p *Pipeline) judge(ctx context.Context, a *arrival, r io.Reader, m *transit, whole func(error) error) (rec *reception, err error) {
	s, err := pec.ReadSigned(io.TeeReader(r, a.content), pec.DefaultLimits())
	if err = whole(err); err != nil {
		return nil, err
	}
	if s.Size == 0 {
		return nil, replyEmpty
	}
	v, err := p.classify(ctx, s, m.from, m.to, a.at)
	if err != nil {
		return nil, err
	}
	rec = newReception(s, v, m, uint16(a.month))
	switch v.class {
	case isEnvelope, isNotification:
		rec.Certification, rec.Original = s.Certification, s.Original
		rec.Certification.Provider = rec.Provider // as the index writes it
		rec.Vouched = p.vouched(v, s.Certification)
		if rec.coming, err = p.coming.begin(ctx, string(rec.Message.Content)); err == nil {
			err = p.dropKnown(ctx, rec, a.at)
		}
		if err == nil && len(rec.Recipients) == 0 {
			return rec, nil
		}
		if err == nil && v.class == isNotification {
			err = p.roomFor(rec)
		}
		if err == nil && p.providerOnly(rec) {
			p.rates.Provider(m.peer.Address, time.Now())
		}
	case isMalformed:
		err = p.narrow(ctx, rec, m, func(string) bool { return true })
	default:
		var bounced []string
		if bounced, err = p.bounced(ctx, a, rec, m); err == nil {
			err = p.narrow(ctx, rec, m, func(to string) bool { return slices.Contains(bounced, to) })
		}
	}
	if err != nil {
		return rec, err
	}
	weight, err := rec.weight(p, a.id)
	if err == nil && weight > maxFacts {
		err = replyFactsTooBig
	}
	if err == nil {
		rec.inspection, err = p.inspect(ctx, a.content, a.id, uint16(a.month))
	}
	if err == nil && rec.infected() && v.class == isOrdinary { // it never enters the PEC network (RFC 6109 §2.2.2)
		p.log.Info("infected ordinary mail is refused", "virus", rec.Virus.Virus)
		err = replyInfected
	}
	if err == nil {
		err = p.score(ctx, a, rec, m)
	}
	if err == nil {
		err = p.authenticate(ctx, a, rec)
	}
	return rec, err
}

// newReception is what is decided of any message.
func newReception(s *pec.Signed, v *verdict, m *transit, month uint16) *reception {
	r := &reception{Kind: kindReception, Class: v.class, ContentMonth: month, From: m.from, Helo: m.helo, Recipients: m.to, Reason: v.reason, Detail: v.detail(), Peer: m.peer,
		Message: received{MessageID: s.MessageID, Kind: s.Kind, From: s.From, To: s.To, Cc: s.Cc, Subject: s.Subject, Digest: s.Digest[:], Size: s.Size}}
	if v.signer != nil {
		r.Provider, r.Service = v.signer.Name, v.signer.ServiceAddress
		if r.Service == "" && len(v.cert.EmailAddresses) > 0 {
			r.Service = v.cert.EmailAddresses[0] // the index lacks it
		}
	}
	if content, ok := s.ContentDigest(crypto.SHA256); ok {
		r.Message.Content = content
	}
	return r
}

// vouched are the recipients that a notification is about whose own provider
// signed it: a receipt of anybody else says nothing about them.
func (p *Pipeline) vouched(v *verdict, c *pec.CertificationData) []string {
	index := p.index()
	return slices.DeleteFunc(slices.Clone(notified(c)), func(a string) bool { return !index.SignsFor(v.cert, a) })
}

// roomFor refuses a notification for a mailbox without room, unless the mailbox is the
// author's, whom it answers, or a provider's: these get theirs always, and nobody else
// can be made to keep, beyond his quota, what somebody once received.
func (p *Pipeline) roomFor(rec *reception) error {
	index := p.index()
	for _, a := range rec.Recipients {
		_, service := index.OfServiceAddress(a)
		if service || pec.SameAddress(a, rec.Certification.Sender) {
			continue
		}
		if err := p.mayReach(a, rec.Message.Size, true); err != nil && !errors.Is(err, replyNoMailbox) {
			return err
		}
	}
	return nil
}

// providerOnly says whether a message that did not come before can have come from a
// provider alone: others have, and may send again, what providers signed for them. It
// is a new envelope, or a receipt that a message of ours waits for.
func (p *Pipeline) providerOnly(rec *reception) bool {
	return rec.Class == isEnvelope || len(rec.Vouched) > 0 && p.dispatches.ofEnvelope(rec.Certification.EnvelopeID) != nil
}

// bounced are the recipients who are the authors of the envelope of ours that a
// message with the null reverse path is a bounce of.
func (p *Pipeline) bounced(ctx context.Context, a *arrival, rec *reception, m *transit) ([]string, error) {
	if m.from != "" {
		return nil, nil
	}
	c, err := a.content.Written(a.id, uint16(a.month))
	if err != nil {
		return nil, err
	}
	of, envelope, err := p.bounceOf(ctx, io.NewSectionReader(c, 0, c.Size()), m.to)
	if err = errors.Join(err, c.Close()); err == nil && len(of) > 0 {
		rec.Reason = pec.AnomalyUnsupported
		rec.Detail = append(rec.Detail, record.Pair{Name: "about", Value: envelope})
	}
	return of, err
}

// narrow leaves of a message's recipients those whom an anomaly envelope may
// reach: those that exist and accept ordinary mail, or get it always: because a
// provider signed it, or because it is a bounce of what they sent. It is an error
// when there is none. Where others get it, so does a mailbox that had room for some
// message but has not for this one: its sender could not be told.
func (p *Pipeline) narrow(ctx context.Context, rec *reception, m *transit, always func(to string) bool) error {
	var left, tight, refused []string
	var last error
	for _, a := range m.to {
		err := p.mayReach(a, rec.Message.Size, always(a))
		if errors.Is(err, replyMailboxFull) && p.mayReach(a, 0, always(a)) == nil {
			tight = append(tight, a)
		}
		switch {
		case err == nil:
			left = append(left, a)
			continue
		case errors.Is(err, replyOrdinary):
			refused = append(refused, a)
		case !errors.Is(err, replyNoMailbox) && !errors.Is(err, replyMailboxFull):
			return err
		}
		last = err
	}
	if rec.Recipients = left; len(left) > 0 {
		rec.Recipients = append(rec.Recipients, tight...)
		if len(refused) > 0 {
			p.ordinaryRefused(ctx, m, replyOrdinary, rec.Message.Subject, refused...)
		}
		return nil
	}
	if len(refused) > 0 {
		p.ordinaryRefused(ctx, m, replyOrdinary, rec.Message.Subject, refused...)
		return replyNotCertified
	}
	return last
}

// duplicateTerm is how long ago a message may have come that comes again: its
// sender gives up after a day, and a backup of his queue is not restored for ever.
const duplicateTerm = 31 * 24 * time.Hour

// dropKnown takes the recipients off a certified message for whom it came before:
// its sender got no 250 for it, or lost that. The key is the signed entity and the
// recipient: of a notification the Message-ID is in no signed part, and anybody who
// has it could send it under others again and again.
func (p *Pipeline) dropKnown(ctx context.Context, r *reception, at time.Time) error {
	q := register.Query{MessageID: r.Certification.EnvelopeID, From: at.Add(-duplicateTerm)}
	kind := record.Received
	if r.Class == isNotification {
		kind = record.NotificationReceived
		q.Mailbox, q.Kinds = r.Certification.Facts().Sender, []record.Kind{kind}
		if about := notified(r.Certification); len(about) > 0 { // of its many recipients
			q.Mailbox = about[0]
		}
	}
	known := map[string]bool{}
	err := p.register.Search(ctx, q, at.Add(time.Hour), func(f *register.Found) bool {
		if f.Record.Kind != kind || string(f.Record.Content) != string(r.Message.Content) {
			return true
		}
		for _, a := range transactionOfRecord(f.Record) {
			known[pec.NormalizeAddress(a)] = true
		}
		return true
	})
	if err != nil {
		return err
	}
	r.Recipients = slices.DeleteFunc(slices.Clone(r.Recipients), func(a string) bool { return known[pec.NormalizeAddress(a)] })
	return nil
}

// mailboxesDetail names, in the record of a notification, the mailboxes it came
// for: the record is about the recipients that the notification is about.
const mailboxesDetail = "mailboxes"

// transactionOfRecord are the recipients of the SMTP transaction by which the
// message of a first record came.
func transactionOfRecord(r *record.Record) []string {
	if r.Kind != record.NotificationReceived {
		return r.About
	}
	for _, d := range r.Detail {
		if d.Name == mailboxesDetail {
			return strings.Split(d.Value, " ")
		}
	}
	return nil
}

// errComing says that the same message is under way, and it is not known yet
// whether it is safe.
var errComing = fmt.Errorf("mta: the same message came a moment ago, and is in doubt: %w", register.ErrBusy)

// comings keeps two transactions from taking the same message at once.
type comings struct {
	mu  sync.Mutex // guards what follows, and the fields of each coming
	all map[string]*coming
}

// coming is a message that one transaction is taking.
type coming struct {
	of       *comings
	key      string
	doubtful bool
	changed  chan struct{} // closed when it ends, or becomes doubtful
}

// begin waits until nobody else is taking the message with this key. It returns
// errComing when that may last.
func (c *comings) begin(ctx context.Context, key string) (*coming, error) {
	for {
		c.mu.Lock()
		x := c.all[key]
		if x == nil {
			if c.all == nil {
				c.all = map[string]*coming{}
			}
			x = &coming{of: c, key: key, changed: make(chan struct{})}
			c.all[key] = x
			c.mu.Unlock()
			return x, nil
		}
		doubtful := x.doubtful
		c.mu.Unlock()
		if doubtful {
			return nil, errComing
		}
		select {
		case <-x.changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// doubt says that it is not known whether the message is taken.
func (x *coming) doubt() {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	if x.of.all[x.key] == x && !x.doubtful {
		x.doubtful = true
		close(x.changed)
	}
}

// end lets the next one go on; one that is in doubt ends only for certain.
func (x *coming) end(certain bool) {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	if x.of.all[x.key] != x || x.doubtful && !certain {
		return
	}
	delete(x.of.all, x.key)
	if !x.doubtful {
		close(x.changed)
	}
}
