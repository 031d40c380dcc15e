package audit

import "fmt"

// Finding is something that is wrong.
type Finding struct {
	Step string `json:"step"`
	// Place is a file, with an offset where one is known, or "leaf N".
	Place string `json:"place"`
	Text  string `json:"text"`
	// Note says that it may have a harmless reason, which Text tells.
	Note bool `json:"note,omitempty"`
}

func (f Finding) String() string { return fmt.Sprintf("%s: %s: %s", f.Step, f.Place, f.Text) }

// mostFindings bounds the findings that are kept; the others are counted.
const mostFindings = 1000

// Report is what an audit found.
type Report struct {
	Findings []Finding `json:"findings,omitempty"`
	Dropped  int       `json:"dropped,omitempty"` // findings beyond the first thousand

	Leaves   uint64 `json:"leaves"`
	Opened   uint64 `json:"opened"`   // records
	Disposed uint64 `json:"disposed"` // records whose month's secret was destroyed
	Messages uint64 `json:"messages"` // stored, with their records
	Contents uint64 `json:"contents"`
	// Quarantined are the infected messages that are kept.
	Quarantined uint64 `json:"quarantined"`

	Stamps uint64 `json:"stamps"`
	Tables uint64 `json:"tables"` // of the databases
}

// OK reports whether nothing is wrong; notes do not count.
func (r *Report) OK() bool { return r.Wrong() == 0 }

// Wrong is the number of findings that are no notes.
func (r *Report) Wrong() int {
	n := r.Dropped
	for _, f := range r.Findings {
		if !f.Note {
			n++
		}
	}
	return n
}

func (r *Report) add(f Finding) {
	if len(r.Findings) == mostFindings {
		r.Dropped++
		return
	}
	r.Findings = append(r.Findings, f)
}

// forget drops the findings of a step, which is run again.
func (r *Report) forget(step string) {
	kept := r.Findings[:0]
	for _, f := range r.Findings {
		if f.Step != step {
			kept = append(kept, f)
		}
	}
	r.Findings = kept
}
