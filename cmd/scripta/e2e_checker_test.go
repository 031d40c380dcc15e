package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checkedMessage is what the independent reader, testdata/check_mailbox.py, says
// of a message. See its help for the fields.
type checkedMessage struct {
	File      string   `json:"file"`
	SHA256    string   `json:"sha256"`
	Kind      string   `json:"kind"`
	Variant   string   `json:"variant"`
	MessageID string   `json:"message_id"`
	From      string   `json:"from"`
	To        []string `json:"to"`
	Subject   string   `json:"subject"`
	Signer    string   `json:"signer"`
	Certified *struct {
		Tipo           string      `json:"tipo"`
		Errore         string      `json:"errore"`
		Mittente       string      `json:"mittente"`
		Destinatari    [][2]string `json:"destinatari"`
		Oggetto        string      `json:"oggetto"`
		Gestore        string      `json:"gestore"`
		Identificativo string      `json:"identificativo"`
		Msgid          string      `json:"msgid"`
		Ricevuta       string      `json:"ricevuta"`
		Consegna       string      `json:"consegna"`
		Ricezione      []string    `json:"ricezione"`
		ErroreEsteso   string      `json:"errore_esteso"`
	} `json:"certified"`
	Original *struct {
		SHA256    string `json:"sha256"`
		MessageID string `json:"message_id"`
		Compared  string `json:"compared"`
	} `json:"original"`
	Problems []string `json:"problems"`
}

// mailboxOf is the local part of the mailbox that the message is in.
func (m *checkedMessage) mailboxOf() string {
	return filepath.Base(filepath.Dir(filepath.Dir(m.File)))
}

// key tells what a message is about: kind, variant, whom it is about.
func (m *checkedMessage) key() string {
	key := m.Kind
	if m.Variant != "" {
		key += " " + m.Variant
	}
	if c := m.Certified; c != nil {
		key += " " + c.Consegna + strings.Join(c.Ricezione, " ")
	}
	return strings.TrimSpace(key)
}

// checkMailboxes has a reader that shares no code with the project check every
// message in every mailbox of some providers: signature, signer, MIME tree, header
// against certification data, document type, the included message against what
// its author sent (originals: whole messages, may be empty) or against the envelope,
// the hashes of brief receipts. Any problem fails the test. Call it when nothing is
// under way.
func checkMailboxes(t *testing.T, originals []string, providers ...*provider) []*checkedMessage {
	t.Helper()
	python := need(t, "python3")
	need(t, "openssl")
	need(t, "xmllint")
	dir := t.TempDir()
	roots := filepath.Join(dir, "roots.pem")
	var pems []byte
	args := []string{abs(t, filepath.Join("..", "..", "testdata", "check_mailbox.py")), "--ca", roots}
	for _, p := range providers {
		pem, err := os.ReadFile(p.dir.PublicCA())
		if err != nil {
			t.Fatal(err)
		}
		pems = append(pems, pem...)
		boxes, err := filepath.Glob(filepath.Join(p.dir.Mail(), "*", "*", "new"))
		if err != nil || len(boxes) == 0 {
			t.Fatalf("no mailboxes in %s: %v", p.dir.Mail(), err)
		}
		for _, b := range boxes {
			args = append(args, filepath.Dir(b))
		}
	}
	if err := os.WriteFile(roots, pems, 0o600); err != nil {
		t.Fatal(err)
	}
	if len(originals) > 0 {
		sent := filepath.Join(dir, "sent")
		args = append(args, "--originals", sent)
		for _, o := range originals {
			name := filepath.Join(sent, sha256Hex([]byte(o))+".eml")
			if err := errors.Join(os.MkdirAll(sent, 0o700), os.WriteFile(name, []byte(o), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), python, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil // it says below what is wrong
	}
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("check_mailbox.py: %v\n%s", err, &stderr)
	}
	var all []*checkedMessage
	for line := range bytes.Lines(out) {
		m := new(checkedMessage)
		if err := json.Unmarshal(line, m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if len(m.Problems) > 0 {
			t.Errorf("%s, %s: %q", m.File, m.key(), m.Problems)
		}
		all = append(all, m)
	}
	return all
}

// What a provider puts into mailboxes, an independent reader finds right.
func TestMailboxesIndependently(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	p.start(t)
	c := must[*client](t)(p.login("mario"))
	var sent []string
	for _, l := range []letter{
		{id: "<uno@mario.example>", from: address("mario"), to: []string{address("lucia"), address("nessuno")}, subject: "Perché no"},
		{id: "<due@mario.example>", from: address("mario"), to: []string{address("mario")}, subject: "A me"},
	} {
		if err := c.submit(l.from, l.to, l.String()); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, l.String())
	}
	_ = c.Close()
	p.idle(t, patience)
	count := map[string]int{}
	for _, m := range checkMailboxes(t, sent, p) {
		count[m.mailboxOf()+": "+m.key()]++
		if m.Kind == "posta-certificata" && m.Original.Compared != "original" {
			t.Errorf("%s was compared with nothing", m.File)
		}
	}
	for what, n := range map[string]int{
		"mario: accettazione": 2, "mario: posta-certificata": 1, "lucia: posta-certificata": 1, "mario: errore-consegna " + address("nessuno"): 1,
		"mario: avvenuta-consegna completa " + address("lucia"): 1, "mario: avvenuta-consegna completa " + address("mario"): 1,
	} {
		if count[what] != n {
			t.Errorf("%s: %d messages, want %d", what, count[what], n)
		}
	}
	if len(count) < 7 { // with the take-charges
		t.Errorf("%v", count)
	}
}
