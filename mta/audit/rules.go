package audit

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"scripta/register/record"
)

// Rule is one that the records must obey.
type Rule struct {
	ID     string
	Source string // law article, RFC section, or the design's own promise
	Text   string
}

// The rules.
var (
	ruleOrphan      = &Rule{"orphan", "RFC 6109 §2.3", "every record of a message belongs to one that was submitted or received"}
	ruleAnswer      = &Rule{"answer", "RFC 6109 §3.1.2, §3.1.4; DPR 68/2005 art. 6", "a submitted message is accepted or not accepted, once"}
	ruleEnvelope    = &Rule{"envelope", "RFC 6109 §3.1.5", "an accepted message gets exactly one transport envelope, one that is not accepted none"}
	ruleRefused     = &Rule{"refused", "RFC 6109 §3.1.2", "nothing follows a non-acceptance"}
	ruleSame        = &Rule{"same", "RFC 6109 §2.3", "all records of a message agree about its sender, recipients, subject and identifier"}
	ruleTakeCharge  = &Rule{"take-charge", "RFC 6109 §3.2.1", "every certified recipient is taken in charge, once"}
	ruleOutcome     = &Rule{"outcome", "RFC 6109 §3.3.2, §3.3.3; DPR 68/2005 art. 6", "every certified recipient has exactly one delivery or non-delivery"}
	ruleTimeout     = &Rule{"timeout", "RFC 6109 §3.1.6; DPR 68/2005 art. 8", "without an outcome the sender is told after 12 hours, and again between 22 and 24"}
	ruleStranger    = &Rule{"stranger", "RFC 6109 §3.3.2", "receipts are about recipients of the envelope"}
	ruleDelivered   = &Rule{"delivered", "RFC 6109 §3.3.2", "a delivery receipt follows a delivery of the envelope, and has its time"}
	ruleDigest      = &Rule{"digest", "DPR 68/2005 art. 6", "the envelope that was made is the one that was received and delivered"}
	ruleIssued      = &Rule{"issued", "RFC 6109 §2.3", "a message that was issued has its digest, its size and one identifier"}
	ruleIdentifiers = &Rule{"identifiers", "RFC 6109 §2.2.1", "no two messages have one identifier"}
	ruleNotified    = &Rule{"notified", "RFC 6109 §3.1.4, §3.3.2", "every receipt is put into its mailbox, once"}
	ruleTime        = &Rule{"time", "RFC 6109 §4.1; DM 2/11/2005 art. 9", "a transaction has one time, and times do not go back"}
	ruleRepeated    = &Rule{"repeated", "RFC 6109 §2.3", "nothing happens twice, nor after the end"}
)

// Rules returns all rules.
func Rules() []*Rule {
	return []*Rule{ruleOrphan, ruleAnswer, ruleEnvelope, ruleRefused, ruleSame, ruleTakeCharge, ruleOutcome, ruleTimeout, ruleStranger, ruleDelivered, ruleDigest,
		ruleIssued, ruleIdentifiers, ruleNotified, ruleTime, ruleRepeated}
}

// Terms of RFC 6109 section 3.1.6.
const (
	delayAfter    = 12 * time.Hour
	timeoutFrom   = 22 * time.Hour
	timeoutBefore = 24 * time.Hour
)

// judgement is the judging of one message.
type judgement struct {
	*Auditor
	*message
	open bool // something may still come
}

// find reports something at a record.
func (j *judgement) find(r *Rule, at entry, format string, args ...any) {
	j.Auditor.find(r, at.leaf, j.id, format, args...)
}

// missing reports something that is not there, unless it may still come.
func (j *judgement) missing(r *Rule, at entry, format string, args ...any) {
	if !j.opt.Settled && j.opt.Now.Sub(at.Time) < timeoutBefore {
		j.open = true
		return
	}
	j.find(r, at, format, args...)
}

// one returns the only entry of a kind. More are reported.
func (j *judgement) one(r *Rule, k record.Kind) (entry, bool) {
	all := j.of(k)
	if len(all) == 0 {
		return entry{}, false
	}
	for _, e := range all[1:] {
		j.find(r, e, "%s comes again, after leaf %d", k, all[0].leaf)
	}
	return all[0], true
}

// judge applies the rules to all that is known of a message.
func (a *Auditor) judge(m *message) {
	j := &judgement{Auditor: a, message: m}
	begin, ok := j.one(ruleRepeated, record.Submitted)
	if !ok {
		if begin, ok = j.one(ruleRepeated, record.Received); !ok {
			j.find(ruleOrphan, m.entries[0], "%s of a message that was neither submitted nor received", m.entries[0].Kind)
			return
		}
	}
	j.agree(begin)
	j.issued()
	if begin.Kind == record.Received {
		for _, e := range j.of(record.AcceptanceIssued, record.NonAcceptanceIssued, record.Enveloped) {
			j.find(ruleOrphan, e, "%s of a message that was never submitted", e.Kind)
		}
	}
	if begin.Kind == record.Submitted && !j.access(begin) {
		j.count()
		return
	}
	j.incoming(begin)
	j.notified()
	j.count()
}

func (j *judgement) count() {
	if j.open {
		j.report.Open++
	}
}

// agree compares every record with the first.
func (j *judgement) agree(first entry) {
	for _, e := range j.entries {
		switch {
		case !same(e.Sender, first.Sender):
			j.find(ruleSame, e, "%s has the sender %q, %s had %q", e.Kind, e.Sender, first.Kind, first.Sender)
		case e.OriginalID != first.OriginalID:
			j.find(ruleSame, e, "%s has the original identifier %q, %s had %q", e.Kind, e.OriginalID, first.Kind, first.OriginalID)
		case e.Subject != first.Subject:
			j.find(ruleSame, e, "%s has another subject than %s", e.Kind, first.Kind)
		case !slices.EqualFunc(e.Recipients, first.Recipients, func(x, y record.Recipient) bool {
			return x.Certified == y.Certified && same(x.Address, y.Address)
		}):
			j.find(ruleSame, e, "%s has other recipients than %s", e.Kind, first.Kind)
		}
	}
}

// issued checks what every record of a message of the provider's own must have.
func (j *judgement) issued() {
	for _, e := range j.entries {
		if e.Kind.Issued() && (len(e.Digest) != sha256.Size || len(e.Content) != sha256.Size || e.Size == 0) {
			j.find(ruleIssued, e, "%s lacks the digest or the size of what was issued", e.Kind)
		}
	}
	for _, e := range j.of(record.Submitted) {
		if len(e.Digest) != sha256.Size || e.Size == 0 || e.Actor == "" {
			j.find(ruleIssued, e, "submitted lacks the digest, the size or the account of what was handed in")
		}
	}
}

// access judges the Access Point. It returns false if nothing may follow.
func (j *judgement) access(begin entry) bool {
	accepted, yes := j.one(ruleAnswer, record.AcceptanceIssued)
	refused, no := j.one(ruleAnswer, record.NonAcceptanceIssued)
	envelope, made := j.one(ruleEnvelope, record.Enveloped)
	switch {
	case yes && no:
		j.find(ruleAnswer, refused, "the message is both accepted, at leaf %d, and not accepted", accepted.leaf)
	case !yes && !no:
		j.missing(ruleAnswer, begin, "the message was neither accepted nor refused")
	}
	for _, e := range []entry{accepted, refused, envelope} {
		if e.Record != nil && !e.Time.Equal(begin.Time) {
			j.find(ruleTime, e, "%s has another time than submitted", e.Kind)
		}
	}
	if no {
		for _, e := range j.entries {
			switch e.Kind {
			case record.Submitted, record.NonAcceptanceIssued, record.NotificationDelivered, record.NotificationFailed:
			default:
				if !yes {
					j.find(ruleRefused, e, "%s of a message that was not accepted", e.Kind)
				}
			}
		}
		j.notified()
		return false
	}
	switch {
	case yes && !made:
		j.missing(ruleEnvelope, accepted, "the message was accepted and has no envelope")
	case made && !yes:
		j.find(ruleEnvelope, envelope, "there is an envelope of a message that was not accepted")
	case made && (len(envelope.Generated) != 1 || envelope.Generated[0] != j.id):
		j.find(ruleEnvelope, envelope, "the envelope's identifier is not the message's")
	}
	return true
}

// incoming judges the Incoming and the Delivery Point, and what the sender hears.
func (j *judgement) incoming(begin entry) {
	received, ok := j.one(ruleRepeated, record.Received)
	envelopes := j.of(record.Enveloped)
	if ok {
		if received.Time.Before(begin.Time) {
			j.find(ruleTime, received, "received has an earlier time than submitted")
		}
		if len(envelopes) > 0 && !slices.Equal(envelopes[0].Digest, received.Digest) {
			j.find(ruleDigest, received, "what was received is not the envelope of leaf %d", envelopes[0].leaf)
		}
	}
	charges := j.of(record.TakeChargeIssued)
	if !ok {
		for _, e := range j.of(record.TakeChargeIssued, record.Delivered) {
			j.find(ruleOrphan, e, "%s of an envelope that was never received", e.Kind)
		}
	}
	for _, e := range charges {
		if ok && !e.Time.Equal(received.Time) {
			j.find(ruleTime, e, "the take-charge has another time than received")
		}
	}
	for _, e := range j.entries {
		switch e.Kind {
		case record.TakeChargeIssued, record.Delivered, record.DeliveryIssued, record.NonDeliveryIssued, record.DelayNoticeIssued, record.TimeoutNoticeIssued,
			record.VirusDetectionIssued:
			j.strangers(e, begin)
		}
	}
	for _, e := range j.of(record.Delivered, record.DeliveryIssued, record.NonDeliveryIssued) {
		if ok && e.Time.Before(received.Time) || e.Time.Before(begin.Time) {
			j.find(ruleTime, e, "%s has an earlier time than what it follows", e.Kind)
		}
	}
	for _, r := range begin.Recipients {
		if !r.Certified {
			continue
		}
		j.recipient(begin, received, charges, r.Address)
	}
}

// strangers reports addresses that a record is about and the envelope is not for.
func (j *judgement) strangers(e, begin entry) {
	if e.Kind != record.TakeChargeIssued && len(e.About) != 1 {
		j.find(ruleStranger, e, "%s is about %d recipients, not one", e.Kind, len(e.About))
	}
	for _, about := range e.About {
		if !slices.ContainsFunc(begin.Recipients, func(r record.Recipient) bool { return r.Certified && same(r.Address, about) }) {
			j.find(ruleStranger, e, "%s is about %s, who is no certified recipient", e.Kind, about)
		}
	}
}

// recipient judges what became of one certified recipient.
func (j *judgement) recipient(begin, received entry, charges []entry, address string) {
	taken := 0
	for _, e := range charges {
		if taken += count(e.About, address); taken > 1 {
			j.find(ruleTakeCharge, e, "%s is taken in charge again", address)
		}
	}
	if taken == 0 {
		j.missing(ruleTakeCharge, begin, "%s was never taken in charge", address)
	}
	about := func(k record.Kind) (list []entry) {
		for _, e := range j.of(k) {
			if count(e.About, address) > 0 {
				list = append(list, e)
			}
		}
		return list
	}
	delivered, receipts, refusals := about(record.Delivered), about(record.DeliveryIssued), about(record.NonDeliveryIssued)
	outcomes := slices.Concat(receipts, refusals)
	slices.SortFunc(outcomes, func(a, b entry) int { return int(a.leaf) - int(b.leaf) })
	for i, e := range outcomes {
		if i > 0 {
			j.find(ruleOutcome, e, "%s about %s, who had %s at leaf %d", e.Kind, address, outcomes[0].Kind, outcomes[0].leaf)
		}
	}
	for i, e := range delivered {
		if i > 0 {
			j.find(ruleRepeated, e, "the envelope is delivered to %s again", address)
		}
		if received.Record != nil && !slices.Equal(e.Digest, received.Digest) {
			j.find(ruleDigest, e, "what was delivered to %s is not what was received", address)
		}
		if len(receipts) == 0 {
			j.missing(ruleDelivered, e, "the envelope was delivered to %s, and there is no receipt of it", address)
		}
	}
	for _, e := range receipts {
		switch {
		case len(delivered) == 0:
			j.find(ruleDelivered, e, "there is a receipt and no delivery to %s", address)
		case !e.Time.Equal(delivered[0].Time):
			j.find(ruleDelivered, e, "the receipt for %s has another time than the delivery", address)
		}
	}
	for _, e := range refusals {
		if e.Outcome.Code == "" {
			j.find(ruleOutcome, e, "the non-delivery to %s gives no reason", address)
		}
	}
	j.terms(begin, outcomes, about(record.DelayNoticeIssued), about(record.TimeoutNoticeIssued), address)
}

// terms checks the notices of delay. They are due to the sender's provider
// alone: begin tells of a submission.
func (j *judgement) terms(begin entry, outcomes, delays, timeouts []entry, address string) {
	if begin.Kind != record.Submitted {
		if len(outcomes) == 0 {
			j.missing(ruleOutcome, begin, "%s has neither a delivery nor a non-delivery", address)
		}
		return
	}
	late := func(e entry) time.Duration { return e.Time.Sub(begin.Time) }
	for i, e := range delays {
		if i > 0 || late(e) < delayAfter {
			j.find(ruleTimeout, e, "a notice of delay about %s comes again, or before 12 hours", address)
		}
	}
	for i, e := range timeouts {
		if i > 0 || late(e) < timeoutFrom || late(e) > timeoutBefore {
			j.find(ruleTimeout, e, "the last notice about %s comes again, or not between 22 and 24 hours", address)
		}
	}
	inTime := slices.ContainsFunc(outcomes, func(e entry) bool { return late(e) <= timeoutBefore })
	switch {
	case inTime || len(timeouts) > 0:
	case len(outcomes) > 0:
		j.find(ruleTimeout, outcomes[0], "the outcome for %s comes after 24 hours, and the sender was not told", address)
	default:
		j.missing(ruleOutcome, begin, "%s has neither a delivery nor a non-delivery, and the sender was not told", address)
	}
}

// addressee is whose mailbox a receipt belongs into.
func (j *judgement) addressee(e entry) string {
	if e.Kind == record.TakeChargeIssued {
		return j.opt.ServiceMailbox
	}
	return e.Sender
}

// notified checks that what was issued to a mailbox is there, once.
func (j *judgement) notified() {
	placed := map[string][]entry{}
	for _, e := range j.of(record.NotificationDelivered, record.NotificationFailed) {
		if len(e.Generated) != 1 || len(e.About) != 1 {
			j.find(ruleNotified, e, "%s names %d messages and %d mailboxes", e.Kind, len(e.Generated), len(e.About))
			continue
		}
		placed[e.Generated[0]] = append(placed[e.Generated[0]], e)
	}
	for _, e := range j.of(record.AcceptanceIssued, record.NonAcceptanceIssued, record.TakeChargeIssued, record.DeliveryIssued, record.NonDeliveryIssued,
		record.DelayNoticeIssued, record.TimeoutNoticeIssued) {
		if len(e.Generated) != 1 {
			continue // reported
		}
		all := placed[e.Generated[0]]
		delete(placed, e.Generated[0])
		if len(all) == 0 {
			j.missing(ruleNotified, e, "%s was put into no mailbox", e.Kind)
			continue
		}
		for i, n := range all {
			switch {
			case i > 0:
				j.find(ruleNotified, n, "%s is put into a mailbox again", e.Kind)
			case !slices.Equal(n.Digest, e.Digest):
				j.find(ruleDigest, n, "what was put into %s is not the %s of leaf %d", n.About[0], e.Kind, e.leaf)
			case !same(n.About[0], j.addressee(e)):
				j.find(ruleNotified, n, "%s was put into the mailbox of %s, which is not %s", e.Kind, n.About[0], j.addressee(e))
			case n.Time.Before(e.Time):
				j.find(ruleTime, n, "%s was put into its mailbox before it was issued", e.Kind)
			}
		}
	}
	for _, all := range placed {
		for _, n := range all {
			j.find(ruleNotified, n, "a receipt was put into a mailbox that nobody issued: %s", n.Generated[0])
		}
	}
}

// short is an identifier's digest, cut: enough not to meet another by chance.
func short(id string) [16]byte {
	sum := sha256.Sum256([]byte(strings.Trim(id, "<>")))
	return [16]byte(sum[:16])
}
