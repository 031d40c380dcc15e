package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/mta/pec"
)

// hand gives a message to the provider's Incoming Point as another server does,
// and returns the answer that refused it, or "".
func (p *provider) hand(t *testing.T, from string, to []string, message string) string {
	t.Helper()
	c := must[*client](t)(p.dialIncoming(true))
	defer c.Close()
	err := c.submit(from, to, message)
	if answer := refusal(err); answer != "" || err == nil {
		return strings.ReplaceAll(answer, `"`, "")
	}
	t.Fatal(err)
	return ""
}

// anomaly is what the holder of a box sees of a message that is no certified mail.
func anomaly(box, id string) sighting {
	return sighting{box: box, what: pec.AnomalyEnvelope.String(), id: id}
}

// What comes in on port 25 and is no correct certified mail: the mailbox decides,
// the provider's own senders are never left without an answer, and what carries a
// provider's signature without right is shown as an anomaly.
func TestTwoProvidersStrangers(t *testing.T) {
	t.Parallel()
	d := newDuo(t, duoOptions{edit: func(c *config.Config) {
		if c.Domain == duoB {
			c.Mail.MaxMessageBytes = 1 << 20
		}
	}})
	d.start(t)
	anna, bice, bruno := "anna@"+duoA, "bice@"+duoB, "bruno@"+duoB
	d.b.command(t, "account", "ordinary", "--mailbox", bice, "--set", "accept")
	want := ledger{}

	// A correct envelope, which others are made from.
	good := letter{id: "<buona@client.example>", subject: "Buona", from: anna, to: []string{bice}}
	d.send(t, good)
	want.add(d.outcomes(good)...)
	want.await(t, waitMail, d)
	envelope := d.b.one(t, "bice", pec.TransportEnvelope, good.id)

	olga := "olga@" + ordinaryDomain
	ordinary := func(id, from string, to ...string) string {
		return letter{id: "<" + id + "@client.example>", subject: "Ordinaria", from: from, to: to}.String()
	}
	for _, c := range []struct {
		name, from string
		to         []string
		message    string
		answer     string // that refuses it, in the beginning
		want       []sighting
	}{
		{"ordinary mail to who takes it", olga, []string{bice}, ordinary("o1", olga, bice), "", []sighting{anomaly(bice, "<o1@client.example>")}},
		{"ordinary mail to who does not", olga, []string{bruno}, ordinary("o2", olga, bruno), "550 5.7.1", nil},
		{"ordinary mail to nobody", olga, []string{noBox + "@" + duoB}, ordinary("o3", olga), "550 5.1.1", nil},
		{"unsigned mail of a certified domain to who takes it", anna, []string{bice}, ordinary("u1", anna, bice), "", []sighting{anomaly(bice, "<u1@client.example>")}},
		{"unsigned mail of a certified domain to who does not", anna, []string{bruno}, ordinary("u2", anna, bruno), "55", nil},
		{"relaying", olga, []string{"qualcuno@altrove.example"}, ordinary("r1", olga), "550 5.7.1", nil},
		{"an envelope that was changed under its signature", anna, []string{bice},
			string(bytes.Replace(envelope.bytes(t), []byte("Ciao."), []byte("Addio"), 1)), "", []sighting{anomaly(bice, envelope.MessageID)}},
		{"an envelope that comes once more", anna, []string{bice}, string(envelope.bytes(t)), "", nil},
		{"signed by a provider, and no message of its kinds", anna, []string{bice}, d.signedByA(t, "<sf@client.example>"), "", []sighting{anomaly(bice, "<sf@client.example>")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer := d.b.hand(t, c.from, c.to, c.message)
			if !strings.HasPrefix(answer, c.answer) || (answer == "") != (c.answer == "") {
				t.Errorf("answered %q, want %q", answer, c.answer)
			}
			want.add(c.want...)
			want.await(t, waitMail, d)
		})
	}

	// The other provider does not take an envelope that is too large for it.
	large := letter{id: "<grossa@client.example>", subject: "Grossa", from: anna, to: []string{bice}, body: strings.Repeat(strings.Repeat("x", 76)+"\r\n", 130000)}
	d.send(t, large)
	refused := d.a.one(t, "anna", pec.NonDelivery, large.id)
	if !strings.Contains(refused.Certification.Detail, "5.3.4") || refused.Certification.Provider != d.a.name() {
		t.Errorf("the non-delivery of %s says %q", refused.Certification.Provider, refused.Certification.Detail)
	}
	want.add(sighting{box: anna, what: pec.Acceptance.String(), id: large.id})
	want.add(refused.sighted(anna)...)
	want.settle(t, 2*time.Minute, d)
	want.compare(t, "by the independent parser", d.inspect(t))
	d.stop(t)
}

// signedByA is a message with the good signature of provider a that is none of
// those a provider signs.
func (d *duo) signedByA(t *testing.T, id string) string {
	t.Helper()
	need(t, "openssl")
	dir := t.TempDir()
	plain, signed := filepath.Join(dir, "plain"), filepath.Join(dir, "signed")
	if err := os.WriteFile(plain, []byte("Content-Type: text/plain\r\n\r\nNulla di certificato.\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, "openssl", "cms", "-sign", "-crlfeol", "-md", "sha256", "-signer", d.a.dir.PECCertificate(), "-inkey", d.a.dir.PECKey(),
		"-in", plain, "-out", signed); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	text := strings.ReplaceAll(string(must[[]byte](t)(os.ReadFile(signed))), "\r\n", "\n")
	return fmt.Sprintf("From: posta-certificata@%s\r\nTo: bice@%s\r\nSubject: Firmata\r\nMessage-ID: %s\r\n", duoA, duoB, id) + strings.ReplaceAll(text, "\n", "\r\n")
}
