package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"scripta/mta/pec"
)

// secret is a file with a password.
func secret(t *testing.T, password string) (name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(name, []byte(password+"\r\nanother line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// logsIn reports whether the provider takes a password.
func (p *provider) logsIn(t *testing.T, local, password string) bool {
	t.Helper()
	c := must[*client](t)(p.dial())
	defer c.Close()
	err := c.auth(address(local), password)
	if err != nil && !strings.HasPrefix(refusal(err), "535 ") && !strings.HasPrefix(refusal(err), "525 5.7.13 ") {
		t.Fatal(err)
	}
	return err == nil
}

// The life of a mailbox beside a running provider: each change holds at once, and
// each is a record.
func TestAccountsWhileServing(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario"}, nil)
	p.start(t)
	p.command(t, "account", "add", "--mailbox", address("lucia"), "--password-file", secret(t, testPassword))
	write := letter{from: address("mario"), to: []string{address("lucia")}, subject: "Prima"}
	p.send(t, write)
	p.one(t, "lucia", pec.TransportEnvelope, "Prima")

	p.command(t, "account", "password", "--mailbox", "Lucia@"+testDomain, "--password-file", secret(t, "nuova"))
	if p.logsIn(t, "lucia", testPassword) || !p.logsIn(t, "lucia", "nuova") {
		t.Error("the old password is taken, or the new one is not")
	}
	p.command(t, "account", "password", "--mailbox", address("lucia"), "--password-file", secret(t, testPassword))

	// Suspended: not even over a connection that is open; but mail comes in.
	open := must[*client](t)(p.login("lucia"))
	defer open.Close()
	p.command(t, "account", "suspend", "--mailbox", address("lucia"))
	if text := refusal(open.expect(250, "MAIL FROM:<"+address("lucia")+">")); !strings.HasPrefix(text, "525 5.7.13 Casella sospesa") {
		t.Errorf("a suspended account sends: %q", text)
	}
	if p.logsIn(t, "lucia", testPassword) {
		t.Error("a suspended account logs in")
	}
	write.subject = "Sospesa"
	p.send(t, write)
	p.one(t, "lucia", pec.TransportEnvelope, "Sospesa")
	p.one(t, "mario", pec.Delivery, "Sospesa")
	p.command(t, "account", "suspend", "--mailbox", address("lucia"), "--lift")
	if !p.logsIn(t, "lucia", testPassword) {
		t.Error("an account that is not suspended any more does not log in")
	}

	p.command(t, "account", "ordinary", "--mailbox", address("lucia"), "--set", "accept")
	if out := p.command(t, "account", "list"); !strings.Contains(out, "ordinary mail: accept\n") {
		t.Errorf("list:\n%s", out)
	}
	p.command(t, "account", "ordinary", "--mailbox", address("lucia"), "--set", "default")
	p.command(t, "account", "spam", "--mailbox", address("lucia"), "--score", "7")
	if out := p.command(t, "account", "list"); !strings.Contains(out, "spam refused from score: 7\n") {
		t.Errorf("account list: %s", out)
	}
	p.command(t, "account", "spam", "--mailbox", address("lucia"), "--score", "default")

	// Closed: its mail comes back, and what it sent just before is answered.
	p.send(t, letter{from: address("lucia"), to: []string{address("mario")}, subject: "Ultima"})
	p.command(t, "account", "close", "--mailbox", address("lucia"), "--yes")
	p.one(t, "lucia", pec.Delivery, "Ultima")
	write.subject = "Tornata"
	p.send(t, write)
	p.one(t, "mario", pec.NonDelivery, "Tornata")
	if p.logsIn(t, "lucia", testPassword) {
		t.Error("a closed account logs in")
	}
	for _, c := range []struct {
		code int
		args []string
		want string
	}{
		{1, []string{"add", "--mailbox", address("lucia"), "--password-file", secret(t, "x")}, "its address is never given again"},
		{1, []string{"add", "--mailbox", address("mario"), "--password-file", secret(t, "x")}, "account exists"},
		{1, []string{"add", "--mailbox", "mario@altrove.example", "--password-file", secret(t, "x")}, "they end in @" + testDomain},
		{1, []string{"add", "--mailbox", "mario", "--password-file", secret(t, "x")}, "not an address"},
		{1, []string{"add", "--mailbox", address("abuse"), "--password-file", secret(t, "x")}, "reserved"},
		{1, []string{"add", "--mailbox", address("nuovo"), "--password-file", secret(t, "")}, "the password is empty"},
		{1, []string{"add", "--mailbox", address("nuovo"), "--password-file", "absent"}, "no such file"},
		{1, []string{"add", "--mailbox", address("nuovo")}, "there is no terminal"},
		{2, []string{"add"}, "one of --mailbox and --accounts-file"},
		{1, []string{"password", "--mailbox", address("lucia"), "--password-file", secret(t, "x")}, "account closed on "},
		{1, []string{"password", "--mailbox", address("nuovo"), "--password-file", secret(t, "x")}, "no such account"},
		{1, []string{"suspend", "--mailbox", address("lucia")}, "account closed on "},
		{1, []string{"suspend", "--mailbox", address("mario"), "--lift"}, "is not suspended"},
		{1, []string{"suspend", "--mailbox", address("posta-certificata")}, "no such account"},
		{1, []string{"ordinary", "--mailbox", address("lucia"), "--set", "refuse"}, "account closed on "},
		{1, []string{"ordinary", "--mailbox", address("mario"), "--set", "default"}, "says so already"},
		{2, []string{"ordinary", "--mailbox", address("mario"), "--set", "maybe"}, "--set must be"},
		{1, []string{"spam", "--mailbox", address("mario"), "--score", "default"}, "says so already"},
		{2, []string{"spam", "--mailbox", address("mario"), "--score", "7.5"}, "neither a score from 1 to 1000 nor"},
		{1, []string{"close", "--mailbox", address("lucia"), "--yes"}, "account closed on "},
		{2, []string{"close", "--mailbox", address("mario")}, "give --yes"},
		{2, []string{"suspend"}, "--mailbox is missing"},
	} {
		if code, out := p.scripta(t, append([]string{"account"}, c.args...)...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("account %s: exit %d, %s; want %q", strings.Join(c.args, " "), code, out, c.want)
		}
	}
	if out := p.command(t, "account", "list"); !strings.Contains(out, "lucia@"+testDomain+"  closed 20") || !strings.Contains(out, "mario@"+testDomain+"  active ") {
		t.Errorf("list:\n%s", out)
	}
	p.idle(t, waitMail)
	if got := p.accountRecords(t, "mario"); got != "created" {
		t.Errorf("records of an account that init made: %s", got)
	}
	if got := p.accountRecords(t, "lucia"); got != "created, password changed, password changed, suspended, lifted, ordinary mail accepted, ordinary mail by default, spam refused from score 7, spam refused by default, closed" {
		t.Errorf("records: %s", got)
	}
	p.stop(t)
	p.verifyLog(t)
	if got := p.contentsOfLog(t); strings.Contains(got, "nuova") {
		t.Error("the log holds a password")
	}
}

// accountRecords are the outcomes of the records about a mailbox itself.
func (p *provider) accountRecords(t *testing.T, local string) string {
	t.Helper()
	var all []string
	for _, r := range p.extract(t, "--mailbox", address(local)).records {
		switch r.text("kind") {
		case "mailbox-created", "mailbox-suspended", "mailbox-closed", "configuration-changed":
			code, _, _ := strings.Cut(r.text("outcome"), " |")
			all = append(all, code)
		}
	}
	return strings.Join(all, ", ")
}

func (p *provider) contentsOfLog(t *testing.T) string {
	t.Helper()
	return string(must[[]byte](t)(os.ReadFile(p.log)))
}

// The same by a stopped provider, many at once, and with the password from a pipe.
func TestAccountsWhileStopped(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil, nil)
	file := filepath.Join(t.TempDir(), "accounts")
	if err := os.WriteFile(file, []byte("# three\nmario:"+testPassword+"\nlucia:"+testPassword+"\nanna:"+testPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.command(t, "account", "add", "--accounts-file", file, "--quota", "1000000")
	if code, out := p.scripta(t, "account", "add", "--accounts-file", file); code != 1 || !strings.Contains(out, "account exists") {
		t.Errorf("again: exit %d, %s", code, out)
	}
	piped := exec.CommandContext(t.Context(), binary, "account", "password", "--dir", string(p.dir), "--mailbox", address("anna"), "--password-file", "-")
	piped.Stdin = strings.NewReader("dalla pipe")
	if out, err := piped.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.command(t, "account", "suspend", "--mailbox", address("lucia"))
	if out := p.command(t, "account", "list"); !strings.Contains(out, "lucia@"+testDomain+"  suspended  1000000 bytes\n") {
		t.Errorf("list:\n%s", out)
	}
	p.start(t)
	if !p.logsIn(t, "mario", testPassword) || p.logsIn(t, "lucia", testPassword) || !p.logsIn(t, "anna", "dalla pipe") {
		t.Error("who should log in does not, or the other way round")
	}
	if got := p.accountRecords(t, "lucia"); got != "created, suspended" {
		t.Errorf("records: %s", got)
	}
	p.send(t, letter{from: address("mario"), to: []string{address("lucia")}, subject: "Prima"})
	p.one(t, "lucia", pec.TransportEnvelope, "Prima")
}

// What comes after a line is for somebody else, and a line has its bounds.
func TestFirstLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want, rest string }{
		{"segreta\nresto", "segreta", "resto"}, {"segreta\r\nresto", "segreta", "resto"}, {"segreta", "segreta", ""}, {" a b \n", " a b ", ""},
		{"", "", ""}, {"\nx", "", "x"}, {"\r\nx", "", "x"},
	} {
		r := strings.NewReader(c.in)
		got, err := firstLine(r)
		rest := c.in[len(c.in)-r.Len():]
		if got != c.want || rest != c.rest || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v, leaves %q", c.in, got, err, rest)
		}
	}
	if _, err := firstLine(bytes.NewReader(bytes.Repeat([]byte("x"), 2000))); err == nil || !strings.Contains(err.Error(), "longer than 1024") {
		t.Error(err)
	}
}
