package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scripta/mta/pec"
)

// One mailbox that cannot be written holds up no other recipient of a message; the
// operator is told, and when it is well again it gets what it missed, once.
func TestMailboxThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia", "anna"}, nil)
	tmp := filepath.Join(p.dir.Mail(), testDomain, "lucia", "tmp")
	if err := os.Remove(tmp); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tmp, nil, 0o600); err != nil { // ENOTDIR, even for root
		t.Fatal(err)
	}
	p.start(t)
	p.send(t, letter{from: address("mario"), to: []string{address("lucia"), address("anna")}, subject: "A due"})
	p.one(t, "anna", pec.TransportEnvelope, "A due")
	p.one(t, "mario", pec.Acceptance, "A due")
	p.one(t, "mario", pec.Delivery, "A due") // for anna
	last := ""
	eventually(t, waitMail, "a warning in status", func() bool {
		last = p.command(t, "status")
		return strings.Contains(last, "warn   pipeline") && strings.Contains(last, "1 failed and will be run again") && strings.Contains(last, "lucia")
	})
	p.stop(t)
	if err := os.Remove(tmp); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	p.idle(t, waitMail)
	p.one(t, "lucia", pec.TransportEnvelope, "A due")
	for local, want := range map[string]int{"lucia": 1, "anna": 1, "mario": 3} {
		files, err := filepath.Glob(filepath.Join(p.dir.Mail(), testDomain, local, "new", "*"))
		if err != nil || len(files) != want {
			t.Errorf("%s has %d messages, want %d (%v)", local, len(files), want, err)
		}
	}
	p.stop(t)
	p.verifyLog(t)
}
