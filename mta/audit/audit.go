// Package audit checks the rules of certified e-mail over the records of a
// register: that every message that was accepted got its envelope, every
// recipient one outcome within the time that the law gives, every receipt its
// mailbox, and that all records of a message tell the same story.
//
// It reads records alone, in the order of the log, and needs no network and no
// keys: whoever can open the records can check the provider. What it finds names
// the leaf, so that the record can be proved and shown.
//
// Sources: RFC 6109 sections 2 and 3; DPR 68/2005 art. 6 and 8, DM 2 November
// 2005 art. 9. Each rule names its own.
package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"scripta/register/record"
)

// Finding is one place where the records break a rule.
type Finding struct {
	Rule    *Rule
	Leaf    uint64 // index of the record that shows it
	Message string // the PEC identifier, without < >
	Text    string // what is wrong
}

func (f Finding) String() string {
	return fmt.Sprintf("leaf %d, message %s: %s [%s: %s]", f.Leaf, f.Message, f.Text, f.Rule.ID, f.Rule.Source)
}

// Options say how the records are to be judged.
type Options struct {
	// Now is when the audit takes place: what may still come is not missing.
	Now time.Time
	// Settled says that nothing is under way any more: what is open is missing.
	Settled bool
	// ServiceMailbox is the provider's own, where take-charges go.
	ServiceMailbox string
}

// Report is what an audit found.
type Report struct {
	Records  uint64 // that were read
	Messages uint64 // that they are about
	Open     uint64 // of those, the messages whose outcome may still come
	Findings []Finding
	Dropped  uint64 // findings beyond the first MaxFindings
}

// MaxFindings bounds the findings of a report.
const MaxFindings = 10_000

// Auditor collects records. It holds the messages that are not complete, and
// sixteen bytes of each one that is.
type Auditor struct {
	opt       Options
	report    Report
	messages  map[string]*message
	complete  map[[16]byte]struct{}
	generated map[[16]byte]uint64 // leaf that generated an identifier
}

// New begins an audit.
func New(opt Options) *Auditor {
	return &Auditor{opt: opt, messages: map[string]*message{}, complete: map[[16]byte]struct{}{}, generated: map[[16]byte]uint64{}}
}

// entry is a record with its place.
type entry struct {
	leaf uint64
	*record.Record
}

// message is what the records tell of one message.
type message struct {
	id      string
	entries []entry
}

// Add takes the next record; leaves come in the order of the log. A nil record
// is one that was disposed of.
func (a *Auditor) Add(leaf uint64, r *record.Record) {
	a.report.Records++
	if r == nil || !aboutMessage(r.Kind) {
		return
	}
	if r.MessageID == "" {
		a.find(ruleOrphan, leaf, "", "a record of kind %s names no message", r.Kind)
		return
	}
	a.generates(leaf, r)
	if _, done := a.complete[short(r.MessageID)]; done {
		a.find(ruleRepeated, leaf, r.MessageID, "%s comes after the message's last outcome", r.Kind)
		return
	}
	m := a.messages[r.MessageID]
	if m == nil {
		m = &message{id: r.MessageID}
		a.messages[r.MessageID] = m
		a.report.Messages++
	}
	m.entries = append(m.entries, entry{leaf, r})
	if r.Kind != record.NotificationDelivered || !m.whole() {
		return
	}
	// Complete: judged now, and forgotten.
	a.judge(m)
	delete(a.messages, m.id)
	a.complete[short(m.id)] = struct{}{}
}

// generates notes the identifiers that a record's message was issued under.
func (a *Auditor) generates(leaf uint64, r *record.Record) {
	if !r.Kind.Issued() {
		return
	}
	if len(r.Generated) != 1 {
		a.find(ruleIssued, leaf, r.MessageID, "%s generated %d messages, not one", r.Kind, len(r.Generated))
		return
	}
	id := short(r.Generated[0])
	if first, twice := a.generated[id]; twice {
		a.find(ruleIdentifiers, leaf, r.MessageID, "%s has the identifier of what leaf %d tells of: %s", r.Kind, first, r.Generated[0])
		return
	}
	a.generated[id] = leaf
}

// Finish judges what is left and returns the report, findings by leaf.
func (a *Auditor) Finish() *Report {
	for _, m := range a.messages {
		a.judge(m)
	}
	slices.SortStableFunc(a.report.Findings, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(x.Leaf, y.Leaf), cmp.Compare(x.Rule.ID, y.Rule.ID), cmp.Compare(x.Text, y.Text))
	})
	return &a.report
}

func (a *Auditor) find(r *Rule, leaf uint64, message, format string, args ...any) {
	if len(a.report.Findings) == MaxFindings {
		a.report.Dropped++
		return
	}
	a.report.Findings = append(a.report.Findings, Finding{r, leaf, message, fmt.Sprintf(format, args...)})
}

// aboutMessage says whether a kind tells of the handling of a message.
func aboutMessage(k record.Kind) bool {
	return k >= record.Submitted && k <= record.AnomalyEnveloped
}

// of returns the entries of some kinds.
func (m *message) of(kinds ...record.Kind) []entry {
	var all []entry
	for _, e := range m.entries {
		if slices.Contains(kinds, e.Kind) {
			all = append(all, e)
		}
	}
	return all
}

// whole says whether nothing more can come: each recipient has an outcome, each
// receipt its mailbox.
func (m *message) whole() bool {
	outcomes, issued, notified, recipients := 0, 0, 0, -1
	for _, e := range m.entries {
		switch e.Kind {
		case record.NotificationDelivered, record.NotificationFailed:
			notified++
		case record.DeliveryIssued, record.NonDeliveryIssued:
			outcomes++
			issued++
		case record.NonAcceptanceIssued:
			return len(m.entries) >= 3
		case record.AcceptanceIssued, record.TakeChargeIssued, record.DelayNoticeIssued, record.TimeoutNoticeIssued, record.VirusDetectionIssued:
			issued++
		case record.Submitted:
			recipients = len(e.Recipients)
		}
	}
	return recipients >= 0 && outcomes >= recipients && notified >= issued
}

func same(a, b string) bool { return strings.EqualFold(a, b) }

// count is how often an address is in a list.
func count(list []string, address string) (n int) {
	for _, x := range list {
		if same(x, address) {
			n++
		}
	}
	return n
}
