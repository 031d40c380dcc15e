package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// What can match nothing, or cannot be written, is refused before the register is
// asked.
func TestExtractRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"--mailbox anna@pec.example.it", "--out is needed"},
		{"--out x.zip", "--out is needed, and --mailbox"},
		{"--out x.zip --mailbox anna", "--mailbox: "},
		{"--out x.zip --mailbox anna@@pec.example.it", "--mailbox: "},
		{"--out x.zip --mailbox a@b.it --from 2026-13-01", "for --from: write a day such as"},
		{"--out x.zip --mailbox a@b.it --from 2026-11-20 --to 2026-11-18", "is not before --to"},
		{"--out x.zip --mailbox a@b.it --from 2999-01-01", "has not come yet"},
	} {
		code, out, errs := dispatched(append([]string{"extract", "--dir", t.TempDir()}, strings.Fields(c.args)...)...)
		if code != 2 || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit %d, %q %q", c.args, code, out, errs)
		}
	}
	if code, _, errs := dispatched("extract", "--dir", t.TempDir(), "--out", "x.zip", "--message-id", "a b@c"); code != 2 || !strings.Contains(errs, "not one identifier") {
		t.Errorf("exit %d, %q", code, errs)
	}
	absent := filepath.Join(t.TempDir(), "absent")
	if code, _, errs := dispatched("extract", "--dir", t.TempDir(), "--out", filepath.Join(absent, "x.zip"), "--message-id", "a@c"); code != 1 || !strings.Contains(errs, "there is no folder "+absent) {
		t.Errorf("exit %d, %q", code, errs)
	}
	// A single day is a period.
	if code, _, errs := dispatched("extract", "--dir", t.TempDir(), "--out", filepath.Join(absent, "x.zip"), "--message-id", "a@c", "--from", "2026-11-20", "--to", "2026-11-20"); code != 1 {
		t.Errorf("one day: exit %d, %q", code, errs)
	}
}
