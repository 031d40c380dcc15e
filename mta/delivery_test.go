package mta

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"scripta/internal/durable"
	"scripta/mta/pec"
	"scripta/register/record"
)

// A mailbox that is removed between a delivery and the rerun after a crash has
// got its message: no second outcome beside the first, for the recipient or for
// the sender of the receipts.
func TestMailboxRemovedBeforeRerun(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ name, removed string }{{"recipient", "lucia"}, {"sender", "mario"}, {"provider", "posta-certificata"}} {
		w := newWorld(t)
		p, err := w.begin(durable.OS)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.send("one", "To: lucia@"+domain+"\r\nSubject: x\r\n", "lucia@"+domain); err != nil {
			t.Fatal(err)
		}
		first, quiet := <-p.tasks, slog.New(slog.DiscardHandler)
		if err := p.carry(context.Background(), first, quiet); err != nil { // everything but the entry that forgets the job
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(w.data, "mail", domain, x.removed)); err != nil {
			t.Fatal(err)
		}
		s, err := decodeSubmission(first.job)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.run(context.Background(), &task{job: first.job, work: s, rerun: true}, quiet); err != nil {
			t.Errorf("%s: run again: %v", x.name, err)
		}
		if got := p.records(t, "one"); !maps.Equal(got, inRegister) {
			t.Errorf("%s: the register has %v", x.name, got)
		}
		if got := w.mailboxOf("mario"); x.removed != "mario" && !maps.Equal(got, ofSender) {
			t.Errorf("%s: the sender has %v", x.name, got)
		}
		if err := p.end(); err != nil {
			t.Error(err)
		}
	}
}

// A job whose notice can be put into no mailbox comes to its end: it was once run
// again for ever.
func TestNoticeToAnImpossibleMailbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	msg := "From: mario@" + domain + "\r\nTo: lucia@" + domain + "\r\nMessage-ID: <one@client>\r\n\r\nx\r\n"
	if _, err := p.handInAs(" mario@"+domain, msg, "lucia@"+domain); err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatalf("never carried: %v", err)
	}
	if got := p.records(t, "one"); got[record.NotificationFailed] != 1 || got[record.DeliveryIssued] != 1 {
		t.Errorf("records %v", got)
	}
	if got := w.mailboxOf("lucia"); got[pec.TransportEnvelope] != 1 {
		t.Errorf("lucia has %v", got)
	}
}
