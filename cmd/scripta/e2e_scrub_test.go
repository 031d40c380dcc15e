package main

import (
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
)

// A running provider notices that a file is not what it was, says where, and goes
// on saying so, over a restart, until the file is brought back.
func TestScrub(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, func(c *config.Config) {
		c.Scrub.Interval.Duration = time.Second
		c.Scrub.BytesPerSecond = 1 << 30
	})
	p.start(t)
	p.send(t, letter{id: "<s@client>", from: address("mario"), to: []string{address("lucia")}, subject: "scrub"})
	p.idle(t, patience)
	says := func(what string) {
		t.Helper()
		eventually(t, patience, "status: "+what, func() bool {
			_, out := p.scripta(t, "status")
			for line := range strings.Lines(out) {
				if strings.Contains(line, " scrub ") && strings.Contains(line, what) {
					return true
				}
			}
			return false
		})
	}
	says("everything was read by")
	var name string
	err := filepath.WalkDir(filepath.Join(p.dir.Receipts(), "contents"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			name = path
		}
		return err
	})
	if err != nil || name == "" {
		t.Fatalf("%q, %v", name, err)
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), whole...)
	damaged[len(damaged)/2] ^= 1
	if err := os.WriteFile(name, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	says("things are not what was written")
	if code, out := p.scripta(t, "status"); code != 1 || !strings.Contains(out, "FAILED scrub") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	if log, err := os.ReadFile(p.log); err != nil || !strings.Contains(string(log), "the scrub found damage") || !strings.Contains(string(log), name) {
		t.Errorf("the log does not name %s: %v\n%s", name, err, log)
	}
	resp, err := http.Get("http://" + p.listen.Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !regexp.MustCompile(`(?m)^scripta_scrub_findings [1-9]`).Match(b) {
		t.Errorf("no finding in the metrics: %v", err)
	}
	p.stop(t)
	p.configure(t, func(c *config.Config) { c.Scrub.Interval.Duration = time.Hour })
	p.start(t)
	says("things are not what was written") // remembered
	p.stop(t)
	if err := os.WriteFile(name, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	p.configure(t, func(c *config.Config) { c.Scrub.Interval.Duration = time.Second })
	p.start(t)
	says("everything was read by")
	p.stop(t)
	p.verifyLog(t)
}
