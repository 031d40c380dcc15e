package mta

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"syscall"
	"testing"

	"github.com/emersion/go-smtp"

	"scripta/internal/durable"
	"scripta/mta/pec"
	"scripta/register/record"
)

func TestOutcomes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.end(); err != nil {
			t.Error(err)
		}
	}()
	at := func(local string) string { return local + "@" + domain }
	to := func(locals ...string) string {
		all := make([]string, len(locals))
		for i, l := range locals {
			all[i] = at(l)
		}
		return "To: " + strings.Join(all, ", ") + "\r\nSubject: prova\r\n"
	}
	for _, x := range []struct {
		name, header string
		recipients   []string
		want         map[record.Kind]int // but for submitted and notifications
	}{
		{"unknown", to("nessuno"), []string{at("nessuno")}, map[record.Kind]int{record.AcceptanceIssued: 1, record.Enveloped: 1, record.Received: 1, record.TakeChargeIssued: 1, record.NonDeliveryIssued: 1}},
		{"full", to("piena"), []string{at("piena")}, map[record.Kind]int{record.AcceptanceIssued: 1, record.Enveloped: 1, record.Received: 1, record.TakeChargeIssued: 1, record.NonDeliveryIssued: 1}},
		{"mixed", to("lucia", "nessuno", "mario"), []string{at("lucia"), at("nessuno"), at("mario")}, map[record.Kind]int{record.AcceptanceIssued: 1, record.Enveloped: 1, record.Received: 1, record.TakeChargeIssued: 1, record.Delivered: 2, record.DeliveryIssued: 2, record.NonDeliveryIssued: 1}},
		{"bcc", to("lucia") + "Bcc: " + at("mario") + "\r\n", []string{at("lucia")}, map[record.Kind]int{record.NonAcceptanceIssued: 1}},
		{"unlisted", to("lucia"), []string{at("lucia"), at("mario")}, map[record.Kind]int{record.NonAcceptanceIssued: 1}},
		{"no-to", "Cc: " + at("lucia") + "\r\nSubject: x\r\n", []string{at("lucia")}, map[record.Kind]int{record.NonAcceptanceIssued: 1}},
		{"too-many", to("a", "b", "c", "d", "e", "f"), []string{at("a"), at("b"), at("c"), at("d"), at("e"), at("f")}, map[record.Kind]int{record.NonAcceptanceIssued: 1}},
	} {
		s, err := p.send(x.name, x.header, x.recipients...)
		if err != nil {
			t.Fatalf("%s: %v", x.name, err)
		}
		if err := p.drain(); err != nil {
			t.Fatalf("%s: %v", x.name, err)
		}
		got := p.records(t, x.name)
		delete(got, record.Submitted)
		delete(got, record.NotificationDelivered)
		if !maps.Equal(got, x.want) {
			t.Errorf("%s: records %v, want %v (reasons %q)", x.name, got, x.want, s.Reasons)
		}
	}
	if got := w.mailboxOf("mario"); got[pec.NonAcceptance] != 4 || got[pec.NonDelivery] != 3 || got[pec.Acceptance] != 3 || got[pec.TransportEnvelope] != 1 {
		t.Errorf("mario has %v", got)
	}
	if p.metrics.Alarms.Load() != 0 {
		t.Errorf("%d alarms", p.metrics.Alarms.Load())
	}
}

// A sender's mailbox that is gone is a record and an alarm, never a receipt, and
// holds up nobody.
func TestReceiptWithoutMailbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	msg := fmt.Sprintf("Message-ID: <gone@client>\r\nFrom: gone@%[1]s\r\nTo: lucia@%[1]s\r\n\r\nCiao.\r\n", domain)
	if _, err := p.handIn(t.Context(), strings.NewReader(msg), "gone@"+domain, []string{"lucia@" + domain}, "gone@"+domain, record.Peer{}, func(err error) error { return err }); err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	got := p.records(t, "gone")
	if got[record.NotificationFailed] != 2 || got[record.Delivered] != 1 || got[record.NotificationDelivered] != 1 {
		t.Errorf("records %v", got)
	}
	if p.metrics.Alarms.Load() != 2 {
		t.Errorf("%d alarms", p.metrics.Alarms.Load())
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	for _, x := range []struct {
		err  error
		want int
	}{
		{errors.New("open /secret/path: boom"), 451}, {fmt.Errorf("a: %w", syscall.ENOSPC), 452}, {smtp.ErrDataTooLarge, 552},
		{pec.ErrHeaderTooLarge, 552}, {replyBareControl, 550}, {fmt.Errorf("%w: x", errUntrustedTime), 451}, {smtp.ErrDataReset, 451},
	} {
		var got *smtp.SMTPError
		if !errors.As(replyFor(x.err, log), &got) || got.Code != x.want {
			t.Errorf("%v: %v, want %d", x.err, got, x.want)
		}
		if got != nil && strings.Contains(got.Message, "secret") {
			t.Errorf("internal text goes to the client: %q", got.Message)
		}
	}
	if replyFor(nil, log) != nil {
		t.Error("no error got an answer")
	}
}

// Every answer is one line that any client can show, Italian first.
func TestReplyTexts(t *testing.T) {
	t.Parallel()
	for _, r := range []*smtp.SMTPError{replyAuthFailed, replyAuthRequired, replyTooManyAuths, replyTooManyLogins, replyNotOwner, replyBadAddress, replyNoRelay,
		replyBareControl, replyBareBefore, replyHeaderTooBig, replyFactsTooBig, replyEmpty, replyTooBig, replyCutShort, replyNoSpace, replyNoTime, replyUnforeseen} {
		line := fmt.Sprintf("%d %d.%d.%d %s\r\n", r.Code, r.EnhancedCode[0], r.EnhancedCode[1], r.EnhancedCode[2], r.Message)
		plain := strings.IndexFunc(r.Message, func(c rune) bool { return c < ' ' || c > '~' }) < 0
		if len(line) > 512 || !plain || strings.Count(r.Message, " / ") != 1 || r.Code/100 != r.EnhancedCode[0] {
			t.Errorf("%q", line)
		}
	}
}

func TestPlainAddress(t *testing.T) {
	t.Parallel()
	for a, want := range map[string]bool{"mario@pec.example": true, "a.b+c@pec.example": true, "": false, "a": false, "@b": false, "a@": false,
		"a@b@c": false, "a b@c": false, "à@b": false, "\"a\"@b": false, "a@[127.0.0.1]": false, "a@b\x00": false, strings.Repeat("x", 260) + "@b": false} {
		if got := plainAddress(a); got != want {
			t.Errorf("%.40q: %v", a, got)
		}
	}
}

func TestFileNames(t *testing.T) {
	t.Parallel()
	id := record.MakeID([16]byte{1, 2, 3}, 4, 5)
	if tx, ok := transactionOf(fileName(id)); !ok || tx != id.Transaction() {
		t.Errorf("%x %v", tx, ok)
	}
	if _, ok := transactionOf("1234.somebody-else"); ok {
		t.Error("a foreign name was taken for ours")
	}
}
