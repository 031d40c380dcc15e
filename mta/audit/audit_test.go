package audit

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"scripta/register/record"
)

var start = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

const (
	sender  = "mario@pec.example.it"
	service = "posta-certificata@pec.example.it"
)

// story makes the records of a message as the provider writes them: one
// recipient is delivered to, one does not exist.
func story(n int) []*record.Record {
	id := fmt.Sprintf("id%d@pec.example.it", n)
	at := start.Add(time.Duration(n) * time.Minute)
	model := record.Record{Time: at, MessageID: id, OriginalID: fmt.Sprintf("<o%d@x.it>", n), Sender: sender, Subject: "Oggetto", Provider: "Prova", ReceiptType: "completa",
		Recipients: []record.Recipient{{Address: "lucia@pec.example.it", Certified: true}, {Address: "nessuno@pec.example.it", Certified: true}}}
	make32 := func(b byte) []byte { return bytes.Repeat([]byte{b, byte(n)}, 16) }
	event := func(k record.Kind, digest byte, later time.Duration, about ...string) *record.Record {
		r := model
		r.Kind, r.Time, r.About = k, at.Add(later), about
		r.Digest, r.Size = make32(digest), 1000
		return &r
	}
	issued := func(k record.Kind, digest byte, later time.Duration, about ...string) *record.Record {
		r := event(k, digest, later, about...)
		r.Content, r.Generated = make32(digest+100), []string{fmt.Sprintf("%d.%s", digest, id)}
		return r
	}
	placed := func(of *record.Record, later time.Duration, box string) *record.Record {
		r := *of
		r.Kind, r.Time, r.About = record.NotificationDelivered, at.Add(later), []string{box}
		return &r
	}
	submitted := event(record.Submitted, 1, 0)
	submitted.Actor = sender
	acceptance, envelope := issued(record.AcceptanceIssued, 2, 0), issued(record.Enveloped, 3, 0)
	envelope.Generated = []string{id}
	received := event(record.Received, 3, time.Second, "lucia@pec.example.it", "nessuno@pec.example.it")
	charge := issued(record.TakeChargeIssued, 4, time.Second, "lucia@pec.example.it", "nessuno@pec.example.it")
	delivered := event(record.Delivered, 3, 2*time.Second, "lucia@pec.example.it")
	receipt := issued(record.DeliveryIssued, 5, 2*time.Second, "lucia@pec.example.it")
	refusal := issued(record.NonDeliveryIssued, 6, 2*time.Second, "nessuno@pec.example.it")
	refusal.Outcome = record.Outcome{Code: "5.1.1", Text: "indirizzo non valido"}
	return []*record.Record{submitted, acceptance, envelope, received, charge,
		placed(acceptance, 2*time.Second, sender), placed(charge, 2*time.Second, service), delivered, receipt, refusal,
		placed(receipt, 3*time.Second, sender), placed(refusal, 3*time.Second, sender)}
}

// refused is the story of a message that is not accepted.
func refused(n int) []*record.Record {
	s := story(n)
	non := *s[1]
	non.Kind, non.Generated = record.NonAcceptanceIssued, []string{"7." + non.MessageID}
	placed := non
	placed.Kind, placed.About = record.NotificationDelivered, []string{sender}
	return []*record.Record{s[0], &non, &placed}
}

func run(opt Options, stories ...[]*record.Record) *Report {
	a := New(opt)
	leaf := uint64(0)
	for i := range 64 { // interleaved, as they come
		for _, s := range stories {
			if i < len(s) {
				a.Add(leaf, s[i])
				leaf++
			}
		}
	}
	return a.Finish()
}

var settled = Options{Now: start.Add(48 * time.Hour), Settled: true, ServiceMailbox: service}

func TestNothingImagined(t *testing.T) {
	t.Parallel()
	var stories [][]*record.Record
	for n := range 40 {
		stories = append(stories, story(2*n), refused(2*n+1))
	}
	stories = append(stories, []*record.Record{{Kind: record.Started}, nil, {Kind: record.MailboxCreated}})
	a := run(settled, stories...)
	if len(a.Findings) != 0 || a.Messages != 80 || a.Open != 0 {
		t.Errorf("%d messages, %d open, findings %v", a.Messages, a.Open, a.Findings)
	}
}

// What may still come is not missing.
func TestUnderWay(t *testing.T) {
	t.Parallel()
	for n := 1; n < len(story(1)); n++ {
		part := story(1)[:n]
		young := run(Options{Now: start.Add(time.Hour), ServiceMailbox: service}, part)
		if len(young.Findings) != 0 || young.Open != 1 {
			t.Errorf("after %d records: %d open, %v", n, young.Open, young.Findings)
		}
		if old := run(Options{Now: start.Add(48 * time.Hour)}, part); len(old.Findings) == 0 {
			t.Errorf("after %d records and two days: nothing found", n)
		}
		if all := run(Options{Now: start, Settled: true}, part); len(all.Findings) == 0 {
			t.Errorf("after %d records, settled: nothing found", n)
		}
	}
}

// Notices of delay are in order in their terms, and required without an outcome.
func TestTerms(t *testing.T) {
	t.Parallel()
	late := func(delay, timeout, outcome time.Duration) []*record.Record {
		s := story(1)
		shift := func(from int, by time.Duration) {
			for _, r := range s[from:] {
				r.Time = r.Time.Add(by)
			}
		}
		shift(7, outcome)
		head, tail := slices.Clone(s[:7]), s[7:]
		notice := func(k record.Kind, after time.Duration, digest byte) {
			if after == 0 {
				return
			}
			for _, about := range []string{"lucia@pec.example.it", "nessuno@pec.example.it"} {
				n := *s[9]
				digest++
				n.Kind, n.Time, n.About, n.Generated = k, s[0].Time.Add(after), []string{about}, []string{fmt.Sprintf("%d-%d-%s", k, digest, n.MessageID)}
				p := n
				p.Kind, p.About = record.NotificationDelivered, []string{sender}
				head = append(head, &n, &p)
			}
		}
		notice(record.DelayNoticeIssued, delay, 20)
		notice(record.TimeoutNoticeIssued, timeout, 30)
		return append(head, tail...)
	}
	for name, x := range map[string]struct {
		records []*record.Record
		found   int
	}{
		"outcome after 23 hours":           {late(0, 0, 23*time.Hour), 0},
		"outcome after 30 hours, told":     {late(0, 23*time.Hour, 30*time.Hour), 0},
		"outcome after 30 hours, not told": {late(0, 0, 30*time.Hour), 2},
		"told of the delay too early":      {late(11*time.Hour, 0, 23*time.Hour), 2},
		"told of a delay, in charge here":  {late(13*time.Hour, 0, 23*time.Hour), 0},
		"told of the end too early":        {late(0, 21*time.Hour, 30*time.Hour), 2},
		"told of the end too late":         {late(0, 25*time.Hour, 30*time.Hour), 2},
		"no outcome, told":                 {late(0, 23*time.Hour, 0)[:11], 0},
	} {
		if r := run(settled, x.records); len(r.Findings) != x.found {
			t.Errorf("%s: %v", name, r.Findings)
		}
	}
}

// Each fault that is put into a register is found, and nothing else is changed by
// it: the story beside it stays clean.
func TestSeededFaults(t *testing.T) {
	t.Parallel()
	type fault struct {
		name string
		make func(s []*record.Record) []*record.Record
		rule *Rule // nil: any
	}
	var faults []fault
	kinds := story(1)
	for i, r := range kinds {
		name := fmt.Sprintf("%d %s", i, r.Kind)
		faults = append(faults, fault{name + " is missing", func(s []*record.Record) []*record.Record { return slices.Delete(s, i, i+1) }, nil},
			fault{name + " comes twice", func(s []*record.Record) []*record.Record { return slices.Insert(s, i+1, s[i]) }, nil})
		if i > 0 {
			faults = append(faults,
				fault{name + " of another sender", change(i, func(r *record.Record) { r.Sender = "altro@x.it" }), ruleSame},
				fault{name + " of another original", change(i, func(r *record.Record) { r.OriginalID = "<z@x.it>" }), ruleSame},
				fault{name + " of another message", change(i, func(r *record.Record) { r.MessageID = "z@x.it" }), nil},
				fault{name + " of no message", change(i, func(r *record.Record) { r.MessageID = "" }), nil},
				fault{name + " before it began", change(i, func(r *record.Record) { r.Time = r.Time.Add(-time.Hour) }), ruleTime})
		}
		if r.Kind.Issued() {
			faults = append(faults,
				fault{name + " without digest", change(i, func(r *record.Record) { r.Digest = nil }), ruleIssued},
				fault{name + " without identifier", change(i, func(r *record.Record) { r.Generated = nil }), ruleIssued},
				fault{name + " with another's identifier", change(i, func(r *record.Record) { r.Generated = []string{"2.id2@pec.example.it"} }), nil})
		}
		if len(r.About) == 1 {
			faults = append(faults, fault{name + " about a stranger", change(i, func(r *record.Record) { r.About = []string{"estraneo@pec.example.it"} }), nil},
				fault{name + " about nobody", change(i, func(r *record.Record) { r.About = nil }), nil})
		}
	}
	faults = append(faults,
		fault{"another envelope received", change(3, func(r *record.Record) { r.Digest = bytes.Repeat([]byte{9}, 32) }), ruleDigest},
		fault{"another envelope delivered", change(7, func(r *record.Record) { r.Digest = bytes.Repeat([]byte{9}, 32) }), ruleDigest},
		fault{"another acceptance placed", change(5, func(r *record.Record) { r.Digest = bytes.Repeat([]byte{9}, 32) }), ruleDigest},
		fault{"another receipt placed", change(10, func(r *record.Record) { r.Digest = bytes.Repeat([]byte{9}, 32) }), ruleDigest},
		fault{"another subject", change(8, func(r *record.Record) { r.Subject = "Altro" }), ruleSame},
		fault{"a recipient more", change(2, func(r *record.Record) { r.Recipients = append(r.Recipients, record.Recipient{Address: "x@y.it"}) }), ruleSame},
		fault{"a recipient not certified", change(4, func(r *record.Record) { r.Recipients = slices.Clone(r.Recipients); r.Recipients[0].Certified = false }), ruleSame},
		fault{"taken in charge in part", change(4, func(r *record.Record) { r.About = r.About[:1] }), ruleTakeCharge},
		fault{"taken in charge twice", change(4, func(r *record.Record) { r.About = append(r.About, r.About[0]) }), ruleTakeCharge},
		fault{"delivered and not", func(s []*record.Record) []*record.Record {
			r := *s[9]
			r.About, r.Generated = []string{"lucia@pec.example.it"}, []string{"99.x"}
			return slices.Insert(s, 10, &r)
		}, ruleOutcome},
		fault{"non-delivery without reason", change(9, func(r *record.Record) { r.Outcome = record.Outcome{} }), ruleOutcome},
		fault{"receipt later than the delivery", change(8, func(r *record.Record) { r.Time = r.Time.Add(time.Second / 2) }), ruleDelivered},
		fault{"accepted and not accepted", func(s []*record.Record) []*record.Record {
			r := *s[1]
			r.Kind, r.Generated = record.NonAcceptanceIssued, []string{"98.x"}
			return slices.Insert(s, 2, &r)
		}, ruleAnswer},
		fault{"acceptance becomes non-acceptance", change(1, func(r *record.Record) { r.Kind = record.NonAcceptanceIssued }), ruleRefused},
		fault{"envelope of another identifier", change(2, func(r *record.Record) { r.Generated = []string{"97.x"} }), ruleEnvelope},
		fault{"no account", change(0, func(r *record.Record) { r.Actor = "" }), ruleIssued},
		fault{"after the end", func(s []*record.Record) []*record.Record { r := *s[7]; return append(s, &r) }, ruleRepeated},
	)
	if len(faults) < 60 {
		t.Fatalf("only %d faults", len(faults))
	}
	t.Logf("%d faults", len(faults))
	for _, f := range faults {
		clean := story(2)
		r := run(settled, clean, f.make(story(1)))
		if len(r.Findings) == 0 {
			t.Errorf("%s: nothing found", f.name)
		}
		if f.rule != nil && !slices.ContainsFunc(r.Findings, func(x Finding) bool { return x.Rule == f.rule }) {
			t.Errorf("%s: not found by rule %s: %v", f.name, f.rule.ID, r.Findings)
		}
		for _, x := range r.Findings {
			if x.Message == clean[0].MessageID && x.Rule != ruleIdentifiers {
				t.Errorf("%s: imagined %v", f.name, x)
			}
		}
	}
}

// change alters a copy of one record.
func change(i int, alter func(*record.Record)) func([]*record.Record) []*record.Record {
	return func(s []*record.Record) []*record.Record {
		r := *s[i]
		r.About = slices.Clone(r.About)
		alter(&r)
		s[i] = &r
		return s
	}
}

func TestBoundedReport(t *testing.T) {
	t.Parallel()
	a := New(settled)
	for n := range MaxFindings + 5 {
		a.Add(uint64(n), &record.Record{Kind: record.Delivered})
	}
	if r := a.Finish(); len(r.Findings) != MaxFindings || r.Dropped != 5 {
		t.Errorf("%d findings, %d dropped", len(r.Findings), r.Dropped)
	}
}
