package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The measure of the mail path runs through: a provider, and Postfix beside it. No
// figure of it is judged here.
func TestBenchMail(t *testing.T) {
	t.Parallel()
	need(t, "/usr/sbin/postfix")
	if os.Getuid() != 0 {
		missing(t, "only root starts Postfix")
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { // Postfix's own user passes through
		t.Fatal(err)
	}
	out, err := run(t, binary, "bench", "mail", "--dir", dir, "--messages", "40", "--connections", "4", "--mailboxes", "20", "--size", "10240")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, row := range []string{
		`\| RSA-2048 signatures/s \(crypto/rsa\), 1 worker +\| \d+ `,
		`\| certified messages/s +\| \d+ `,
		`\| ratio to the ceiling +\| \d\.\d\d `,
		`\| from MAIL to 250, p50 / p99 ms +\| [\d.]+ / [\d.]+ `,
		`\| from 250 to the acceptance in the mailbox, p50 / p99 ms +\| [\d.]+ / [\d.]+ `,
		`\| Postfix 3[\d.]+ accepting to discard, same run`,
		`\| until its queue was empty, messages/s +\| \d+ `,
		`\| ratio: certified messages/s here to messages/s there, until both are done +\| \d+\.\d\d `,
	} {
		if !regexp.MustCompile(row).MatchString(out) {
			t.Errorf("no row %s", row)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Without Postfix it says so, and goes on.
func TestBenchMailWithoutPostfix(t *testing.T) {
	t.Parallel()
	out, err := run(t, binary, "bench", "mail", "--dir", t.TempDir(), "--messages", "10", "--connections", "2", "--mailboxes", "5", "--postfix", "/absent/postfix")
	if err != nil || !strings.Contains(out, "Postfix, accepting to discard: not measured") {
		t.Errorf("%v\n%s", err, out)
	}
}
