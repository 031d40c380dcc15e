package mta

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/foxcpp/go-mockdns"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/mta/pec"
	"scripta/mta/providers"
	"scripta/mta/relay"
	"scripta/mta/scan"
	"scripta/register"
	"scripta/register/record"
)

// letters reads what is to go to an address, by kind.
func (p *process) letters(t *testing.T, q *testRelay, to string) map[pec.Kind][]*pec.Signed {
	t.Helper()
	got := map[pec.Kind][]*pec.Signed{}
	for _, l := range q.all() {
		if !slices.Contains(l.Recipients, to) {
			continue
		}
		if !l.Certified || l.From != "posta-certificata@"+domain {
			t.Errorf("letter %+v", l)
		}
		r, err := p.OpenLetter(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		s, err := pec.ReadSigned(r, pec.DefaultLimits())
		if err != nil || s.Fault != nil {
			t.Fatalf("letter to %s: %v %v", to, err, s.Fault)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		got[s.Kind] = append(got[s.Kind], s)
	}
	return got
}

func counts(m map[pec.Kind][]*pec.Signed) map[pec.Kind]int {
	n := map[pec.Kind]int{}
	for k, all := range m {
		n[k] = len(all)
	}
	return n
}

// under counts the records of a message by its identifier.
func (p *process) under(t *testing.T, id string) map[record.Kind]int {
	t.Helper()
	got := map[record.Kind]int{}
	err := p.register.Search(t.Context(), register.Query{MessageID: id}, time.Now().Add(24*time.Hour), func(f *register.Found) bool {
		got[f.Record.Kind]++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// files are the octets of the messages in a mailbox.
func (w *world) files(local string) (all [][]byte) {
	w.t.Helper()
	names, err := filepath.Glob(filepath.Join(w.data, "mail", domain, local, "new", "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// An envelope of another provider for a mailbox, one that is full and one that is
// not there: one take-charge for all, to the address in the index; the envelope
// octet for octet; an outcome for each, to the sender.
func TestReception(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	to := []string{"lucia@" + domain, "piena@" + domain, "nessuno@" + domain}
	msg := b.envelope("prova", to...)
	got, err := p.come(b.at("anna"), msg, to...)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	id := trimID(got.Certification.EnvelopeID)
	if files := w.files("lucia"); len(files) != 1 || !bytes.Equal(files[0], msg) {
		t.Errorf("lucia has %d messages, or not the envelope as it came", len(files))
	}
	service := p.letters(t, w.relay, b.entry.ServiceAddress)
	if !maps.Equal(counts(service), map[pec.Kind]int{pec.TakeCharge: 1}) || !slices.Equal(service[pec.TakeCharge][0].Certification.Taken, to) {
		t.Errorf("the provider gets %v", counts(service))
	}
	anna := p.letters(t, w.relay, b.at("anna"))
	if !maps.Equal(counts(anna), map[pec.Kind]int{pec.Delivery: 1, pec.NonDelivery: 2}) {
		t.Errorf("the sender gets %v", counts(anna))
	}
	codes := map[string]string{}
	for _, n := range anna[pec.NonDelivery] {
		codes[n.Certification.Recipient] = n.Certification.Detail[:5]
	}
	if want := map[string]string{to[1]: "5.2.2", to[2]: "5.1.1"}; !maps.Equal(codes, want) {
		t.Errorf("codes %v", codes)
	}
	want := map[record.Kind]int{record.Received: 1, record.TakeChargeIssued: 1, record.Delivered: 1, record.DeliveryIssued: 1, record.NonDeliveryIssued: 2}
	if got := p.under(t, id); !maps.Equal(got, want) {
		t.Errorf("records %v, want %v", got, want)
	}
	if err := p.answer(w.relay, taken); err != nil {
		t.Fatal(err)
	}
	want[record.Relayed] = 4
	if got := p.under(t, id); !maps.Equal(got, want) {
		t.Errorf("records %v, want %v", got, want)
	}
	if !p.idle() || p.metrics.Alarms.Load() != 0 {
		t.Errorf("backlog %+v, %d alarms", p.Backlog(), p.metrics.Alarms.Load())
	}
}

// A whole message between the two: ours to theirs, their receipts back to us. What
// they say ends the wait; a receipt of somebody else does not.
func TestReceiptsComeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.odd = true // a provider tells of a recipient of another
	b := w.join(newForeign(t, "Beta", "beta.example"))
	c := w.join(newForeign(t, "Gamma", "gamma.example"))
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	s, err := p.send("one", listed(b.at("anna")), b.at("anna"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if err := p.answer(w.relay, taken); err != nil {
		t.Fatal(err)
	}
	id := trimID(s.envelopeID(p.Pipeline, p.txOf(s)))
	come := func(f *foreign, m *pec.Message, err error, to string) {
		t.Helper()
		if _, err := p.come(f.at("posta-certificata"), f.bytes(m, nil, err), to); err != nil {
			t.Fatal(err)
		}
		if err := p.drain(); err != nil {
			t.Fatal(err)
		}
	}
	m, err := b.composer.TakeCharge(b.issue(), b.facts(id), "posta-certificata@"+domain, []string{b.at("anna")})
	come(b, m, err, "posta-certificata@"+domain)
	m, err = c.composer.Delivery(c.issue(), b.facts(id), b.at("anna"), pec.Concise, nil) // not anna's provider
	come(c, m, err, "mario@"+domain)
	if p.idle() {
		t.Error("somebody else's receipt ended the wait")
	}
	m, err = b.composer.Delivery(b.issue(), b.facts(id), b.at("anna"), pec.Concise, nil)
	receipt := b.bytes(m, nil, err)
	come(b, m, err, "mario@"+domain)
	if !p.idle() {
		t.Errorf("the job waits on: %+v", p.Backlog())
	}
	if got := w.mailboxOf("mario"); !maps.Equal(got, map[pec.Kind]int{pec.Acceptance: 1, pec.Delivery: 2}) {
		t.Errorf("mario has %v", got)
	}
	if got := w.mailboxOf("posta-certificata"); !maps.Equal(got, map[pec.Kind]int{pec.TakeCharge: 1}) {
		t.Errorf("the provider has %v", got)
	}
	if !slices.ContainsFunc(w.files("mario"), func(f []byte) bool { return bytes.Equal(f, receipt) }) {
		t.Error("the receipt is not there as it came")
	}
	if got := p.under(t, id); got[record.NotificationReceived] != 3 || got[record.NotificationDelivered] != 4 || len(w.relay.all()) != 1 {
		t.Errorf("records %v, %d letters: a receipt of a receipt", got, len(w.relay.all()))
	}
}

// Of two environments that sign with one certificate, the one that a recipient
// belongs to is whom the register names: it is where the envelope went.
func TestReceiptOfAnotherEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	second := *b
	second.domain = "prova.beta.example"
	second.entry = &providers.Provider{Name: "Beta di prova", Domains: []string{second.domain}, ServiceAddress: "ricevute@" + second.domain, Certificates: b.entry.Certificates}
	w.foreign = append(w.foreign, &second)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.send("one", listed(second.at("anna")), second.at("anna"))
	if err == nil {
		err = errors.Join(p.drain(), p.answer(w.relay, taken))
	}
	if err != nil {
		t.Fatal(err)
	}
	id := trimID(s.envelopeID(p.Pipeline, p.txOf(s)))
	m, err := b.composer.TakeCharge(second.issue(), second.facts(id), "posta-certificata@"+domain, []string{second.at("anna")})
	charge := b.bytes(m, nil, err)
	m, err = b.composer.Delivery(second.issue(), second.facts(id), second.at("anna"), pec.Concise, nil)
	receipt := b.bytes(m, nil, err)
	for to, msg := range map[string][]byte{"posta-certificata@" + domain: charge, "mario@" + domain: receipt} {
		r, err := p.come(b.at("posta-certificata"), msg, to)
		if err != nil || r.Provider != "Beta di prova" {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if err := p.drain(); err != nil || !p.idle() {
		t.Errorf("%v; the job waits on: %+v", err, p.Backlog())
	}
	if err := p.end(); err != nil { // and audits
		t.Error(err)
	}
}

// What is no certified mail is whole inside its envelope, gets no receipt, and
// stands in the register under an identifier of ours alone.
func TestAnomaly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	w.incoming = Incoming{Ordinary: func(a string) bool { return strings.HasPrefix(a, "lucia@") }}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	s, err := p.send("one", listed(b.at("anna")), b.at("anna"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	id := trimID(s.envelopeID(p.Pipeline, p.txOf(s)))
	letters := len(w.relay.all())
	forged := []byte("Received: from y\r\nMessage-ID: <" + id + ">\r\nFrom: posta-certificata@beta.example\r\nX-Ricevuta: avvenuta-consegna\r\nSubject: CONSEGNA: x\r\n\r\nperch\xc3\xa9\r\n")
	bounce := []byte("From: MAILER-DAEMON@mx.example\r\nMessage-ID: <bounce@mx.example>\r\nSubject: failure\r\n\r\nMessage-ID: <" + id + ">\r\n")
	for _, x := range []struct {
		from, to string
		msg      []byte
		reason   string
	}{{b.at("anna"), "lucia@" + domain, forged, pec.AnomalyNotSigned}, {"", "mario@" + domain, bounce, pec.AnomalyUnsupported}} {
		got, err := p.come(x.from, x.msg, x.to)
		if err != nil || got.Reason != x.reason {
			t.Fatalf("from %q: %+v, %v", x.from, got, err)
		}
		if err := p.drain(); err != nil {
			t.Fatal(err)
		}
		local, _, _ := strings.Cut(x.to, "@")
		files := slices.DeleteFunc(w.files(local), func(f []byte) bool { return !bytes.Contains(f, []byte("X-Trasporto: errore")) })
		if len(files) != 1 || !bytes.Contains(files[0], x.msg) || !bytes.HasPrefix(files[0], []byte("Return-Path: <"+x.from+">\r\nReceived: from mx.example ([192.0.2.1])\r\n by "+domain+" with ESMTP id ")) {
			t.Fatalf("%s has %d anomaly envelopes: %.500s", local, len(files), files)
		}
		env, err := pec.ReadSigned(bytes.NewReader(files[0]), pec.DefaultLimits())
		if err != nil || env.Fault != nil || env.Kind != pec.AnomalyEnvelope || env.MessageID != got.Message.MessageID || env.Certification != nil {
			t.Errorf("the envelope is read as %v %v %s", err, env.Fault, env.MessageID)
		}
		mine := trimID(got.transaction(must16(t, got.id)).Issue(stepAnomaly, 0).MessageID(p.composer.Provider))
		if got := p.under(t, mine); !maps.Equal(got, map[record.Kind]int{record.UncertifiedReceived: 1, record.AnomalyEnveloped: 1, record.NotificationDelivered: 1}) {
			t.Errorf("from %q: records %v", x.from, got)
		}
	}
	if n := len(w.relay.all()); n != letters {
		t.Errorf("%d letters about what is not certified", n-letters)
	}
	if p.idle() {
		t.Error("a forged receipt ended the wait")
	}
}

func must16(t *testing.T, id string) [16]byte {
	t.Helper()
	parsed, err := relay.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// finds finds a virus in what holds a word.
type finds string

func (f finds) Scan(_ context.Context, r io.Reader) (*scan.Finding, error) {
	b, err := io.ReadAll(r)
	if err != nil || !bytes.Contains(b, []byte(f)) {
		return nil, err
	}
	return &scan.Finding{Virus: "Prova-1", Engine: "test", Signatures: "1"}, nil
}

// An infected envelope is taken in charge and kept apart, and its provider is told
// for each recipient; infected mail of others is refused.
func TestInfectedReception(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	w.scanner = finds("perch\xc3\xa9")
	w.incoming = Incoming{Ordinary: func(string) bool { return true }}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	to := []string{"lucia@" + domain, "mario@" + domain}
	got, err := p.come(b.at("anna"), b.envelope("prova", to...), to...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.come("x@y.example", []byte("From: x@y.example\r\n\r\nperch\xc3\xa9\r\n"), to...); err != error(replyInfected) {
		t.Errorf("ordinary: %v", err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if n := len(w.files("lucia")) + len(w.files("mario")); n != 0 {
		t.Errorf("%d messages were delivered", n)
	}
	if got := counts(p.letters(t, w.relay, b.entry.ServiceAddress)); !maps.Equal(got, map[pec.Kind]int{pec.TakeCharge: 1, pec.VirusDetection: 2}) {
		t.Errorf("the provider gets %v", got)
	}
	if got := counts(p.letters(t, w.relay, b.at("anna"))); len(got) != 0 {
		t.Errorf("the sender gets %v", got)
	}
	want := map[record.Kind]int{record.Received: 1, record.TakeChargeIssued: 1, record.VirusFound: 1, record.Quarantined: 1, record.VirusDetectionIssued: 2}
	if got := p.under(t, trimID(got.Certification.EnvelopeID)); !maps.Equal(got, want) {
		t.Errorf("records %v", got)
	}
	// What else a provider signed reaches nobody, either, and is kept.
	facts := b.facts("m1@" + domain)
	facts.Subject = "perch\u00e9"
	in := pec.Included{Bytes: strings.NewReader("perch\xc3\xa9"), Size: 7, Encoding: pec.EightBit}
	m, err := b.composer.Delivery(b.issue(), facts, b.at("anna"), pec.Complete, &in)
	receipt := b.bytes(m, in.Bytes, err)
	malformed := b.resigned(b.envelope("due", to...), func(e string) string { return strings.ReplaceAll(e, "daticert.xml", "x.xml") })
	for _, x := range []struct {
		from string
		msg  []byte
		want map[record.Kind]int
	}{
		{b.at("posta-certificata"), receipt, map[record.Kind]int{record.NotificationReceived: 1, record.NotificationFailed: 2, record.VirusFound: 1, record.Quarantined: 1}},
		{b.at("anna"), malformed, map[record.Kind]int{record.UncertifiedReceived: 1, record.VirusFound: 1, record.Quarantined: 1}},
	} {
		got, err := p.come(x.from, x.msg, to...)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.drain(); err != nil {
			t.Fatal(err)
		}
		id := got.record(p.Pipeline, must16(t, got.id), record.Received).MessageID
		if records := p.under(t, id); !maps.Equal(records, x.want) {
			t.Errorf("%s: records %v", got.Class, records)
		}
	}
	if n := len(w.files("lucia")) + len(w.files("mario")); n != 0 {
		t.Errorf("%d messages were delivered", n)
	}
}

// The disk stops, or the power goes, at every single call of a reception's way.
// What was answered 250 ends in one take-charge, one envelope in the mailbox and
// one receipt, or for a notification and ordinary mail in one message in the
// mailbox; and when its sender tries again, nothing is there twice.
func TestCrashAtEveryCallOfAReception(t *testing.T) {
	t.Parallel()
	for _, class := range []class{isEnvelope, isNotification, isOrdinary} {
		for _, power := range []bool{false, true} {
			name := string(class) + " kill"
			if power {
				name = string(class) + " power"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				step := 1
				if testing.Short() {
					step = 4
				}
				crashes := 0
				for n := 1; ; n += step {
					if !crashReception(t, class, power, n) {
						break
					}
					crashes++
				}
				if crashes < 4 {
					t.Errorf("only %d crashes", crashes)
				}
				t.Logf("%d crashes", crashes)
			})
		}
	}
}

// crashReception reports whether the crash happened.
func crashReception(t *testing.T, class class, power bool, n int) bool {
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	w.incoming = Incoming{Ordinary: func(string) bool { return true }}
	lucia := "lucia@" + domain
	from, msg := b.at("anna"), b.envelope("prova", lucia)
	switch class {
	case isNotification:
		m, err := b.composer.Delivery(b.issue(), b.facts("m1@"+domain), b.at("anna"), pec.Concise, nil)
		from, msg = b.at("posta-certificata"), b.bytes(m, nil, err)
	case isOrdinary:
		from, msg = "x@y.example", []byte("From: x@y.example\r\nMessage-ID: <one@y.example>\r\n\r\nx\r\n")
	}
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
	_, sent := p.come(from, msg, lucia)
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
	if p, err = w.begin(durable.OS); err != nil {
		t.Fatalf("call %d: starting again: %v", n, err)
	}
	if err := p.drain(); err != nil {
		t.Fatalf("call %d: running again: %v", n, err)
	}
	files := len(w.files("lucia"))
	if sent == nil && files != 1 {
		t.Errorf("call %d: answered 250, and there are %d messages", n, files)
	}
	// The other side got no 250, or lost it, and tries again.
	if class != isOrdinary || sent != nil && files == 0 {
		if _, err := p.come(from, msg, lucia); err != nil {
			t.Errorf("call %d: again: %v", n, err)
		}
		if err := p.drain(); err != nil {
			t.Errorf("call %d: running that: %v", n, err)
		}
	}
	if files = len(w.files("lucia")); files != 1 {
		t.Errorf("call %d (250: %v): %d messages in the mailbox", n, sent == nil, files)
	}
	want, anna, service := map[record.Kind]int{}, 0, 0
	id := "m1@" + domain
	switch class {
	case isEnvelope:
		s, err := pec.ReadSigned(bytes.NewReader(msg), pec.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		id = trimID(s.MessageID)
		want = map[record.Kind]int{record.Received: 1, record.TakeChargeIssued: 1, record.Delivered: 1, record.DeliveryIssued: 1}
		anna, service = 1, 1
	case isNotification:
		want = map[record.Kind]int{record.NotificationReceived: 1, record.NotificationDelivered: 1}
	}
	if class != isOrdinary {
		if got := p.under(t, id); !maps.Equal(got, want) {
			t.Errorf("call %d (250: %v): records %v, want %v", n, sent == nil, got, want)
		}
	}
	if x, y := len(p.letters(t, w.relay, b.at("anna"))), len(p.letters(t, w.relay, b.entry.ServiceAddress)); x != anna || y != service {
		t.Errorf("call %d: %d letters to the sender, %d to the provider", n, x, y)
	}
	if left, _ := filepath.Glob(filepath.Join(w.data, "mail", domain, "*", "tmp", "*")); len(left) > 0 {
		t.Errorf("call %d: left in tmp: %v", n, left)
	}
	if err := p.log.Verify(t.Context()); err != nil {
		t.Errorf("call %d: the log: %v", n, err)
	}
	if err := p.end(); err != nil {
		t.Errorf("call %d: %v", n, err)
	}
	return crashed
}

// A disk that is full at any one write puts the message off, or its job; when
// there is room again it ends as if nothing had been.
func TestFullDiskOfAReception(t *testing.T) {
	t.Parallel()
	step := 1
	if testing.Short() {
		step = 3
	}
	for n := 1; ; n += step {
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
		lucia := "lucia@" + domain
		msg := b.envelope("prova", lucia)
		_, sent := p.come(b.at("anna"), msg, lucia)
		if sent != nil && replyFor(sent, p.Pipeline.log) != error(replyNoSpace) {
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
		if p, err = w.begin(durable.OS); err != nil {
			t.Fatalf("write %d: %v", n, err)
		}
		if _, err := p.come(b.at("anna"), msg, lucia); err != nil {
			t.Errorf("write %d: again: %v", n, err)
		}
		if err := p.drain(); err != nil {
			t.Errorf("write %d: running again: %v", n, err)
		}
		s, err := pec.ReadSigned(bytes.NewReader(msg), pec.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		want := map[record.Kind]int{record.Received: 1, record.TakeChargeIssued: 1, record.Delivered: 1, record.DeliveryIssued: 1}
		if got := p.under(t, trimID(s.MessageID)); !maps.Equal(got, want) || len(w.files("lucia")) != 1 {
			t.Errorf("write %d: records %v, %d messages", n, got, len(w.files("lucia")))
		}
		if err := p.end(); err != nil {
			t.Errorf("write %d: %v", n, err)
		}
		if !hit {
			break
		}
	}
}

// What DNS said of a sender is asked once: a job that is run again, even without
// its note, as one of a backup may be, makes the same envelope.
func TestAuthenticationIsAskedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dns := &countingDNS{Resolver: &mockdns.Resolver{Zones: map[string]mockdns.Zone{"y.example.": {TXT: []string{"v=spf1 ip4:192.0.2.1 -all"}}}}}
	w.incoming = Incoming{Ordinary: func(string) bool { return true }, Resolver: dns}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	if _, err := p.come("x@y.example", []byte("From: x@y.example\r\nMessage-ID: <one@y.example>\r\n\r\nx\r\n"), "lucia@"+domain); err != nil {
		t.Fatal(err)
	}
	job := <-p.tasks
	run := func() {
		t.Helper()
		if err := p.carry(t.Context(), job, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	}
	run()
	asked := dns.n.Load()
	run()
	if n := dns.n.Load(); asked == 0 || n != asked {
		t.Errorf("asked %d times, then %d", asked, n)
	}
	files := w.files("lucia")
	if len(files) != 1 || !bytes.Contains(files[0], []byte("Authentication-Results: "+domain+";\r\n spf=pass smtp.mailfrom=y.example;\r\n dkim=none;\r\n dmarc=none header.from=y.example\r\n")) {
		t.Errorf("lucia has %q", files)
	}
}

// A stranger whose DNS does not answer keeps nobody waiting but himself.
func TestSlowDNSHoldsUpNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dns := &slowDNS{Resolver: &mockdns.Resolver{}, asked: make(chan struct{}), answers: make(chan struct{})}
	w.incoming = Incoming{Ordinary: func(string) bool { return true }, Resolver: dns}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	p.Start(1)
	came := make(chan error, 1)
	go func() {
		_, err := p.come("x@y.example", []byte("From: x@y.example\r\nMessage-ID: <one@y.example>\r\n\r\nx\r\n"), "lucia@"+domain)
		came <- err
	}()
	<-dns.asked
	if _, err := p.send("one", listed("lucia@"+domain), "lucia@"+domain); err != nil {
		t.Error(err)
	}
	until(t, "the message of ours is delivered", func() bool { return len(w.files("mario")) == 2 })
	close(dns.answers)
	if err := <-came; err != nil {
		t.Error(err)
	}
	until(t, "the stranger's, too", func() bool { return p.Backlog() == Backlog{} })
}

// slowDNS answers when the test says so.
type slowDNS struct {
	*mockdns.Resolver
	once           sync.Once
	asked, answers chan struct{}
}

func (s *slowDNS) LookupTXT(ctx context.Context, name string) ([]string, error) {
	s.once.Do(func() { close(s.asked) })
	<-s.answers
	return s.Resolver.LookupTXT(ctx, name)
}

// countingDNS counts what it is asked.
type countingDNS struct {
	*mockdns.Resolver
	n atomic.Int32
}

func (c *countingDNS) LookupTXT(ctx context.Context, name string) ([]string, error) {
	c.n.Add(1)
	return c.Resolver.LookupTXT(ctx, name)
}

// Whatever a provider writes into its certification data, the job comes to its
// end: one that never did would be run for ever.
func TestOddCertification(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	b.entry.ServiceAddress = ""
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	lucia := "lucia@" + domain
	element := func(name, value string) func(string) string {
		return func(x string) string {
			head, rest, _ := strings.Cut(x, "<"+name+">")
			_, tail, ok := strings.Cut(rest, "</"+name+">")
			if !ok {
				t.Fatalf("no %s in %s", name, x)
			}
			return head + "<" + name + ">" + value + "</" + name + ">" + tail
		}
	}
	for name, edit := range map[string]func(string) string{
		"subject":          element("oggetto", "a&#x202e;b&#x2028;&#9;&lt;c&gt; "+strings.Repeat("\u00e8", 9000)),
		"no subject":       element("oggetto", ""),
		"long identifier":  element("identificativo", strings.Repeat("x", 2000)+"@beta.example"),
		"odd identifier":   element("identificativo", "a b&lt;c&gt;\u00e8@beta.example"),
		"empty identifier": element("identificativo", "&lt;&gt;"),
		"odd original":     element("msgid", strings.Repeat("&lt;", 3000)),
		"no original":      element("msgid", ""),
		"odd reply":        element("risposte", "non \u00e8 un indirizzo, &quot;x"),
		"no provider":      element("gestore-emittente", ""),
		"odd recipients": func(x string) string {
			return strings.Replace(x, "<destinatari", "<destinatari tipo=\"esterno\">non &lt;\u00e8&gt;\u0001 un indirizzo</destinatari><destinatari", 1)
		},
		"no sender": element("mittente", " "),
	} {
		msg := b.resigned(b.envelope("prova", lucia), daticert(edit))
		if s, err := pec.ReadSigned(bytes.NewReader(msg), pec.Limits{}); err == nil && s.Certification != nil { // so that it may be correct
			msg = []byte(strings.Replace(string(msg), "Message-ID: "+s.MessageID, "Message-ID: "+s.Certification.Facts().EnvelopeID, 1))
		}
		got, err := p.come(b.at("anna"), msg, lucia)
		if err != nil {
			var known *smtp.SMTPError
			if !errors.As(replyFor(err, p.Pipeline.log), &known) || known.Code/100 != 5 {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err := p.drain(); err != nil {
			t.Errorf("%s, %s: %v", name, got.Class, err)
		}
		t.Logf("%s: %s", name, got.Class)
	}
	if !p.idleButLetters() {
		t.Errorf("backlog %+v", p.Backlog())
	}
}

// An original in a form that ours never has gets its receipts, of every type.
func TestOddOriginal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	lucia := "lucia@" + domain
	n := 0
	for name, edit := range map[string]func(original string) (encoding, body string){
		"base64": func(o string) (string, string) { return "base64", base64.StdEncoding.EncodeToString([]byte(o)) },
		"quoted-printable": func(o string) (string, string) {
			return "quoted-printable", strings.NewReplacer("=", "=3D", "\xc3\xa9", "=C3=A9").Replace(o)
		},
		"empty":     func(string) (string, string) { return "7bit", "" },
		"no header": func(string) (string, string) { return "8bit", "\r\n\r\nsolo testo" },
		"no body":   func(string) (string, string) { return "7bit", "Subject: x" },
		"nested": func(string) (string, string) {
			return "7bit", "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: a/b; name=n\r\n\r\n--x\r\n" + strings.Repeat("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n", 300)
		},
	} {
		for _, receipt := range []string{"completa", "breve", "sintetica"} {
			msg := string(b.resigned(b.envelope("prova", lucia), func(e string) string {
				head, rest, _ := strings.Cut(e, "filename=\"postacert.eml\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
				i := strings.LastIndex(rest, "\r\n--")
				encoding, body := edit(rest[:i])
				return head + "filename=\"postacert.eml\"\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n" + body + rest[i:]
			}))
			msg = strings.Replace(msg, "X-TipoRicevuta: completa", "X-TipoRicevuta: "+receipt, 1)
			msg = string(b.resigned([]byte(msg), daticert(func(x string) string {
				return strings.Replace(x, "tipo=\"completa\"", "tipo=\""+receipt+"\"", 1)
			})))
			got, err := p.come(b.at("anna"), []byte(msg), lucia)
			if err != nil || got.Class != isEnvelope || got.Certification.ReceiptType.String() != receipt {
				t.Errorf("%s, %s: %+v, %v", name, receipt, got, err)
				continue
			}
			if err := p.drain(); err != nil {
				t.Errorf("%s, %s: %v", name, receipt, err)
			}
			n++
		}
	}
	if got := counts(p.letters(t, w.relay, b.at("anna"))); got[pec.Delivery] != n {
		t.Errorf("the sender gets %v, want %d", got, n)
	}
}

// idleButLetters says whether nothing waits but for other servers.
func (p *process) idleButLetters() bool { return p.Backlog().Failing == 0 && len(p.tasks) == 0 }

// Whatever a stranger sends, the job comes to its end, and the message is whole in
// its envelope.
func TestOddOrdinary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.incoming = Incoming{Ordinary: func(string) bool { return true }}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	many := strings.Repeat("a@b.example, ", 9000)
	for name, x := range map[string]struct{ from, msg string }{
		"no header":         {"x@y.example", "\r\nx\r\n"},
		"no body":           {"x@y.example", "Subject: x\r\n"},
		"no line":           {"x@y.example", "x"},
		"only breaks":       {"", "\r\n\r\n\r\n"},
		"mbox":              {"x@y.example", "From x@y.example Mon Nov 23\r\nSubject: x\r\n\r\nx\r\n"},
		"null, no author":   {"", "Subject: x\r\n\r\nx\r\n"},
		"null, odd author":  {"", "From: \"\xe8 <\r\n\r\nx\r\n"},
		"empty author":      {"", "From: <>, ,;:\r\n\r\nx\r\n"},
		"long subject":      {"x@y.example", "Subject: " + strings.Repeat("=?utf-8?q?=E2=80=AE?= ", 9000) + "\r\n\r\nx\r\n"},
		"long Message-ID":   {"x@y.example", "Message-ID: <" + strings.Repeat("x", 5000) + ">\r\n\r\nx\r\n"},
		"odd Message-ID":    {"x@y.example", "Message-ID: <\xe8 \x01>\r\n\r\nx\r\n"},
		"many recipients":   {"x@y.example", "To: " + many + "\r\nCc: " + many + "\r\n\r\nx\r\n"},
		"many Received":     {"x@y.example", strings.Repeat("Received: from x\r\n", 5000) + "\r\nx\r\n"},
		"eight bits":        {"x@y.example", "Subject: \xe8\xe9\r\nTo: \xe8@b.example\r\n\r\n\xff\xfe\r\n"},
		"long line":         {"x@y.example", "Subject: x\r\n\r\n" + strings.Repeat("x", 200000)},
		"delimiters inside": {"x@y.example", "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x--\r\n--=_outer--\r\n--x\r\n"},
	} {
		before := len(w.files("lucia"))
		got, err := p.come(x.from, []byte(x.msg), "lucia@"+domain)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := p.drain(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		files := w.files("lucia")
		if len(files) != before+1 || !slices.ContainsFunc(files, func(f []byte) bool { return bytes.Contains(f, []byte("\r\n\r\n"+x.msg+"\r\n--")) }) {
			t.Errorf("%s: %d messages, or it is not whole", name, len(files)-before)
		}
		rec := got.record(p.Pipeline, must16(t, got.id), record.Received)
		if records := p.under(t, rec.MessageID); !maps.Equal(records, map[record.Kind]int{record.UncertifiedReceived: 1, record.AnomalyEnveloped: 1, record.NotificationDelivered: 1}) {
			t.Errorf("%s: records %v", name, records)
		}
	}
	for _, f := range w.files("lucia") {
		if s, err := pec.ReadSigned(bytes.NewReader(f), pec.DefaultLimits()); err != nil || s.Fault != nil || s.Kind != pec.AnomalyEnvelope {
			t.Errorf("an anomaly envelope is read as %v %v", err, s.Fault)
		}
	}
}
