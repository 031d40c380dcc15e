package mta

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/mta/pec"
	"scripta/mta/relay"
	"scripta/register"
	"scripta/register/record"
)

// all returns the letters in the queue.
func (q *testRelay) all() []*relay.Letter {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Collect(maps.Values(q.letters))
}

// answer answers every letter in the queue as the function says, once.
func (p *process) answer(q *testRelay, of func(recipient string) relay.Answer) error {
	for _, l := range q.all() {
		if len(l.Recipients) == 0 {
			continue
		}
		l.Tries++
		r := &relay.Result{Time: time.Now()}
		var left []string
		for _, to := range l.Recipients {
			a := of(to)
			if a.Recipient = to; a.State == relay.Deferred {
				left = append(left, to)
			}
			r.Answers = append(r.Answers, a)
		}
		if err := p.Relayed(context.Background(), l, r); err != nil {
			return err
		}
		l.Recipients = left
	}
	return nil
}

func taken(string) relay.Answer {
	return relay.Answer{State: relay.Taken, Code: 250, Enhanced: "2.0.0", Text: "ok", Hop: relay.Hop{Host: "mx.altro.example", Peer: relay.Peer{Address: "192.0.2.1:25", TLS: "TLS 1.3"}}}
}

func later(string) relay.Answer {
	return relay.Answer{State: relay.Deferred, Code: 451, Enhanced: "4.3.0", Text: "later"}
}

func refused(string) relay.Answer {
	return relay.Answer{State: relay.Refused, Code: 550, Enhanced: "5.1.1", Text: "no such user", Hop: relay.Hop{Host: "mx.altro.example"}}
}

// hear tells that a receipt of the other provider came.
func (p *process) hear(s *submission, kind pec.Kind, detail string, recipients ...string) error {
	at, err := p.now()
	if err != nil {
		return err
	}
	id := s.transaction(p.txOf(s)).Issue(stepEnvelope, 0).MessageID(p.composer.Provider)
	p.world.odd = true // there is no record of its coming
	return p.heard(context.Background(), kind, id, recipients, at, "Altro", detail)
}

// txOf parses a submission's id.
func (p *process) txOf(s *submission) (id [16]byte) {
	parsed, err := relay.ParseID(s.id)
	if err != nil {
		panic(err)
	}
	return parsed
}

// idle says whether nothing is left to do, now or later.
func (p *process) idle() bool {
	return p.Backlog() == Backlog{} && len(p.dispatches.list()) == 0 && p.passages.len() == 0
}

const (
	rossi   = "rossi@altro.example"
	bianchi = "bianchi@terzo.example"
	verdi   = "verdi@ordinario.example"
)

func listed(recipients ...string) string {
	return "To: " + strings.Join(recipients, ", ") + "\r\nSubject: prova\r\n"
}

// A message to another provider: its author gets the acceptance, the envelope goes
// out once for the provider with the author as reverse path, and the job waits
// until each recipient has an outcome.
func TestToAnotherProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
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
	if got := w.mailboxOf("mario"); !maps.Equal(got, map[pec.Kind]int{pec.Acceptance: 1}) {
		t.Errorf("mario has %v", got)
	}
	letters := w.relay.all()
	if len(letters) != 1 {
		t.Fatalf("%d letters", len(letters))
	}
	l := letters[0]
	if l.Destination != "Altro" || !l.Certified || l.From != "mario@"+domain || !slices.Equal(l.Recipients, []string{rossi, bianchi}) || l.EightBit ||
		!l.Begun.Equal(s.Moment.Time) || !l.Until.Equal(s.Moment.Time.Add(24*time.Hour)) {
		t.Errorf("the letter is %+v", l)
	}
	r, err := p.OpenLetter(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	octets, err := io.ReadAll(r)
	if err != nil || int64(len(octets)) != l.Size {
		t.Errorf("%d octets, %v", len(octets), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	signed, err := pec.ReadSigned(strings.NewReader(string(octets)), pec.DefaultLimits())
	if err != nil || signed.Fault != nil || signed.Kind != pec.TransportEnvelope {
		t.Errorf("the letter is no envelope: %v", err)
	}
	if b := p.Backlog(); b.Elsewhere != 1 || b.Letters != 1 || b.Waiting != 0 {
		t.Errorf("backlog %+v", b)
	}
	if err := p.answer(w.relay, later); err != nil {
		t.Fatal(err)
	}
	if err := p.answer(w.relay, taken); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		kind pec.Kind
		to   []string
	}{{pec.TakeCharge, []string{rossi, bianchi}}, {pec.Delivery, []string{rossi}}, {pec.Delivery, []string{rossi}}} {
		if err := p.hear(s, step.kind, "", step.to...); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if b := p.Backlog(); b.Elsewhere != 1 || b.Letters != 0 {
		t.Errorf("one outcome is missing, and the backlog is %+v", b)
	}
	if err := p.hear(s, pec.NonDelivery, "5.2.2 - Altro - casella piena", bianchi); err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if !p.idle() {
		t.Errorf("everything has come, and the backlog is %+v", p.Backlog())
	}
	want := map[record.Kind]int{record.Submitted: 1, record.AcceptanceIssued: 1, record.Enveloped: 1, record.NotificationDelivered: 1, record.Deferred: 1, record.Relayed: 1}
	if got := p.records(t, "one"); !maps.Equal(got, want) {
		t.Errorf("records %v", got)
	}
	err = p.register.Search(t.Context(), register.Query{Identifier: "one@client"}, time.Now().Add(time.Hour), func(f *register.Found) bool {
		if r := f.Record; r.Kind == record.Relayed {
			if !slices.Equal(r.About, []string{rossi, bianchi}) || r.Peer.TLS != "TLS 1.3" || r.MessageID != trimID(s.envelopeID(p.Pipeline, p.txOf(s))) || len(r.Generated) != 0 ||
				!slices.Contains(r.Detail, record.Pair{Name: "destination", Value: "Altro"}) || !slices.Contains(r.Detail, record.Pair{Name: "type", Value: "posta-certificata"}) {
				t.Errorf("the record says %+v", r)
			}
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
}

// A provider that refuses an envelope for good is answered for by us; what it says
// of its own part, or a virus, reaches the author signed, once.
func TestRefusedAndInfected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	s, err := p.send("one", listed("lucia@"+domain, rossi, bianchi), "lucia@"+domain, rossi, bianchi)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	err = p.answer(w.relay, func(to string) relay.Answer {
		if to == rossi {
			return refused(to)
		}
		return taken(to)
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.hear(s, pec.VirusDetection, "5.5.1 - Altro - presenza di un virus nel messaggio (Eicar-Test-Signature)", bianchi); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if !p.idle() {
		t.Errorf("the backlog is %+v", p.Backlog())
	}
	if got := w.mailboxOf("mario"); !maps.Equal(got, map[pec.Kind]int{pec.Acceptance: 1, pec.Delivery: 1, pec.NonDelivery: 2}) {
		t.Errorf("mario has %v", got)
	}
	if got := w.mailboxOf("lucia"); !maps.Equal(got, ofRecipient) {
		t.Errorf("lucia has %v", got)
	}
	got := map[string]string{}
	err = p.register.Search(t.Context(), register.Query{Identifier: "one@client"}, time.Now().Add(time.Hour), func(f *register.Found) bool {
		if r := f.Record; r.Kind == record.NonDeliveryIssued {
			m, err := p.register.Receipts().Get(f.Opened.ID)
			if err != nil {
				t.Error(err)
				return false
			}
			signed, err := pec.ReadSigned(io.NewSectionReader(m.Reader(nil), 0, m.Size), pec.DefaultLimits())
			if err != nil || signed.Fault != nil {
				t.Error(err, signed.Fault)
				return false
			}
			got[r.About[0]] = signed.Certification.Detail
		}
		return true
	})
	want := map[string]string{rossi: "5.1.1 - Altro - no such user", bianchi: "5.5.1 - Esempio - presenza di un virus nel messaggio (Eicar-Test-Signature)"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, the non-deliveries say %q", err, got)
	}
}

// The clock of a recipient: twelve hours without a sign, twenty-three without an
// outcome, never earlier, each told once; with a take-charge only the last.
func TestNoticesOfDelay(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name        string
		takenAfter  time.Duration // 0: never
		downFrom    time.Duration // the provider is stopped
		downTo      time.Duration
		delay, last int
	}{
		{name: "nothing", delay: 1, last: 1},
		{name: "taken at once", takenAfter: time.Minute, last: 1},
		{name: "taken late", takenAfter: 13 * time.Hour, delay: 1, last: 1},
		{name: "stopped meanwhile", downFrom: 11 * time.Hour, downTo: 30 * time.Hour, delay: 1, last: 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.odd = x.downTo > 0 // the last notice comes too late
			p, err := w.begin(durable.OS)
			if err != nil {
				t.Fatal(err)
			}
			s, err := p.send("one", listed(rossi), rossi)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.drain(); err != nil {
				t.Fatal(err)
			}
			if err := p.answer(w.relay, taken); err != nil {
				t.Fatal(err)
			}
			begun := w.clock.at
			stopped := false
			for hour := time.Duration(0); hour <= 48*time.Hour; hour += 30 * time.Minute {
				w.clock.mu.Lock()
				w.clock.at = begun.Add(hour)
				w.clock.mu.Unlock()
				if hour > 0 && hour == x.downFrom {
					stopped = true
					if err := p.end(); err != nil {
						t.Fatal(err)
					}
				}
				if stopped && hour < x.downTo {
					continue
				}
				if stopped {
					stopped = false
					if p, err = w.begin(durable.OS); err != nil {
						t.Fatal(err)
					}
				}
				if x.takenAfter > 0 && hour >= x.takenAfter {
					if err := p.hear(s, pec.TakeCharge, "", rossi); err != nil {
						t.Fatal(err)
					}
				}
				p.look()
				if err := p.drain(); err != nil {
					t.Fatal(err)
				}
				got := p.records(t, "one")
				if hour < 12*time.Hour-time.Minute && got[record.DelayNoticeIssued] > 0 || hour < 22*time.Hour && got[record.TimeoutNoticeIssued] > 0 {
					t.Fatalf("after %v there is %v", hour, got)
				}
				if x.downTo == 0 && hour > 12*time.Hour && got[record.DelayNoticeIssued] != x.delay || hour > x.downTo && hour > 23*time.Hour && got[record.TimeoutNoticeIssued] != x.last {
					t.Fatalf("after %v there is %v", hour, got)
				}
			}
			if got := w.mailboxOf("mario"); got[pec.DelayNotice] != x.delay+x.last {
				t.Errorf("mario has %v", got)
			}
			if !p.idle() {
				t.Errorf("the backlog is %+v", p.Backlog())
			}
			if err := p.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The disk stops, or the power goes, at every single call of a message's way to
// another provider and of what comes back: after a restart the same is there as if
// nothing had been, once.
func TestCrashAtEveryCallElsewhere(t *testing.T) {
	t.Parallel()
	// One recipient is refused, one is taken and delivered to, of one nothing is heard;
	// one is of ours, and one is ordinary and refused.
	const silent = "neri@altro.example"
	answers := func(to string) relay.Answer {
		if to == rossi || to == verdi {
			return refused(to)
		}
		return taken(to)
	}
	rest := func(p *process, q *testRelay, s *submission) error {
		if err := p.drain(); err != nil {
			return err
		}
		if err := p.answer(q, answers); err != nil {
			return err
		}
		if err := p.hear(s, pec.TakeCharge, "", bianchi); err != nil {
			return err
		}
		if err := p.hear(s, pec.Delivery, "", bianchi); err != nil {
			return err
		}
		p.look()
		if err := p.drain(); err != nil {
			return err
		}
		p.clock.(*testClock).advance(12 * time.Hour)
		p.look()
		if err := p.drain(); err != nil {
			return err
		}
		p.clock.(*testClock).advance(11 * time.Hour)
		p.look()
		if err := p.drain(); err != nil {
			return err
		}
		p.clock.(*testClock).advance(25 * time.Hour)
		p.look()
		return p.drain()
	}
	want := map[record.Kind]int{record.Submitted: 1, record.AcceptanceIssued: 1, record.Enveloped: 1, record.Relayed: 1, record.Bounced: 2, record.NonDeliveryIssued: 1,
		record.Received: 1, record.TakeChargeIssued: 1, record.Delivered: 1, record.DeliveryIssued: 1,
		record.DelayNoticeIssued: 1, record.TimeoutNoticeIssued: 1, record.NotificationDelivered: 6}
	ofAuthor := map[pec.Kind]int{pec.Acceptance: 1, pec.Delivery: 1, pec.NonDelivery: 1, pec.DelayNotice: 2, pec.AnomalyEnvelope: 1}
	for _, power := range []bool{false, true} {
		name := "kill"
		if power {
			name = "power"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			step := 1
			if testing.Short() {
				step = 9
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
				s, sent := p.send("one", listed(rossi, bianchi, silent, verdi, "lucia@"+domain), rossi, bianchi, silent, verdi, "lucia@"+domain)
				if sent == nil {
					_ = rest(p, w.relay, s)
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
				if s != nil {
					if err := rest(p, w.relay, s); err != nil {
						t.Fatalf("call %d: going on: %v", n, err)
					}
				}
				got := p.records(t, "one")
				nothing := len(got) == 0 && len(w.mailboxOf("mario")) == 0
				if all := maps.Equal(got, want) && maps.Equal(w.mailboxOf("mario"), ofAuthor); !all && (sent == nil || !nothing) {
					t.Errorf("call %d (250: %v): records %v, mario %v", n, sent == nil, got, w.mailboxOf("mario"))
				}
				if !p.idle() {
					t.Errorf("call %d: the backlog is %+v", n, p.Backlog())
				}
				if err := p.log.Verify(t.Context()); err != nil {
					t.Errorf("call %d: the log: %v", n, err)
				}
				if err := p.end(); err != nil {
					t.Errorf("call %d: %v", n, err)
				}
				if !crashed {
					break
				}
				total++
			}
			if total < 5 {
				t.Errorf("only %d crashes", total)
			}
			t.Logf("%d crashes", total)
		})
	}
}
