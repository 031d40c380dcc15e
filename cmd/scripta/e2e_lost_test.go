package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
)

// The log's folder comes back as it was before some messages, with its own
// checkpoint: nothing in it contradicts it. The receipts that were stored do.
func TestLostLeaves(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, func(c *config.Config) {
		c.Log.CheckpointInterval.Duration = time.Hour
		c.Scrub.Interval.Duration = 0
	})
	send := func(id string) {
		p.send(t, letter{id: id, from: address("mario"), to: []string{address("lucia")}, subject: id})
		p.idle(t, patience)
	}
	p.start(t)
	send("<before@client>")
	p.daemon.kill()
	was := filepath.Join(t.TempDir(), "log")
	copyFolder(t, p.dir.Log(), was)
	p.start(t)
	send("<after@client>")
	eventually(t, patience, "the job is forgotten", func() bool {
		_, out := p.scripta(t, "status")
		return strings.Contains(out, " 0 messages under way")
	})
	p.daemon.kill()
	if err := os.RemoveAll(p.dir.Log()); err != nil {
		t.Fatal(err)
	}
	copyFolder(t, was, p.dir.Log())
	if code, out := p.scripta(t, "log", "verify"); code != 1 || !strings.Contains(out, "lost") {
		t.Errorf("log verify: exit %d\n%s", code, out)
	}
	d := p.spawn(t)
	select {
	case <-d.ended:
		t.Fatalf("serve ended with %v\n%s", d.err, p.logged(t))
	case <-d.ready:
	}
	if code, out := p.scripta(t, "status"); code != 1 || !strings.Contains(out, "FAILED register") || !strings.Contains(out, "the log lost its newest leaves") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	p.stop(t)
}
