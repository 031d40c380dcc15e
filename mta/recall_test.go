package mta

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/mta/pec"
	"scripta/mta/relay"
	"scripta/register"
	"scripta/register/record"
)

// A backup has the jobs as they were a while before the rest: whatever the register
// has of them by then, the restored jobs go on from there, with the same times, and
// nothing is told twice.
func TestJobsOlderThanTheRegister(t *testing.T) {
	t.Parallel()
	const lucia, piena, silent = "lucia@" + domain, "piena@" + domain, "neri@altro.example"
	answers := func(to string) relay.Answer {
		switch to {
		case rossi, verdi:
			return refused(to)
		}
		return taken(to)
	}
	var s *submission
	elapse := func(d time.Duration) func(*process, *world) error {
		return func(p *process, w *world) error {
			w.clock.advance(d)
			p.look()
			return p.drain()
		}
	}
	flow := []func(p *process, w *world) error{
		func(p *process, _ *world) (err error) {
			s, err = p.send("one", listed(lucia, piena, rossi, silent, verdi), lucia, piena, rossi, silent, verdi)
			return err
		},
		func(p *process, _ *world) error { return p.drain() },
		func(p *process, w *world) error { return p.answer(w.relay, later) },
		func(p *process, w *world) error { return p.answer(w.relay, answers) },
		func(p *process, _ *world) error { return p.drain() },
		elapse(12 * time.Hour),
		elapse(11 * time.Hour),
		func(p *process, _ *world) error {
			if err := p.hear(s, pec.VirusDetection, "Eicar-Test-Signature", silent); err != nil {
				return err
			}
			return p.drain()
		},
	}
	want := map[record.Kind]int{record.Submitted: 1, record.AcceptanceIssued: 1, record.Enveloped: 1, record.Received: 1, record.TakeChargeIssued: 1, record.Delivered: 1,
		record.DeliveryIssued: 1, record.NonDeliveryIssued: 3, record.Deferred: 2, record.Relayed: 1, record.Bounced: 2, record.DelayNoticeIssued: 1, record.TimeoutNoticeIssued: 1,
		record.NotificationDelivered: 8}
	ofAuthor := map[pec.Kind]int{pec.Acceptance: 1, pec.Delivery: 1, pec.NonDelivery: 3, pec.DelayNotice: 2, pec.AnomalyEnvelope: 1}
	for backup := range flow {
		w := newWorld(t)
		p, err := w.begin(durable.OS)
		if err != nil {
			t.Fatal(err)
		}
		p.limits.BytesTimesRecipients = 1 << 20
		copied := filepath.Join(w.dir, "copy")
		for i, step := range flow {
			if err := step(p, w); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			if i == backup {
				if err := os.CopyFS(copied, os.DirFS(filepath.Join(w.data, "spool"))); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !p.idle() {
			t.Fatalf("the backlog is %+v", p.Backlog())
		}
		if err := p.end(); err != nil {
			t.Fatal(err)
		}
		check := func(when string) {
			if got := p.records(t, "one"); !maps.Equal(got, want) {
				t.Errorf("jobs of step %d, %s: records %v", backup, when, got)
			}
			if got := w.mailboxOf("mario"); !maps.Equal(got, ofAuthor) {
				t.Errorf("jobs of step %d, %s: mario has %v", backup, when, got)
			}
		}
		if err := os.RemoveAll(filepath.Join(w.data, "spool")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(copied, filepath.Join(w.data, "spool")); err != nil {
			t.Fatal(err)
		}
		if p, err = w.begin(durable.OS); err != nil {
			t.Fatal(err)
		}
		if err := p.drain(); err != nil {
			t.Fatalf("jobs of step %d: %v", backup, err)
		}
		p.look()
		if err := p.drain(); err != nil {
			t.Fatalf("jobs of step %d: %v", backup, err)
		}
		for _, l := range w.relay.all() {
			if len(l.Recipients) > 0 {
				t.Errorf("jobs of step %d: sent again: %+v", backup, l)
			}
		}
		w.clock.advance(25 * time.Hour)
		p.look()
		if err := p.hear(s, pec.VirusDetection, "Eicar-Test-Signature", silent); err != nil { // the receipt comes again
			t.Fatal(err)
		}
		if err := p.drain(); err != nil {
			t.Fatalf("jobs of step %d: %v", backup, err)
		}
		check("restored")
		if !p.idle() {
			t.Errorf("jobs of step %d: the backlog is %+v", backup, p.Backlog())
		}
		if err := p.log.Verify(context.Background()); err != nil {
			t.Error(err)
		}
		if err := p.end(); err != nil {
			t.Error(err)
		}
	}
}

// A receipt that the register has, and of which a restored job knows nothing, keeps
// its author from being told that none came; one of another provider than the
// recipient's does not.
func TestReceiptKnownToTheRegisterAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.odd = true // its receipts came from nowhere
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	s, err := p.send("one", listed(rossi, bianchi), rossi, bianchi)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if err := p.answer(w.relay, taken); err != nil {
		t.Fatal(err)
	}
	for i, x := range []struct{ provider, about string }{{"Altro", rossi}, {"Un terzo", bianchi}} {
		at, err := p.now()
		if err != nil {
			t.Fatal(err)
		}
		r := s.record(p.Pipeline, record.NotificationReceived, s.envelopeID(p.Pipeline, p.txOf(s)))
		r.Time, r.Provider, r.About, r.Generated = at.Time, x.provider, []string{x.about}, []string{"consegna@altro.example"}
		r.Detail = at.detail(record.Pair{Name: "type", Value: pec.Delivery.String()})
		if _, err := p.register.Append(t.Context(), register.Entry{ID: record.MakeID([16]byte{byte(i + 1)}, stepNotificationReceived, 0), Record: r}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		w.clock.advance(12 * time.Hour)
		p.look()
		if err := p.drain(); err != nil {
			t.Fatal(err)
		}
	}
	var about []string
	err = p.register.Search(t.Context(), register.Query{Identifier: "one@client"}, w.clock.at, func(f *register.Found) bool {
		if k := f.Record.Kind; k == record.DelayNoticeIssued || k == record.TimeoutNoticeIssued {
			about = append(about, f.Record.About...)
		}
		return true
	})
	if err != nil || !slices.Equal(about, []string{bianchi, bianchi}) {
		t.Errorf("notices about %q, %v", about, err)
	}
}
