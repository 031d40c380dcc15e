package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/mta/pec"
	"scripta/register/record"
)

// hundredLines is an attachment's worth of text.
var hundredLines = strings.Repeat("Il contenuto dell'allegato.\r\n", 100)

// withAttachment is a body with an attachment, and the fields that go with it.
func withAttachment(l letter) letter {
	l.more += "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"parti\"\r\n"
	l.body = "--parti\r\nContent-Type: text/plain\r\n\r\nIn allegato.\r\n--parti\r\nContent-Type: application/octet-stream; name=\"atto.bin\"\r\n" +
		"Content-Disposition: attachment; filename=\"atto.bin\"\r\n\r\n" + hundredLines + "--parti--\r\n"
	return l
}

// All messages between two providers, of RFC 6109 section 3.5: what each holder
// finds in his mailbox, message by message, and what both registers hold, record
// by record.
func TestTwoProviders(t *testing.T) {
	t.Parallel()
	d := newDuo(t, duoOptions{ordinary: []string{"olga", "oscar"}, edit: func(c *config.Config) {
		if c.Domain == duoB {
			c.Mail.MaxMessageBytes = 2 << 20
		}
	}})
	d.start(t)
	want := ledger{}
	a := func(local string) string { return local + "@" + duoA }
	b := func(local string) string { return local + "@" + duoB }
	o := func(local string) string { return local + "@" + ordinaryDomain }

	letters := []letter{
		{subject: "uno solo", from: a("anna"), to: []string{b("bice")}},
		{subject: "al contrario", from: b("bruno"), to: []string{a("aldo")}},
		{subject: "tra i due e fuori", from: a("anna"), to: []string{b("bice"), a("aldo")}, cc: []string{b("bruno"), o("olga")}},
		withAttachment(letter{subject: "breve", from: b("bice"), to: []string{a("anna"), a("aldo")}, cc: []string{a("alba")}, more: "X-TipoRicevuta: breve\r\n"}),
		withAttachment(letter{subject: "sintetica", from: a("aldo"), to: []string{b("berta")}, more: "X-TipoRicevuta: sintetica\r\n"}),
		withAttachment(letter{subject: "completa", from: a("aldo"), to: []string{b("berta")}, more: "X-TipoRicevuta: completa\r\n"}),
		{subject: "sconosciuta", from: a("anna"), to: []string{b(noBox)}},
		{subject: "piena", from: a("anna"), to: []string{b(fullBox)}},
		{subject: "uno buono e due no", from: b("berta"), to: []string{a("alba"), a(noBox), a(fullBox)}},
		{subject: "solo fuori", from: a("anna"), to: []string{o("oscar")}},
		{subject: "Già l'oggetto è 日本 <&>", from: a("anna"), to: []string{b("bice")}, body: "Perché no?\r\n"},
	}
	for i, l := range letters {
		l.id = fmt.Sprintf("<flusso-%d@client.example>", i)
		d.send(t, l)
		want.add(d.outcomes(l)...)
	}
	refused := letter{id: "<bcc@client.example>", subject: "formale", from: a("anna"), to: []string{b("bice")}, more: "Bcc: " + b("bruno") + "\r\n"}
	d.send(t, refused)
	want.add(sighting{box: refused.from, what: pec.NonAcceptance.String(), id: refused.id})
	want.settle(t, 2*time.Minute, d)

	// What the ordinary world got is the envelope, signed.
	for _, local := range []string{"olga", "oscar"} {
		m := d.postfix.one(t, local, "X-Trasporto: posta-certificata")
		if !strings.Contains(m, "Return-Path: <"+a("anna")+">") {
			t.Errorf("the envelope that %s got does not keep its author as reverse path:\n%s", local, m[:min(len(m), 600)])
		}
	}
	want.compare(t, "by the independent parser", d.inspect(t))
	for _, records := range d.stop(t) {
		d.checkRelayed(t, records)
	}
}

// checkRelayed checks that whatever went to the other provider went under TLS, and
// that its records say which, and to whom.
func (d *duo) checkRelayed(t *testing.T, records []*record.Record) {
	t.Helper()
	passed := 0
	for _, r := range records {
		if r.Kind != record.Relayed {
			continue
		}
		detail := map[string]string{}
		for _, x := range r.Detail {
			detail[x.Name] = x.Value
		}
		if detail["host"] == "" || detail["message"] == "" || r.Peer.Address == "" || !strings.HasPrefix(r.Outcome.Code, "2") {
			t.Errorf("a record of what was relayed says too little: %+v, %+v, %v", r.Peer, r.Outcome, detail)
		}
		if detail["destination"] != d.a.name() && detail["destination"] != d.b.name() {
			continue
		}
		passed++
		if !strings.HasPrefix(r.Peer.TLS, "TLS 1.") || r.Peer.Cipher == "" || len(r.Peer.Certificate) != 32 {
			t.Errorf("relayed to %s without TLS, or without saying so: %+v", detail["destination"], r.Peer)
		}
	}
	if passed == 0 {
		t.Error("nothing was relayed to the other provider")
	}
}
