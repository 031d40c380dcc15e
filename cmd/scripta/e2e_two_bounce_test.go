package main

import (
	"bytes"
	"testing"
	"time"

	"scripta/mta/pec"
)

// The ordinary world cannot deliver an envelope and says so: its author, who takes
// no ordinary mail, hears of it, in an anomaly envelope.
func TestTwoProvidersBounce(t *testing.T) {
	t.Parallel()
	d := newDuo(t, duoOptions{ordinary: []string{"olga"}})
	d.start(t)
	want := ledger{}
	l := letter{id: "<persa@client.example>", subject: "Persa", from: "anna@" + duoA, to: []string{"rimbalzo@" + ordinaryDomain, "bice@" + duoB}, cc: []string{"olga@" + ordinaryDomain}}
	d.send(t, l)
	want.add(d.outcomes(l)...)
	want.add(d.bounceTo(t, "anna", "casella chiusa"))
	// Refused at once, it is a report of our own.
	l = letter{id: "<respinta@client.example>", subject: "Respinta", from: "anna@" + duoA, to: []string{noBox + "@" + ordinaryDomain}}
	d.send(t, l)
	want.add(d.outcomes(l)...)
	want.add(d.bounceTo(t, "anna", "User unknown"))
	want.settle(t, 2*time.Minute, d)
	want.compare(t, "by the independent parser", d.inspect(t))
	d.stop(t)
}

// bounceTo waits for the anomaly envelope with a bounce in a mailbox of a, and
// returns what its holder sees.
func (d *duo) bounceTo(t *testing.T, local, text string) sighting {
	t.Helper()
	var found *mail
	eventually(t, waitMail, "a bounce in the mailbox of "+local, func() bool {
		for _, m := range d.a.mailbox(t, local) {
			if m.Kind == pec.AnomalyEnvelope && bytes.Contains(m.bytes(t), []byte(text)) {
				found = m
			}
		}
		return found != nil
	})
	return anomaly(d.a.address(local), found.MessageID)
}
