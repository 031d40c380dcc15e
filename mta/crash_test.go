package mta

import (
	"errors"
	"maps"
	"path/filepath"
	"syscall"
	"testing"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/mta/pec"
	"scripta/register/record"
)

// what one message between two mailboxes leaves behind.
var (
	ofSender    = map[pec.Kind]int{pec.Acceptance: 1, pec.Delivery: 1}
	ofRecipient = map[pec.Kind]int{pec.TransportEnvelope: 1}
	ofService   = map[pec.Kind]int{pec.TakeCharge: 1}
	inRegister  = map[record.Kind]int{record.Submitted: 1, record.AcceptanceIssued: 1, record.Enveloped: 1, record.Received: 1,
		record.TakeChargeIssued: 1, record.Delivered: 1, record.DeliveryIssued: 1, record.NotificationDelivered: 3}
)

// The disk stops, or the power goes, at every single call of a message's way.
// Whatever was answered 250 ends in one acceptance, one envelope, one delivery
// receipt and one record of each event; what was not leaves nothing, or all.
func TestCrashAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, power := range []bool{false, true} {
		name := "kill"
		if power {
			name = "power"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			step := 1
			if testing.Short() {
				step = 4
			}
			total := 0
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
				begun := len(fsys.Calls())
				fsys.SetFault(faultfs.CrashAt(begun + n))
				_, sent := p.send("one", "To: lucia@"+domain+"\r\nSubject: prova\r\n", "lucia@"+domain)
				if sent == nil {
					_ = p.drain()
				}
				crashed := fsys.Crashed()
				_ = p.end()
				if power {
					if err := fsys.PowerLoss(); err != nil {
						t.Fatal(err)
					}
				}
				w.checkAfter(n, sent)
				if !crashed {
					break
				}
				total++
			}
			if total < 5 {
				t.Errorf("only %d crashes: the pipeline does not use the file system under test", total)
			}
			t.Logf("%d crashes", total)
		})
	}
}

// checkAfter starts again on the real disk and counts what is there.
func (w *world) checkAfter(n int, sent error) {
	w.t.Helper()
	p, err := w.begin(durable.OS)
	if err != nil {
		w.t.Fatalf("call %d: starting again: %v", n, err)
	}
	if err := p.drain(); err != nil {
		w.t.Fatalf("call %d: running again: %v", n, err)
	}
	sender, recipient, service, records := w.mailboxOf("mario"), w.mailboxOf("lucia"), w.mailboxOf("posta-certificata"), p.records(w.t, "one")
	nothing := len(sender) == 0 && len(recipient) == 0 && len(service) == 0 && len(records) == 0
	all := maps.Equal(sender, ofSender) && maps.Equal(recipient, ofRecipient) && maps.Equal(service, ofService) && maps.Equal(records, inRegister)
	if !all && (sent == nil || !nothing) {
		w.t.Errorf("call %d (250: %v): sender %v, recipient %v, service %v, records %v", n, sent == nil, sender, recipient, service, records)
	}
	if left, _ := filepath.Glob(filepath.Join(w.data, "mail", domain, "*", "tmp", "*")); len(left) > 0 {
		w.t.Errorf("call %d: left in tmp: %v", n, left)
	}
	if b := p.Backlog(); b != (Backlog{}) {
		w.t.Errorf("call %d: the backlog is %+v", n, b)
	}
	if err := p.log.Verify(w.t.Context()); err != nil {
		w.t.Errorf("call %d: the log: %v", n, err)
	}
	if err := p.end(); err != nil {
		w.t.Errorf("call %d: %v", n, err)
	}
}

// A disk that is full at any one write refuses the message or puts the job off;
// when there is room again the job ends as if nothing had been.
func TestFullDiskAtEveryWrite(t *testing.T) {
	t.Parallel()
	step := 1
	if testing.Short() {
		step = 3
	}
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
		_, sent := p.send("one", "To: lucia@"+domain+"\r\nSubject: prova\r\n", "lucia@"+domain)
		if sent != nil && !errors.Is(sent, syscall.ENOSPC) {
			t.Errorf("write %d: refused with %v", n, sent)
		}
		if sent == nil {
			if err := p.drain(); err != nil && !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("write %d: put off with %v", n, err)
			}
		}
		if err := p.end(); err != nil {
			t.Errorf("write %d: %v", n, err)
		}
		w.checkAfter(n, sent)
		if !hit {
			break
		}
	}
}
