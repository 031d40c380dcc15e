package audit

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"scripta/register/record"
)

// passage judges how the envelope went to other servers, and the form of the
// records of everything that did.
func (j *judgement) passage(begin entry) {
	envelope := entry{}
	if all := j.of(record.Enveloped); len(all) > 0 {
		envelope = all[0]
	}
	for _, e := range j.of(record.Relayed, record.Deferred, record.Bounced) {
		if len(e.About) == 0 || detail(e.Record, "destination") == "" || detail(e.Record, "message") == "" || typeOf(e.Record) == "" {
			j.find(ruleRelayed, e, "%s does not say what went where to", e.Kind)
		}
		if e.Time.Before(begin.Time) {
			j.find(ruleTime, e, "%s has an earlier time than what it follows", e.Kind)
		}
		certified := true // receipts go to providers alone
		if typeOf(e.Record) == typeEnvelope {
			certified = j.passed(e, begin, envelope)
		}
		if certified && e.Kind == record.Relayed && e.Peer.TLS == "" {
			j.find(ruleChannel, e, "%s towards %s without TLS", e.Kind, detail(e.Record, "destination"))
		}
	}
}

// passed judges a record of the envelope's passage. It says whether a recipient
// in it is certified.
func (j *judgement) passed(e, begin, envelope entry) (certified bool) {
	switch {
	case begin.Kind != record.Submitted:
		j.find(ruleOrphan, e, "%s of an envelope that is another provider's", e.Kind)
		return false
	case envelope.Record == nil:
		j.find(ruleEnvelope, e, "%s of an envelope that was never made", e.Kind)
	case detail(e.Record, "message") != j.id:
		j.find(ruleRelayed, e, "%s of the message %q, which is not the envelope", e.Kind, detail(e.Record, "message"))
	case e.Kind == record.Relayed && !slices.Equal(e.Digest, envelope.Digest):
		j.find(ruleDigest, e, "what was passed on is not the envelope of leaf %d", envelope.leaf)
	case e.Kind == record.Bounced && e.Outcome.Code == "":
		j.find(ruleRelayed, e, "%s gives no reason", e.Kind)
	}
	for _, about := range e.About {
		is, known := j.addressed(begin, about)
		if !known {
			j.find(ruleStranger, e, "%s is about %s, who is no recipient", e.Kind, about)
		}
		certified = certified || is
	}
	return certified
}

// incoming judges the Incoming and the Delivery Point, ours and those of others
// as far as they told us, and what the sender hears.
func (j *judgement) incoming(begin entry) {
	receptions := j.of(record.Received)
	envelopes := j.of(record.Enveloped)
	if len(envelopes) == 0 {
		envelopes = receptions // of one envelope all
	}
	for _, e := range receptions {
		if e.Time.Before(begin.Time) {
			j.find(ruleTime, e, "received has an earlier time than %s", begin.Kind)
		}
		if !slices.Equal(envelopes[0].Digest, e.Digest) {
			j.find(ruleDigest, e, "what was received is not the envelope of leaf %d", envelopes[0].leaf)
		}
	}
	if begin.Kind == record.Submitted {
		for _, e := range receptions[min(1, len(receptions)):] {
			j.find(ruleRepeated, e, "received comes again, after leaf %d", receptions[0].leaf)
		}
	}
	if len(receptions) == 0 {
		for _, e := range j.of(record.TakeChargeIssued, record.Delivered) {
			j.find(ruleOrphan, e, "%s of an envelope that was never received", e.Kind)
		}
	}
	for _, e := range j.entries {
		switch e.Kind {
		case record.Received, record.TakeChargeIssued, record.Delivered, record.DeliveryIssued, record.NonDeliveryIssued, record.DelayNoticeIssued, record.TimeoutNoticeIssued,
			record.VirusDetectionIssued, record.NotificationReceived:
			j.strangers(e, begin)
		}
	}
	for _, e := range j.of(record.Delivered, record.DeliveryIssued, record.NonDeliveryIssued, record.VirusDetectionIssued, record.NotificationReceived) {
		if e.Time.Before(begin.Time) {
			j.find(ruleTime, e, "%s has an earlier time than what it follows", e.Kind)
		}
	}
	j.foreign()
	for _, r := range begin.Recipients {
		j.recipient(begin, r)
	}
}

// strangers reports addresses that a record is about and the envelope is not for.
func (j *judgement) strangers(e, begin entry) {
	several := e.Kind == record.TakeChargeIssued || e.Kind == record.Received || e.Kind == record.NotificationReceived && typeOf(e.Record) == typeTakeCharge
	if !several && len(e.About) != 1 || len(e.About) == 0 {
		j.find(ruleStranger, e, "%s is about %d recipients, not one", e.Kind, len(e.About))
	}
	for _, about := range e.About {
		// What others take for certified is theirs to say; who we are, we know.
		if is, known := j.addressed(begin, about); !is && !(known && begin.Kind == record.Received) {
			j.find(ruleStranger, e, "%s is about %s, who is no certified recipient", e.Kind, about)
		}
	}
}

// foreign judges the form of what other providers told us.
func (j *judgement) foreign() {
	seen := map[string]entry{} // by identifier and mailbox
	for _, e := range j.of(record.NotificationReceived) {
		if len(e.Generated) != 1 || e.Provider == "" || typeOf(e.Record) == "" {
			j.find(ruleNotified, e, "%s does not say what came from whom", e.Kind)
			continue
		}
		for _, box := range j.mailboxes(e) {
			key := e.Generated[0] + "\x00" + strings.ToLower(box)
			if first, twice := seen[key]; twice {
				j.find(ruleRepeated, e, "the notification of leaf %d comes to %s again", first.leaf, box)
			}
			seen[key] = e
		}
	}
}

// recipient judges what became of one recipient.
func (j *judgement) recipient(begin entry, r record.Recipient) {
	mine := j.about(r.Address)
	receptions := ofKind(mine, record.Received)
	for _, e := range receptions[min(1, len(receptions)):] {
		j.find(ruleReceived, e, "the envelope is taken for %s again, after leaf %d", r.Address, receptions[0].leaf)
	}
	if begin.Kind == record.Submitted {
		j.handed(begin, mine, receptions, r.Address)
	} else if len(receptions) == 0 {
		return // another provider's
	}
	if !r.Certified && begin.Kind == record.Submitted {
		return
	}
	if len(receptions) > 0 {
		j.here(begin, receptions[0], mine, r.Address)
	} else {
		j.elsewhere(begin, mine, r.Address)
	}
}

// handed judges whether the envelope went to one recipient, here or elsewhere.
func (j *judgement) handed(begin entry, mine, receptions []entry, address string) {
	finals := slices.Concat(ofType(mine, record.Relayed, typeEnvelope), ofType(mine, record.Bounced, typeEnvelope))
	slices.SortFunc(finals, byLeaf)
	switch {
	case len(finals) == 0 && len(receptions) == 0:
		j.missingAfter(relayTerm, ruleRelayed, begin, "the envelope for %s was neither received here, nor passed on, nor refused", address)
	case len(finals) > 0 && len(receptions) > 0:
		j.find(ruleRelayed, finals[0], "the envelope for %s is %s, and received here at leaf %d", address, finals[0].Kind, receptions[0].leaf)
	}
	for i, e := range finals {
		if i > 0 {
			j.find(ruleRelayed, e, "the envelope for %s is %s, after it was %s at leaf %d", address, e.Kind, finals[0].Kind, finals[0].leaf)
		}
	}
	for _, e := range ofType(mine, record.Deferred, typeEnvelope) {
		if len(finals) > 0 && finals[0].leaf < e.leaf {
			j.find(ruleRelayed, e, "the envelope for %s is put off, after it was %s at leaf %d", address, finals[0].Kind, finals[0].leaf)
		}
	}
}

// here judges a certified recipient of ours.
func (j *judgement) here(begin, received entry, mine []entry, address string) {
	charges, detections := ofKind(mine, record.TakeChargeIssued), ofKind(mine, record.VirusDetectionIssued)
	taken := 0
	for _, e := range charges {
		if taken += count(e.About, address); taken > 1 {
			j.find(ruleTakeCharge, e, "%s is taken in charge again", address)
		}
		if !e.Time.Equal(received.Time) {
			j.find(ruleTime, e, "the take-charge has another time than received")
		}
	}
	if taken == 0 && len(detections) == 0 {
		j.missing(ruleTakeCharge, received, "%s was never taken in charge", address)
	}
	delivered, receipts, refusals := ofKind(mine, record.Delivered), ofKind(mine, record.DeliveryIssued), ofKind(mine, record.NonDeliveryIssued)
	outcomes := slices.Concat(receipts, refusals)
	if begin.Kind == record.Received {
		outcomes = append(outcomes, detections...) // what the sender's provider hears
	} else {
		j.pairs(detections, refusals, address)
	}
	slices.SortFunc(outcomes, byLeaf)
	j.single(outcomes, address)
	for _, e := range slices.Concat(delivered, outcomes) {
		if e.Time.Before(received.Time) {
			j.find(ruleTime, e, "%s has an earlier time than received", e.Kind)
		}
	}
	for i, e := range delivered {
		if i > 0 {
			j.find(ruleRepeated, e, "the envelope is delivered to %s again", address)
		}
		if !slices.Equal(e.Digest, received.Digest) {
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
	if begin.Kind == record.Submitted {
		for _, e := range ofKind(mine, record.NotificationReceived) {
			j.find(ruleProvider, e, "%s is ours, and %s tells of what became of the envelope there", address, e.Provider)
		}
	}
	j.reasons(refusals, address)
	j.terms(begin, charges, outcomes, outcomes, mine, address)
}

// elsewhere judges a certified recipient of another provider.
func (j *judgement) elsewhere(begin entry, mine []entry, address string) {
	provider := ""
	for _, e := range ofKind(mine, record.Relayed, record.Bounced) {
		if typeOf(e.Record) == typeEnvelope {
			provider = detail(e.Record, "destination")
		}
	}
	var told []entry // by the recipient's provider
	for _, e := range ofKind(mine, record.NotificationReceived) {
		if provider != "" && !same(e.Provider, provider) {
			j.find(ruleProvider, e, "%s tells of %s, whose provider is %s", e.Provider, address, provider)
			continue
		}
		told = append(told, e)
	}
	charges := ofType(told, record.NotificationReceived, typeTakeCharge)
	taken := 0
	for _, e := range charges {
		if taken += count(e.About, address); taken > 1 {
			j.find(ruleTakeCharge, e, "%s is taken in charge again", address)
		}
	}
	refusals := ofKind(mine, record.NonDeliveryIssued)
	detections := ofType(told, record.NotificationReceived, typeVirus)
	if bounced := ofType(mine, record.Bounced, typeEnvelope); len(bounced) == 0 {
		if len(ofKind(mine, record.TimeoutNoticeIssued)) == 0 { // after it the sender knows
			j.pairs(detections, refusals, address)
		}
		if len(detections) == 0 {
			for _, e := range refusals {
				j.find(ruleOutcome, e, "there is a non-delivery to %s, which nobody refused", address)
			}
		}
	}
	for _, e := range ofKind(mine, record.DeliveryIssued) {
		j.find(ruleDelivered, e, "there is a receipt and no delivery to %s", address)
	}
	for _, e := range ofKind(mine, record.TakeChargeIssued) {
		j.find(ruleTakeCharge, e, "%s is taken in charge here, and the envelope was never received for it", address)
	}
	outcomes := slices.Concat(ofType(told, record.NotificationReceived, typeDelivery, typeNonDelivery), refusals)
	slices.SortFunc(outcomes, byLeaf)
	j.single(outcomes, address)
	j.reasons(slices.Concat(refusals, ofType(told, record.NotificationReceived, typeNonDelivery)), address)
	j.terms(begin, charges, outcomes, slices.Concat(charges, outcomes), mine, address)
}

// single reports every outcome of a recipient after the first.
func (j *judgement) single(outcomes []entry, address string) {
	for i, e := range outcomes {
		if i > 0 {
			j.find(ruleOutcome, e, "%s about %s, who had %s at leaf %d", e.Kind, address, outcomes[0].Kind, outcomes[0].leaf)
		}
	}
}

// reasons reports non-deliveries that give none.
func (j *judgement) reasons(refusals []entry, address string) {
	for _, e := range refusals {
		if e.Outcome.Code == "" {
			j.find(ruleOutcome, e, "the non-delivery to %s gives no reason", address)
		}
	}
}

// pairs checks that each virus detection became one non-delivery to the sender.
func (j *judgement) pairs(detections, refusals []entry, address string) {
	for i, e := range detections {
		switch {
		case i > 0:
			j.find(ruleRepeated, e, "the virus detection about %s comes again", address)
		case len(refusals) == 0:
			j.missing(ruleVirus, e, "a virus was detected in the envelope for %s, and the sender was not told", address)
		}
	}
}

// terms checks the notices of delay. They are due to the sender's provider
// alone: begin tells of a submission. known is what makes the first of them idle;
// of our own take-charge the sender hears nothing.
func (j *judgement) terms(begin entry, charges, outcomes, known, mine []entry, address string) {
	if begin.Kind != record.Submitted {
		if len(outcomes) == 0 {
			j.missing(ruleOutcome, begin, "%s has neither a delivery nor a non-delivery", address)
		}
		return
	}
	delays, timeouts := ofKind(mine, record.DelayNoticeIssued), ofKind(mine, record.TimeoutNoticeIssued)
	late := func(e entry) time.Duration { return e.Time.Sub(begin.Time) }
	signs := slices.Concat(charges, outcomes)
	before := func(list []entry, e entry) bool {
		return slices.ContainsFunc(list, func(s entry) bool { return s.leaf < e.leaf && e.Time.Sub(s.Time) > crossing })
	}
	for i, e := range delays {
		switch {
		case i > 0 || late(e) < delayAfter:
			j.find(ruleTimeout, e, "a notice of delay about %s comes again, or before 12 hours", address)
		case before(known, e):
			j.find(ruleTimeout, e, "a notice of delay about %s comes after it was taken in charge or had its outcome", address)
		}
	}
	for i, e := range timeouts {
		switch {
		case i > 0 || late(e) < timeoutFrom || late(e) > timeoutBefore:
			j.find(ruleTimeout, e, "the last notice about %s comes again, or not between 22 and 24 hours", address)
		case before(outcomes, e):
			j.find(ruleTimeout, e, "the last notice about %s comes after its outcome", address)
		}
	}
	// Without any sign in the first 12 hours the sender is told; what shows that
	// they passed is a later one.
	slices.SortFunc(signs, func(x, y entry) int { return x.Time.Compare(y.Time) })
	if later := slices.Concat(signs, timeouts); len(later) > 0 && len(delays) == 0 {
		if late(later[0]) > delayAfter+delayGrace {
			j.find(ruleTimeout, later[0], "nothing came about %s in the first 12 hours, and the sender was not told", address)
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

func byLeaf(a, b entry) int { return cmp.Compare(a.leaf, b.leaf) }
