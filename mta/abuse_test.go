package mta

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"scripta/mta/rates"
)

func TestAbused(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	p := s.point.pipeline
	p.rates = rates.New(rates.Limits{InfectedPerDay: 3})
	var asked []string
	fails, sends := errors.New("the disk is full"), true
	p.suspend = func(_ context.Context, account, _ string) (bool, error) {
		asked = append(asked, account)
		if fails != nil {
			return false, fails
		}
		could := sends
		sends = false
		return could, nil
	}
	for range 2 {
		p.abused(t.Context(), "mario@"+domain)
	}
	p.abused(t.Context(), "") // nobody's
	if len(asked) != 0 {
		t.Errorf("suspended below the limit: %q", asked)
	}
	p.abused(t.Context(), "Mario@"+domain)
	if m := p.Metrics(); len(asked) != 1 || m.Alarms.Load() != 1 || m.Suspended.Load() != 0 {
		t.Errorf("a suspension that failed: %q, %d alarms, %d suspended", asked, m.Alarms.Load(), m.Suspended.Load())
	}
	fails = nil
	for range 2 { // it is tried again, and counts once
		p.abused(t.Context(), "mario@"+domain)
	}
	if m := p.Metrics(); len(asked) != 3 || m.Alarms.Load() != 1 || m.Suspended.Load() != 1 || m.Abused.Load() != 6 {
		t.Errorf("%q, %d alarms, %d suspended, %d messages", asked, m.Alarms.Load(), m.Suspended.Load(), m.Abused.Load())
	}
}

// mute may log in, and not send.
type mute struct{ everybody }

func (mute) MaySend(string) bool { return false }

func TestMaySend(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.point.auth = mute{}
	if err := s.Mail("mario@"+domain, nil); !errors.Is(err, replySendingSuspended) {
		t.Errorf("MAIL: %v", err)
	}
}

// Who is over a limit hears which one, and what was refused for another reason
// cost nothing.
func TestOverALimit(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.point.pipeline.rates = rates.New(rates.Limits{MessagesPerHour: 1})
	s.crowded = true
	if err := s.data(nil); !errors.Is(err, replyFactsTooBig) {
		t.Errorf("crowded: %v", err)
	}
	s.Reset()
	if err := s.Mail("mario@"+domain, nil); err != nil {
		t.Error("a refused message counts: ", err)
	}
	if _, err := s.point.pipeline.rates.Message(s.user, 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	for at, err := range map[string]error{"MAIL": s.Mail("mario@"+domain, nil), "DATA": s.Data(nil)} {
		var said *smtp.SMTPError
		if !errors.As(err, &said) || said.Code != 451 || said.EnhancedCode != (smtp.EnhancedCode{4, 7, 1}) ||
			!strings.HasPrefix(said.Message, "Troppi messaggi di questa casella in un'ora, riprovare tra 6") {
			t.Errorf("%s: %v", at, err)
		}
	}
}
