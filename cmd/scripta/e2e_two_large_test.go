package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/mta/pec"
)

// Messages pass from one provider to the other as they come in: neither ever has
// one whole in memory, nor the receipt that brings it back.
func TestTwoProvidersLarge(t *testing.T) {
	t.Parallel()
	octets := size(10<<20, 100<<20, 100<<20)
	d := newDuo(t, duoOptions{edit: func(c *config.Config) {
		c.Mail.MaxMessageBytes = 200 << 20
		c.Mail.MaxBytesTimesRecipients = 400 << 20
	}})
	d.start(t)
	l := letter{id: "<grande@client.example>", from: "anna@" + duoA, to: []string{"bice@" + duoB}, subject: "Grande"}
	want := ledger{}
	want.add(d.outcomes(l)...)
	l.body = strings.Repeat(strings.Repeat("0123456789abcdef", 4)+"\r\n", octets/66)
	d.send(t, l)
	want.settle(t, 5*time.Minute, d)
	for _, p := range d.both() {
		peak := p.peakMemory(t)
		t.Logf("%s: a message of %d MiB, at most %d MiB in memory", p.domain, octets>>20, peak>>20)
		if !raceEnabled && peak > mostMemory {
			t.Errorf("%s had %d MiB in memory", p.domain, peak>>20)
		}
	}
	checkLarge(t, d.b.one(t, "bice", pec.TransportEnvelope, l.id), l)
	checkLarge(t, d.a.one(t, "anna", pec.Delivery, l.id), l)
	d.stop(t)
}

// A message to a thousand recipients of both providers has one envelope, one
// transaction between the two, and a thousand outcomes.
func TestTwoProvidersManyRecipients(t *testing.T) {
	t.Parallel()
	many := size(40, 200, 1000)
	d := newDuo(t, duoOptions{edit: func(c *config.Config) {
		c.Mail.MaxRecipients = 1000
		c.Mail.MaxBytesTimesRecipients = 200 << 20 // each of a thousand receipts names all recipients
	}})
	l := letter{id: "<molti@client.example>", from: "anna@" + duoA, subject: "A tutti", more: "X-TipoRicevuta: sintetica\r\n"}
	for i := range many {
		p := d.b
		if i%2 == 0 {
			p = d.a
		}
		local := fmt.Sprintf("u%04d", i)
		p.crowdIn(t, local)
		l.to = append(l.to, p.address(local))
	}
	d.start(t)
	want := ledger{}
	want.add(d.outcomes(l)...)
	d.send(t, l)
	want.settle(t, size(time.Minute, time.Minute, 10*time.Minute), d)
	if n := len(d.a.about(t, "posta-certificata", pec.TakeCharge, l.id)); n != 2 {
		t.Errorf("%d take-charges, want one of each provider", n)
	}
	if n := d.ab.called(); n != 1 {
		t.Logf("%d connections for one envelope", n)
	}
	d.stop(t)
}

// crowdIn adds a mailbox before the provider is first started, with the password
// of the first one: hashing a thousand would take a minute.
func (p *provider) crowdIn(t *testing.T, local string) {
	t.Helper()
	text, err := os.ReadFile(p.dir.Accounts())
	if err != nil {
		t.Fatal(err)
	}
	first := duoAccounts[p.domain][0]
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, p.address(first)+":"); ok {
			text = append(text, p.address(local)+":"+rest+"\n"...)
		}
	}
	if err := os.WriteFile(p.dir.Accounts(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(p.maildir(local), sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p.crowd = append(p.crowd, local)
}
