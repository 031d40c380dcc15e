package audit

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"scripta/register/record"
)

// judgement is the judging of one message.
type judgement struct {
	*Auditor
	*message
	by   map[string][]entry // records by the recipients they are about, in lower case
	to   map[string]bool    // the message's recipients, in lower case: whether they are certified
	open bool               // something may still come
}

// find reports something at a record.
func (j *judgement) find(r *Rule, at entry, format string, args ...any) {
	j.Auditor.find(r, at.leaf, j.id, format, args...)
}

// missing reports something that is not there, unless it may still come.
func (j *judgement) missing(r *Rule, at entry, format string, args ...any) {
	j.missingAfter(timeoutBefore, r, at, format, args...)
}

func (j *judgement) missingAfter(term time.Duration, r *Rule, at entry, format string, args ...any) {
	if !j.opt.Settled && j.opt.Now.Sub(at.Time) < term {
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

// about returns the records about a recipient, in the order of the log.
func (j *judgement) about(address string) []entry {
	if j.by == nil {
		j.by = map[string][]entry{}
		for _, e := range j.entries {
			for i, a := range e.About {
				if count(e.About[:i], a) == 0 {
					key := strings.ToLower(a)
					j.by[key] = append(j.by[key], e)
				}
			}
		}
	}
	return j.by[strings.ToLower(address)]
}

// addressed says whether an address is a recipient of the message, and certified.
func (j *judgement) addressed(begin entry, address string) (certified, known bool) {
	if j.to == nil {
		j.to = make(map[string]bool, len(begin.Recipients))
		for _, r := range begin.Recipients {
			j.to[strings.ToLower(r.Address)] = r.Certified
		}
	}
	certified, known = j.to[strings.ToLower(address)]
	return certified, known
}

// judge applies the rules to all that is known of a message.
func (a *Auditor) judge(m *message) {
	j := &judgement{Auditor: a, message: m}
	j.run()
	if j.open {
		j.report.Open++
	}
}

func (j *judgement) run() {
	j.issued()
	if begin, ok := j.one(ruleRepeated, record.UncertifiedReceived); ok {
		j.uncertified(begin)
		return
	}
	begin, own := j.one(ruleRepeated, record.Submitted)
	if !own {
		all := j.of(record.Received)
		if len(all) == 0 {
			j.unknown()
			return
		}
		begin = all[0]
	}
	j.agree(begin)
	if !own {
		for _, e := range j.of(record.AcceptanceIssued, record.NonAcceptanceIssued, record.Enveloped, record.DelayNoticeIssued, record.TimeoutNoticeIssued) {
			j.find(ruleOrphan, e, "%s of a message that was never submitted", e.Kind)
		}
	}
	if own && !j.access(begin) {
		return
	}
	j.passage(begin)
	j.incoming(begin)
	j.viruses(begin)
	j.notified(begin)
}

// unknown judges what is known of a message that was neither submitted nor
// received here. Receipts and notices about such a message may come all the same,
// when somebody has his mail sent on: they are delivered as they are.
func (j *judgement) unknown() {
	first := j.entries[0]
	for _, e := range j.entries {
		switch e.Kind {
		case record.NotificationReceived, record.NotificationDelivered, record.NotificationFailed, record.VirusFound, record.Quarantined:
		default:
			if !j.cut(first) {
				j.find(ruleOrphan, first, "%s of a message that was neither submitted nor received", first.Kind)
			}
			return
		}
	}
	if came := j.of(record.NotificationReceived); len(came) > 0 {
		j.foreign()
		j.kept()
		j.notified(came[0])
	} else if !j.cut(first) {
		j.find(ruleOrphan, first, "%s of a message of which nothing came", first.Kind)
	}
}

// cut says whether the beginning of a message may have been disposed of, with
// the month before its first record that can be read.
func (j *judgement) cut(first entry) bool {
	t := first.Time.UTC()
	return j.disposed && t.Sub(time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)) < cutTerm
}

// agree compares every record with the first. Of what other providers issue,
// which word their certification data in their way, only the sender must agree.
func (j *judgement) agree(first entry) {
	theirs := map[string]bool{}
	for _, e := range j.of(record.NotificationReceived) {
		for _, g := range e.Generated {
			theirs[g] = true
		}
		theirs[string(e.Digest)] = true
	}
	for _, e := range j.entries {
		free := e.Kind == record.NotificationReceived ||
			(e.Kind == record.VirusFound || e.Kind == record.Quarantined) && theirs[string(e.Digest)] ||
			(e.Kind == record.NotificationDelivered || e.Kind == record.NotificationFailed) && len(e.Generated) == 1 && theirs[e.Generated[0]]
		switch {
		case !alike(e.Sender, first.Sender):
			j.find(ruleSame, e, "%s has the sender %q, %s had %q", e.Kind, e.Sender, first.Kind, first.Sender)
		case free:
		case written(e.OriginalID) != written(first.OriginalID):
			j.find(ruleSame, e, "%s has the original identifier %q, %s had %q", e.Kind, e.OriginalID, first.Kind, first.OriginalID)
		case written(e.Subject) != written(first.Subject):
			j.find(ruleSame, e, "%s has another subject than %s", e.Kind, first.Kind)
		case !slices.EqualFunc(e.Recipients, first.Recipients, func(x, y record.Recipient) bool {
			return x.Certified == y.Certified && alike(x.Address, y.Address)
		}):
			j.find(ruleSame, e, "%s has other recipients than %s", e.Kind, first.Kind)
		}
	}
}

// written is how a value comes back from certification data, which the Incoming
// Point reads it from: XML holds no controls, and no space around it counts.
func written(v string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case r < ' ' || r == '\ufffe' || r == '\uffff':
			return utf8.RuneError
		}
		return r
	}, strings.Trim(v, " \t\r\n"))
}

// alike says whether two addresses are the same one.
func alike(a, b string) bool { return a == b || same(written(a), written(b)) }

// issued checks what records must have of the message that they tell of.
func (j *judgement) issued() {
	for _, e := range j.entries {
		switch whole := len(e.Digest) == sha256.Size && e.Size != 0; {
		case e.Kind.Issued():
			if !whole || len(e.Content) != sha256.Size {
				j.find(ruleIssued, e, "%s lacks the digest or the size of what was issued", e.Kind)
			}
		case e.Kind == record.Submitted:
			if !whole || e.Actor == "" {
				j.find(ruleIssued, e, "submitted lacks the digest, the size or the account of what was handed in")
			}
		case e.Kind == record.Received, e.Kind == record.UncertifiedReceived, e.Kind == record.NotificationReceived, e.Kind == record.Relayed:
			if !whole {
				j.find(ruleIssued, e, "%s lacks the digest or the size of the message", e.Kind)
			}
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
			case record.Submitted, record.NonAcceptanceIssued, record.NotificationDelivered, record.NotificationFailed, record.VirusFound, record.Quarantined:
			default:
				if !yes {
					j.find(ruleRefused, e, "%s of a message that was not accepted", e.Kind)
				}
			}
		}
		j.kept()
		j.notified(begin)
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

// kept judges what becomes of the bytes of an infected message: they are kept,
// sealed, for 30 months. What was infected is told by its digest.
func (j *judgement) kept() {
	found, kept := j.of(record.VirusFound), j.of(record.Quarantined)
	same := func(list []entry, e entry) (all []entry) {
		for _, x := range list {
			if slices.Equal(x.Digest, e.Digest) {
				all = append(all, x)
			}
		}
		return all
	}
	begins := j.of(record.Submitted, record.Received, record.UncertifiedReceived, record.NotificationReceived)
	for _, e := range found {
		if detail(e.Record, "virus") == "" || detail(e.Record, "engine") == "" {
			j.find(ruleVirus, e, "virus-found names no virus or no engine")
		}
		if len(same(kept, e)) == 0 {
			j.missing(ruleVirus, e, "the infected message was not kept")
		}
		if came := same(begins, e); len(came) == 0 {
			j.find(ruleVirus, e, "a virus was found in what never came")
		} else if all := same(found, e); len(all) > len(came) && e.leaf == all[len(came)].leaf {
			j.find(ruleRepeated, e, "virus-found comes again, after leaf %d", all[0].leaf)
		}
	}
	for _, e := range kept {
		all := same(kept, e)
		switch n := len(same(found, e)); {
		case n == 0:
			j.find(ruleVirus, e, "a message is kept in which no virus was found")
		case len(all) > n && e.leaf == all[n].leaf:
			j.find(ruleRepeated, e, "quarantined comes again, after leaf %d", all[0].leaf)
		}
	}
}

// viruses judges infected envelopes. At the Access Point an infected message is
// not accepted, which access judges; an infected notification reaches nobody.
func (j *judgement) viruses(begin entry) {
	j.kept()
	found, detections, received := j.of(record.VirusFound), j.of(record.VirusDetectionIssued), j.of(record.Received)
	if len(found) == 0 {
		for _, e := range detections {
			j.find(ruleVirus, e, "there is a virus detection and no virus was found")
		}
		return
	}
	for _, f := range found {
		if begin.Kind == record.Submitted && slices.Equal(f.Digest, begin.Digest) && len(j.of(record.AcceptanceIssued, record.Enveloped)) > 0 {
			j.find(ruleVirus, f, "a virus was found in the message, and it was accepted")
		}
		for _, e := range received {
			if slices.Equal(f.Digest, e.Digest) && (len(f.About) == 0 || sameAddresses(f.About, e.About)) {
				j.infected(f, e.About)
			}
		}
	}
}

// infected judges an infected envelope of recipients of ours.
func (j *judgement) infected(found entry, recipients []string) {
	for _, address := range recipients {
		mine := j.about(address)
		for _, e := range ofKind(mine, record.Delivered) {
			j.find(ruleVirus, e, "the infected envelope was delivered to %s", address)
		}
		switch all := ofKind(mine, record.VirusDetectionIssued); {
		case len(all) == 0:
			j.missing(ruleVirus, found, "the sender's provider was not told of the virus for %s", address)
		case len(all) > 1:
			j.find(ruleRepeated, all[1], "the virus detection about %s comes again", address)
		}
	}
}

// uncertified judges a message that is no correct PEC message.
func (j *judgement) uncertified(begin entry) {
	for _, e := range j.entries {
		switch e.Kind {
		case record.UncertifiedReceived, record.AnomalyEnveloped, record.NotificationDelivered, record.NotificationFailed, record.VirusFound, record.Quarantined:
		default:
			j.find(ruleAnomaly, e, "%s of a message that was not certified", e.Kind)
		}
	}
	j.agree(begin)
	j.kept()
	if detail(begin.Record, "reason") == "" {
		j.find(ruleAnomaly, begin, "%s says not why", begin.Kind)
	}
	envelope, made := j.one(ruleAnomaly, record.AnomalyEnveloped)
	if found := j.of(record.VirusFound); len(found) > 0 {
		if made {
			j.find(ruleVirus, envelope, "an infected message got an anomaly envelope")
		}
		for _, e := range j.of(record.NotificationDelivered) {
			j.find(ruleVirus, e, "an infected message was put into a mailbox")
		}
		return
	}
	placed := j.of(record.NotificationDelivered, record.NotificationFailed)
	if !made {
		for _, e := range placed {
			j.find(ruleNotified, e, "an anomaly envelope was put into a mailbox that nobody made")
		}
		j.missing(ruleAnomaly, begin, "the message got no anomaly envelope")
		return
	}
	if envelope.Time.Before(begin.Time) {
		j.find(ruleTime, envelope, "the anomaly envelope has an earlier time than the message")
	}
	for _, e := range placed {
		switch {
		case len(e.About) != 1 || count(begin.About, e.About[0]) == 0:
			j.find(ruleStranger, e, "%s is about %q, which is not one mailbox that the message is for", e.Kind, e.About)
		case !slices.Equal(e.Generated, envelope.Generated):
			j.find(ruleNotified, e, "what was put into %s is not the anomaly envelope: %q", e.About[0], e.Generated)
		case !slices.Equal(e.Digest, envelope.Digest):
			j.find(ruleDigest, e, "what was put into %s is not the anomaly envelope of leaf %d", e.About[0], envelope.leaf)
		case e.Time.Before(envelope.Time):
			j.find(ruleTime, e, "the anomaly envelope was put into a mailbox before it was made")
		}
	}
	for _, address := range begin.About {
		switch all := ofKind(j.about(address), record.NotificationDelivered, record.NotificationFailed); {
		case len(all) == 0:
			j.missing(ruleNotified, envelope, "the anomaly envelope was not put into the mailbox of %s", address)
		case len(all) > 1:
			j.find(ruleRepeated, all[1], "the anomaly envelope is put into the mailbox of %s again", address)
		}
	}
}
