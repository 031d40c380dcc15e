package main

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/mta/scan/clamdtest"
)

// A virus is found at the Incoming Point of a provider whose neighbour does not
// look, and at the Access Point of one that does: the notice at each point is the
// right one, the message is kept apart, and no mailbox has it.
func TestTwoProvidersVirus(t *testing.T) {
	t.Parallel()
	engine := clamdtest.Start(t)
	d := newDuo(t, duoOptions{edit: func(c *config.Config) {
		if c.Domain == duoB {
			c.Scan.Clamd = engine.Address
		}
	}})
	d.scans = []*provider{d.b}
	d.start(t)
	inner := letter{id: "<dentro@client.example>", subject: "POSTA CERTIFICATA: inoltrata", from: "x@y.example", to: []string{"z@y.example"}, body: clamdtest.EICAR() + "\r\n"}
	infected := []letter{
		{subject: "in chiaro", body: clamdtest.EICAR() + "\r\n"},
		{subject: "in base64", more: "MIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=\"eicar.com\"\r\nContent-Transfer-Encoding: base64\r\n",
			body: base64.StdEncoding.EncodeToString([]byte(clamdtest.EICAR())) + "\r\n"},
		{subject: "in un messaggio", more: "MIME-Version: 1.0\r\nContent-Type: message/rfc822; name=\"postacert.eml\"\r\n", body: inner.String()},
	}
	want := ledger{}
	for i, l := range infected {
		l.infected, l.id, l.from, l.to = true, fmt.Sprintf("<virus-%d@client.example>", i), "anna@"+duoA, []string{"bice@" + duoB, "bruno@" + duoB}
		d.send(t, l)
		want.add(d.outcomes(l)...)
	}
	want.settle(t, 2*time.Minute, d)

	// Now the Access Point looks, too.
	d.a.stop(t)
	d.a.configure(t, func(c *config.Config) { c.Scan.Clamd = engine.Address })
	d.scans = d.both()
	d.a.start(t)
	for i, l := range infected {
		l.infected, l.id, l.from, l.to = true, fmt.Sprintf("<virus-a-%d@client.example>", i), "anna@"+duoA, []string{"bice@" + duoB, "aldo@" + duoA}
		d.send(t, l)
		want.add(d.outcomes(l)...)
	}
	want.settle(t, 2*time.Minute, d)
	want.compare(t, "by the independent parser", d.inspect(t))
	d.stop(t)
	for _, p := range d.both() {
		if listed := p.command(t, "quarantine", "list"); strings.Count(listed, clamdtest.Virus) != len(infected) {
			t.Errorf("%s keeps\n%s", p.domain, listed)
		}
	}
}
