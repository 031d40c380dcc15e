package mta

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"scripta/mta/mailbox"
	"scripta/mta/pec"
	"scripta/mta/smtpd"
	"scripta/mta/spool"
	"scripta/register"
	"scripta/register/record"
)

// IncomingPoint is the SMTP backend of the port of other mail servers (punto di
// ricezione, RFC 6109 §2.2.2, §3.2).
type IncomingPoint struct {
	pipeline *Pipeline
	log      *slog.Logger

	mu   sync.Mutex // guards busy
	busy map[*smtpd.Conn]*atomic.Bool
}

// NewIncomingPoint makes the Incoming Point of a pipeline.
func NewIncomingPoint(p *Pipeline, log *slog.Logger) *IncomingPoint {
	return &IncomingPoint{pipeline: p, log: log, busy: map[*smtpd.Conn]*atomic.Bool{}}
}

// Busy reports whether a connection is handing in a message now.
func (i *IncomingPoint) Busy(c *smtpd.Conn) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	b := i.busy[c]
	return b != nil && b.Load()
}

// NewSession implements [smtp.Backend].
func (i *IncomingPoint) NewSession(c *smtp.Conn) (smtp.Session, error) {
	conn, ok := c.Conn().(*smtpd.Conn)
	if !ok {
		return nil, replyUnforeseen
	}
	s := &incomingSession{point: i, p: i.pipeline, conn: conn, smtp: c, log: i.log.With("peer", conn.RemoteAddr().String())}
	i.mu.Lock()
	i.busy[conn] = &s.busy
	i.mu.Unlock()
	i.pipeline.metrics.Connections.Add(1)
	return s, nil
}

// incomingSession is one connection's dialog; go-smtp calls it from one goroutine.
type incomingSession struct {
	point  *IncomingPoint
	p      *Pipeline
	conn   *smtpd.Conn
	smtp   *smtp.Conn
	log    *slog.Logger
	mail   transit
	seen   map[string]bool // of mail.to, normalized
	octets int             // of mail.to
	bare   atomic.Bool     // a message with bare controls came, or one that was given up between chunks; what was read ahead behind it is not looked at
	busy   atomic.Bool
	closed bool
	open   bool // a transaction has begun
}

// transit is how a message travels: its SMTP transaction.
type transit struct {
	from      string // reverse path; "" is the null one
	helo      string
	to        []string // recipients of ours, each once
	certified bool     // from is an address of the PEC network, as far as it says
	peer      record.Peer
}

// Reset implements [smtp.Session].
func (s *incomingSession) Reset() {
	if s.conn.Chunked() {
		s.bare.Store(true)
	}
	s.mail, s.seen, s.octets, s.open = transit{}, nil, 0, false
}

// Logout implements [smtp.Session].
func (s *incomingSession) Logout() error {
	s.point.mu.Lock()
	defer s.point.mu.Unlock()
	if !s.closed {
		s.closed = true
		delete(s.point.busy, s.conn)
		s.p.metrics.Connections.Add(-1)
	}
	return nil
}

// Mail implements [smtp.Session]. Nobody comes here with an address of this
// provider: its users hand in at the Access Point.
func (s *incomingSession) Mail(from string, _ *smtp.MailOptions) error {
	switch {
	case s.bare.Load():
		return s.refused(replyBareBefore)
	case s.open: // RFC 5321 §4.1.4; its recipients were taken under another sender
		return s.refused(replyNested)
	case from != "" && !plainAddress(from):
		return s.refused(replyBadAddress)
	case s.p.ours(from):
		return s.refused(replyOwnSender)
	}
	if err := s.p.rates.Transaction(s.conn.RemoteAddr().String(), time.Now()); err != nil {
		return s.refused(replyFor(err, s.log))
	}
	if err := s.p.room(); err != nil {
		return s.refused(replyFor(err, s.log))
	}
	s.open = true
	s.mail = transit{from: from, helo: s.smtp.Hostname(), peer: peerOf(s.conn), certified: s.p.certified(from)}
	return nil
}

// certified says whether an address is one of the PEC network: of a domain of the
// index, a provider's for receipts, or the one that it signs with, which receipts
// come from, and which need not be of a domain that it manages.
func (p *Pipeline) certified(address string) bool {
	index := p.index()
	if _, ok := index.OfAddress(address); ok {
		return true
	}
	if _, ok := index.OfServiceAddress(address); ok {
		return true
	}
	for _, e := range index.Entries() {
		for _, c := range e.Certificates {
			if signedBy(c, address) {
				return true
			}
		}
	}
	return false
}

// Rcpt implements [smtp.Session]. From the PEC network every recipient of ours is
// taken: whether the mailbox exists and has room, a non-delivery tells (RFC 6109
// §3.3.3). Of what a bounce is about the message tells. For anything else the
// answer is given here, so that its sender gets it from his own server.
func (s *incomingSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	switch {
	case !plainAddress(to):
		return s.refused(replyBadAddress)
	case !s.p.ours(to):
		return s.refused(replyNoRelay)
	}
	key := pec.NormalizeAddress(to)
	if s.seen[key] {
		return nil
	}
	if s.octets+len(to) > maxFacts/2 {
		return s.refused(replyTooManyRcpt)
	}
	if !s.mail.certified {
		if err := s.p.mayReach(to, 0, s.mail.from == ""); err != nil {
			if errors.Is(err, replyOrdinary) {
				s.p.ordinaryRefused(context.Background(), &s.mail, replyOrdinary, "", to)
			}
			return s.refused(replyFor(err, s.log))
		}
	}
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	s.seen[key] = true
	s.octets += len(to)
	s.mail.to = append(s.mail.to, to)
	return nil
}

// mayReach says why mail of a size that is not certified cannot reach a mailbox.
// always says that the mailbox's switch does not count: for what a provider signed,
// and at first for bounces, which may be of our own envelopes.
func (p *Pipeline) mayReach(to string, size int64, always bool) error {
	if err := p.admits(to, size); errors.Is(err, mailbox.ErrNoMailbox) || errors.Is(err, mailbox.ErrAddress) {
		return replyNoMailbox
	} else if errors.Is(err, mailboxFull) {
		return replyMailboxFull
	} else if err != nil {
		return err
	}
	if !always && !p.incoming.Ordinary(to) {
		return replyOrdinary
	}
	return nil
}

// Data implements [smtp.Session]. It returns nil, answered by 250, only when the
// message is safe.
func (s *incomingSession) Data(r io.Reader) error {
	s.busy.Store(true)
	defer s.busy.Store(false)
	defer s.conn.EndChunks()
	taken, err := s.p.takeIn(context.Background(), r, s.mail, func(err error) error { return wholeMessage(s.conn, &s.bare, err) })
	if err != nil {
		return s.refused(replyFor(err, s.log))
	}
	if taken == nil {
		s.p.metrics.Duplicates.Add(1)
		s.log.Info("a message that came before is dropped")
		return nil
	}
	s.p.metrics.Received.Add(1)
	s.log.Info("message received", "tx", taken.id, "class", taken.Class, "provider", taken.Provider, "size", taken.Message.Size, "recipients", len(taken.Recipients))
	return nil
}

func (s *incomingSession) refused(err error) error {
	s.p.metrics.IncomingRefused.Add(1)
	return err
}

// wholeMessage judges the outcome of reading a message: err, or why it does not
// count as whole. bare is set when what was read ahead behind it must not be
// looked at.
func wholeMessage(c *smtpd.Conn, bare *atomic.Bool, err error) error {
	switch {
	case c.TakeBare() && !errors.Is(err, smtp.ErrDataTooLarge):
		bare.Store(true)
		return replyBareControl
	case err == nil && c.Broken(): // BDAT cut short looks like the end of the message
		return replyCutShort
	}
	return err
}

// peerOf describes a connection for the record.
func peerOf(c *smtpd.Conn) record.Peer {
	p := record.Peer{Address: c.RemoteAddr().String()}
	if state, ok := c.TLS(); ok {
		p.TLS, p.Cipher = tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite)
		if len(state.PeerCertificates) > 0 {
			sum := sha256.Sum256(state.PeerCertificates[0].Raw)
			p.Certificate = sum[:]
		}
	}
	return p
}

// refusalsAnHour bounds the records of refused ordinary mail of one mailbox, so
// that nobody fills the register by knocking; the metric counts all.
const refusalsAnHour = 60

// refusals counts the records of refused ordinary mail by mailbox.
type refusals struct {
	mu    sync.Mutex // guards what follows
	since time.Time
	of    map[string]int
}

// more says whether another refusal of a mailbox is recorded.
func (r *refusals) more(mailbox string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil || now.Sub(r.since) >= time.Hour {
		r.since, r.of = now, map[string]int{}
	}
	r.of[mailbox]++
	return r.of[mailbox] <= refusalsAnHour
}

// ordinaryRefused records that ordinary mail for mailboxes was refused, and why. The answer
// does not wait for good luck: a record that cannot be made now is only logged.
func (p *Pipeline) ordinaryRefused(ctx context.Context, m *transit, why *smtp.SMTPError, subject string, mailboxes ...string) {
	p.metrics.OrdinaryRefused.Add(uint64(len(mailboxes)))
	at, err := p.now()
	if err != nil {
		return // the message is refused for that, too
	}
	var tx spool.ID
	rand.Read(tx[:])
	index := p.index()
	var all []register.Entry
	for i, a := range mailboxes {
		if !p.refusals.more(pec.NormalizeAddress(a), at.Time) {
			continue
		}
		_, certified := index.OfAddress(a)
		step := pec.Transaction{ID: tx, Time: at.Time}.Issue(stepOrdinaryRefused, uint32(i))
		all = append(all, register.Entry{ID: record.MakeID(tx, stepOrdinaryRefused, uint32(i)), Record: &record.Record{Kind: record.OrdinaryRefused, Time: at.Time,
			MessageID: trimID(step.MessageID(p.composer.Provider)), Sender: m.from, Recipients: []record.Recipient{{Address: a, Certified: certified}}, Subject: subject,
			About: []string{a}, Outcome: record.Outcome{Code: "5.7.1", Text: why.Message}, Peer: m.peer, Detail: at.detail()}})
	}
	if len(all) == 0 {
		return
	}
	if _, err := p.register.Append(ctx, all...); err != nil {
		p.log.Warn("a refusal of ordinary mail could not be recorded", "err", err)
	}
}
