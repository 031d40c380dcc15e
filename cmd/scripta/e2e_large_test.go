package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/mta/pec"
)

const (
	largeMessage = 40 << 20 // bytes
	// mostMemory is what the daemon may have at its peak, bytes: less than the
	// four messages have. It was seen to have 75 MiB, and it has about 60 MiB
	// without any message.
	mostMemory = 128 << 20
)

// Messages are streamed: four of 40 MB at once do not cost their size in memory,
// neither while they come in nor while signed messages are made of them.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	p.start(t)
	letters := make([]letter, size(2, 4, 4))
	for i := range letters {
		letters[i] = letter{id: fmt.Sprintf("<grande-%d@client.example>", i), from: address("mario"), to: toLucia, subject: "Grande"}
		if i%2 == 1 {
			letters[i].more = "X-TipoRicevuta: sintetica\r\n"
		}
	}
	body := strings.Repeat(strings.Repeat("0123456789abcdef", 4)+"\r\n", largeMessage/66)
	var clients sync.WaitGroup
	for _, l := range letters {
		clients.Go(func() {
			l.body = body
			c, err := p.login("mario")
			if err == nil {
				err = c.submit(l.from, l.recipients(), l.String())
				_ = c.Close()
			}
			if err != nil {
				t.Errorf("%s: %v", l.id, err)
			}
		})
	}
	clients.Wait()
	p.idle(t, 5*time.Minute)
	peak := p.peakMemory(t)
	t.Logf("%d messages of %d MiB at once: at most %d MiB in memory", len(letters), largeMessage>>20, peak>>20)
	if !raceEnabled && peak > mostMemory {
		t.Errorf("the daemon had %d MiB in memory", peak>>20)
	}
	for _, l := range letters {
		p.one(t, "mario", pec.Acceptance, l.id)
		envelope := p.one(t, "lucia", pec.TransportEnvelope, l.id)
		receipt := p.one(t, "mario", pec.Delivery, l.id)
		l.body = body
		checkLarge(t, envelope, l)
		if l.more == "" {
			checkLarge(t, receipt, l)
		} else if receipt.Original != nil {
			t.Errorf("%s: the concise receipt includes the original", l.id)
		}
	}
	p.verifyWithOpenSSL(t)
	p.stop(t)
	p.verifyLog(t)
}

// checkLarge checks that what a message includes ends with a letter's body.
func checkLarge(t *testing.T, m *mail, l letter) {
	t.Helper()
	if m.Original == nil {
		t.Fatalf("a message %v without the original", m.Kind)
	}
	f, err := os.Open(m.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	end := make([]byte, len(l.body))
	if _, err := f.ReadAt(end, m.Original.Offset+m.Original.Length-int64(len(end))); err != nil {
		t.Fatal(err)
	}
	if string(end) != l.body {
		t.Errorf("%s: the body did not come through %v as it was", l.id, m.Kind)
	}
}
