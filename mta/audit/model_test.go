package audit

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/register/record"
)

// world is a model of two providers and what is outside of them. It makes
// correct histories: every flow of RFC 6109 section 3, in any order that
// providers, queues and receipts on their way may give them.
type world struct {
	rand    *rand.Rand
	now     time.Time
	a, b    *house
	threads []*thread
	serial  int
}

// house is a provider and its register.
type house struct {
	name, domain, service string
	log                   []*record.Record
}

// thread is a piece of work whose steps come in order; between them anything of
// other threads may happen.
type thread struct {
	at    time.Time // of the next step
	steps []func()
}

func newWorld(seed uint64) *world {
	house := func(name, domain string) *house {
		return &house{name: name, domain: domain, service: "posta-certificata@" + domain}
	}
	return &world{rand: rand.New(rand.NewPCG(seed, 4)), now: start, a: house("Alfa", "pec.alfa.it"), b: house("Beta", "pec.beta.it")}
}

func (w *world) chance(percent int) bool { return w.rand.IntN(100) < percent }

// soon is a moment after now.
func (w *world) soon() time.Time {
	return w.now.Add(time.Duration(1+w.rand.IntN(5000)) * time.Millisecond)
}

// spawn begins a thread soon, at another at a time.
func (w *world) spawn(steps ...func()) { w.another(w.soon(), steps...) }

func (w *world) another(at time.Time, steps ...func()) {
	w.threads = append(w.threads, &thread{at, steps})
}

// run carries all threads to their end, in the order of their times, which are
// random.
func (w *world) run() {
	for len(w.threads) > 0 {
		t := slices.MinFunc(w.threads, func(x, y *thread) int { return x.at.Compare(y.at) })
		if len(t.steps) == 0 {
			w.threads = slices.DeleteFunc(w.threads, func(x *thread) bool { return x == t })
			continue
		}
		w.now = t.at
		step := t.steps[0]
		t.steps = t.steps[1:]
		step()
		t.at = w.soon()
	}
}

// unique returns an identifier.
func (w *world) unique(domain string) string {
	w.serial++
	return fmt.Sprintf("u%d@%s", w.serial, domain)
}

// digest is that of the bytes of what has this name.
func digest(name string) []byte { s := sha256.Sum256([]byte(name)); return s[:] }

// mail is one certified message.
type mail struct {
	w     *world
	from  *house
	id    string
	model record.Record
	begun time.Time
}

// event makes a record at h.
func (m *mail) event(k record.Kind, at time.Time, about ...string) *record.Record {
	r := m.model
	r.Kind, r.Time, r.About = k, at, about
	return &r
}

// issue makes the record of a message of h's own.
func (m *mail) issue(h *house, k record.Kind, at time.Time, about ...string) *record.Record {
	r := m.event(k, at, about...)
	id := m.w.unique(h.domain)
	r.Generated, r.Digest, r.Content, r.Size = []string{id}, digest(id), digest("c"+id), 900
	return r
}

// put records that a message got into a mailbox.
func (m *mail) put(h *house, of *record.Record, box string) {
	r := *of
	r.Kind, r.About, r.Time, r.Detail, r.Outcome = record.NotificationDelivered, []string{box}, m.w.now, nil, record.Outcome{}
	if m.w.chance(3) {
		r.Kind, r.Outcome = record.NotificationFailed, record.Outcome{Code: "5.2.2"}
	}
	h.log = append(h.log, &r)
}

func passage(k record.Kind, at time.Time, of *record.Record, typ, destination string, about []string, tls string) *record.Record {
	r := *of
	r.Kind, r.Time, r.About, r.Generated, r.Outcome = k, at, about, nil, record.Outcome{Code: "2.0.0"}
	r.Peer = record.Peer{Address: "127.0.0.1:25", TLS: tls}
	r.Detail = record.SortDetail([]record.Pair{{Name: "destination", Value: destination}, {Name: "host", Value: "mx"}, {Name: "message", Value: of.Generated[0]}, {Name: "type", Value: typ}})
	return &r
}

// give passes something of from on to another provider: attempts that fail for
// now, the one that does not, and what arrived. The receiver may act before the
// sender knows that it has the message.
func (m *mail) give(from *house, of *record.Record, typ, destination string, about []string, arrive func()) {
	var steps []func()
	for m.w.chance(20) {
		steps = append(steps, func() {
			r := passage(record.Deferred, m.w.now, of, typ, destination, about, "")
			r.Outcome = record.Outcome{Code: "4.3.2", Text: "later"}
			from.log = append(from.log, r)
		})
	}
	steps = append(steps, func() { arrive() }, func() {
		from.log = append(from.log, passage(record.Relayed, m.w.now, of, typ, destination, about, "TLS 1.3"))
	})
	m.w.spawn(steps...)
}

// send begins a message. The first letter of a recipient says what becomes of
// it: o(k), n(o such mailbox), r(efused by the provider), v(irus seen there),
// s(een after 14 hours), d(ead: nothing comes), t(aken in charge, and the receipt
// comes after 30 hours), x (ordinary), y (ordinary and refused).
func (w *world) send(from *house, recipients ...string) *mail {
	w.serial++
	n := w.serial
	m := &mail{w: w, from: from, id: fmt.Sprintf("opec%d@%s", n, from.domain)}
	m.model = record.Record{MessageID: m.id, OriginalID: fmt.Sprintf("<o%d@client>", n), Sender: "mario@" + from.domain, Subject: fmt.Sprint("Oggetto ", n), Provider: from.name, ReceiptType: "completa"}
	for _, r := range recipients {
		m.model.Recipients = append(m.model.Recipients, record.Recipient{Address: r, Certified: strings.HasSuffix(r, w.a.domain) || strings.HasSuffix(r, w.b.domain)})
	}
	return m
}

func (m *mail) submitted() *record.Record {
	m.begun = m.w.now
	r := m.event(record.Submitted, m.begun)
	r.Digest, r.Size, r.Actor = digest("original "+m.id), 500, m.model.Sender
	m.from.log = append(m.from.log, r)
	return r
}

func (m *mail) virus(h *house, in []byte, about ...string) {
	f, q := m.event(record.VirusFound, m.w.now, about...), m.event(record.Quarantined, m.w.now, about...)
	f.Digest, q.Digest = in, in
	f.Detail = []record.Pair{{Name: "engine", Value: "ClamAV"}, {Name: "signatures", Value: "27000, 3h"}, {Name: "virus", Value: "Eicar-Test-Signature"}}
	h.log = append(h.log, f, q)
}

// refuse is a message that is not accepted, for its form or for a virus.
func (m *mail) refuse(infected bool) {
	m.w.spawn(func() {
		m.submitted()
		if infected {
			m.virus(m.from, digest("original "+m.id))
		}
	}, func() {
		non := m.issue(m.from, record.NonAcceptanceIssued, m.begun)
		non.Outcome = record.Outcome{Code: "5.6.0", Text: "no"}
		m.from.log = append(m.from.log, non)
		m.w.spawn(func() { m.put(m.from, non, non.Sender) })
	})
}

// accept is a message that is accepted, and all that follows.
func (m *mail) accept() {
	w, from := m.w, m.from
	other := w.b
	if from == w.b {
		other = w.a
	}
	w.spawn(func() { m.submitted() }, func() {
		acceptance, envelope := m.issue(from, record.AcceptanceIssued, m.begun), m.issue(from, record.Enveloped, m.begun)
		envelope.Generated = []string{m.id}
		from.log = append(from.log, acceptance, envelope)
		w.spawn(func() { m.put(from, acceptance, acceptance.Sender) })
		var local, remote, ordinary []string
		for _, r := range m.model.Recipients {
			switch {
			case strings.HasSuffix(r.Address, from.domain):
				local = append(local, r.Address)
			case r.Certified:
				remote = append(remote, r.Address)
			default:
				ordinary = append(ordinary, r.Address)
			}
		}
		if len(local) > 0 {
			w.spawn(m.receive(from, envelope, local)...)
		}
		for _, r := range ordinary {
			m.ordinary(envelope, r)
		}
		m.certified(other, envelope, remote)
	})
}

// ordinary passes the envelope on to a recipient who is not certified.
func (m *mail) ordinary(envelope *record.Record, r string) {
	w, from := m.w, m.from
	if r[0] != 'y' {
		w.spawn(func() {
			from.log = append(from.log, passage(record.Relayed, w.now, envelope, typeEnvelope, "example.org", []string{r}, ""))
		})
		return
	}
	w.spawn(func() {
		b := passage(record.Bounced, w.now, envelope, typeEnvelope, "example.org", []string{r}, "")
		b.Outcome = record.Outcome{Code: "5.1.1", Text: "no such user"}
		from.log = append(from.log, b)
		w.anomaly(from, m.model.Sender)
	})
}

// certified passes the envelope on to recipients of another provider, in one
// transaction or two.
func (m *mail) certified(other *house, envelope *record.Record, remote []string) {
	var fine []string
	for _, r := range remote {
		switch r[0] {
		case 'r':
			m.refused(other, envelope, r)
		case 'd':
			m.dead(other, envelope, r)
		case 's':
			m.notice(record.DelayNoticeIssued, 12*time.Hour+time.Second, r)
			m.w.another(m.begun.Add(14*time.Hour), func() {
				m.give(m.from, envelope, typeEnvelope, other.name, []string{r}, func() { m.w.spawn(m.receive(other, envelope, []string{r})...) })
			})
		default:
			fine = append(fine, r)
		}
	}
	w := m.w
	for len(fine) > 0 {
		n := len(fine)
		if w.chance(40) {
			n = 1 + w.rand.IntN(n)
		}
		part := fine[:n]
		fine = fine[n:]
		give := func() {
			m.give(m.from, envelope, typeEnvelope, other.name, part, func() { w.spawn(m.receive(other, envelope, part)...) })
		}
		if w.chance(80) {
			give()
		} else { // when all is done with the recipients before
			w.another(m.begun.Add(time.Duration(w.rand.IntN(9))*time.Hour), give)
		}
	}
}

// refused is a permanent refusal by the recipient's provider.
func (m *mail) refused(other *house, envelope *record.Record, r string) {
	w, from := m.w, m.from
	w.spawn(func() {
		b := passage(record.Bounced, w.now, envelope, typeEnvelope, other.name, []string{r}, "TLS 1.3")
		b.Outcome = record.Outcome{Code: "5.7.1", Text: "no"}
		from.log = append(from.log, b)
	}, func() { m.sorry(r, "5.7.1") })
}

// sorry tells the sender of a non-delivery in the name of the sender's provider.
func (m *mail) sorry(r, code string) {
	non := m.issue(m.from, record.NonDeliveryIssued, m.w.now, r)
	non.Outcome = record.Outcome{Code: code, Text: "x"}
	m.from.log = append(m.from.log, non)
	m.w.spawn(func() { m.put(m.from, non, non.Sender) })
}

// notice tells the sender when time has passed.
func (m *mail) notice(k record.Kind, after time.Duration, r string) {
	m.w.another(m.begun.Add(after), func() {
		n := m.issue(m.from, k, m.w.now, r)
		m.from.log = append(m.from.log, n)
		m.w.spawn(func() { m.put(m.from, n, n.Sender) })
	})
}

// dead is a provider that never answers, until the queue gives up.
func (m *mail) dead(other *house, envelope *record.Record, r string) {
	fails := func(k record.Kind, code string) func() {
		return func() {
			d := passage(k, m.w.now, envelope, typeEnvelope, other.name, []string{r}, "")
			d.Outcome = record.Outcome{Code: code, Text: "no answer"}
			m.from.log = append(m.from.log, d)
		}
	}
	m.w.spawn(fails(record.Deferred, "4.4.1"))
	m.notice(record.DelayNoticeIssued, 12*time.Hour+time.Minute, r)
	m.notice(record.TimeoutNoticeIssued, 23*time.Hour, r)
	m.w.another(m.begun.Add(24*time.Hour), fails(record.Bounced, "4.4.7"))
}

// reply makes the record of what comes back from h about the message, and puts it
// into its mailbox.
func (m *mail) reply(h *house, of *record.Record, typ string) {
	r := *of
	r.Kind, r.Time, r.Provider = record.NotificationReceived, m.w.now, h.name
	r.Subject, r.OriginalID = strings.ToUpper(r.Subject), "" // others word it in their way
	box := r.Sender
	if typ == typeTakeCharge || typ == typeVirus {
		box = m.from.service
	}
	r.Detail = []record.Pair{{Name: "mailboxes", Value: box}, {Name: "type", Value: typ}}
	m.from.log = append(m.from.log, &r)
	if m.w.chance(3) { // an infected receipt is heard, and reaches nobody
		m.virus(m.from, r.Digest, box)
		failed := r
		failed.Kind, failed.About, failed.Detail, failed.Outcome = record.NotificationFailed, []string{box}, nil, record.Outcome{Code: "5.5.1"}
		m.from.log = append(m.from.log, &failed)
	} else {
		m.w.spawn(func() { m.put(m.from, &r, box) })
	}
	if typ == typeVirus {
		m.w.spawn(func() { m.sorry(r.About[0], "5.5.1") })
	}
}

// answer hands a receipt of h to the sender: into the mailbox, or to its
// provider.
func (m *mail) answer(h *house, of *record.Record, box string, typ string) {
	h.log = append(h.log, of)
	if h == m.from {
		m.w.spawn(func() { m.put(h, of, box) })
		return
	}
	m.give(h, of, typ, m.from.name, []string{box}, func() { m.reply(h, of, typ) })
}

// receive is the work of the Incoming and the Delivery Point of h for recipients
// of one transaction.
func (m *mail) receive(h *house, envelope *record.Record, recipients []string) []func() {
	w := m.w
	var at time.Time
	infected := h != m.from && slices.ContainsFunc(recipients, func(r string) bool { return r[0] == 'v' })
	copyOf := func(k record.Kind, about ...string) *record.Record {
		r := m.event(k, w.now, about...)
		r.Digest, r.Content, r.Size = envelope.Digest, envelope.Content, envelope.Size
		return r
	}
	steps := []func(){func() {
		at = w.now
		h.log = append(h.log, copyOf(record.Received, recipients...))
		if infected {
			m.virus(h, envelope.Digest, recipients...)
		}
	}}
	if !infected || w.chance(50) {
		steps = append(steps, func() {
			charge := m.issue(h, record.TakeChargeIssued, at, recipients...)
			m.answer(h, charge, m.from.service, typeTakeCharge)
		})
	}
	for _, r := range recipients {
		steps = append(steps, func() {
			switch {
			case infected:
				m.answer(h, m.issue(h, record.VirusDetectionIssued, w.now, r), m.from.service, typeVirus)
			case r[0] == 'n':
				non := m.issue(h, record.NonDeliveryIssued, w.now, r)
				non.Outcome = record.Outcome{Code: "5.1.1", Text: "indirizzo non valido"}
				m.answer(h, non, non.Sender, typeNonDelivery)
			case r[0] == 't' && h != m.from:
				m.notice(record.TimeoutNoticeIssued, 22*time.Hour, r)
				w.another(m.begun.Add(10*time.Hour), func() {
					at, receipt := w.now, m.issue(h, record.DeliveryIssued, w.now, r)
					d := copyOf(record.Delivered, r)
					d.Time = at
					h.log = append(h.log, d, receipt)
					w.another(m.begun.Add(30*time.Hour), func() {
						m.give(h, receipt, typeDelivery, m.from.name, []string{receipt.Sender}, func() { m.reply(h, receipt, typeDelivery) })
					})
				})
			default:
				m.delivered(h, copyOf(record.Delivered, r), r)
			}
		})
	}
	return steps
}

func (m *mail) delivered(h *house, delivered *record.Record, r string) {
	delivered.Time = m.w.now
	h.log = append(h.log, delivered)
	m.answer(h, m.issue(h, record.DeliveryIssued, m.w.now, r), m.model.Sender, typeDelivery)
}

// anomaly is a message that is no correct PEC message, for mailboxes of h.
func (w *world) anomaly(h *house, boxes ...string) {
	m := &mail{w: w, from: h, id: w.unique(h.domain)}
	m.model = record.Record{MessageID: m.id, OriginalID: "<" + w.unique("elsewhere") + ">", Sender: "qualcuno@example.org", Subject: "Ciao"}
	for _, b := range boxes {
		m.model.Recipients = append(m.model.Recipients, record.Recipient{Address: b, Certified: true})
	}
	infected := w.chance(15)
	var envelope *record.Record
	w.spawn(func() {
		r := m.event(record.UncertifiedReceived, w.now, boxes...)
		r.Digest, r.Size, r.Detail = digest(m.id), 400, []record.Pair{{Name: "reason", Value: "not signed"}}
		h.log = append(h.log, r)
		if infected {
			m.virus(h, r.Digest)
		}
	}, func() {
		if infected {
			return
		}
		envelope = m.issue(h, record.AnomalyEnveloped, w.now)
		envelope.Generated = []string{"same@elsewhere"} // that of the message, which anybody may use again
		h.log = append(h.log, envelope)
	}, func() {
		for _, b := range boxes {
			if !infected {
				w.spawn(func() { m.put(h, envelope, b) })
			}
		}
	})
}

// redirected is a receipt that somebody has sent on from another provider to a
// mailbox of h, about a message of which h knows nothing.
func (w *world) redirected(h *house) {
	m := &mail{w: w, from: h, id: w.unique("elsewhere")}
	m.model = record.Record{MessageID: m.id, Sender: "altri@elsewhere", Recipients: []record.Recipient{{Address: "x@elsewhere", Certified: true}}}
	w.spawn(func() {
		r := m.issue(h, record.NotificationReceived, w.now, "x@elsewhere")
		r.Provider, r.Detail = "Gamma", []record.Pair{{Name: "mailboxes", Value: "mario@" + h.domain}, {Name: "type", Value: typeDelivery}}
		h.log = append(h.log, r)
		w.spawn(func() { m.put(h, r, "mario@"+h.domain) })
	})
}

// history fills the world with messages of every sort, both ways.
func history(seed uint64, messages int) *world {
	w := newWorld(seed)
	for range messages {
		from, other := w.a, w.b
		if w.chance(50) {
			from, other = other, from
		}
		switch w.rand.IntN(12) {
		case 0:
			w.send(from, "ok@"+other.domain).refuse(false)
		case 1:
			w.send(from, "ok@"+other.domain).refuse(true)
		case 2:
			w.anomaly(from, "mario@"+from.domain, "luca@"+from.domain)
		case 3:
			w.redirected(from)
		default:
			var to []string
			for _, sort := range w.rand.Perm(len(sorts))[:1+w.rand.IntN(6)] {
				switch s := sorts[sort]; s[0] {
				case 'l':
					to = append(to, "ok9@"+from.domain)
				case 'm':
					to = append(to, "nessuno9@"+from.domain)
				case 'x', 'y':
					to = append(to, s+"@example.org")
				default:
					to = append(to, s+"@"+other.domain)
				}
			}
			w.send(from, to...).accept()
		}
	}
	w.run()
	return w
}

// sorts of recipients: see send; l and m are local, the second does not exist.
var sorts = []string{"ok1", "ok2", "ok3", "nessuno", "rifiutato", "virus", "silenzioso", "defunto", "tace", "xordinario", "yordinario", "l", "m"}

func (h *house) audit(opt Options) *Report {
	opt.ServiceMailbox = h.service
	a := New(opt)
	for i, r := range h.log {
		a.Add(uint64(i), r)
	}
	return a.Finish()
}

// Nothing is imagined in correct histories of two providers.
func TestModelIsClean(t *testing.T) {
	t.Parallel()
	opt := Options{Now: start.Add(96 * time.Hour), Settled: true}
	kinds := map[record.Kind]bool{}
	for seed := range uint64(60) {
		w := history(seed, 40)
		for _, h := range []*house{w.a, w.b} {
			r := h.audit(opt)
			if r.Open != 0 || r.Messages == 0 {
				t.Errorf("seed %d, %s: %d messages, %d open", seed, h.name, r.Messages, r.Open)
			}
			for _, f := range r.Findings {
				t.Errorf("seed %d, %s: %v", seed, h.name, f)
			}
			for _, x := range h.log {
				kinds[x.Kind] = true
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	for k := record.Submitted; k <= record.AnomalyEnveloped; k++ {
		if !kinds[k] {
			t.Errorf("the model makes no %s", k)
		}
	}
}
