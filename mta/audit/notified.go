package audit

import (
	"slices"
	"strings"

	"scripta/register/record"
)

// receiptType is the type on the wire of what a record says was issued.
func receiptType(k record.Kind) string {
	switch k {
	case record.Enveloped:
		return typeEnvelope
	case record.AcceptanceIssued:
		return "accettazione"
	case record.NonAcceptanceIssued:
		return "non-accettazione"
	case record.TakeChargeIssued:
		return typeTakeCharge
	case record.DeliveryIssued:
		return typeDelivery
	case record.NonDeliveryIssued:
		return typeNonDelivery
	case record.DelayNoticeIssued, record.TimeoutNoticeIssued:
		return "preavviso-errore-consegna"
	case record.VirusDetectionIssued:
		return typeVirus
	}
	return ""
}

// addressee is whose mailbox a receipt belongs into: take-charges and virus
// detections are for the provider, everything else for the sender.
func (j *judgement) addressee(e entry) string {
	kind := receiptType(e.Kind)
	if e.Kind == record.NotificationReceived {
		kind = typeOf(e.Record)
	}
	if kind == typeTakeCharge || kind == typeVirus {
		return j.opt.ServiceMailbox
	}
	return e.Sender
}

// mailboxes are those that a notification of another provider came for.
func (j *judgement) mailboxes(e entry) []string {
	if boxes := detail(e.Record, "mailboxes"); boxes != "" {
		return strings.Split(boxes, " ")
	}
	return []string{j.addressee(e)}
}

// notified checks that what was issued or came for somebody here is in the
// mailbox, once, and what was issued for another provider went there, once.
func (j *judgement) notified(begin entry) {
	placed, passed := map[string][]entry{}, map[string][]entry{}
	for _, e := range j.of(record.NotificationDelivered, record.NotificationFailed) {
		if len(e.Generated) != 1 || len(e.About) != 1 {
			j.find(ruleNotified, e, "%s names %d messages and %d mailboxes", e.Kind, len(e.Generated), len(e.About))
			continue
		}
		placed[e.Generated[0]] = append(placed[e.Generated[0]], e)
	}
	for _, e := range j.of(record.Relayed, record.Bounced) {
		if typeOf(e.Record) != typeEnvelope {
			id := detail(e.Record, "message")
			passed[id] = append(passed[id], e)
		}
	}
	for _, e := range j.of(record.AcceptanceIssued, record.NonAcceptanceIssued, record.TakeChargeIssued, record.DeliveryIssued, record.NonDeliveryIssued,
		record.DelayNoticeIssued, record.TimeoutNoticeIssued, record.VirusDetectionIssued, record.NotificationReceived) {
		if len(e.Generated) != 1 {
			continue // reported
		}
		id := e.Generated[0]
		switch {
		case e.Kind == record.NotificationReceived:
			for _, box := range j.mailboxes(e) {
				var there, others []entry
				for _, n := range placed[id] {
					if same(n.About[0], box) {
						there = append(there, n)
					} else {
						others = append(others, n)
					}
				}
				placed[id] = others
				j.arrived(e, there, box)
			}
		case begin.Kind == record.Received:
			j.went(e, passed[id])
			delete(passed, id)
		default:
			j.arrived(e, placed[id], j.addressee(e))
			delete(placed, id)
		}
	}
	for _, all := range placed {
		for _, n := range all {
			j.find(ruleNotified, n, "a receipt was put into a mailbox that nobody issued to it: %s", n.Generated[0])
		}
	}
	for id, all := range passed {
		for _, n := range all {
			j.find(ruleNotified, n, "a receipt was %s that nobody issued to another provider: %s", n.Kind, id)
		}
	}
}

// arrived judges how a receipt came into its mailbox.
func (j *judgement) arrived(e entry, all []entry, mailbox string) {
	if len(all) == 0 {
		j.missing(ruleNotified, e, "%s was not put into the mailbox of %s", e.Kind, mailbox)
		return
	}
	for i, n := range all {
		switch {
		case i > 0:
			j.find(ruleNotified, n, "%s is put into a mailbox again", e.Kind)
		case !slices.Equal(n.Digest, e.Digest):
			j.find(ruleDigest, n, "what was put into %s is not the %s of leaf %d", n.About[0], e.Kind, e.leaf)
		case !same(n.About[0], mailbox):
			j.find(ruleNotified, n, "%s was put into the mailbox of %s, which is not %s", e.Kind, n.About[0], mailbox)
		case n.Time.Before(e.Time):
			j.find(ruleTime, n, "%s was put into its mailbox before it was issued", e.Kind)
		}
	}
}

// went judges how a receipt went to the sender's provider.
func (j *judgement) went(e entry, all []entry) {
	if len(all) == 0 {
		j.missingAfter(relayTerm, ruleNotified, e, "%s was not passed on to the sender's provider", e.Kind)
		return
	}
	for i, n := range all {
		switch {
		case i > 0:
			j.find(ruleNotified, n, "%s is %s again, after leaf %d", e.Kind, n.Kind, all[0].leaf)
		case typeOf(n.Record) != receiptType(e.Kind):
			j.find(ruleRelayed, n, "%s is passed on as %q", e.Kind, typeOf(n.Record))
		case n.Kind == record.Relayed && !slices.Equal(n.Digest, e.Digest):
			j.find(ruleDigest, n, "what was passed on is not the %s of leaf %d", e.Kind, e.leaf)
		case n.Time.Before(e.Time):
			j.find(ruleTime, n, "%s was passed on before it was issued", e.Kind)
		}
	}
}
