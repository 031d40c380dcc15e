package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// inspected is what testdata/check_mailbox.py says of a message.
type inspected struct {
	File      string   `json:"file"`
	Kind      string   `json:"kind"`
	Variant   string   `json:"variant"`
	MessageID string   `json:"message_id"`
	Problems  []string `json:"problems"`
	Certified *struct {
		OriginalID string   `json:"msgid"`
		Recipient  string   `json:"consegna"`
		Taken      []string `json:"ricezione"`
		Detail     string   `json:"errore_esteso"`
	} `json:"certified"`
}

// inspect has every message in every mailbox of both providers checked by a
// program that shares nothing with the one under test (Python's e-mail parser,
// openssl, xmllint and the DTD), and returns what that program saw.
func (d *duo) inspect(t *testing.T) ledger {
	t.Helper()
	python := need(t, "python3")
	need(t, "openssl")
	need(t, "xmllint")
	args := []string{abs(t, filepath.Join("..", "..", "testdata", "check_mailbox.py")), "--ca", d.roots, "--originals", d.sent}
	for _, p := range d.both() {
		boxes, err := filepath.Glob(filepath.Join(p.dir.Mail(), p.domain, "*"))
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, boxes...)
	}
	cmd := exec.CommandContext(t.Context(), python, args...)
	var wrong strings.Builder
	cmd.Stderr = &wrong
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		t.Fatalf("check_mailbox.py: %v\n%s", err, &wrong)
	}
	seen := ledger{}
	for line := range strings.Lines(string(out)) {
		var m inspected
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("check_mailbox.py wrote %q: %v", line, err)
		}
		for _, p := range m.Problems {
			t.Errorf("%s: %s: %s", m.File, m.Kind, p)
		}
		for _, s := range m.sighted(d.boxOf(m.File)) {
			seen[s]++
		}
	}
	return seen
}

// boxOf is the address of the mailbox that a message lies in.
func (d *duo) boxOf(file string) string {
	folder := filepath.Dir(filepath.Dir(file))
	return filepath.Base(folder) + "@" + filepath.Base(filepath.Dir(folder))
}

// sighted is what [mail.sighted] says, as the other program sees it.
func (m *inspected) sighted(box string) []sighting {
	s := sighting{box: box, what: m.Kind, id: "<" + m.MessageID + ">"}
	c := m.Certified
	if c == nil {
		return []sighting{s}
	}
	s.id, s.who = c.OriginalID, strings.ToLower(c.Recipient)
	switch m.Kind {
	case "presa-in-carico":
		var all []sighting
		for _, r := range c.Taken {
			s.who = strings.ToLower(r)
			all = append(all, s)
		}
		return all
	case "avvenuta-consegna":
		s.what += " " + m.Variant
	case "errore-consegna", "preavviso-errore-consegna":
		code, _, _ := strings.Cut(c.Detail, " ")
		s.what += " " + code
	}
	if m.Variant == "virus" {
		s.what += " virus"
	}
	return []sighting{s}
}
