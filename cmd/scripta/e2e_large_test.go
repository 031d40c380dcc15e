package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/mta/pec"
)

// Messages are streamed: four of 40 MB at once do not cost their size in memory,
// neither while they come in nor while five signed messages are made of each.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		t.Skip("memory is measured in the run without the race detector")
	}
	const each = 40 << 20
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	p.start(t)
	body := strings.Repeat(strings.Repeat("0123456789abcdef", 4)+"\r\n", each/66)
	n := size(1, 4, 4)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			c, err := p.login("mario")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			l := letter{id: "<large" + string(rune('0'+i)) + "@client>", from: address("mario"), to: []string{address("lucia")}, subject: "grande", body: body}
			if err := c.submit(l.from, l.recipients(), l.String()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	p.idle(t, 5*time.Minute)
	peak := p.peakMemory(t)
	t.Logf("%d messages of %d MiB at once: at most %d MiB in memory", n, each>>20, peak>>20)
	// What the daemon has without any message is about 100 MiB, of which most
	// are the database's tables.
	if peak > 300<<20 {
		t.Errorf("the daemon had %d MiB in memory", peak>>20)
	}
	got := map[pec.Kind]int{}
	for _, m := range append(p.mailbox(t, "mario"), p.mailbox(t, "lucia")...) {
		got[m.Kind]++
	}
	if got[pec.TransportEnvelope] != n || got[pec.Delivery] != n || got[pec.Acceptance] != n {
		t.Errorf("mailboxes hold %v", got)
	}
	if original := p.mailbox(t, "lucia")[0].original(t); !bytes.HasSuffix(original, []byte(body)) {
		t.Error("the body did not arrive as it was")
	}
	p.stop(t)
}
