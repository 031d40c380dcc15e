package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a terminal: the person's side and the program's.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		missing(t, "no terminal can be made: %v", err)
	}
	t.Cleanup(func() { _ = person.Close() })
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		missing(t, "no terminal can be made: %v", err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

// A password is asked for twice, shown never, and the terminal is as before.
func TestAskPassword(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ typed, want, err string }{
		{"segreta\nsegreta\n", "segreta", ""},
		{"segreta\nsegrete\n", "", "not the same"},
		{"\n", "", "empty"},
	} {
		person, program := terminal(t)
		before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		// Typed ahead while the terminal is silent: else it would be shown.
		quiet := *before
		quiet.Lflag &^= unix.ECHO
		if err := unix.IoctlSetTermios(int(program.Fd()), unix.TCSETS, &quiet); err != nil {
			t.Fatal(err)
		}
		if _, err := person.WriteString(c.typed); err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlSetTermios(int(program.Fd()), unix.TCSETS, before); err != nil {
			t.Fatal(err)
		}
		var prompt bytes.Buffer
		got, err := askPassword(program, &prompt)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %q, %v", c.typed, got, err)
		}
		if !strings.HasPrefix(prompt.String(), "new password: \n") {
			t.Errorf("asked %q", prompt.String())
		}
		after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
		if err != nil || after.Lflag != before.Lflag {
			t.Errorf("the terminal is left with flags %x, had %x", after.Lflag, before.Lflag)
		}
	}
	none, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	if _, err := askPassword(none, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "--password-file") {
		t.Errorf("without a terminal: %v", err)
	}
}
