package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"scripta/internal/config"
)

// sendAll hands in n messages and waits until they are through.
func (p *provider) sendAll(t *testing.T, label string, n int) {
	t.Helper()
	c := must[*client](t)(p.login("anna"))
	defer c.Close()
	for i := range n {
		text := fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: %s %d\r\nMessage-ID: <%s-%d@client.example>\r\n\r\nciao\r\n",
			address("anna"), address("bruno"), label, i, label, i)
		if err := c.submit(address("anna"), []string{address("bruno")}, text); err != nil {
			t.Fatal(err)
		}
	}
	p.idle(t, patience)
}

// replaceFolder makes a folder a copy of another.
func replaceFolder(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// A database that comes back from an old copy is refused; when the records are
// given up, a new log goes on, the old one stays provable, and every extract
// says what is missing.
func TestAcceptRollback(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"anna", "bruno"}, nil)
	p.start(t)
	p.sendAll(t, "first", 3)
	p.stop(t)
	p.command(t, "archive", "close")
	db, copied := filepath.Join(p.dir.Log(), "db"), filepath.Join(t.TempDir(), "db")
	replaceFolder(t, db, copied)
	p.start(t)
	p.sendAll(t, "lost", 3)
	p.stop(t)
	replaceFolder(t, copied, db)

	if code, out := p.scripta(t, "log", "verify"); code != 1 || !strings.Contains(out, "scripta log accept-rollback") {
		t.Fatalf("a database that is behind: exit %d\n%s", code, out)
	}
	if code, out := p.scripta(t, "log", "accept-rollback"); code != 1 || !strings.Contains(out, "nothing was changed") {
		t.Fatalf("not confirmed: exit %d\n%s", code, out)
	}
	out := p.command(t, "log", "accept-rollback", "--yes-records-are-lost")
	if !regexp.MustCompile(`lost +[1-9]`).MatchString(out) {
		t.Errorf("it does not say how many records are lost:\n%s", out)
	}
	if code, out := p.scripta(t, "log", "accept-rollback", "--yes-records-are-lost"); code != 1 || !strings.Contains(out, "no rollback to accept") {
		t.Errorf("again: exit %d\n%s", code, out)
	}
	p.configure(t, func(*config.Config) {})
	p.start(t)
	p.sendAll(t, "second", 2)
	e := p.extract(t, "--mailbox", address("bruno"))
	p.verifyRollback(t, e)
	old := strings.Fields(string(must[[]byte](t)(os.ReadFile(p.dir.PublicLogKey()))))
	if len(old) != 2 {
		t.Fatalf("%d keys are public", len(old))
	}
	origin, _, _ := strings.Cut(old[0], "+")
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, Timeout: patience}
	for _, name := range []string{"/checkpoint", "/known-checkpoint", "/tile/entries/000.p/1"} {
		resp := must[*http.Response](t)(h.Get("https://" + p.listen.HTTPS + strings.TrimPrefix(origin, testDomain) + name))
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s of the frozen log: %s", name, resp.Status)
		}
	}
	p.stop(t)
	if out := p.command(t, "log", "verify"); !strings.Contains(out, "ok: ") {
		t.Errorf("log verify: %s", out)
	}
	p.command(t, "archive", "close")
	if out := p.command(t, "archive", "verify"); strings.Count(out, "VERIFIED") != 2 || strings.Contains(out, "NOT") {
		t.Errorf("archive verify: %s", out)
	}
}

// verifyRollback checks an evidence file of a provider that lost records.
func (p *provider) verifyRollback(t *testing.T, e *evidenceFile) {
	t.Helper()
	var inner []byte
	for _, n := range e.names {
		if strings.HasPrefix(n, "previous/") {
			inner = e.files[n]
		}
	}
	if inner == nil {
		t.Fatalf("no evidence of the frozen log in %v", e.names)
	}
	for _, want := range []string{"LACUNA: tra la dimensione", "GAP: between size"} {
		if !bytes.Contains(e.files["LEGGIMI.txt"], []byte(want)) {
			t.Errorf("LEGGIMI.txt does not say %q", want)
		}
	}
	out, err := run(t, binary, "verify", e.path, "--trust", p.dir.Public())
	if err != nil || !strings.HasSuffix(out, "VERIFIED\n") || !strings.Contains(out, "GAP: between size") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	script := must[string](t)(filepath.Abs("../../testdata/verify_evidence.py"))
	if out, err := run(t, need(t, "python3"), script, e.path, p.dir.PublicLogKey()); err != nil || !strings.Contains(out, "GAP: between size") {
		t.Errorf("verify_evidence.py: %v\n%s", err, out)
	}
	name := filepath.Join(t.TempDir(), "inner.zip")
	if err := os.WriteFile(name, inner, 0o600); err != nil {
		t.Fatal(err)
	}
	old := readEvidence(t, name)
	if !strings.Contains(fmt.Sprint(subjects(old)), "first") || strings.Contains(fmt.Sprint(subjects(old)), "second") || !strings.Contains(fmt.Sprint(subjects(e)), "second") {
		t.Errorf("the frozen log has %q, the new one %q", subjects(old), subjects(e))
	}
	p.verify(t, name)
}

func subjects(e *evidenceFile) (all []string) {
	for _, r := range e.records {
		all = append(all, r.text("subject"))
	}
	return all
}
