package mta

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"syscall"
	"testing"
	"time"

	"scripta/internal/durable/faultfs"
	"scripta/mta/pec"
	"scripta/mta/relay"
	"scripta/register/record"
)

// carryOn runs every waiting job, again after each failure, as the pipeline does.
func (p *process) carryOn(t *testing.T) {
	t.Helper()
	p.goOn()
	for range 100 {
		select {
		case next := <-p.tasks:
			switch err := p.run(context.Background(), next, slog.New(slog.DiscardHandler)); {
			case errors.Is(err, errWaiting):
				p.rest(next)
			case errors.Is(err, syscall.ENOSPC):
				p.tasks <- next
			case err != nil:
				t.Fatal(err)
			}
		default:
			return
		}
	}
	t.Fatal("a job fails for ever")
}

// A disk that is full at any one write puts off what it meets, and the same process
// goes on with it: no job, letter, answer or notice is lost, or there twice.
func TestFullDiskAtEveryWriteElsewhere(t *testing.T) {
	t.Parallel()
	const silent = "neri@altro.example"
	step := 2
	if testing.Short() {
		step = 9
	}
	want := map[record.Kind]int{record.Submitted: 1, record.AcceptanceIssued: 1, record.Enveloped: 1, record.Relayed: 1, record.Bounced: 2, record.NonDeliveryIssued: 1,
		record.Received: 1, record.TakeChargeIssued: 1, record.Delivered: 1, record.DeliveryIssued: 1,
		record.DelayNoticeIssued: 1, record.TimeoutNoticeIssued: 1, record.NotificationDelivered: 6}
	ofAuthor := map[pec.Kind]int{pec.Acceptance: 1, pec.Delivery: 1, pec.NonDelivery: 1, pec.DelayNotice: 2, pec.AnomalyEnvelope: 1}
	for n := 1; ; n += step {
		w := newWorld(t)
		fsys, err := faultfs.New(w.fault, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.begin(fsys)
		if err != nil {
			t.Fatal(err)
		}
		writes, hit := 0, false
		fsys.SetFault(func(_ int, c faultfs.Call) error {
			if c.Op == "write" || c.Op == "open" {
				if writes++; writes == n {
					hit = true
					return syscall.ENOSPC
				}
			}
			return nil
		})
		again := func(what string, do func() error) {
			t.Helper()
			err := do()
			if errors.Is(err, syscall.ENOSPC) {
				err = do()
			}
			if err != nil {
				t.Fatalf("write %d: %s: %v", n, what, err)
			}
		}
		s, sent := p.send("one", listed(rossi, bianchi, silent, verdi, "lucia@"+domain), rossi, bianchi, silent, verdi, "lucia@"+domain)
		if sent != nil { // refused: another test looks at that
			if !errors.Is(sent, syscall.ENOSPC) {
				t.Fatalf("write %d: refused with %v", n, sent)
			}
			if err := p.end(); err != nil {
				t.Error(err)
			}
			continue
		}
		p.carryOn(t)
		for _, l := range w.relay.all() {
			l.Tries++
			r := &relay.Result{}
			for _, to := range l.Recipients {
				a := taken(to)
				if to == rossi || to == verdi {
					a = refused(to)
				}
				a.Recipient = to
				r.Answers = append(r.Answers, a)
			}
			again("an answer", func() error { return p.Relayed(t.Context(), l, r) })
		}
		again("a take-charge", func() error { return p.hear(s, pec.TakeCharge, "", bianchi) })
		again("a delivery", func() error { return p.hear(s, pec.Delivery, "", bianchi) })
		p.carryOn(t)
		for _, d := range []time.Duration{12 * time.Hour, 11 * time.Hour, 25 * time.Hour} {
			w.clock.advance(d)
			p.look()
			p.look() // what could not be noted
			p.carryOn(t)
		}
		if got := p.records(t, "one"); !maps.Equal(got, want) {
			t.Errorf("write %d: records %v", n, got)
		}
		if got := w.mailboxOf("mario"); !maps.Equal(got, ofAuthor) {
			t.Errorf("write %d: mario has %v", n, got)
		}
		if !p.idle() {
			t.Errorf("write %d: the backlog is %+v", n, p.Backlog())
		}
		if err := p.end(); err != nil {
			t.Errorf("write %d: %v", n, err)
		}
		if !hit {
			break
		}
	}
}
