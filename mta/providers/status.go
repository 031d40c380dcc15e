package providers

import (
	"fmt"
	"slices"
	"time"
)

// Status is how a mirror is.
type Status struct {
	Source      string    `json:"source"`
	Location    string    `json:"location"` // where the directory says that it is
	Copy        bool      `json:"copy"`     // there is a copy
	Index       string    `json:"index"`
	File        string    `json:"file"` // of the copy: its SHA-256
	Signer      string    `json:"signer"`
	SigningTime time.Time `json:"signing_time"`
	Taken       time.Time `json:"taken"`
	Checked     time.Time `json:"checked"`
	Providers   int       `json:"providers"` // records of the copy
	Domains     int       `json:"domains"`
	Failures    uint64    `json:"failures"` // since the start
	Trouble     string    `json:"trouble"`  // why the last refresh failed
	Faults      []string  `json:"faults"`
}

// Status tells how the mirror is.
func (m *Mirror) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{Failures: m.failures, Faults: slices.Clone(m.faults)}
	if m.o.Source != nil {
		s.Source = m.o.Source.String()
	}
	if m.trouble != nil {
		s.Trouble = m.trouble.Error()
	}
	if c := m.copy; c != nil {
		s.Copy, s.Index, s.File, s.Signer, s.SigningTime, s.Taken, s.Checked = true, c.Index, c.File, c.Signer, c.SigningTime, c.Taken, c.Checked
		s.Location = m.directory.Location
		s.Providers, s.Domains = len(m.directory.Providers), m.directory.Domains()
	}
	return s
}

// Faults tells what of the copy was left out, and what it says wrongly of us.
func (m *Mirror) Faults() []string { return m.Status().Faults }

// Missing is the error of a mirror that has a source and no copy of it: which
// domains are certified is not known then, and no message should be taken.
func (m *Mirror) Missing() error {
	s := m.Status()
	switch {
	case s.Source == "" || s.Copy:
		return nil
	case s.Trouble == "":
		return fmt.Errorf("the directory of providers has not come yet from %s", s.Source)
	}
	return fmt.Errorf("there is no copy of the directory of providers: %s", s.Trouble)
}

// Old tells what is wrong with the age of the copy, or "".
func (m *Mirror) Old(now time.Time) string {
	s := m.Status()
	age := now.Sub(s.Checked).Round(time.Minute)
	if !s.Copy || age <= m.o.WarnAfter {
		return ""
	}
	return fmt.Sprintf("the copy of the directory of providers is %v old", age)
}
