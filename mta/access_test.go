package mta

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"scripta/internal/durable"
	"scripta/internal/logins"
	"scripta/mta/smtpd"
)

// everybody is who he says he is.
type everybody struct{}

func (everybody) Verify(context.Context, string, string) (bool, error) { return true, nil }
func (everybody) Has(string) bool                                      { return true }
func (everybody) MayLogin(string) bool                                 { return true }
func (everybody) MaySend(string) bool                                  { return true }

func newSession(t *testing.T) *session {
	t.Helper()
	p, err := newWorld(t).begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.end(); err != nil {
			t.Error(err)
		}
	})
	log := slog.New(slog.DiscardHandler)
	return &session{conn: &smtpd.Conn{}, point: NewAccessPoint(p.Pipeline, everybody{}, logins.New(), 10, log), remote: "203.0.113.1:1", log: log, user: "mario@" + domain}
}

// Whoever is in the index of providers gets certified mail, whoever is not gets mail
// only where the provider sends to ordinary servers.
func TestWhoIsServed(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	for _, ordinary := range []bool{false, true} {
		s.point.pipeline.ordinary = ordinary
		for to, certified := range map[string]bool{"lucia@" + domain: true, "nobody@" + domain: true, rossi: true, bianchi: true, strings.ToUpper(bianchi): true, verdi: false, "x@sub." + domain: false} {
			s.Reset()
			if err := s.Mail("mario@"+domain, nil); err != nil {
				t.Fatal(err)
			}
			err := s.Rcpt(to, nil)
			if served := certified || ordinary; served && err != nil || !served && !errors.Is(err, replyNoRelay) {
				t.Errorf("ordinary %v: %s: %v", ordinary, to, err)
			}
		}
	}
}

// A reverse path comes without its quotes: <" mario"@domain> must not pass for
// the account, to whose mailbox nothing so addressed can be delivered.
func TestReversePath(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	for from, want := range map[string]*smtp.SMTPError{
		"mario@" + domain: nil, "MARIO@" + strings.ToUpper(domain): nil, "lucia@" + domain: replyNotOwner,
		" mario@" + domain: replyBadAddress, "mario@" + domain + " ": replyBadAddress, "\tmario@" + domain: replyBadAddress,
		"<mario@" + domain + ">": replyBadAddress, "mario @" + domain: replyNotOwner, "\"mario\"@" + domain: replyBadAddress, "": replyNotOwner,
	} {
		s.Reset()
		err := s.Mail(from, nil)
		if want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", from, err, want)
		}
		if err == nil && s.sender != from {
			t.Errorf("%q became %q", from, s.sender)
		}
	}
}

// Beyond what any message can have, recipients are not even kept; the message is
// then refused as a whole.
func TestCrowdedSession(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	if err := s.Mail("mario@"+domain, nil); err != nil {
		t.Fatal(err)
	}
	for i := 0; s.octets <= maxFacts; i++ {
		if err := s.Rcpt(fmt.Sprintf("%0200d@%s", i, domain), nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.rcpt) != 0 {
		t.Errorf("%d recipients are kept", len(s.rcpt))
	}
	if err := s.Rcpt("lucia@"+domain, nil); err != nil || len(s.rcpt) != 0 {
		t.Errorf("one more: %v, %q", err, s.rcpt)
	}
	if err := s.data(strings.NewReader("x")); !errors.Is(err, replyFactsTooBig) {
		t.Errorf("DATA: %v", err)
	}
	s.Reset()
	if err := s.Rcpt("lucia@"+domain, nil); err != nil || len(s.rcpt) != 1 {
		t.Errorf("after RSET: %v, %q", err, s.rcpt)
	}
}

// Behind a message with bare controls nothing is read on this connection: what
// was read ahead with it has not been looked at.
func TestNothingBehindBareControls(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.bare.Store(true)
	s.Reset()
	if err := s.Mail("mario@"+domain, nil); !errors.Is(err, replyBareBefore) {
		t.Errorf("MAIL: %v", err)
	}
}

// guesser knows one password and counts how often it is asked.
type guesser struct {
	everybody
	asked int
}

func (g *guesser) Verify(_ context.Context, _, password string) (bool, error) {
	g.asked++
	return password == "segreta", nil
}

// Guessing is slowed by address and account, over as many connections as a
// guesser makes; where its holder was let in before he still is.
func TestGuessingOverManyConnections(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	g := new(guesser)
	s.point.auth = g
	from := func(remote, password string) error {
		return (&session{point: s.point, remote: remote, log: s.log}).authenticate("mario@"+domain, password)
	}
	if err := from("203.0.113.1:1", "segreta"); err != nil {
		t.Fatal(err)
	}
	for i := range logins.AddressBurst {
		if err := from(fmt.Sprintf("198.51.100.1:%d", i), "x"); !errors.Is(err, replyAuthFailed) {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	asked := g.asked
	if err := from("198.51.100.1:9", "segreta"); !errors.Is(err, replyTooManyAuths) || g.asked != asked {
		t.Errorf("one more from this address: %v, %d passwords checked", err, g.asked-asked)
	}
	for i := range logins.AccountBurst {
		_ = from(fmt.Sprintf("192.0.2.%d:1", i), "x")
	}
	if err := from("192.0.2.200:1", "segreta"); !errors.Is(err, replyTooManyAuths) {
		t.Errorf("from a new address after so many: %v", err)
	}
	if err := from("203.0.113.1:2", "segreta"); err != nil {
		t.Errorf("the holder at home: %v", err)
	}
}
