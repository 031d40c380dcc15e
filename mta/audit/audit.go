// Package audit checks the rules of certified e-mail over the records of a
// register: that every message that was accepted got its envelope, every
// recipient one outcome within the time that the law gives, every receipt its
// mailbox or its way to the sender's provider, that what came from other
// providers and what could not be certified was handled as it must be, and that
// all records of a message tell the same story.
//
// It reads records alone, in the order of the log, and needs no network and no
// keys: whoever can open the records can check the provider. What it finds names
// the leaf, so that the record can be proved and shown. [Cross] puts the
// registers of several providers side by side.
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
// sixteen bytes of each one that is (of one that came from another provider also
// sixteen for each of its recipients here: the others may come later).
type Auditor struct {
	opt       Options
	report    Report
	messages  map[string]*message
	complete  map[[16]byte]struct{}
	generated map[[16]byte]uint64 // leaf that generated an identifier
	disposed  bool                // a record could not be read any more
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

// Add takes the next record; leaves come in the order of the log. A nil record
// is one that was disposed of.
func (a *Auditor) Add(leaf uint64, r *record.Record) {
	a.report.Records++
	if r == nil {
		a.disposed = true
		return
	}
	if !aboutMessage(r.Kind) {
		return
	}
	if r.MessageID == "" {
		a.find(ruleOrphan, leaf, "", "a record of kind %s names no message", r.Kind)
		return
	}
	a.generates(leaf, r)
	m := a.messages[r.MessageID]
	if m == nil {
		if a.ended(r) {
			a.find(ruleRepeated, leaf, r.MessageID, "%s comes after the message's last outcome", r.Kind)
			return
		}
		m = &message{id: r.MessageID}
		a.messages[r.MessageID] = m
		if _, again := a.complete[short(r.MessageID)]; !again {
			a.report.Messages++
		}
	}
	m.add(entry{leaf, r})
	if !ends(r.Kind) || !m.whole() {
		return
	}
	// Complete: judged now, and forgotten.
	a.judge(m)
	delete(a.messages, m.id)
	a.complete[short(m.id)] = struct{}{}
	if m.begun == record.Received {
		for _, e := range m.of(record.Received) {
			for _, address := range e.About {
				a.complete[shortOf(m.id, address)] = struct{}{}
			}
		}
	}
}

// ended says whether nothing may come of a message any more. An envelope of
// another provider may come again for others of its recipients.
func (a *Auditor) ended(r *record.Record) bool {
	if _, done := a.complete[short(r.MessageID)]; !done {
		return false
	}
	if r.Kind != record.Received {
		return true
	}
	foreign := false
	for _, x := range r.Recipients {
		if _, before := a.complete[shortOf(r.MessageID, x.Address)]; before {
			foreign = true
			if count(r.About, x.Address) > 0 {
				return true
			}
		}
	}
	return !foreign
}

// generates notes the identifiers that a record's message was issued under. An
// anomaly envelope has that of somebody else's message.
func (a *Auditor) generates(leaf uint64, r *record.Record) {
	if !r.Kind.Issued() {
		return
	}
	if len(r.Generated) != 1 {
		a.find(ruleIssued, leaf, r.MessageID, "%s generated %d messages, not one", r.Kind, len(r.Generated))
		return
	}
	if r.Kind == record.AnomalyEnveloped {
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
	return k >= record.Submitted && k <= record.AnomalyEnveloped || k == record.UncertifiedReceived
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
