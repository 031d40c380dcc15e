package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"scripta/mta/pec"
)

// A stranger's mail programs send, and a stranger's tools check what came of it.
func TestWalkthrough(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	if code, out := p.scripta(t, "status"); code != 1 || !strings.Contains(out, "not running") {
		t.Errorf("status of a stopped provider: exit %d, %s", code, out)
	}
	p.start(t)
	if out := p.command(t, "status"); strings.Contains(out, "FAILED") || !strings.Contains(out, testDomain) {
		t.Errorf("status: %s", out)
	}
	t.Run("second serve", func(t *testing.T) {
		code, out := p.scripta(t, "serve")
		who := fmt.Sprintf("another scripta process (PID %d) has %s open", p.daemon.cmd.Process.Pid, p.dir)
		if code != 1 || !strings.Contains(out, who) {
			t.Errorf("exit %d, %s", code, out)
		}
		if code, out := p.scripta(t, "log", "verify"); code != 1 || !strings.Contains(out, "stop it first") {
			t.Errorf("log verify beside the daemon: exit %d, %s", code, out)
		}
	})
	t.Run("curl", p.sendWithCurl)
	t.Run("swaks", p.sendWithSwaks)
	p.idle(t, waitMail)
	t.Run("openssl cms", p.verifyWithOpenSSL)
	t.Run("xmllint", p.validateCertification)
	t.Run("extract while serving", func(t *testing.T) { p.checkEvidence(t, "--mailbox", address("mario")) })
	p.stop(t)
	t.Run("extract when stopped", func(t *testing.T) { p.checkEvidence(t, "--mailbox", address("mario")) })
	t.Run("extract of the recipient", func(t *testing.T) { p.checkEvidence(t, "--mailbox", address("lucia")) })
	t.Run("extract of a message", func(t *testing.T) {
		e := p.checkEvidence(t, "--message-id", "<curl@mario.example>")
		if n := len(e.records); n != recordsOfOne {
			t.Errorf("%d records about one message", n)
		}
	})
	t.Run("extract by filters", func(t *testing.T) {
		e := p.extract(t, "--mailbox", address("lucia"), "--counterpart", address("mario"), "--kind", "delivered", "--message-id", "<curl@mario.example>")
		if n := len(e.records); n != 1 {
			t.Errorf("%d records tell of the delivery", n)
		}
		if code, out := p.scripta(t, "extract", "--kind", "delivered", "--message-id", "x@y", "--out", "none.zip"); code != 2 || !strings.Contains(out, "need --mailbox") {
			t.Errorf("a kind without a mailbox: exit %d, %s", code, out)
		}
	})
	t.Run("reindex", func(t *testing.T) {
		if out := p.command(t, "register", "reindex"); !strings.Contains(out, "the index has all") {
			t.Errorf("reindex: %s", out)
		}
		p.checkEvidence(t, "--mailbox", address("mario"))
	})
	t.Run("extract of no mailbox", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "none.zip")
		if code, text := p.scripta(t, "extract", "--mailbox", address("nessuno"), "--out", out); code != 1 || !strings.Contains(text, "there is no mailbox "+address("nessuno")) {
			t.Errorf("exit %d, %s", code, text)
		}
		if code, text := p.scripta(t, "extract", "--mailbox", "mario@altrove.example", "--out", out); code != 1 || !strings.Contains(text, "they end in @"+testDomain) {
			t.Errorf("exit %d, %s", code, text)
		}
	})
	t.Run("closing", func(t *testing.T) {
		if out := p.command(t, "archive", "list"); !strings.Contains(out, "no package yet") {
			t.Errorf("list before: %s", out)
		}
		out := p.command(t, "archive", "close")
		if n := strings.Count(out, "about messages and mailboxes"); n < 1 || n > 2 { // two at midnight
			t.Errorf("close: %s", out)
		}
		for line := range strings.Lines(p.command(t, "archive", "verify")) {
			if !strings.HasSuffix(line, "  VERIFIED\n") {
				t.Errorf("verify: %s", line)
			}
		}
		if out := p.command(t, "archive", "list"); !strings.Contains(out, " records, 0 to ") {
			t.Errorf("list: %s", out)
		}
	})
	t.Run("extract of nothing", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "none.zip")
		code, text := p.scripta(t, "extract", "--message-id", "nobody@nowhere", "--out", out)
		if _, err := os.Stat(out); code != 1 || !strings.Contains(text, "no event") || !os.IsNotExist(err) {
			t.Errorf("exit %d, %s, file: %v", code, text, err)
		}
	})
	p.verifyLog(t)
	p.noLeftOvers(t)
	if code, _ := p.scripta(t, "status"); code != 1 {
		t.Errorf("status of a stopped provider: exit %d", code)
	}
}

// recordsOfOne is how many records a message to one recipient of ours has:
// submitted, acceptance, envelope, received, take-charge, delivered, delivery
// receipt, and three messages put into mailboxes beside the envelope.
const recordsOfOne = 10

func (p *provider) sendWithCurl(t *testing.T) {
	curl := need(t, "curl")
	l := letter{id: "<curl@mario.example>", from: address("mario"), to: []string{address("lucia")}, subject: "Prova con curl"}
	file := filepath.Join(t.TempDir(), "message.eml")
	if err := os.WriteFile(file, []byte(l.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(p.listen.Submissions, ":")
	out, err := run(t, curl, "--silent", "--show-error", "--url", "smtps://localhost:"+port, "--cacert", p.dir.PublicTLSCA(),
		"--user", l.from+":"+testPassword, "--mail-from", l.from, "--mail-rcpt", l.to[0], "--upload-file", file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.checkOutcome(t, l.id, l.subject)
}

func (p *provider) sendWithSwaks(t *testing.T) {
	swaks := need(t, "swaks")
	_, port, _ := strings.Cut(p.listen.Submission, ":")
	out, err := run(t, swaks, "--server", "localhost", "--port", port, "--tls", "--tls-verify", "--tls-ca-path", p.dir.PublicTLSCA(),
		"--auth", "PLAIN", "--auth-user", address("mario"), "--auth-password", testPassword,
		"--from", address("mario"), "--to", address("lucia"), "--header", "Subject: Prova con swaks", "--header", "Message-Id: <swaks@mario.example>")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(out, "8BITMIME") || strings.Contains(out, "CHUNKING") {
		t.Errorf("EHLO offers what it must not:\n%s", out)
	}
	p.checkOutcome(t, "<swaks@mario.example>", "Prova con swaks")
}

// checkOutcome waits for the four messages that a delivered one gives.
func (p *provider) checkOutcome(t *testing.T, id, subject string) {
	t.Helper()
	for _, want := range []struct {
		local string
		kind  pec.Kind
		title string
	}{
		{"mario", pec.Acceptance, "ACCETTAZIONE: "}, {"lucia", pec.TransportEnvelope, "POSTA CERTIFICATA: "},
		{"mario", pec.Delivery, "CONSEGNA: "}, {"posta-certificata", pec.TakeCharge, "PRESA IN CARICO: "},
	} {
		m := p.one(t, want.local, want.kind, id)
		if m.Subject != want.title+subject {
			t.Errorf("%v: subject %q", want.kind, m.Subject)
		}
		if c := m.Certification; c.Sender != address("mario") || len(c.Recipients) != 1 || c.Recipients[0] != (pec.Recipient{Address: address("lucia"), Certified: true}) {
			t.Errorf("%v certifies %+v", want.kind, c)
		}
		if want.kind == pec.Delivery && m.Original == nil {
			t.Error("the complete delivery receipt lacks the original")
		}
	}
}

// everyMail is all that was delivered to anybody.
func (p *provider) everyMail(t *testing.T) []*mail {
	t.Helper()
	var all []*mail
	for _, local := range []string{"mario", "lucia", "posta-certificata"} {
		all = append(all, p.mailbox(t, local)...)
	}
	if len(all) == 0 {
		t.Fatal("no mail")
	}
	return all
}

func (p *provider) verifyWithOpenSSL(t *testing.T) {
	openssl := need(t, "openssl")
	for _, m := range p.everyMail(t) {
		if out, err := run(t, openssl, "cms", "-verify", "-cades", "-purpose", "smimesign", "-in", m.path, "-CAfile", p.dir.PublicCA(), "-out", os.DevNull); err != nil {
			t.Errorf("%s: %v\n%s", m.path, err, out)
		}
	}
}

// takeCertification prints how many daticert.xml each message of a list has at
// its top level, and writes them into a folder.
const takeCertification = `
import email, email.policy, sys
for n, path in enumerate(sys.argv[2:]):
    m = email.message_from_binary_file(open(path, "rb"), policy=email.policy.SMTP)
    mixed = m.get_payload(0)
    assert m.get_content_type() == "multipart/signed" and mixed.get_content_type() == "multipart/mixed", path
    data = [p for p in mixed.iter_parts() if p.get_filename() == "daticert.xml"]
    assert len(data) == 1, path
    assert not any(p.defects for p in m.walk()), path
    open("%s/%d.xml" % (sys.argv[1], n), "wb").write(data[0].get_payload(decode=True))
`

func (p *provider) validateCertification(t *testing.T) {
	xmllint, python := need(t, "xmllint"), need(t, "python3")
	folder, all := t.TempDir(), p.everyMail(t)
	args := []string{"-c", takeCertification, folder}
	for _, m := range all {
		args = append(args, m.path)
	}
	if out, err := run(t, python, args...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	args = []string{"--noout", "--nonet", "--dtdvalid", filepath.Join("..", "..", "testdata", "daticert.dtd")}
	for n := range all {
		args = append(args, filepath.Join(folder, fmt.Sprintf("%d.xml", n)))
	}
	if out, err := run(t, xmllint, args...); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// checkEvidence makes an evidence file and has every verifier look at it.
func (p *provider) checkEvidence(t *testing.T, query ...string) *evidenceFile {
	t.Helper()
	e := p.extract(t, query...)
	p.verify(t, e.path)
	if code, out := p.scripta(t, append([]string{"extract", "--out", e.path}, query...)...); code != 1 || !strings.Contains(out, "exists") {
		t.Errorf("extract over a file that exists: exit %d, %s", code, out)
	}
	p.checkWithoutUs(t, e)
	// Somebody else's trust must not do.
	other := newProvider(t, nil, nil)
	out, err := run(t, binary, "verify", e.path, "--trust", other.dir.Public())
	if err == nil || !strings.Contains(out, "NOT VERIFIED") || !strings.HasPrefix(out, "likely cause: the file is of the log ") {
		t.Errorf("verified with another provider's keys: %v\n%s", err, out)
	}
	return e
}

// checkWithoutUs follows LEGGIMI.txt: openssl, sha256sum, and the second
// implementation of the format.
func (p *provider) checkWithoutUs(t *testing.T, e *evidenceFile) {
	t.Helper()
	folder := e.unpack(t)
	in := func(program string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), need(t, program), args...)
		cmd.Dir = folder
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
		}
	}
	ca, tsaCA := abs(t, p.dir.PublicCA()), abs(t, p.dir.PublicTSACA())
	in("sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS")
	in("openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", "manifest.json.p7s", "-content", "manifest.json", "-CAfile", ca, "-out", os.DevNull)
	stamped, receipts := 0, 0
	for _, name := range e.names {
		if text, ok := strings.CutSuffix(name, ".tsr"); ok {
			stamped++
			in("openssl", "ts", "-verify", "-data", text+".txt", "-in", name, "-CAfile", tsaCA)
		}
		if strings.HasPrefix(name, "receipts/") {
			receipts++
			in("openssl", "cms", "-verify", "-cades", "-in", name, "-CAfile", ca, "-out", os.DevNull)
		}
	}
	if stamped == 0 || receipts == 0 {
		t.Errorf("%d time stamps and %d receipts in the evidence file", stamped, receipts)
	}
	script := abs(t, filepath.Join("..", "..", "testdata", "verify_evidence.py"))
	if _, err := os.Stat(script); err != nil {
		t.Logf("no second implementation: %v", err)
		return
	}
	in("python3", script, abs(t, e.path), abs(t, p.dir.PublicLogKey()))
}

func abs(t *testing.T, path string) string { return must[string](t)(filepath.Abs(path)) }
