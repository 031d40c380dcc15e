package main

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"scripta/mta/pec"
)

// mail is a message in a mailbox.
type mail struct {
	path string
	*pec.Signed
}

func (m *mail) bytes(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(m.path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (m *mail) digest() string { return hex.EncodeToString(m.Digest[:]) }

// maildir is the folder of a mailbox.
func (p *provider) maildir(local string) string {
	return filepath.Join(p.dir.Mail(), p.domain, local)
}

// mailbox reads what is in new/. All of it must be correct PEC messages.
func (p *provider) mailbox(t *testing.T, local string) []*mail {
	t.Helper()
	folder := filepath.Join(p.maildir(local), "new")
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]*mail, 0, len(entries))
	for _, e := range entries {
		all = append(all, p.mail(t, filepath.Join(folder, e.Name())))
	}
	return all
}

func (p *provider) mail(t *testing.T, path string) *mail {
	t.Helper()
	p.boxes.mu.Lock()
	m := p.boxes.known[path]
	p.boxes.mu.Unlock()
	if m != nil {
		return m
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m = &mail{path: path}
	if m.Signed, err = pec.ReadSigned(f, pec.DefaultLimits()); err != nil || m.Fault != nil {
		t.Fatalf("%s: %v, %v", path, err, m.Fault)
	}
	p.boxes.mu.Lock()
	defer p.boxes.mu.Unlock()
	if p.boxes.known == nil {
		p.boxes.known = map[string]*mail{}
	}
	p.boxes.known[path] = m
	return m
}

// about returns the messages of a kind in a mailbox that certify the message
// with this Message-ID or this subject.
func (p *provider) about(t *testing.T, local string, kind pec.Kind, key string) []*mail {
	t.Helper()
	var found []*mail
	for _, m := range p.mailbox(t, local) {
		if m.Kind == kind && m.Certification != nil && (m.Certification.OriginalID == key || m.Certification.Subject == key) {
			found = append(found, m)
		}
	}
	return found
}

// one waits for a message of a kind about another, and checks that it is the
// only one.
func (p *provider) one(t *testing.T, local string, kind pec.Kind, key string) *mail {
	t.Helper()
	var found []*mail
	eventually(t, patience, kind.String()+" about "+key+" in "+local, func() bool {
		found = p.about(t, local, kind, key)
		return len(found) > 0
	})
	if len(found) > 1 {
		t.Fatalf("%d messages %v about %s in %s", len(found), kind, key, local)
	}
	return found[0]
}

// original returns the message that a PEC message includes.
func (m *mail) original(t *testing.T) []byte {
	t.Helper()
	if m.Original == nil {
		t.Fatalf("%s includes no message", m.path)
	}
	return m.bytes(t)[m.Original.Offset:][:m.Original.Length]
}

// part returns the header of the MIME part that holds the included message.
func (m *mail) part(t *testing.T) string {
	t.Helper()
	head := m.bytes(t)[:m.Original.Offset]
	head = bytes.TrimSuffix(head, []byte("\r\n\r\n"))
	return string(head[bytes.LastIndex(head, []byte("\r\n--")):])
}

// noLeftOvers checks that no delivery is half done.
func (p *provider) noLeftOvers(t *testing.T) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(p.dir.Mail(), "*", "*", "tmp", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %q, %v", left, err)
	}
}

// waitMail bounds how long an accepted message may take to its last outcome.
const waitMail = time.Minute
