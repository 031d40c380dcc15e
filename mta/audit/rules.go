package audit

import "time"

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
	ruleRelayed     = &Rule{"relayed", "RFC 6109 §3.1.5, §3.2.1; RFC 5321 §4.5.4", "the envelope goes once to each recipient of another provider, or is refused, and the record says where to"}
	ruleChannel     = &Rule{"channel", "RFC 6109 §5.3", "between providers everything goes over TLS"}
	ruleReceived    = &Rule{"received", "RFC 6109 §3.2.1", "the Incoming Point takes an envelope for a recipient once"}
	ruleTakeCharge  = &Rule{"take-charge", "RFC 6109 §3.2.1", "every certified recipient is taken in charge, once"}
	ruleOutcome     = &Rule{"outcome", "RFC 6109 §3.3.2, §3.3.3; DPR 68/2005 art. 6", "every certified recipient has exactly one delivery or non-delivery"}
	ruleTimeout     = &Rule{"timeout", "RFC 6109 §3.1.6; DPR 68/2005 art. 8", "without an outcome the sender is told after 12 hours, and again between 22 and 24"}
	ruleStranger    = &Rule{"stranger", "RFC 6109 §3.3.2", "receipts are about recipients of the envelope"}
	ruleProvider    = &Rule{"provider", "RFC 6109 §2.2.2, §3.3.2", "a receipt comes from the provider of the recipient whom it is about"}
	ruleDelivered   = &Rule{"delivered", "RFC 6109 §3.3.2", "a delivery receipt follows a delivery of the envelope, and has its time"}
	ruleVirus       = &Rule{"virus", "RFC 6109 §3.1.3, §3.2.3, §3.2.4; DPR 68/2005 art. 12", "an infected message is kept and reaches nobody, and each detection becomes one non-delivery"}
	ruleAnomaly     = &Rule{"anomaly", "RFC 6109 §3.2.2", "what could not be certified gets one anomaly envelope and neither acceptance nor receipt"}
	ruleDigest      = &Rule{"digest", "DPR 68/2005 art. 6", "the envelope that was made is the one that was received and delivered"}
	ruleIssued      = &Rule{"issued", "RFC 6109 §2.3", "a message that was issued has its digest, its size and one identifier"}
	ruleIdentifiers = &Rule{"identifiers", "RFC 6109 §2.2.1", "no two messages have one identifier"}
	ruleNotified    = &Rule{"notified", "RFC 6109 §3.1.4, §3.2.1, §3.3.2", "every receipt is put into its mailbox or passed on to its provider, once"}
	ruleTime        = &Rule{"time", "RFC 6109 §4.1; DM 2/11/2005 art. 9", "a transaction has one time, and times do not go back"}
	ruleRepeated    = &Rule{"repeated", "RFC 6109 §2.3", "nothing happens twice, nor after the end"}
)

// Rules returns all rules.
func Rules() []*Rule {
	return []*Rule{ruleOrphan, ruleAnswer, ruleEnvelope, ruleRefused, ruleSame, ruleRelayed, ruleChannel, ruleReceived, ruleTakeCharge, ruleOutcome, ruleTimeout,
		ruleStranger, ruleProvider, ruleDelivered, ruleVirus, ruleAnomaly, ruleDigest, ruleIssued, ruleIdentifiers, ruleNotified, ruleTime, ruleRepeated}
}

// Terms of RFC 6109 section 3.1.6.
const (
	delayAfter    = 12 * time.Hour
	timeoutFrom   = 22 * time.Hour
	timeoutBefore = 24 * time.Hour
)

const (
	// delayGrace is how long after delayAfter a notice of delay may be missing:
	// a sign that comes meanwhile makes it idle.
	delayGrace = time.Hour
	// crossing is how long a receipt that came and a notice that is due may not
	// know of one another.
	crossing = time.Minute
	// relayTerm is when a message that was to be passed on must have been, or have
	// been given up: the queue tries for 24 hours and then says so.
	relayTerm = 25 * time.Hour
	// cutTerm is how long after the start of a month a message may still have had
	// its beginning in the month before, whose records were disposed of.
	cutTerm = 48 * time.Hour
)
