package main

import (
	"io"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/mta/pec"
	"scripta/mta/scan/clamdtest"
	"scripta/mta/scan/rspamdtest"
)

// An infected submission reaches nobody; its author is told, and the operator
// finds it in quarantine, while the daemon runs, when it is stopped, and in a
// backup that was brought back. Without the engine nothing is taken.
func TestInfectedMessageIsKept(t *testing.T) {
	t.Parallel()
	engine := clamdtest.Start(t)
	p := newProvider(t, []string{"anna", "bruno"}, func(c *config.Config) { c.Scan.Clamd = engine.Address })
	keys := filepath.Join(t.TempDir(), "keys")
	p.start(t)
	p.command(t, "keys", "backup", "--to", keys)
	c := must[*client](t)(p.login("anna"))
	defer c.Close()
	message := "Message-ID: <infetto@client.example>\r\nFrom: " + address("anna") + "\r\nTo: " + address("bruno") + "\r\nSubject: allegato\r\n\r\n" + clamdtest.EICAR() + "\r\n"
	send := func() error { return c.submit(address("anna"), []string{address("bruno")}, message) }
	if err := send(); err != nil {
		t.Fatal(err)
	}
	p.idle(t, time.Minute)

	inbox := func(local string) (all []string) {
		files, err := filepath.Glob(filepath.Join(p.dir.Mail(), testDomain, local, "new", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			all = append(all, string(mustRead(t, f)))
		}
		return all
	}
	if got := inbox("bruno"); len(got) != 0 {
		t.Errorf("the recipient got %q", got)
	}
	if got := inbox("anna"); len(got) != 1 || !strings.Contains(got[0], "AVVISO DI NON ACCETTAZIONE PER VIRUS: allegato") ||
		!strings.Contains(got[0], "X-VerificaSicurezza: errore") || strings.Contains(got[0], "STANDARD-ANTIVIRUS") {
		t.Errorf("the author got %q", got)
	}

	engine.Down()
	if err := send(); !strings.HasPrefix(refusal(err), "451 ") {
		t.Errorf("without the engine the message got %v", err)
	}
	if code, out := p.scripta(t, "status"); code != 1 || !strings.Contains(out, "FAILED virus scan") {
		t.Errorf("without the engine, status says\n%s", out)
	}
	engine.Up()
	if err := send(); err != nil {
		t.Errorf("with the engine back the message got %v", err)
	}
	p.idle(t, time.Minute)

	check := func(p *provider, copies int) {
		t.Helper()
		listed := p.command(t, "quarantine", "list")
		if strings.Count(listed, "\n") != copies || strings.Count(listed, clamdtest.Virus) != copies || strings.Contains(listed, "@") {
			t.Errorf("quarantine list:\n%s", listed)
			return
		}
		out := filepath.Join(t.TempDir(), "infected.eml")
		p.command(t, "quarantine", "export", "--transaction", strings.Fields(listed)[0], "--reason", "prova", "--out", out)
		if b, err := os.ReadFile(out); err != nil || string(b) != message {
			t.Errorf("exported %q, %v", b, err)
		}
	}
	check(p, 2)
	if code, out := p.scripta(t, "quarantine", "export", "--transaction", strings.Repeat("0", 32), "--reason", "prova", "--out", filepath.Join(t.TempDir(), "x")); code != 1 ||
		!strings.Contains(out, "is in quarantine; scripta quarantine list") {
		t.Errorf("what is not there: exit %d\n%s", code, out)
	}
	made := strings.TrimSuffix(strings.TrimSpace(p.command(t, "backup", "--to", filepath.Join(t.TempDir(), "backups"))), ": a whole backup, checked")
	p.stop(t)
	check(p, 2)
	e := p.extract(t, "--message-id", "infetto@client.example")
	kinds := map[string]int{}
	for _, r := range e.records {
		kinds[r.text("kind")]++
	}
	if kinds["virus-found"] != 2 || kinds["quarantined"] != 2 || kinds["non-acceptance-issued"] != 2 || kinds["record-disclosed"] != 2 || kinds["enveloped"] != 0 {
		t.Errorf("the register tells of %v", kinds)
	}
	p.verifyLog(t)
	if out := p.command(t, "log", "verify"); !strings.Contains(out, "2 in quarantine") {
		t.Errorf("log verify: %s", out)
	}

	r, _ := p.bringBack(t, made, keys, "--nothing-newer")
	check(r, 2)
}

// ordinarily sends a message as the mail server of nobody in particular does.
func (p *provider) ordinarily(to, message string) error {
	c, err := smtp.Dial(p.listen.Incoming)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Mail("x@ordinary.example"); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, message); err != nil {
		return err
	}
	return w.Close()
}

// Ordinary mail with a virus is refused, and with a score the mailbox does not
// want; the rest comes with its score.
func TestOrdinaryMailIsLookedInto(t *testing.T) {
	t.Parallel()
	engine, rspamd := clamdtest.Start(t), rspamdtest.Start(t)
	p := newProvider(t, []string{"anna", "bruno"}, func(c *config.Config) {
		c.Scan.Clamd, c.Scan.Rspamd = engine.Address, rspamd
		c.Incoming.Ordinary, c.Incoming.Authenticate = config.OrdinaryAccept, false
	})
	p.start(t)
	p.command(t, "account", "spam", "--mailbox", address("bruno"), "--score", "never")
	message := func(body string) string {
		return "From: x@ordinary.example\r\nTo: " + address("anna") + "\r\nSubject: ciao\r\nMessage-ID: <" + strings.Repeat("x", len(body)) + "@ordinary.example>\r\n\r\n" + body + "\r\n"
	}
	for _, x := range []struct{ to, body, want string }{
		{"anna", clamdtest.EICAR(), "554 "}, {"bruno", clamdtest.EICAR(), "554 "}, {"anna", rspamdtest.GTUBE(), "554 "},
		{"anna", "Ci vediamo domani.", ""}, {"bruno", rspamdtest.GTUBE(), ""},
	} {
		if err := p.ordinarily(address(x.to), message(x.body)); err != nil != (x.want != "") || !strings.HasPrefix(refusal(err), x.want) {
			t.Errorf("to %s: %v, want %s", x.to, err, x.want)
		}
	}
	p.idle(t, time.Minute)
	for local, flag := range map[string]string{"anna": "NO", "bruno": "YES"} {
		files, err := filepath.Glob(filepath.Join(p.dir.Mail(), testDomain, local, "new", "*"))
		if err != nil || len(files) != 1 {
			t.Errorf("%s has %q, %v", local, files, err)
			continue
		}
		if got := string(mustRead(t, files[0])); !strings.Contains(got, "ANOMALIA MESSAGGIO: ciao") || !strings.Contains(got, "\r\nX-Spam-Flag: "+flag+"\r\n") {
			t.Errorf("%s has %q", local, got)
		}
	}
	if out := p.command(t, "quarantine", "list"); out != "" {
		t.Errorf("in quarantine: %s", out)
	}
	if out := p.command(t, "status"); !strings.Contains(out, "3 ordinary messages scored, 0 not") {
		t.Errorf("status: %s", out)
	}
	p.stop(t)
	p.verifyLog(t)
}

// A large message is streamed to the scanner, which finds what stands at its end;
// neither the scan nor the quarantine costs its size in memory.
func TestLargeMessageIsScanned(t *testing.T) {
	t.Parallel()
	engine := clamdtest.Start(t)
	p := newProvider(t, []string{"mario", "lucia"}, func(c *config.Config) {
		c.Scan.Clamd = engine.Address
		c.Mail.MaxMessageBytes, c.Mail.MaxBytesTimesRecipients = 120<<20, 120<<20
	})
	p.start(t)
	lines := strings.Repeat(strings.Repeat("0123456789abcdef", 4)+"\r\n", size(30, 100, 100)<<20/66)
	c := must[*client](t)(p.login("mario"))
	defer c.Close()
	for id, end := range map[string]string{"<pulita@client.example>": "fine", "<infetta@client.example>": clamdtest.EICAR()} {
		l := letter{id: id, from: address("mario"), to: toLucia, subject: "Grande", body: lines + end + "\r\n"}
		if err := c.submit(l.from, l.recipients(), l.String()); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	p.idle(t, 5*time.Minute)
	peak := p.peakMemory(t)
	t.Logf("two messages of %d MiB: at most %d MiB in memory", len(lines)>>20, peak>>20)
	if !raceEnabled && peak > mostMemory {
		t.Errorf("the daemon had %d MiB in memory", peak>>20)
	}
	if listed := p.command(t, "quarantine", "list"); strings.Count(listed, "\n") != 1 || !strings.Contains(listed, clamdtest.Virus) {
		t.Errorf("quarantine list:\n%s", listed)
	}
	p.one(t, "lucia", pec.TransportEnvelope, "<pulita@client.example>")
}
