package evidence

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Check is the outcome of one check.
type Check struct {
	Name    string
	Detail  string
	Err     error // why it failed; nil: passed
	Warning bool  // Err is to be known, and no failure
}

// Report is what a verification found. Its texts can be printed, whoever made
// what was verified: each is one line of printable characters, of bounded length.
type Report struct {
	Checks  []Check
	Pending bool // some record is not covered by a time stamp yet
	Query   Query
}

// OK reports whether every check passed.
func (r *Report) OK() bool {
	return !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Err != nil && !c.Warning })
}

// Verdict is the report in one line.
func (r *Report) Verdict() string {
	switch {
	case !r.OK():
		var names []string
		for _, c := range r.Checks {
			if c.Err != nil && !c.Warning && len(names) < 5 {
				names = append(names, c.Name)
			}
		}
		return "NOT VERIFIED: " + strings.Join(names, ", ")
	case r.Pending:
		return "VERIFIED, time stamp pending"
	}
	return "VERIFIED"
}

// Add adds a check. Names, details and errors may quote what was verified: a
// file that nobody signed could otherwise print lines of its own into the report,
// or what a terminal takes for commands.
func (r *Report) Add(c Check) {
	c.Name, c.Detail = printable(c.Name), printable(c.Detail)
	if c.Err != nil {
		c.Err = &printed{c.Err}
	}
	r.Checks = append(r.Checks, c)
}

func (r *Report) add(name, detail string, err error) bool {
	r.Add(Check{Name: name, Detail: detail, Err: err})
	return err == nil
}

// printed is an error whose text is one printable line.
type printed struct{ error }

// Error implements error.
func (p *printed) Error() string {
	return printable(strings.ReplaceAll(p.error.Error(), "\n", "; "))
}

// Unwrap implements the interface that [errors.Is] looks for.
func (p *printed) Unwrap() error { return p.error }

// mostText is how much of a text is printed, bytes.
const mostText = 2000

// printable returns s on one line: what is not printable, or would turn the
// direction of writing, is escaped as in Go, and what is too long is cut.
func printable(s string) string {
	if len(s) <= mostText && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if b.Len() > mostText {
			b.WriteString("…")
			break
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
		i += n
	}
	return b.String()
}

// mostFaults is how many faults of one check are told.
const mostFaults = 5

// Faults collects what is wrong with many things of a kind: it tells the first
// few, and how many there are.
type Faults struct {
	errs []error
	n    int
}

// Add adds a fault; nil is none.
func (f *Faults) Add(err error) {
	if err == nil {
		return
	}
	if f.n++; f.n <= mostFaults {
		f.errs = append(f.errs, err)
	}
}

// Err returns all faults as one error, or nil when there is none.
func (f *Faults) Err() error {
	errs := f.errs
	if f.n > len(errs) {
		errs = append(slices.Clone(errs), fmt.Errorf("and %d more", f.n-len(f.errs)))
	}
	return errors.Join(errs...)
}
