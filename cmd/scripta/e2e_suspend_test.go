package main

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"scripta/internal/config"
	"scripta/mta/pec"
	"scripta/mta/scan/clamdtest"
)

// Who may not send still logs in and reads; he hears why, over open connections
// too and in the middle of a message; what was accepted before goes on, and a
// restart changes nothing.
func TestSendingSuspended(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	p.start(t)
	write := letter{from: address("mario"), to: []string{address("lucia")}, subject: "Prima"}
	p.send(t, write)
	open := must[*client](t)(p.login("mario"))
	defer open.Close()
	for _, x := range []struct {
		code int
		line string
	}{{250, "MAIL FROM:<" + write.from + ">"}, {250, "RCPT TO:<" + address("lucia") + ">"}, {354, "DATA"}} {
		if err := open.expect(x.code, x.line); err != nil {
			t.Fatal(err)
		}
	}
	p.command(t, "account", "suspend", "--sending", "--reason", "password rubata", "--mailbox", address("mario"))
	const said = "550 5.7.1 Invio sospeso per questa casella: rivolgersi al gestore / Sending is suspended for this account"
	if got := refusal(open.data(write.String())); !strings.HasPrefix(got, said) {
		t.Errorf("the message under way: %q", got)
	}
	if got := refusal(open.expect(250, "MAIL FROM:<"+write.from+">")); !strings.HasPrefix(got, said) {
		t.Errorf("the next: %q", got)
	}
	if !p.logsIn(t, "mario", testPassword) {
		t.Error("who may not send does not log in")
	}
	p.one(t, "mario", pec.Delivery, "Prima")
	if out := p.command(t, "account", "list"); !strings.Contains(out, "mario@"+testDomain+"  sending suspended") {
		t.Errorf("list:\n%s", out)
	}
	if code, out := p.scripta(t, "account", "suspend", "--sending", "--mailbox", address("mario")); code != 1 || !strings.Contains(out, "suspended already") {
		t.Errorf("again: exit %d, %s", code, out)
	}
	if m := p.scrape(t); m[`scripta_accounts{state="sending_suspended"}`] != 1 || m[`scripta_accounts{state="active"}`] != 1 {
		t.Errorf("metrics: %v", m)
	}
	p.stop(t)
	p.start(t)
	again := must[*client](t)(p.login("mario"))
	defer again.Close()
	if got := refusal(again.expect(250, "MAIL FROM:<"+write.from+">")); !strings.HasPrefix(got, said) {
		t.Errorf("after a restart: %q", got)
	}
	p.command(t, "account", "resume", "--mailbox", address("mario"))
	write.subject = "Dopo"
	if err := again.submit(write.from, write.to, write.String()); err != nil {
		t.Error(err)
	}
	p.one(t, "mario", pec.Delivery, "Dopo")
	// With the right password, and no other, one hears that the account is suspended.
	p.command(t, "account", "suspend", "--mailbox", address("mario"))
	for password, want := range map[string]string{testPassword: "525 5.7.13 Casella sospesa", "altra": "535 5.7.8 "} {
		c := must[*client](t)(p.dial())
		if got := refusal(c.auth(address("mario"), password)); !strings.HasPrefix(got, want) {
			t.Errorf("suspended, password %q: %q", password, got)
		}
		c.Close()
	}
	if got := p.accountRecords(t, "mario"); got != "created, sending suspended, lifted, suspended" {
		t.Errorf("records: %s", got)
	}
	p.idle(t, waitMail)
	p.stop(t)
	p.verifyLog(t)
}

// The provider suspends the sending of an account that is abused, tells the
// operator until a person lifts it, and then begins to count anew.
func TestSuspendedForAbuse(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, func(c *config.Config) { c.Limits.InfectedPerDay = 3 })
	notice := func() (d *daemon, done bool) {
		d = &daemon{app: must[*app](t)(openApp(t.Context(), p.dir, slog.New(slog.DiscardHandler)))}
		done = must[bool](t)(d.suspendSending(t.Context(), address("mario"), "infected messages"))
		return d, done
	}
	d, done := notice()
	if again := must[bool](t)(d.suspendSending(t.Context(), address("mario"), "infected messages")); !done || again {
		t.Errorf("suspended: %v, and again: %v", done, again)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	if out := p.command(t, "status"); !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
		return strings.HasPrefix(line, "warn   accounts") && strings.Contains(line, "infected messages: mario@"+testDomain)
	}) {
		t.Errorf("status:\n%s", out)
	}
	if m := p.scrape(t); m["scripta_accounts_abused"] != 1 {
		t.Errorf("metrics: %v", m)
	}
	if out := p.command(t, "account", "list"); !strings.Contains(out, "mario@"+testDomain+"  sending suspended: abuse noticed") {
		t.Errorf("list:\n%s", out)
	}
	p.command(t, "account", "resume", "--mailbox", address("mario"), "--reason", "macchina pulita")
	if out := p.command(t, "status"); strings.Contains(out, "warn   accounts") {
		t.Errorf("status:\n%s", out)
	}
	p.send(t, letter{from: address("mario"), to: []string{address("lucia")}, subject: "Pulita"})
	if got := p.accountRecords(t, "mario"); got != "created, sending suspended, lifted" {
		t.Errorf("records: %s", got)
	}
	p.idle(t, waitMail)
	p.stop(t)
	p.verifyLog(t)
}

// Who hands in viruses may soon send no more, also after a restart; what he handed
// in before has its outcome, and a person lets him send again.
func TestInfectedSubmissionsSuspendSending(t *testing.T) {
	t.Parallel()
	engine := clamdtest.Start(t)
	p := newProvider(t, []string{"mario", "lucia"}, func(c *config.Config) {
		c.Scan.Clamd, c.Limits.InfectedPerDay = engine.Address, 3
	})
	p.start(t)
	infected := letter{from: address("mario"), to: []string{address("lucia")}, subject: "Allegato", body: clamdtest.EICAR() + "\r\n"}
	p.send(t, infected)
	p.send(t, infected)
	p.idle(t, waitMail)
	p.stop(t)
	p.start(t)
	p.send(t, letter{from: address("mario"), to: []string{address("lucia")}, subject: "Pulita"})
	p.send(t, infected) // the third
	p.idle(t, waitMail)
	open := must[*client](t)(p.login("mario"))
	defer open.Close()
	if said := refusal(open.submit(infected.from, infected.to, infected.String())); !strings.HasPrefix(said, "550 5.7.1 Invio sospeso per questa casella") {
		t.Errorf("the fourth: %q", said)
	}
	p.one(t, "lucia", pec.TransportEnvelope, "Pulita")
	if m := p.scrape(t); m["scripta_accounts_abused"] != 1 || m["scripta_mta_abuse_suspensions_total"] != 1 || m["scripta_mta_abuse_messages_total"] != 1 {
		t.Errorf("metrics: %v", m)
	}
	if out := p.command(t, "status"); !strings.Contains(out, "warn   accounts") {
		t.Errorf("status:\n%s", out)
	}
	p.command(t, "account", "resume", "--mailbox", address("mario"))
	p.send(t, infected) // counted anew: the first
	p.send(t, letter{from: address("mario"), to: []string{address("lucia")}, subject: "Ancora"})
	p.idle(t, waitMail)
	if got := p.accountRecords(t, "mario"); got != "created, sending suspended, lifted" {
		t.Errorf("records: %s", got)
	}
	p.stop(t)
	p.verifyLog(t)
}
