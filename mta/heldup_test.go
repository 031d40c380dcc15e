package mta

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"syscall"
	"testing"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/mta/pec"
	"scripta/register/record"
)

// One mailbox whose files the disk gives errors for, for as long as it does, holds
// up nobody else: the others get their message, the author hears of them, and when
// the disk is well again, or after a restart, nothing is there twice and nothing
// is missing.
func TestBrokenMailboxHoldsUpNobody(t *testing.T) {
	t.Parallel()
	const lucia, anna, mario, service = "lucia", "anna", "mario", "posta-certificata"
	all := map[string]map[pec.Kind]int{
		lucia: {pec.TransportEnvelope: 1}, anna: {pec.TransportEnvelope: 1}, service: {pec.TakeCharge: 1},
		mario: {pec.Acceptance: 1, pec.Delivery: 2},
	}
	records := maps.Clone(inRegister)
	records[record.Delivered], records[record.DeliveryIssued], records[record.NotificationDelivered] = 2, 2, 4
	for _, c := range []struct {
		broken, op string
		meanwhile  map[record.Kind]int // that differ from records
		author     map[pec.Kind]int    // what he has meanwhile
	}{
		{lucia, "open", map[record.Kind]int{record.Delivered: 1, record.DeliveryIssued: 1, record.NotificationDelivered: 3}, map[pec.Kind]int{pec.Acceptance: 1, pec.Delivery: 1}},
		{lucia, "write", map[record.Kind]int{record.Delivered: 1, record.DeliveryIssued: 1, record.NotificationDelivered: 3}, map[pec.Kind]int{pec.Acceptance: 1, pec.Delivery: 1}},
		{lucia, "rename", nil, all[mario]}, // the envelope is on the disk, and delivered
		{mario, "open", map[record.Kind]int{record.NotificationDelivered: 1}, nil},
		{mario, "rename", nil, nil},
		{service, "open", map[record.Kind]int{record.NotificationDelivered: 3}, all[mario]},
	} {
		for _, restart := range []bool{false, true} {
			name := c.broken + " " + c.op + map[bool]string{true: ", restarted"}[restart]
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				if err := w.openBoxes(durable.OS).Create(anna+"@"+domain, 0); err != nil {
					t.Fatal(err)
				}
				fsys, err := faultfs.New(w.fault, nil)
				if err != nil {
					t.Fatal(err)
				}
				p, err := w.begin(fsys)
				if err != nil {
					t.Fatal(err)
				}
				fsys.SetFault(func(_ int, x faultfs.Call) error {
					if x.Op == c.op && strings.Contains(x.Name, "/"+c.broken+"/") {
						return syscall.EIO
					}
					return nil
				})
				if _, err := p.send("one", "To: lucia@"+domain+", anna@"+domain+"\r\nSubject: x\r\n", "lucia@"+domain, "anna@"+domain); err != nil {
					t.Fatal(err)
				}
				first, quiet := <-p.tasks, slog.New(slog.DiscardHandler)
				for range 3 { // for as long as it lasts, it is the same
					var held *heldUp
					if err := p.run(context.Background(), first, quiet); !errors.As(err, &held) || !errors.Is(err, syscall.EIO) {
						t.Fatalf("carried: %v", err)
					}
					for box, want := range all {
						if box == mario {
							want = c.author
						}
						if box == c.broken {
							want = nil
						}
						if got := w.mailboxOf(box); !maps.Equal(got, want) {
							t.Errorf("meanwhile %s has %v, want %v", box, got, want)
						}
					}
					want := maps.Clone(records)
					maps.Copy(want, c.meanwhile)
					if got := p.records(t, "one"); !maps.Equal(got, want) {
						t.Errorf("meanwhile the register has %v, want %v", got, want)
					}
				}
				if restart {
					if err := p.end(); err != nil {
						t.Fatal(err)
					}
					if p, err = w.begin(durable.OS); err != nil {
						t.Fatal(err)
					}
					err = p.drain()
				} else {
					fsys.SetFault(nil)
					err = p.run(context.Background(), first, quiet)
				}
				if err != nil {
					t.Fatalf("the disk is well again: %v", err)
				}
				for box, want := range all {
					if got := w.mailboxOf(box); !maps.Equal(got, want) {
						t.Errorf("in the end %s has %v, want %v", box, got, want)
					}
				}
				if got := p.records(t, "one"); !maps.Equal(got, records) {
					t.Errorf("in the end the register has %v, want %v", got, records)
				}
				if err := p.end(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// What befalls every mailbox stops the whole stage, as before.
func TestOfOneMailbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fsys, err := faultfs.New(w.fault, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.begin(fsys)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EMFILE} {
		fsys.SetFault(func(_ int, x faultfs.Call) error {
			if x.Op == "open" && strings.Contains(x.Name, "/lucia/") {
				return e
			}
			return nil
		})
		if _, err := p.send(e.Error(), "To: lucia@"+domain+"\r\nSubject: x\r\n", "lucia@"+domain); err != nil {
			t.Fatal(err)
		}
		var held *heldUp
		first := <-p.tasks
		if err := p.run(context.Background(), first, slog.New(slog.DiscardHandler)); !errors.Is(err, e) || errors.As(err, &held) {
			t.Errorf("%v: %v", e, err)
		}
		if got := w.mailboxOf("mario"); len(got) != 0 {
			t.Errorf("%v: the stage went on: %v", e, got)
		}
	}
	fsys.SetFault(nil)
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

// The disk stops, or the power goes, at every call of the run that makes good what
// a broken mailbox held up.
func TestCrashAfterBrokenMailbox(t *testing.T) {
	t.Parallel()
	step := 1
	if testing.Short() {
		step = 3
	}
	for _, op := range []string{"open", "rename"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			crashes := 0
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
				fsys.SetFault(func(_ int, x faultfs.Call) error {
					if x.Op == op && strings.Contains(x.Name, "/lucia/") {
						return syscall.EIO
					}
					return nil
				})
				if _, err := p.send("one", "To: lucia@"+domain+"\r\nSubject: prova\r\n", "lucia@"+domain); err != nil {
					t.Fatal(err)
				}
				var held *heldUp
				first, quiet := <-p.tasks, slog.New(slog.DiscardHandler)
				if err := p.run(context.Background(), first, quiet); !errors.As(err, &held) {
					t.Fatalf("carried: %v", err)
				}
				fsys.SetFault(faultfs.CrashAt(len(fsys.Calls()) + n))
				_ = p.run(context.Background(), first, quiet)
				crashed := fsys.Crashed()
				_ = p.end()
				if n%2 == 0 {
					if err := fsys.PowerLoss(); err != nil {
						t.Fatal(err)
					}
				}
				w.checkAfter(n, nil)
				if !crashed {
					break
				}
				crashes++
			}
			if crashes < 3 {
				t.Errorf("only %d crashes", crashes)
			}
		})
	}
}

// The same for what another provider hands over: its take-charge and the delivery
// of the others go out while one mailbox waits.
func TestBrokenMailboxOfAReception(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	fsys, err := faultfs.New(w.fault, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.begin(fsys)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	fsys.SetFault(func(_ int, x faultfs.Call) error {
		if x.Op == "open" && strings.Contains(x.Name, "/lucia/") {
			return syscall.EIO
		}
		return nil
	})
	to := []string{"lucia@" + domain, "mario@" + domain}
	if _, err := p.come(b.at("anna"), b.envelope("prova", to...), to...); err != nil {
		t.Fatal(err)
	}
	first, quiet := <-p.tasks, slog.New(slog.DiscardHandler)
	for range 2 {
		var held *heldUp
		if err := p.run(context.Background(), first, quiet); !errors.As(err, &held) {
			t.Fatalf("carried: %v", err)
		}
		service, anna := counts(p.letters(t, w.relay, b.entry.ServiceAddress)), counts(p.letters(t, w.relay, b.at("anna")))
		if len(w.files("mario")) != 1 || len(w.files("lucia")) != 0 || service[pec.TakeCharge] != 1 || !maps.Equal(anna, map[pec.Kind]int{pec.Delivery: 1}) {
			t.Errorf("meanwhile mario has %d, lucia %d, the provider gets %v, the sender %v", len(w.files("mario")), len(w.files("lucia")), service, anna)
		}
	}
	fsys.SetFault(nil)
	if err := p.run(context.Background(), first, quiet); err != nil {
		t.Fatal(err)
	}
	if anna := counts(p.letters(t, w.relay, b.at("anna"))); len(w.files("mario")) != 1 || len(w.files("lucia")) != 1 || !maps.Equal(anna, map[pec.Kind]int{pec.Delivery: 2}) {
		t.Errorf("in the end mario has %d, lucia %d, the sender gets %v", len(w.files("mario")), len(w.files("lucia")), anna)
	}
}
