package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"scripta/register/evidence"
)

// A hundred failures for one reason are a few lines; other reasons stay seen.
func TestFailuresAreGrouped(t *testing.T) {
	t.Parallel()
	var checks []evidence.Check
	for i := range 100 {
		checks = append(checks, evidence.Check{Name: fmt.Sprintf("record %d", i)}, evidence.Check{Name: fmt.Sprintf("inclusion %d", i), Err: errors.New("no checkpoint")})
	}
	checks = append(checks, evidence.Check{Name: "inclusion 100", Err: errors.New("another reason")},
		evidence.Check{Name: "time 7", Err: errors.New("late"), Warning: true})
	var out strings.Builder
	printChecks(&out, checks, true)
	want := `FAILED  inclusion 0                  no checkpoint
FAILED  inclusion 1                  no checkpoint
FAILED  inclusion 2                  no checkpoint
FAILED  inclusion 100                another reason
note    time 7                       late
FAILED  inclusion, and 97 more       no checkpoint
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

func TestLikelyCause(t *testing.T) {
	t.Parallel()
	no := errors.New("no")
	// report is one whose checks of the named kinds fail.
	report := func(failing ...string) *evidence.Report {
		r := &evidence.Report{}
		for _, name := range []string{"container", "container form", "SHA256SUMS", "manifest", "manifest signature", "files", "checkpoint 5", "time stamp 5",
			"checkpoint 9", "consistency 5 → 9", "time stamp 9", "record 3", "inclusion 3"} {
			c := evidence.Check{Name: name}
			for _, f := range failing {
				if f == name || f == checkKind(name) {
					c.Err = no
				}
			}
			if name == "manifest" {
				c.Detail = "pec.example.it/scripta/1, made some day"
			}
			r.Checks = append(r.Checks, c)
		}
		return r
	}
	const own, other = "pec.example.it/scripta/1", "pec.due.it/scripta/2"
	for _, c := range []struct {
		trusts  string
		failing []string
		want    string
	}{
		{own, nil, ""},
		{own, []string{"inclusion"}, ""},
		{own, []string{"checkpoint 5"}, ""},
		{other, []string{"manifest signature", "checkpoint", "time stamp", "inclusion"}, "the file is of the log pec.example.it/scripta/1, and trust holds the key of pec.due.it/scripta/2"},
		{own, []string{"manifest signature", "checkpoint", "time stamp"}, "trust/log.vkey is not"},
		{own, []string{"manifest signature", "receipt"}, "trust/ca.pem is not"},
		{own, []string{"time stamp"}, "trust/tsa-ca.pem is not"},
		{other, []string{"SHA256SUMS", "files", "manifest signature", "checkpoint"}, ""},
	} {
		if got := likelyCause(report(c.failing...), c.trusts, "trust"); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v with %s: %q, want %q", c.failing, c.trusts, got, c.want)
		}
	}
}
