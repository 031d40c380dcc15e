package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/mta/pec"
)

// What clients must not do, and what authors get wrong: each has its answer, and
// leaves the log consistent and the provider healthy.
func TestBadInput(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia", "piena"}, func(c *config.Config) {
		c.Mail.MaxMessageBytes = 1 << 20
		c.Mail.MaxBytesTimesRecipients = 2 << 20
	})
	p.setQuota(t, "piena", 4000)
	p.start(t)
	healthy := func(t *testing.T) {
		t.Helper()
		if code, out := p.scripta(t, "status"); code != 0 {
			t.Errorf("status: exit %d\n%s", code, out)
		}
	}
	for _, tc := range refusedDialogs {
		t.Run(tc.name, func(t *testing.T) {
			p.refuses(t, tc.steps)
			healthy(t)
		})
	}
	t.Run("BDAT cut short", func(t *testing.T) { p.cutShort(t, "BDAT 1000 LAST\r\n"+wholeMessage, ""); healthy(t) })
	t.Run("DATA cut short", func(t *testing.T) { p.cutShort(t, "DATA\r\n", wholeMessage); healthy(t) })
	t.Run("before STARTTLS", p.refusesInClear)
	for _, tc := range oddLetters {
		t.Run(tc.name, func(t *testing.T) {
			p.takes(t, tc)
			healthy(t)
		})
	}
	p.idle(t, waitMail)
	p.stop(t)
	p.verifyLog(t)
	p.noLeftOvers(t)
	// Nothing of what was refused is in the register, nor anywhere else.
	submitted := 0
	for _, local := range []string{"mario", "piena"} {
		for _, r := range p.extract(t, "--mailbox", address(local)).records {
			if r.text("kind") == "submitted" && r.text("sender") == address(local) {
				submitted++
			}
		}
	}
	if submitted != len(oddLetters) {
		t.Errorf("%d messages were submitted, want %d", submitted, len(oddLetters))
	}
	if kept := p.contents(t); len(kept) != len(oddLetters) {
		t.Errorf("%d contents are kept, want %d", len(kept), len(oddLetters))
	}
}

// setQuota gives a mailbox another quota, as an administrator does in the
// accounts file.
func (p *provider) setQuota(t *testing.T, local string, bytesLeft int64) {
	t.Helper()
	text, err := os.ReadFile(p.dir.Accounts())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	for i, line := range lines {
		if rest, ok := strings.CutPrefix(line, p.address(local)+":"); ok {
			head, _, _ := strings.Cut(rest, "*:bytes=")
			lines[i] = fmt.Sprintf("%s:%s*:bytes=%d\n", p.address(local), head, bytesLeft)
		}
	}
	if err := os.WriteFile(p.dir.Accounts(), []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// step is what a client says and how the answer must begin.
type step struct{ say, want string }

// plain is an AUTH PLAIN command.
func plain(identity, user, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte(identity+"\x00"+user+"\x00"+password)) + "\r\n"
}

var (
	auth     = step{plain("", "mario@"+testDomain, testPassword), "235"}
	from     = step{"MAIL FROM:<mario@" + testDomain + ">\r\n", "250"}
	to       = step{"RCPT TO:<lucia@" + testDomain + ">\r\n", "250"}
	data     = step{"DATA\r\n", "354"}
	wrongOne = step{plain("", "mario@"+testDomain, "sbagliata"), "535 5.7.8"}
	goesOn   = step{"NOOP\r\n", "250"}
)

const wholeMessage = "From: mario@" + testDomain + "\r\nTo: lucia@" + testDomain + "\r\nSubject: intera\r\n\r\nUna riga.\r\n"

// message is a message up to the end of its data.
func message(header, body string) string {
	return "From: mario@" + testDomain + "\r\nTo: lucia@" + testDomain + "\r\n" + header + "\r\n" + body + "\r\n.\r\n"
}

// refusedDialogs end in a refusal.
var refusedDialogs = []struct {
	name  string
	steps []step
}{
	{"wrong password", []step{wrongOne, {from.say, "530"}}},
	{"unknown account", []step{{plain("", "nessuno@"+testDomain, testPassword), "535 5.7.8"}}},
	{"account of the provider itself", []step{{plain("", "posta-certificata@"+testDomain, ""), "535 5.7.8"}}},
	{"as somebody else", []step{{plain("lucia@"+testDomain, "mario@"+testDomain, testPassword), "535 5.7.8"}}},
	{"guessing", []step{wrongOne, wrongOne, wrongOne, {auth.say, "421"}}},
	{"no AUTH", []step{{from.say, "530 5.7.0"}}},
	{"another's sender", []step{auth, {"MAIL FROM:<lucia@" + testDomain + ">\r\n", "553 5.7.1"}}},
	{"empty reverse path", []step{auth, {"MAIL FROM:<>\r\n", "553 5.7.1"}}},
	{"recipient elsewhere", []step{auth, from, {"RCPT TO:<luigi@altrove.example>\r\n", "550 5.7.1"}}},
	{"recipient with a quoted local part", []step{auth, from, {"RCPT TO:<\"a b\"@" + testDomain + ">\r\n", "553 5.1.3"}}},
	{"no recipient", []step{auth, from, {"DATA\r\n", "5"}}},
	{"announced too large", []step{auth, {"MAIL FROM:<mario@" + testDomain + "> SIZE=1048577\r\n", "552"}}},
	{"too large", []step{auth, from, to, data, {message("", strings.Repeat(strings.Repeat("x", 98)+"\r\n", 12000)), "552 5.3.4"}, goesOn}},
	{"header too large", []step{auth, from, to, data, {message(strings.Repeat("X-Lungo: "+strings.Repeat("y", 900)+"\r\n", 200), ""), "552 5.3.4"}, goesOn}},
	{"no message", []step{auth, from, to, data, {".\r\n", "550 5.6.0"}, goesOn}},
	{"no header", []step{auth, from, to, data, {"\r\nSolo testo.\r\n.\r\n", "550 5.6.0"}, goesOn}},
	{"bare LF", []step{auth, from, to, data, {message("", "una\nriga"), "550 5.6.11"}, goesOn}},
	{"bare LF in the header", []step{auth, from, to, data, {message("Subject: uno\nBcc: due@"+testDomain+"\r\n", "Una riga."), "550 5.6.11"}, goesOn}},
	{"bare CR", []step{auth, from, to, data, {message("", "una\rriga"), "550 5.6.11"}, goesOn}},
	{"NUL", []step{auth, from, to, data, {message("", "una\x00riga"), "550 5.6.11"}, goesOn}},
	{"smuggled second message", []step{auth, from, to, data, {message("", "uno\r\n.\n"+from.say+to.say+data.say+wholeMessage), "550 5.6.11"}, goesOn}},
	{"bare LF by BDAT", []step{auth, from, to, {"BDAT 22 LAST\r\nSubject: x\r\n\r\nuna\nriga", "550 5.6.11"}}},
}

// refuses runs a dialog. Its last answers are refusals.
func (p *provider) refuses(t *testing.T, steps []step) {
	t.Helper()
	c := must[*client](t)(p.dial())
	defer c.Close()
	for _, s := range steps {
		_ = c.conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c.conn, s.say); err != nil {
			t.Fatalf("%.60q: %v", s.say, err)
		}
		text, err := c.answer()
		if e := refusal(err); err != nil && e == "" {
			t.Fatalf("%.60q: %v", s.say, err)
		}
		if text = strings.ReplaceAll(text, `"`, ""); !strings.HasPrefix(text, s.want) {
			t.Errorf("%.60q is answered %q, want %s", s.say, text, s.want)
		}
	}
}

// cutShort sends a message and hangs up before its end.
func (p *provider) cutShort(t *testing.T, command, octets string) {
	t.Helper()
	c := must[*client](t)(p.login("mario"))
	for _, s := range []step{from, to} {
		if err := c.expect(250, strings.TrimSuffix(s.say, "\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(c.conn, command); err != nil {
		t.Fatal(err)
	}
	if octets != "" {
		if _, err := c.answer(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c.conn, octets); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	if rest, err := io.ReadAll(c.conn); err != nil || bytes.HasPrefix(rest, []byte("250")) {
		t.Errorf("a message cut short is answered %q, %v", rest, err)
	}
	_ = c.Close()
}

// refusesInClear checks that nothing but STARTTLS is possible without TLS.
func (p *provider) refusesInClear(t *testing.T) {
	conn, err := net.DialTimeout("tcp", p.listen.Submission, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := &client{Conn: textproto.NewConn(conn), conn: conn}
	if _, err := c.answer(); err != nil {
		t.Fatal(err)
	}
	if text, err := c.command("EHLO client.example"); err != nil || !strings.Contains(text, "STARTTLS") || strings.Contains(text, "AUTH") {
		t.Errorf("EHLO in clear: %q, %v", text, err)
	}
	for _, s := range []step{auth, from} {
		if text, _ := c.command(strings.TrimSuffix(s.say, "\r\n")); !strings.HasPrefix(text, "530") {
			t.Errorf("%.20q in clear is answered %q", s.say, text)
		}
	}
}

// oddLetter is a message that is answered 250, and what must come of it.
type oddLetter struct {
	name   string
	letter letter
	rcpt   []string // if not those in To and Cc
	reason string   // of a non-acceptance; "": it is accepted
	want   []arrival
}

// arrival is a message of a kind in a mailbox; check looks at it.
type arrival struct {
	local string
	kind  pec.Kind
	check func(t *testing.T, p *provider, sent string, m *mail)
}

// takes hands an odd letter in and checks what comes of it, and that nothing else
// does.
func (p *provider) takes(t *testing.T, odd oddLetter) {
	t.Helper()
	l := odd.letter
	if l.from == "" {
		l.from = address("mario")
	}
	if l.subject == "" {
		l.subject = odd.name
	}
	sent, rcpt := l.String(), odd.rcpt
	if rcpt == nil {
		rcpt = l.recipients()
	}
	reversePath := l.from
	if strings.Contains(odd.reason, "campo From") {
		reversePath = address("mario")
	}
	local, _, _ := strings.Cut(reversePath, "@")
	c := must[*client](t)(p.login(local))
	defer c.Close()
	if err := c.submit(reversePath, rcpt, strings.ReplaceAll(sent, "\r\n.", "\r\n..")); err != nil {
		t.Fatal(err)
	}
	want := odd.want
	if odd.reason != "" {
		want = []arrival{{"mario", pec.NonAcceptance, nil}}
	}
	for _, w := range want {
		m := p.one(t, w.local, w.kind, l.subject)
		if odd.reason != "" && !strings.Contains(m.Certification.Detail, odd.reason) {
			t.Errorf("reason %q, want %q", m.Certification.Detail, odd.reason)
		}
		if w.check != nil {
			w.check(t, p, sent, m)
		}
	}
	p.idle(t, waitMail)
	n := 0
	for _, box := range []string{"mario", "lucia", "piena", "posta-certificata"} {
		for _, m := range p.mailbox(t, box) {
			if m.Certification.Subject == l.subject && m.Kind != pec.TakeCharge {
				n++
			}
		}
	}
	if n != len(want) {
		t.Errorf("%d messages came of it, want %d", n, len(want))
	}
}

// contents are the names of the submitted messages that are kept.
func (p *provider) contents(t *testing.T) []string {
	t.Helper()
	return must[[]string](t)(filepath.Glob(filepath.Join(p.dir.Receipts(), "contents", "*", "*")))
}
