package main

import (
	"strings"
	"testing"
	"time"

	"scripta/mta/pec"
)

// While a provider cannot be reached, what is for it waits, and nothing else
// does; when it is back, all of it comes.
func TestTwoProvidersOneIsDown(t *testing.T) {
	t.Parallel()
	d := newDuo(t, duoOptions{ordinary: []string{"olga"}})
	d.start(t)
	d.b.stop(t)
	want := ledger{}
	late := letter{id: "<tardi@client.example>", subject: "Tardi", from: "anna@" + duoA, to: []string{"bice@" + duoB, "aldo@" + duoA}, cc: []string{"olga@" + ordinaryDomain}}
	d.send(t, late)
	d.postfix.one(t, "olga", late.id)
	eventually(t, waitMail, "the local recipient has it", func() bool { return len(d.a.about(t, "aldo", pec.TransportEnvelope, late.id)) == 1 })
	eventually(t, waitMail, "it is tried again and again", func() bool { return d.ab.called() >= 3 })
	if n := len(d.a.about(t, "anna", pec.Delivery, late.id)); n != 1 {
		t.Errorf("%d delivery receipts while the other provider is down", n)
	}
	if out := d.a.command(t, "queue", "list"); !strings.Contains(out, "beta") {
		t.Errorf("queue says %s", out)
	}
	// Restarted meanwhile, it has not forgotten, nor who is a provider: the index
	// cannot be had either.
	d.a.stop(t)
	d.slapd.Stop()
	d.a.start(t)
	calls := d.ab.called()
	eventually(t, waitMail, "it is tried after the restart", func() bool { return d.ab.called() > calls })
	d.b.start(t)
	next := letter{id: "<poi@client.example>", subject: "Poi", from: "aldo@" + duoA, to: []string{"bruno@" + duoB}}
	d.send(t, next)
	want.add(d.outcomes(next)...)
	want.add(d.outcomes(late)...)
	want.settle(t, 2*time.Minute, d)
	d.stop(t)
}

// Who takes the offer of TLS out of a provider's greeting gets no certified
// message to read: it waits until it can go under TLS.
func TestTwoProvidersNothingInClear(t *testing.T) {
	t.Parallel()
	d := newDuo(t, duoOptions{})
	d.start(t)
	d.ab.set(wireStripped)
	l := letter{id: "<chiaro@client.example>", subject: "In chiaro", from: "anna@" + duoA, to: []string{"bice@" + duoB}}
	d.send(t, l)
	eventually(t, waitMail, "it is tried again and again", func() bool { return d.ab.called() >= 3 })
	if out := d.a.command(t, "queue", "list"); !strings.Contains(out, "TLS") {
		t.Errorf("queue list does not say why it waits:\n%s", out)
	}
	if n := len(d.b.mailbox(t, "bice")); n != 0 {
		t.Errorf("%d messages came without TLS", n)
	}
	d.ab.set(wireWhole)
	want := ledger{}
	want.add(d.outcomes(l)...)
	want.settle(t, 2*time.Minute, d)
	for _, records := range d.stop(t) {
		d.checkRelayed(t, records)
	}
}
