package mta

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"scripta/internal/logins"
	"scripta/mta/mailbox"
	"scripta/mta/pec"
	"scripta/mta/smtpd"
)

// Authenticator knows the accounts (mta/mailbox).
type Authenticator interface {
	Verify(ctx context.Context, login, password string) (bool, error)
	Has(login string) bool
	// MayLogin says of an account that logged in before whether it still may.
	MayLogin(login string) bool
	// MaySend says of one that may log in whether it also may send.
	MaySend(login string) bool
}

// AccessPoint is the SMTP backend by which authenticated users hand messages in
// (punto di accesso, RFC 6109 §3.1).
type AccessPoint struct {
	pipeline   *Pipeline
	auth       Authenticator
	logins     *logins.Limiter
	perAccount int
	log        *slog.Logger

	mu       sync.Mutex     // guards what follows
	accounts map[string]int // connections by account
	busy     map[*smtpd.Conn]*atomic.Bool
}

// maxAuthFailures is how often a connection may fail to authenticate.
const maxAuthFailures = 3

// NewAccessPoint makes the Access Point of a pipeline. limiter counts wrong
// passwords, perAccount bounds the connections of one account at once.
func NewAccessPoint(p *Pipeline, auth Authenticator, limiter *logins.Limiter, perAccount int, log *slog.Logger) *AccessPoint {
	return &AccessPoint{pipeline: p, auth: auth, logins: limiter, perAccount: perAccount, log: log, accounts: map[string]int{}, busy: map[*smtpd.Conn]*atomic.Bool{}}
}

// Busy reports whether a connection is handing in a message now.
func (a *AccessPoint) Busy(c *smtpd.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.busy[c]
	return b != nil && b.Load()
}

// NewSession implements [smtp.Backend].
func (a *AccessPoint) NewSession(c *smtp.Conn) (smtp.Session, error) {
	conn, ok := c.Conn().(*smtpd.Conn)
	if !ok {
		return nil, replyUnforeseen
	}
	s := &session{point: a, conn: conn, remote: conn.RemoteAddr().String(), log: a.log.With("peer", conn.RemoteAddr().String())}
	a.mu.Lock()
	a.busy[conn] = &s.busy
	a.mu.Unlock()
	a.pipeline.metrics.Connections.Add(1)
	return s, nil
}

// session is one connection's dialog; go-smtp calls it from one goroutine.
type session struct {
	point    *AccessPoint
	conn     *smtpd.Conn
	remote   string // the client's address and port
	log      *slog.Logger
	user     string // authenticated address, "" before
	failures int
	sender   string
	rcpt     []string
	seen     map[string]bool
	octets   int         // of rcpt
	crowded  bool        // more recipients came than any message can have: DATA is refused
	bare     atomic.Bool // a message with bare controls came, or one that was given up between chunks; what was read ahead behind it is not looked at
	busy     atomic.Bool
	closed   bool
}

// AuthMechanisms implements [smtp.AuthSession].
func (s *session) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Auth implements [smtp.AuthSession].
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	switch mechanism {
	case sasl.Plain:
		return sasl.NewPlainServer(func(identity, username, password string) error {
			if identity != "" && !pec.SameAddress(identity, username) {
				return replyAuthFailed
			}
			return s.authenticate(username, password)
		}), nil
	case sasl.Login:
		return &loginServer{authenticate: s.authenticate}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

func (s *session) authenticate(username, password string) error {
	if s.failures >= maxAuthFailures {
		return replyTooManyAuths
	}
	try, wait := s.point.logins.Begin(s.remote, strings.ToLower(username), time.Now())
	if wait > 0 {
		s.point.pipeline.metrics.AuthSlowed.Add(1)
		return replyTooManyAuths
	}
	ok, err := s.point.auth.Verify(context.Background(), username, password)
	suspended := errors.Is(err, mailbox.ErrSuspended)
	if err != nil && !suspended {
		try.Forgive(false, time.Now())
		return replyFor(err, s.log)
	}
	if !ok {
		s.failures++
		s.point.pipeline.metrics.AuthFailures.Add(1)
		account := strings.ToLower(username)
		if !s.point.auth.Has(account) {
			account = "" // it may be a password in the wrong place
		}
		s.log.Info("authentication failed", "account", account, "suspended", suspended)
		if suspended {
			return replySuspended
		}
		return replyAuthFailed
	}
	try.Forgive(true, time.Now())
	user := strings.ToLower(username)
	s.point.mu.Lock()
	defer s.point.mu.Unlock()
	if s.point.accounts[user] >= s.point.perAccount {
		return replyTooManyLogins
	}
	s.point.accounts[user]++
	s.user = user
	return nil
}

// Reset implements [smtp.Session].
func (s *session) Reset() {
	if s.conn.Chunked() {
		s.bare.Store(true)
	}
	s.sender, s.rcpt, s.seen, s.octets, s.crowded = "", nil, nil, 0, false
}

// Logout implements [smtp.Session].
func (s *session) Logout() error {
	a := s.point
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	delete(a.busy, s.conn)
	if s.user != "" {
		if a.accounts[s.user]--; a.accounts[s.user] == 0 {
			delete(a.accounts, s.user)
		}
	}
	a.pipeline.metrics.Connections.Add(-1)
	return nil
}

// Mail implements [smtp.Session]. An address comes without its quotes, so that
// what was <" mario"@domain> begins with a space and compares as the account's. It
// must be plain, too: then it differs from the account's by case alone.
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	switch {
	case s.bare.Load():
		return s.refused(replyBareBefore)
	case s.user == "":
		return s.refused(replyAuthRequired)
	case s.sender != "": // RFC 5321 §4.1.4; its recipients would get this message, too
		return s.refused(replyNested)
	case !s.point.auth.MayLogin(s.user): // suspended or closed since
		return s.refused(replySuspended)
	case !s.point.auth.MaySend(s.user):
		return s.refused(replySendingSuspended)
	case !pec.SameAddress(from, s.user):
		return s.refused(replyNotOwner)
	case !plainAddress(from):
		return s.refused(replyBadAddress)
	}
	if err := s.point.pipeline.rates.Begin(s.user, time.Now()); err != nil {
		return s.refused(replyFor(err, s.log))
	}
	if err := s.point.pipeline.room(); err != nil {
		return s.refused(replyFor(err, s.log))
	}
	s.sender = from
	return nil
}

// Rcpt implements [smtp.Session]. A recipient given twice counts once.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !plainAddress(to) {
		return s.refused(replyBadAddress)
	}
	if _, certified := s.point.pipeline.index().OfAddress(to); !certified && !s.point.pipeline.ordinary {
		return s.refused(replyNoRelay)
	}
	key := pec.NormalizeAddress(to)
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	if s.seen[key] || s.crowded {
		return nil
	}
	if s.octets += len(to); s.octets > maxFacts {
		s.crowded, s.rcpt, s.seen = true, nil, map[string]bool{}
		return nil
	}
	s.seen[key] = true
	s.rcpt = append(s.rcpt, to)
	return nil
}

// plainAddress accepts what can be an address of this provider: printable ASCII,
// one @, no quoting.
func plainAddress(a string) bool {
	if len(a) > 254 || !utf8.ValidString(a) || strings.Count(a, "@") != 1 {
		return false
	}
	for i := range len(a) {
		if c := a[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"\<>()[],;:`, c) >= 0 {
			return false
		}
	}
	return a[0] != '@' && a[len(a)-1] != '@'
}

// Data implements [smtp.Session]. It returns nil, answered by 250, only when the
// message is safe.
func (s *session) Data(r io.Reader) error {
	s.busy.Store(true)
	defer s.busy.Store(false)
	defer s.conn.EndChunks()
	if err := s.data(r); err != nil {
		return s.refused(replyFor(err, s.log))
	}
	s.point.pipeline.metrics.Accepted.Add(1)
	return nil
}

func (s *session) refused(err error) error {
	s.point.pipeline.metrics.Refused.Add(1)
	return err
}

func (s *session) data(r io.Reader) error {
	if s.crowded {
		return replyFactsTooBig
	}
	// More recipients than a message may have get nothing.
	grant, err := s.point.pipeline.rates.Message(s.user, min(len(s.rcpt), s.point.pipeline.limits.Recipients), time.Now())
	if err != nil {
		return err
	}
	sub, err := s.point.pipeline.handIn(context.Background(), r, s.sender, s.rcpt, s.user, peerOf(s.conn), func(err error) error {
		if err = wholeMessage(s.conn, &s.bare, err); err == nil && !s.point.auth.MaySend(s.user) { // suspended while the message came
			return replySendingSuspended
		}
		return err
	})
	if err != nil {
		grant.Refund(time.Now())
		return err
	}
	log := s.log.With("tx", sub.id, "size", sub.Facts.Size, "recipients", len(s.rcpt))
	if sub.infected() {
		return nil // its author gets the notice
	}
	if len(sub.Reasons) == 0 {
		log.Info("message accepted")
		return nil
	}
	log.Info("message not accepted: its author gets the notice", "reasons", len(sub.Reasons))
	log.Debug("why a message is not accepted", "reasons", joinReasons(sub.Reasons)) // with addresses
	return nil
}

// loginServer is the server's side of AUTH LOGIN, which some clients still need.
type loginServer struct {
	username     string
	asked        int
	authenticate func(username, password string) error
}

// Next implements [sasl.Server].
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil && l.asked == 0 {
		l.asked = 1
		return []byte("Username:"), false, nil
	}
	if l.asked < 2 {
		l.username, l.asked = string(response), 2
		return []byte("Password:"), false, nil
	}
	return nil, true, l.authenticate(l.username, string(response))
}
