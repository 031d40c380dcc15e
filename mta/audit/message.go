package audit

import (
	"crypto/sha256"
	"slices"
	"strings"

	"scripta/register/record"
)

// Values of the detail "type" of what comes from other providers or goes to
// them: those of X-Ricevuta and X-Trasporto (RFC 6109 section 3).
const (
	typeEnvelope    = "posta-certificata"
	typeTakeCharge  = "presa-in-carico"
	typeDelivery    = "avvenuta-consegna"
	typeNonDelivery = "errore-consegna"
	typeVirus       = "rilevazione-virus"
)

// typeOf is the type of a record of what was passed on or came back, in lower
// case.
func typeOf(r *record.Record) string { return strings.ToLower(detail(r, "type")) }

// detail is the value of a record's detail, or empty.
func detail(r *record.Record, name string) string {
	for _, d := range r.Detail {
		if d.Name == name {
			return d.Value
		}
	}
	return ""
}

// message is what the records tell of one message.
type message struct {
	id      string
	entries []entry
	tally
}

// tally counts what the records of a message tell, so that it is seen cheaply
// when nothing more can come.
type tally struct {
	begun      record.Kind // the first that can begin a message
	recipients int         // of an own message: all; of one that is not certified: its mailboxes
	certified  int         // of an own message
	received   int         // recipients in transactions of the Incoming Point
	charged    int         // recipients taken in charge, or who never will be
	outcomes   int         // recipients with a delivery or a non-delivery
	handed     int         // recipients that another server took the envelope for, or refused
	issued     int         // receipts and notices that have to get somewhere
	placed     int         // receipts and notices that got there
	made       bool        // the anomaly envelope
	ended      bool        // not accepted
	infected   bool        // a virus was found
	unusual    bool        // something may come of which nobody knows whether it will
}

// add counts a record and keeps it.
func (m *message) add(e entry) {
	m.entries = append(m.entries, e)
	t := &m.tally
	n := len(e.About)
	switch e.Kind {
	case record.Submitted, record.Received, record.UncertifiedReceived:
		if t.begun == 0 {
			t.begun = e.Kind
		}
	}
	switch e.Kind {
	case record.Submitted:
		t.recipients = len(e.Recipients)
		for _, r := range e.Recipients {
			if r.Certified {
				t.certified++
			}
		}
	case record.UncertifiedReceived:
		t.recipients = n
	case record.Received:
		t.received += n
	case record.AcceptanceIssued:
		t.issued++
	case record.NonAcceptanceIssued:
		t.issued, t.ended = t.issued+1, true
	case record.TakeChargeIssued:
		t.issued, t.charged = t.issued+1, t.charged+n
	case record.DeliveryIssued, record.NonDeliveryIssued:
		t.issued, t.outcomes = t.issued+1, t.outcomes+n
	case record.VirusDetectionIssued:
		t.issued++
		if t.begun == record.Received {
			t.outcomes += n
		}
	case record.DelayNoticeIssued, record.TimeoutNoticeIssued:
		t.issued++
	case record.NotificationReceived:
		t.issued++
		switch typeOf(e.Record) {
		case typeTakeCharge:
			t.charged += n
		case typeDelivery, typeNonDelivery:
			t.outcomes += n
		default:
			t.unusual = true
		}
	case record.NotificationDelivered, record.NotificationFailed:
		t.placed++
	case record.Relayed, record.Bounced:
		if typeOf(e.Record) != typeEnvelope {
			t.placed++
			return
		}
		t.handed += n
		if e.Kind == record.Bounced {
			t.unusual = true
		}
	case record.AnomalyEnveloped:
		t.made = true
	case record.VirusFound:
		t.infected = true
	}
}

// ends says whether a record of this kind can be the last of a message.
func ends(k record.Kind) bool {
	switch k {
	case record.NotificationDelivered, record.NotificationFailed, record.Relayed:
		return true
	}
	return false
}

// whole says whether nothing more can come: each recipient has an outcome, each
// receipt is where it belongs. In doubt it says no: the message is then held
// until the end of the audit.
func (m *message) whole() bool {
	t := &m.tally
	switch t.begun {
	case record.Submitted:
		if t.ended {
			return t.placed >= t.issued
		}
		return !t.unusual && t.issued > 0 && t.placed >= t.issued && t.outcomes >= t.certified && t.charged >= t.certified && t.received+t.handed >= t.recipients
	case record.Received:
		return t.outcomes >= t.received && t.placed >= t.issued && (t.charged >= t.received || t.infected)
	case record.UncertifiedReceived:
		return t.made && t.placed >= t.recipients
	}
	return false
}

// of returns the entries of some kinds.
func (m *message) of(kinds ...record.Kind) []entry { return ofKind(m.entries, kinds...) }

func ofKind(list []entry, kinds ...record.Kind) []entry {
	var all []entry
	for _, e := range list {
		if slices.Contains(kinds, e.Kind) {
			all = append(all, e)
		}
	}
	return all
}

// ofType returns the entries of a kind whose message is of a type.
func ofType(list []entry, k record.Kind, types ...string) []entry {
	var all []entry
	for _, e := range list {
		if e.Kind == k && slices.Contains(types, typeOf(e.Record)) {
			all = append(all, e)
		}
	}
	return all
}

// short is an identifier's digest, cut: enough not to meet another by chance.
func short(id string) [16]byte {
	sum := sha256.Sum256([]byte(strings.Trim(id, "<>")))
	return [16]byte(sum[:16])
}

// shortOf is short for one recipient of a message.
func shortOf(id, address string) [16]byte {
	return short(id + "\x00" + strings.ToLower(address))
}
