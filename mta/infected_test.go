package mta

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/mta/audit"
	"scripta/mta/pec"
	"scripta/mta/relay"
	"scripta/mta/scan"
	"scripta/mta/scan/clamdtest"
	"scripta/register"
	"scripta/register/record"
)

// infected makes an envelope in whose original something stands.
func (f *foreign) infected(subject, what string, to ...string) []byte {
	f.t.Helper()
	return f.resigned(f.envelope(subject, to...), func(entity string) string {
		changed := strings.Replace(entity, "perch\xc3\xa9", what, 1)
		if changed == entity {
			f.t.Fatal("the original has another body")
		}
		return changed
	})
}

// of returns the records about a message by their kind, the last of each.
func (p *process) of(t *testing.T, id string) (kinds map[record.Kind]int, last map[record.Kind]*record.Record) {
	t.Helper()
	kinds, last = map[record.Kind]int{}, map[record.Kind]*record.Record{}
	err := p.register.Search(t.Context(), register.Query{MessageID: id}, time.Now().Add(time.Hour), func(f *register.Found) bool {
		kinds[f.Record.Kind]++
		last[f.Record.Kind] = f.Record
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return kinds, last
}

// sent reads the letters that wait for other providers, by kind of message.
func (p *process) sent(t *testing.T, q *testRelay) map[pec.Kind][]*pec.Signed {
	t.Helper()
	got := map[pec.Kind][]*pec.Signed{}
	for _, l := range q.all() {
		r, err := p.OpenLetter(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		s, err := pec.ReadSigned(bytes.NewReader(b), pec.DefaultLimits())
		if err != nil || s.Fault != nil {
			t.Fatalf("%v %v\n%s", err, s.Fault, b)
		}
		got[s.Kind] = append(got[s.Kind], s)
		if l.From != "posta-certificata@"+domain {
			t.Errorf("%v goes out with the reverse path %s", s.Kind, l.From)
		}
	}
	return got
}

// The real engine at the Incoming Point: an infected envelope is taken in charge
// and kept, its sender's provider is told for each recipient, and nobody gets it;
// an infected notification is kept and counts; an infected anomaly is kept; infected
// ordinary mail is refused.
func TestInfectedAtTheIncomingPoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	w.scanner = scan.New(scan.Options{Clamd: clamdtest.Start(t).Address, Timeout: 30 * time.Second, Concurrency: 1, Logger: slog.New(slog.DiscardHandler)})
	w.incoming = Incoming{Ordinary: func(string) bool { return true }}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	lucia, nessuno, mario := "lucia@"+domain, "nessuno@"+domain, "mario@"+domain
	come := func(from string, msg []byte, to ...string) *reception {
		t.Helper()
		r, err := p.come(from, msg, to...)
		if err != nil || r == nil {
			t.Fatalf("%+v, %v", r, err)
		}
		if err := p.drain(); err != nil {
			t.Fatal(err)
		}
		return r
	}

	r := come(b.at("anna"), b.infected("prova", clamdtest.EICAR(), lucia, nessuno), lucia, nessuno)
	kinds, last := p.of(t, trimID(r.Certification.EnvelopeID))
	if want := map[record.Kind]int{record.Received: 1, record.TakeChargeIssued: 1, record.VirusFound: 1, record.Quarantined: 1, record.VirusDetectionIssued: 2}; !maps.Equal(kinds, want) {
		t.Errorf("envelope: records %v", kinds)
	} else if about := last[record.VirusFound].About; !slices.Equal(about, []string{lucia, nessuno}) {
		t.Errorf("envelope: the virus was found for %q", about)
	}
	sent := p.sent(t, w.relay)
	if len(sent) != 2 || len(sent[pec.TakeCharge]) != 1 || len(sent[pec.VirusDetection]) != 2 {
		t.Errorf("envelope: sent %v", sent)
	}
	for _, d := range sent[pec.VirusDetection] {
		c := d.Certification
		if c.EnvelopeID != r.Certification.EnvelopeID || c.Error != pec.Virus || !strings.Contains(c.Detail, clamdtest.Virus) || !strings.HasPrefix(c.Detail, "5.5.1 - Esempio - ") {
			t.Errorf("the detection certifies %+v", c)
		}
	}
	for _, l := range w.relay.all() {
		if !slices.Equal(l.Recipients, []string{b.entry.ServiceAddress}) || l.Destination != b.entry.Name || !l.Certified {
			t.Errorf("a letter goes to %q at %s", l.Recipients, l.Destination)
		}
	}

	// A receipt for a message of ours, with the virus in what it carries.
	s, err := p.send("our", "To: "+b.at("anna")+"\r\nSubject: prova\r\n", b.at("anna"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	ours := s.transaction(p.txOf(s)).Issue(stepEnvelope, 0).MessageID(p.composer.Provider)
	facts := b.facts(trimID(ours))
	content := "Subject: prova\r\n\r\n" + clamdtest.EICAR() + "\r\n"
	m, err := b.composer.Delivery(b.issue(), facts, b.at("anna"), pec.Complete, &pec.Included{Bytes: strings.NewReader(content), Size: int64(len(content))})
	come(b.at("posta-certificata"), b.bytes(m, strings.NewReader(content), err), mario)
	kinds, _ = p.of(t, trimID(ours))
	if kinds[record.NotificationReceived] != 1 || kinds[record.NotificationFailed] != 1 || kinds[record.Quarantined] != 1 || kinds[record.VirusDetectionIssued] != 0 {
		t.Errorf("receipt: records %v", kinds)
	}
	if err := p.answer(w.relay, taken); err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if len(p.dispatches.list()) != 0 {
		t.Error("the receipt does not count: its message still waits")
	}

	// Signed by a provider, and of no form.
	malformed := bytes.Replace(b.infected("strana", clamdtest.EICAR(), lucia), []byte("X-Trasporto: posta-certificata\r\n"), nil, 1)
	r = come(b.at("anna"), malformed, lucia)
	kinds, _ = p.of(t, r.record(p.Pipeline, mustID(t, r.id), record.UncertifiedReceived).MessageID)
	if want := map[record.Kind]int{record.UncertifiedReceived: 1, record.VirusFound: 1, record.Quarantined: 1}; r.Class != isMalformed || !maps.Equal(kinds, want) {
		t.Errorf("%s: records %v", r.Class, kinds)
	}
	if kept := p.quarantined(t); len(kept) != 3 {
		t.Errorf("%d messages are kept", len(kept))
	}

	// Ordinary mail never enters.
	ordinary := []byte("From: x@y.example\r\nTo: " + lucia + "\r\nSubject: x\r\n\r\n" + clamdtest.EICAR() + "\r\n")
	if r, err := p.come("x@y.example", ordinary, lucia); r != nil || !errors.Is(replyFor(err, slog.New(slog.DiscardHandler)), replyInfected) {
		t.Errorf("ordinary: %+v, %v", r, err)
	}
	if kept := p.quarantined(t); len(kept) != 3 || p.Backlog().Waiting != 0 {
		t.Errorf("ordinary: %d messages are kept, %+v", len(kept), p.Backlog())
	}
	if got := w.mailboxOf("lucia"); len(got) != 0 {
		t.Errorf("lucia has %v", got)
	}
	if got := w.mailboxOf("mario"); !maps.Equal(got, map[pec.Kind]int{pec.Acceptance: 1}) {
		t.Errorf("mario has %v", got)
	}
	r = come(b.at("anna"), b.envelope("pulita", lucia), lucia)
	if got := w.mailboxOf("lucia"); r.infected() || !maps.Equal(got, ofRecipient) {
		t.Errorf("after a clean envelope lucia has %v", got)
	}
	if err := p.answer(w.relay, taken); err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	p.audited(t, true)
}

// audited checks the rules over everything that was recorded.
func (p *process) audited(t *testing.T, settled bool) {
	t.Helper()
	x := audit.New(audit.Options{Now: time.Now(), Settled: settled, ServiceMailbox: "posta-certificata@" + domain})
	for i := range p.register.Log().Size() {
		f, err := p.register.Read(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		x.Add(i, f.Record)
	}
	for _, f := range x.Finish().Findings {
		t.Errorf("audit: leaf %d: %s [%s]", f.Leaf, f.Text, f.Rule.ID)
	}
}

func mustID(t *testing.T, s string) (id [16]byte) {
	t.Helper()
	parsed, err := relay.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// Without an engine nothing of another provider is taken: it tries again.
func TestEngineDownAtTheIncomingPoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	words := &wordScanner{}
	w.scanner = words
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	down := scan.ErrUnavailable
	words.down.Store(&down)
	lucia := "lucia@" + domain
	msg := b.envelope("prova", lucia)
	r, err := p.come(b.at("anna"), msg, lucia)
	if r != nil || !errors.Is(replyFor(err, slog.New(slog.DiscardHandler)), replyNotScanned) || p.Backlog().Waiting != 0 {
		t.Errorf("%+v, %v, %+v", r, err, p.Backlog())
	}
	words.down.Store(nil)
	if r, err := p.come(b.at("anna"), msg, lucia); r == nil || err != nil {
		t.Errorf("with it back: %+v, %v", r, err)
	}
	if err := p.drain(); err != nil {
		t.Error(err)
	}
	if got := w.mailboxOf("lucia"); !maps.Equal(got, ofRecipient) {
		t.Errorf("lucia has %v", got)
	}
}

// The disk stops, or the power goes, at every call of an infected envelope's way:
// when its provider has sent it until it got its 250, it was kept once, scanned once
// for each time it was taken, and told of once for its recipient.
func TestInfectedEnvelopeCrashAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, power := range []bool{false, true} {
		t.Run(fmt.Sprintf("power=%v", power), func(t *testing.T) {
			t.Parallel()
			step := 1
			if testing.Short() {
				step = 4
			}
			for n := 1; ; n += step {
				w := newWorld(t)
				b := w.join(newForeign(t, "Beta", "beta.example"))
				words := &wordScanner{}
				w.scanner = words
				fsys, err := faultfs.New(w.fault, nil)
				if err != nil {
					t.Fatal(err)
				}
				p, err := w.begin(fsys)
				if err != nil {
					t.Fatal(err)
				}
				lucia := "lucia@" + domain
				msg := b.infected("prova", marker, lucia)
				id := ""
				if s, err := pec.ReadSigned(bytes.NewReader(msg), pec.DefaultLimits()); err == nil {
					id = trimID(s.Certification.EnvelopeID)
				}
				fsys.SetFault(faultfs.CrashAt(len(fsys.Calls()) + n))
				_, came := p.come(b.at("anna"), msg, lucia)
				if came == nil {
					_ = p.drain()
				}
				crashed := fsys.Crashed()
				_ = p.end()
				if power {
					if err := fsys.PowerLoss(); err != nil {
						t.Fatal(err)
					}
				}
				if p, err = w.begin(durable.OS); err != nil {
					t.Fatalf("call %d: starting again: %v", n, err)
				}
				asked := words.asked.Load()
				if err := p.drain(); err != nil {
					t.Fatalf("call %d: running again: %v", n, err)
				}
				if words.asked.Load() != asked {
					t.Errorf("call %d: a rerun scanned again", n)
				}
				if _, err := p.come(b.at("anna"), msg, lucia); err != nil { // its provider heard no 250, or lost it
					t.Errorf("call %d: sent again: %v", n, err)
				}
				if err := p.drain(); err != nil {
					t.Fatalf("call %d: %v", n, err)
				}
				kinds, _ := p.of(t, id)
				want := map[record.Kind]int{record.Received: 1, record.TakeChargeIssued: 1, record.VirusFound: 1, record.Quarantined: 1, record.VirusDetectionIssued: 1}
				if kept := p.quarantined(t); !maps.Equal(kinds, want) || len(kept) != 1 || !strings.Contains(kept[0], marker) {
					t.Errorf("call %d (power %v, 250: %v): records %v, %d kept", n, power, came == nil, kinds, len(kept))
				}
				if sent := p.sent(t, w.relay); len(sent[pec.VirusDetection]) != 1 || len(sent[pec.TakeCharge]) != 1 {
					t.Errorf("call %d (power %v): waiting to be sent: %d detections, %d take-charges", n, power, len(sent[pec.VirusDetection]), len(sent[pec.TakeCharge]))
				}
				if got := w.mailboxOf("lucia"); len(got) != 0 {
					t.Errorf("call %d: lucia has %v", n, got)
				}
				if err := p.register.Contents().Each(func([16]byte, uint16) error { return errors.New("there is one") }, func(string) {}); err != nil {
					t.Errorf("call %d: among the contents: %v", n, err)
				}
				if n%5 == 0 {
					p.audited(t, false)
				}
				if err := p.end(); err != nil {
					t.Errorf("call %d: %v", n, err)
				}
				if !crashed {
					if n < 15 {
						t.Errorf("only %d calls", n)
					}
					break
				}
			}
		})
	}
}
