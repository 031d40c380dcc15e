package audit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/register/record"
)

// What may still come is not missing: no part of a history, audited when its
// last record was written, gives a finding.
func TestModelUnderWay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		w := history(seed, 25)
		random := rand.New(rand.NewPCG(seed, 5))
		for _, h := range []*house{w.a, w.b} {
			for range 40 {
				part := &house{name: h.name, domain: h.domain, service: h.service, log: h.log[:1+random.IntN(len(h.log))]}
				now := part.log[len(part.log)-1].Time
				if r := part.audit(Options{Now: now}); len(r.Findings) > 0 {
					t.Fatalf("seed %d, the first %d records of %s: %v", seed, len(part.log), h.name, r.Findings[0])
				}
			}
		}
	}
}

// flows is a history with one message of each sort, both ways.
func flows() *world {
	w := newWorld(7)
	for _, from := range []*house{w.a, w.b} {
		other := w.b
		if from == w.b {
			other = w.a
		}
		w.send(from, "ok@"+other.domain).refuse(false)
		w.send(from, "ok@"+other.domain).refuse(true)
		w.anomaly(from, "mario@"+from.domain, "luca@"+from.domain)
		for _, s := range sorts {
			if s[0] == 'l' || s[0] == 'm' {
				continue
			}
			domain := other.domain
			if s[0] == 'x' || s[0] == 'y' {
				domain = "example.org"
			}
			w.send(from, s+"@"+domain, "vicino@"+from.domain).accept()
		}
	}
	w.run()
	return w
}

// seeded is a fault put into a register.
type seeded struct {
	name  string
	house func(*world) *house
	find  func(*record.Record) bool // the first record like this is changed
	alter func(log []*record.Record, i int) []*record.Record
	rule  *Rule
}

// altered changes a copy of the record.
func altered(change func(*record.Record)) func([]*record.Record, int) []*record.Record {
	return func(log []*record.Record, i int) []*record.Record {
		r := *log[i]
		r.About, r.Detail, r.Recipients = slices.Clone(r.About), slices.Clone(r.Detail), slices.Clone(r.Recipients)
		change(&r)
		log[i] = &r
		return log
	}
}

func gone(log []*record.Record, i int) []*record.Record { return slices.Delete(log, i, i+1) }

func twice(log []*record.Record, i int) []*record.Record {
	return slices.Insert(log, i+1, log[i])
}

// added puts a changed copy of the record behind it.
func added(change func(*record.Record)) func([]*record.Record, int) []*record.Record {
	return func(log []*record.Record, i int) []*record.Record {
		return altered(change)(twice(log, i), i+1)
	}
}

func isKind(k record.Kind, about string) func(*record.Record) bool {
	return func(r *record.Record) bool {
		return r.Kind == k && (about == "" || slices.ContainsFunc(r.About, func(a string) bool { return strings.HasPrefix(a, about) }))
	}
}

func isType(k record.Kind, about, typ string) func(*record.Record) bool {
	return func(r *record.Record) bool { return isKind(k, about)(r) && typeOf(r) == typ }
}

func setDetail(name, value string) func(*record.Record) {
	return func(r *record.Record) {
		for i := range r.Detail {
			if r.Detail[i].Name == name {
				r.Detail[i].Value = value
			}
		}
	}
}

func inA(w *world) *house { return w.a }

func inB(w *world) *house { return w.b }

func about(list ...string) func(*record.Record) {
	return func(r *record.Record) { r.About = list }
}

func becomes(k record.Kind) func(*record.Record) { return func(r *record.Record) { r.Kind = k } }

// after moves a record to a time after the one it had.
func after(d time.Duration) func(*record.Record) {
	return func(r *record.Record) { r.Time = r.Time.Add(d) }
}

func identifier(id string) func(*record.Record) {
	return func(r *record.Record) { r.Generated = []string{id} }
}

// chosenFaults are those of which the rule that must find them is given.
func chosenFaults() []seeded {
	is, ty, ch := isKind, isType, altered
	both := func(a, b func(*record.Record)) func(*record.Record) {
		return func(r *record.Record) { a(r); b(r) }
	}
	noOutcome := func(r *record.Record) { r.Outcome = record.Outcome{} }
	other := func(r *record.Record) { r.Digest = digest("other") }
	return []seeded{
		// The sender's side.
		{"envelope not passed on", inA, ty(record.Relayed, "ok1", typeEnvelope), gone, ruleRelayed},
		{"envelope passed on twice", inA, ty(record.Relayed, "ok1", typeEnvelope), twice, ruleRelayed},
		{"envelope passed on and refused", inA, ty(record.Relayed, "ok1", typeEnvelope), added(both(becomes(record.Bounced), func(r *record.Record) { r.Outcome.Code = "5.1.1" })), ruleRelayed},
		{"envelope put off after it went", inA, ty(record.Relayed, "ok1", typeEnvelope), added(becomes(record.Deferred)), ruleRelayed},
		{"envelope passed on for a recipient of ours", inA, ty(record.Relayed, "ok1", typeEnvelope), ch(func(r *record.Record) { r.About = append(r.About, "vicino@pec.alfa.it") }), ruleRelayed},
		{"envelope passed on for a stranger", inA, ty(record.Relayed, "ok1", typeEnvelope), ch(func(r *record.Record) { r.About = append(r.About, "estraneo@pec.beta.it") }), ruleStranger},
		{"envelope passed on in clear", inA, ty(record.Relayed, "ok1", typeEnvelope), ch(func(r *record.Record) { r.Peer.TLS = "" }), ruleChannel},
		{"receipt passed on in clear", inB, ty(record.Relayed, "", typeDelivery), ch(func(r *record.Record) { r.Peer.TLS = "" }), ruleChannel},
		{"another envelope passed on", inA, ty(record.Relayed, "ok1", typeEnvelope), ch(other), ruleDigest},
		{"passed on under another name", inA, ty(record.Relayed, "ok1", typeEnvelope), ch(setDetail("message", "x@y")), ruleRelayed},
		{"passed on nobody knows where to", inA, ty(record.Relayed, "ok1", typeEnvelope), ch(setDetail("destination", "")), ruleRelayed},
		{"passed on to another provider", inA, ty(record.Relayed, "ok1", typeEnvelope), ch(setDetail("destination", "Gamma")), ruleProvider},
		{"passed on before it was submitted", inA, ty(record.Relayed, "ok1", typeEnvelope), ch(after(-time.Hour)), ruleTime},
		{"passed on and never made", inA, func(r *record.Record) bool {
			return r.Kind == record.Enveloped && strings.HasPrefix(r.Recipients[0].Address, "ok1@pec.beta")
		}, gone, ruleEnvelope},
		{"ordinary recipient forgotten", inA, ty(record.Relayed, "xordinario", typeEnvelope), gone, ruleRelayed},
		{"ordinary recipient twice", inA, ty(record.Relayed, "xordinario", typeEnvelope), twice, ruleRelayed},
		{"ordinary refusal forgotten", inA, ty(record.Bounced, "yordinario", typeEnvelope), gone, ruleRelayed},
		{"ordinary refusal without reason", inA, ty(record.Bounced, "yordinario", typeEnvelope), ch(noOutcome), ruleRelayed},
		{"ordinary recipient taken in charge", inA, ty(record.NotificationReceived, "ok1", typeTakeCharge), ch(func(r *record.Record) { r.About = append(r.About, "xordinario@example.org") }), ruleStranger},

		// What comes back.
		{"take-charge by another provider", inA, ty(record.NotificationReceived, "ok1", typeTakeCharge), ch(func(r *record.Record) { r.Provider = "Gamma" }), ruleProvider},
		{"delivery by another provider", inA, ty(record.NotificationReceived, "ok1", typeDelivery), ch(func(r *record.Record) { r.Provider = "Gamma" }), ruleProvider},
		{"delivery by nobody", inA, ty(record.NotificationReceived, "ok1", typeDelivery), ch(func(r *record.Record) { r.Provider = "" }), ruleNotified},
		{"receipt about a recipient of ours", inA, ty(record.NotificationReceived, "ok1", typeDelivery), ch(about("vicino@pec.alfa.it")), ruleProvider},
		{"taken in charge twice by another", inA, ty(record.NotificationReceived, "ok1", typeTakeCharge), added(identifier("z1")), ruleTakeCharge},
		{"notification twice", inA, ty(record.NotificationReceived, "ok1", typeDelivery), twice, ruleRepeated},
		{"two deliveries by another", inA, ty(record.NotificationReceived, "ok1", typeDelivery), added(identifier("z2")), ruleOutcome},
		{"delivered and not, by another", inA, ty(record.NotificationReceived, "ok1", typeDelivery), added(both(identifier("z3"), setDetail("type", typeNonDelivery))), ruleOutcome},
		{"no outcome by another", inA, ty(record.NotificationReceived, "ok1", typeDelivery), gone, ruleOutcome},
		{"outcome of no type", inA, ty(record.NotificationReceived, "ok1", typeDelivery), ch(setDetail("type", "")), ruleNotified},
		{"receipt about two", inA, ty(record.NotificationReceived, "ok1", typeDelivery), ch(func(r *record.Record) { r.About = append(r.About, "vicino@pec.alfa.it") }), ruleStranger},
		{"receipt about nobody", inA, ty(record.NotificationReceived, "ok1", typeDelivery), ch(about()), ruleStranger},
		{"receipt of another sender", inA, ty(record.NotificationReceived, "ok1", typeDelivery), ch(func(r *record.Record) { r.Sender = "x@y.it" }), ruleSame},
		{"receipt before the message", inA, ty(record.NotificationReceived, "ok1", typeDelivery), ch(after(-24 * time.Hour)), ruleTime},
		{"non-delivery by another without reason", inA, ty(record.NotificationReceived, "nessuno", typeNonDelivery), ch(noOutcome), ruleOutcome},
		{"receipt lost on the way to the mailbox", inA, isPlaced(typeDelivery), gone, ruleNotified},
		{"take-charge lost on the way to the mailbox", inA, isPlaced(typeTakeCharge), gone, ruleNotified},
		{"receipt put into another mailbox", inA, isPlaced(typeDelivery), ch(about("luca@pec.alfa.it")), ruleNotified},
		{"take-charge put into the sender's mailbox", inA, isPlaced(typeTakeCharge), ch(about("mario@pec.alfa.it")), ruleNotified},
		{"another receipt put into the mailbox", inA, isPlaced(typeDelivery), ch(other), ruleDigest},
		{"receipt put into the mailbox before it came", inA, isPlaced(typeDelivery), ch(after(-time.Hour)), ruleTime},
		{"receipt without digest", inA, ty(record.NotificationReceived, "ok1", typeDelivery), ch(func(r *record.Record) { r.Digest = nil }), ruleIssued},
		{"receipt of what nobody sent", inA, ty(record.NotificationReceived, "ok1", typeDelivery), ch(func(r *record.Record) { r.MessageID = "nobody@x" }), ruleOutcome},

		// Refusals and time.
		{"refusal of which the sender hears nothing", inA, is(record.NonDeliveryIssued, "rifiutato"), gone, ruleOutcome},
		{"non-delivery that nobody caused", inA, ty(record.Bounced, "rifiutato", typeEnvelope), ch(becomes(record.Relayed)), ruleOutcome},
		{"refusal told twice", inA, is(record.NonDeliveryIssued, "rifiutato"), added(identifier("z4")), ruleOutcome},
		{"refusal told without its code", inA, is(record.NonDeliveryIssued, "rifiutato"), ch(noOutcome), ruleOutcome},
		{"no notice after 12 hours", inA, is(record.DelayNoticeIssued, "defunto"), gone, ruleTimeout},
		{"no notice after 12 hours, envelope late", inA, is(record.DelayNoticeIssued, "silenzioso"), gone, ruleTimeout},
		{"notice after 11 hours", inA, is(record.DelayNoticeIssued, "defunto"), ch(after(-time.Hour)), ruleTimeout},
		{"notice of delay twice", inA, is(record.DelayNoticeIssued, "defunto"), added(identifier("z5")), ruleTimeout},
		{"notice of delay though taken in charge", inA, ty(record.NotificationReceived, "tace", typeTakeCharge), added(func(r *record.Record) {
			r.Kind, r.Generated, r.About, r.Detail, r.Content = record.DelayNoticeIssued, []string{"z6"}, r.About[:1], nil, digest("c")
			r.Time = r.Time.Add(13 * time.Hour)
		}), ruleTimeout},
		{"no last notice", inA, is(record.TimeoutNoticeIssued, "defunto"), gone, ruleOutcome},
		{"no last notice, outcome late", inA, is(record.TimeoutNoticeIssued, "tace"), gone, ruleTimeout},
		{"last notice after 21 hours", inA, is(record.TimeoutNoticeIssued, "defunto"), ch(after(-2 * time.Hour)), ruleTimeout},
		{"last notice after 25 hours", inA, is(record.TimeoutNoticeIssued, "defunto"), ch(after(2 * time.Hour)), ruleTimeout},
		{"last notice twice", inA, is(record.TimeoutNoticeIssued, "defunto"), added(identifier("z7")), ruleTimeout},
		{"last notice though delivered", inA, ty(record.NotificationReceived, "ok1", typeDelivery), added(func(r *record.Record) {
			r.Kind, r.Generated, r.Detail, r.Content = record.TimeoutNoticeIssued, []string{"z8"}, nil, digest("c")
			r.Time = r.Time.Add(22*time.Hour + time.Minute)
		}), ruleTimeout},
		{"notice in no mailbox", inA, isPlaced("preavviso-errore-consegna"), gone, ruleNotified},

		// Viruses.
		{"virus detected, sender not told", inA, is(record.NonDeliveryIssued, "virus"), gone, ruleVirus},
		{"virus told and not detected", inA, ty(record.NotificationReceived, "virus", typeVirus), gone, ruleOutcome},
		{"virus detected twice", inA, ty(record.NotificationReceived, "virus", typeVirus), added(identifier("z9")), ruleRepeated},
		{"virus in a submission not kept", inA, isRefusedVirus(record.Quarantined), gone, ruleVirus},
		{"kept without a virus", inA, isRefusedVirus(record.VirusFound), gone, ruleVirus},
		{"virus of no name", inA, isRefusedVirus(record.VirusFound), ch(setDetail("virus", "")), ruleVirus},
		{"virus found by nobody", inA, isRefusedVirus(record.VirusFound), ch(setDetail("engine", "")), ruleVirus},
		{"infected and accepted", inA, func(r *record.Record) bool {
			return r.Kind == record.Submitted && strings.HasPrefix(r.Recipients[0].Address, "ok1@pec.beta")
		}, added(func(r *record.Record) {
			r.Kind, r.Generated, r.Detail = record.VirusFound, nil, []record.Pair{{Name: "engine", Value: "e"}, {Name: "virus", Value: "v"}}
		}), ruleVirus},
		{"virus in an envelope not kept", inB, is(record.Quarantined, "virus"), gone, ruleVirus},
		{"virus detection without a virus", inB, is(record.VirusFound, "virus"), gone, ruleVirus},
		{"provider not told of a virus", inB, is(record.VirusDetectionIssued, "virus"), gone, ruleVirus},
		{"provider told of a virus twice", inB, is(record.VirusDetectionIssued, "virus"), added(identifier("z10")), ruleRepeated},
		{"infected and delivered", inB, is(record.VirusDetectionIssued, "virus"), ch(both(becomes(record.Delivered), identifier("z11"))), ruleVirus},
		{"virus detection not passed on", inB, ty(record.Relayed, "", typeVirus), gone, ruleNotified},

		// The receiver's side.
		{"envelope taken twice", inB, is(record.Received, "ok1"), twice, ruleReceived},
		{"another envelope taken for the same message", inB, is(record.Received, "ok1"), added(other), ruleDigest},
		{"acceptance of what others sent", inB, is(record.TakeChargeIssued, "ok1"), added(both(becomes(record.AcceptanceIssued), identifier("z12"))), ruleOrphan},
		{"envelope of what others sent", inB, is(record.TakeChargeIssued, "ok1"), added(both(becomes(record.Enveloped), identifier("z13"))), ruleOrphan},
		{"notice of time to what others sent", inB, is(record.DeliveryIssued, "ok1"), added(both(becomes(record.DelayNoticeIssued), identifier("z14"))), ruleOrphan},
		{"what others sent passed on", inB, ty(record.Relayed, "", typeDelivery), added(setDetail("type", typeEnvelope)), ruleOrphan},
		{"no take-charge", inB, is(record.TakeChargeIssued, "ok1"), gone, ruleTakeCharge},
		{"take-charge twice", inB, is(record.TakeChargeIssued, "ok1"), added(identifier("z15")), ruleTakeCharge},
		{"take-charge at another time", inB, is(record.TakeChargeIssued, "ok1"), ch(after(time.Second)), ruleTime},
		{"take-charge for a stranger", inB, is(record.TakeChargeIssued, "ok1"), ch(func(r *record.Record) { r.About = append(r.About, "estraneo@pec.beta.it") }), ruleStranger},
		{"take-charge not passed on", inB, ty(record.Relayed, "", typeTakeCharge), gone, ruleNotified},
		{"take-charge passed on twice", inB, ty(record.Relayed, "", typeTakeCharge), twice, ruleNotified},
		{"no delivery nor non-delivery", inB, is(record.NonDeliveryIssued, "nessuno"), gone, ruleOutcome},
		{"delivered, and no receipt", inB, is(record.DeliveryIssued, "ok1"), gone, ruleDelivered},
		{"receipt, and not delivered", inB, is(record.Delivered, "ok1"), gone, ruleDelivered},
		{"receipt later than the delivery", inB, is(record.DeliveryIssued, "ok1"), ch(after(time.Second)), ruleDelivered},
		{"delivered twice", inB, is(record.Delivered, "ok1"), twice, ruleRepeated},
		{"delivered and not", inB, is(record.DeliveryIssued, "ok1"), added(func(r *record.Record) {
			r.Kind, r.Generated, r.Outcome = record.NonDeliveryIssued, []string{"z16"}, record.Outcome{Code: "5.2.2"}
		}), ruleOutcome},
		{"delivered something else", inB, is(record.Delivered, "ok1"), ch(other), ruleDigest},
		{"receipt not passed on", inB, ty(record.Relayed, "", typeDelivery), gone, ruleNotified},
		{"receipt put into a mailbox here", inB, ty(record.Relayed, "", typeDelivery), ch(func(r *record.Record) {
			r.Kind, r.Generated, r.Detail = record.NotificationDelivered, []string{detail(r, "message")}, nil
		}), ruleNotified},
		{"receipt passed on twice", inB, ty(record.Relayed, "", typeDelivery), twice, ruleNotified},
		{"another receipt passed on", inB, ty(record.Relayed, "", typeDelivery), ch(other), ruleDigest},
		{"receipt passed on as another", inB, ty(record.Relayed, "", typeDelivery), ch(setDetail("type", typeNonDelivery)), ruleRelayed},
		{"receipt passed on before it was issued", inB, ty(record.Relayed, "", typeDelivery), ch(after(-time.Minute)), ruleTime},
		{"receipt passed on that nobody issued", inB, ty(record.Relayed, "", typeDelivery), added(setDetail("message", "z17")), ruleNotified},

		// What is not certified.
		{"no anomaly envelope", inA, is(record.AnomalyEnveloped, ""), gone, ruleAnomaly},
		{"two anomaly envelopes", inA, is(record.AnomalyEnveloped, ""), twice, ruleAnomaly},
		{"anomaly of no reason", inA, is(record.UncertifiedReceived, ""), ch(setDetail("reason", "")), ruleAnomaly},
		{"uncertified twice", inA, is(record.UncertifiedReceived, ""), twice, ruleRepeated},
		{"take-charge of the uncertified", inA, is(record.AnomalyEnveloped, ""), added(both(becomes(record.TakeChargeIssued), identifier("z18"))), ruleAnomaly},
		{"delivery receipt of the uncertified", inA, is(record.AnomalyEnveloped, ""), added(both(becomes(record.DeliveryIssued), identifier("z19"))), ruleAnomaly},
		{"acceptance of the uncertified", inA, is(record.AnomalyEnveloped, ""), added(both(becomes(record.AcceptanceIssued), identifier("z20"))), ruleAnomaly},
		{"anomaly envelope without digest", inA, is(record.AnomalyEnveloped, ""), ch(func(r *record.Record) { r.Digest = nil }), ruleIssued},
		{"anomaly envelope in no mailbox", inA, isAnomalyPlaced, gone, ruleNotified},
		{"anomaly envelope twice in a mailbox", inA, isAnomalyPlaced, twice, ruleRepeated},
		{"anomaly envelope in another mailbox", inA, isAnomalyPlaced, ch(about("altro@pec.alfa.it")), ruleStranger},
		{"another anomaly envelope in the mailbox", inA, isAnomalyPlaced, ch(other), ruleDigest},
		{"anomaly envelope of another name in the mailbox", inA, isAnomalyPlaced, ch(identifier("z21")), ruleNotified},
		{"infected anomaly", inA, is(record.UncertifiedReceived, ""), added(func(r *record.Record) {
			r.Kind, r.Detail = record.VirusFound, []record.Pair{{Name: "engine", Value: "e"}, {Name: "virus", Value: "v"}}
		}), ruleVirus},
	}
}

func isAnomalyPlaced(r *record.Record) bool {
	return (r.Kind == record.NotificationDelivered || r.Kind == record.NotificationFailed) && len(r.Generated) == 1 && r.Generated[0] == "same@elsewhere"
}

// isPlaced finds what was put into a mailbox by the type of the notification; in
// the logs of the model that is told by a mark.
func isPlaced(typ string) func(*record.Record) bool {
	return func(r *record.Record) bool {
		return (r.Kind == record.NotificationDelivered || r.Kind == record.NotificationFailed) && r.Actor == "" && r.Peer.Cipher == typ
	}
}

// isRefusedVirus finds a record of an infected submission.
func isRefusedVirus(k record.Kind) func(*record.Record) bool {
	return func(r *record.Record) bool { return r.Kind == k && len(r.About) == 0 && r.Provider != "" }
}

// markPlaced marks what was put into mailboxes with its type, of what came from
// other providers and of notices.
func markPlaced(h *house) {
	types := map[string]string{}
	for _, r := range h.log {
		if len(r.Generated) == 1 {
			switch r.Kind {
			case record.NotificationReceived:
				types[r.Generated[0]] = typeOf(r)
			case record.DelayNoticeIssued, record.TimeoutNoticeIssued:
				types[r.Generated[0]] = receiptType(r.Kind)
			}
		}
	}
	for _, r := range h.log {
		if (r.Kind == record.NotificationDelivered || r.Kind == record.NotificationFailed) && len(r.Generated) == 1 {
			r.Peer.Cipher = types[r.Generated[0]]
		}
	}
}

var modelSettled = Options{Now: start.Add(96 * time.Hour), Settled: true}

// check audits a house whose log holds one fault in the history of a message.
func check(t *testing.T, name string, h *house, message string, rule *Rule) []Finding {
	t.Helper()
	r := h.audit(modelSettled)
	if len(r.Findings) == 0 {
		t.Errorf("%s: nothing found", name)
	}
	if rule != nil && !slices.ContainsFunc(r.Findings, func(x Finding) bool {
		// What comes behind a message's last record is found by that alone.
		return x.Rule == rule || x.Rule == ruleRepeated && strings.Contains(x.Text, "last outcome")
	}) {
		t.Errorf("%s: not found by rule %s: %v", name, rule.ID, r.Findings)
	}
	for _, x := range r.Findings {
		if x.Message != message && !slices.Contains([]string{"z@x.it", "nobody@x"}, x.Message) && x.Rule != ruleIdentifiers && x.Rule != ruleOrphan {
			t.Errorf("%s: imagined %v", name, x)
		}
	}
	return r.Findings
}

// Each chosen fault is found by the rule that is there for it.
func TestChosenFaults(t *testing.T) {
	t.Parallel()
	faults := chosenFaults()
	for _, f := range faults {
		w := flows()
		h := f.house(w)
		markPlaced(h)
		i := slices.IndexFunc(h.log, f.find)
		if i < 0 {
			t.Errorf("%s: there is no such record", f.name)
			continue
		}
		message := h.log[i].MessageID
		h.log = f.alter(h.log, i)
		check(t, f.name, h, message, f.rule)
	}
	t.Logf("%d faults", len(faults))
}

// Every record of two providers, spoiled in every way, is found.
func TestSpoiledRecords(t *testing.T) {
	t.Parallel()
	spoils := []struct {
		name    string
		applies func(*record.Record) bool
		alter   func([]*record.Record, int) []*record.Record
		rule    *Rule
	}{
		{"is missing", func(r *record.Record) bool { return r.Kind != record.Deferred }, gone, nil},
		{"comes twice", func(r *record.Record) bool { return r.Kind != record.Deferred }, twice, nil},
		{"of another sender", func(r *record.Record) bool { return !begins(r) }, altered(func(r *record.Record) { r.Sender = "altro@x.it" }), ruleSame},
		{"of another message", func(r *record.Record) bool { return true }, altered(func(r *record.Record) { r.MessageID = "z@x.it" }), nil},
		{"of no message", func(r *record.Record) bool { return true }, altered(func(r *record.Record) { r.MessageID = "" }), ruleOrphan},
		{"before it began", func(r *record.Record) bool {
			return !begins(r) && r.Kind != record.VirusFound && r.Kind != record.Quarantined
		}, altered(after(-48 * time.Hour)), nil},
		{"without digest", func(r *record.Record) bool {
			return r.Kind.Issued() || begins(r) || r.Kind == record.Relayed || r.Kind == record.NotificationReceived
		}, altered(func(r *record.Record) { r.Digest = nil }), ruleIssued},
		{"without identifier", func(r *record.Record) bool { return len(r.Generated) == 1 }, altered(func(r *record.Record) { r.Generated = nil }), nil},
		{"about nobody", func(r *record.Record) bool {
			return len(r.About) > 0 && r.Kind != record.VirusFound && r.Kind != record.Quarantined
		}, altered(about()), nil},
		{"about a stranger", func(r *record.Record) bool {
			// To whom a receipt goes in another provider's house is not ours to know.
			passed := (r.Kind == record.Relayed || r.Kind == record.Deferred) && typeOf(r) != typeEnvelope
			return len(r.About) == 1 && !passed && r.Kind != record.VirusFound && r.Kind != record.Quarantined
		}, altered(about("estraneo@pec.alfa.it")), nil},
	}
	w := flows()
	n, kinds, found := 0, map[string]bool{}, map[*Rule]bool{}
	for _, f := range chosenFaults() {
		found[f.rule] = true // by another test
	}
	for _, h := range []*house{w.a, w.b} {
		for i, r := range h.log {
			for _, s := range spoils {
				if !s.applies(r) {
					continue
				}
				n++
				kinds[fmt.Sprint(r.Kind, typeOf(r), s.name)] = true
				spoiled := &house{name: h.name, domain: h.domain, service: h.service, log: s.alter(slices.Clone(h.log), i)}
				for _, f := range check(t, fmt.Sprintf("%s, %d %s %s %v %s", h.name, i, r.Kind, typeOf(r), r.About, s.name), spoiled, r.MessageID, s.rule) {
					found[f.Rule] = true
				}
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d faults of %d sorts", n, len(kinds))
	for _, r := range Rules() {
		if !found[r] && r != ruleRefused { // which TestSeededFaults has
			t.Errorf("no fault is found by rule %s", r.ID)
		}
	}
}

// A message whose beginning was disposed of with its month is no orphan, nor is
// one that goes on for two days into the next month; later ones are.
func TestDisposedBeginning(t *testing.T) {
	t.Parallel()
	first := time.Date(2026, 12, 1, 0, 0, 10, 0, time.UTC)
	for _, x := range []struct {
		at       time.Time
		disposed bool
		found    int
	}{{first, true, 0}, {first, false, 1}, {first.Add(72 * time.Hour), true, 1}} {
		a := New(modelSettled)
		if x.disposed {
			a.Add(0, nil)
		}
		a.Add(1, &record.Record{Kind: record.Delivered, MessageID: "x@y", Time: x.at, About: []string{"a@b"}})
		if r := a.Finish(); len(r.Findings) != x.found {
			t.Errorf("%+v: %v", x, r.Findings)
		}
	}
}

// A message is forgotten when nothing can come of it any more, also when its
// receipts come in another order than they were sent.
func TestForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(3)
	for range 200 {
		w.send(w.a, "ok1@"+w.b.domain, "nessuno@"+w.b.domain, "ok9@"+w.a.domain, "xordinario@example.org").accept()
		w.send(w.b, "ok2@"+w.a.domain).refuse(false)
	}
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("ok%d@%s", i, w.b.domain)
	}
	w.send(w.a, many...).accept()
	w.run()
	for _, h := range []*house{w.a, w.b} {
		a := New(Options{ServiceMailbox: h.service, Now: w.now})
		for i, r := range h.log {
			a.Add(uint64(i), r)
		}
		if held := len(a.messages); held > 0 {
			t.Errorf("%s: %d messages are held", h.name, held)
		}
		if r := a.Finish(); len(r.Findings) > 0 || r.Open > 0 || r.Messages == 0 {
			t.Errorf("%s: %+v", h.name, r)
		}
	}
}

func begins(r *record.Record) bool {
	return r.Kind == record.Submitted || r.Kind == record.Received || r.Kind == record.UncertifiedReceived
}
