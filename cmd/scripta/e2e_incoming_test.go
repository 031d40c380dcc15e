package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"strings"
	"testing"

	"scripta/internal/config"
	"scripta/mta/pec"
)

// dialIncoming connects to the port of other mail servers.
func (p *provider) dialIncoming(secure bool) (*client, error) {
	conn, err := net.DialTimeout("tcp", p.listen.Incoming, patience)
	if err != nil {
		return nil, err
	}
	c := &client{Conn: textproto.NewConn(conn), conn: conn}
	if _, err := c.answer(); err != nil {
		return nil, err
	}
	if err := c.expect(250, "EHLO mx.example"); err != nil {
		return nil, err
	}
	if secure {
		if err := c.expect(220, "STARTTLS"); err != nil {
			return nil, err
		}
		t := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // as mail servers do
		c = &client{Conn: textproto.NewConn(t), conn: t}
		return c, c.expect(250, "EHLO mx.example")
	}
	return c, nil
}

// anomaly waits for the anomaly envelope of a message with this subject.
func (p *provider) anomaly(t *testing.T, local, subject string) (found *mail) {
	t.Helper()
	eventually(t, patience, "the anomaly envelope of "+subject, func() bool {
		for _, m := range p.mailbox(t, local) {
			if m.Kind == pec.AnomalyEnvelope && strings.HasSuffix(m.Subject, ": "+subject) {
				found = m
			}
		}
		return found != nil
	})
	return found
}

// The port of other mail servers, as anybody on the Internet meets it.
func TestIncomingPoint(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	p.configure(t, func(c *config.Config) { c.Incoming.Authenticate = false })
	p.start(t)
	p.command(t, "account", "ordinary", "--mailbox", address("lucia"), "--set", "accept")
	plain := func(subject string) string {
		return fmt.Sprintf("Message-ID: <%s@x.example>\r\nFrom: x@x.example\r\nTo: %s\r\nSubject: %[1]s\r\n\r\nperch\xc3\xa9\r\n", subject, address("lucia"))
	}
	for _, secure := range []bool{false, true} {
		c := must[*client](t)(p.dialIncoming(secure))
		defer c.Close()
		for _, x := range []struct{ from, to, want string }{
			{"x@x.example", "x@y.example", "550 5.7.1"},                // no relay
			{"x@x.example", address("nessuno"), "550 5.1.1"},           //
			{"x@x.example", address("mario"), "550 5.7.1"},             // takes certified mail only
			{"x@x.example", address("posta-certificata"), "550 5.7.1"}, //
			{address("mario"), "", "550 5.7.1"},                        // a sender of ours
			{"", address("nessuno"), "550 5.1.1"},
			{"", address("mario"), "250"}, // a bounce may be of our own
		} {
			text, err := c.command("MAIL FROM:<" + x.from + ">")
			if x.to != "" && err == nil {
				text, err = c.command("RCPT TO:<" + x.to + ">")
			}
			if err != nil {
				text = refusal(err)
			}
			if !strings.HasPrefix(text, x.want) {
				t.Errorf("from %q to %q (TLS %v): %s, want %s", x.from, x.to, secure, text, x.want)
			}
			if err := c.expect(250, "RSET"); err != nil {
				t.Fatal(err)
			}
		}
		if text := refusal(c.submit("", []string{address("mario")}, plain("rimbalzo"))); !strings.HasPrefix(text, "554 5.7.1") {
			t.Errorf("a bounce of nothing of ours: %q", text)
		}
		if text, _ := c.command("AUTH PLAIN AGEAYg=="); strings.HasPrefix(text, "235") || strings.HasPrefix(text, "334") {
			t.Errorf("AUTH: %q", text)
		}
		subject := fmt.Sprintf("ordinaria-%v", secure)
		if err := c.submit("x@x.example", []string{address("lucia")}, plain(subject)); err != nil {
			t.Fatal(err)
		}
		m := p.anomaly(t, "lucia", subject)
		raw := string(must[[]byte](t)(os.ReadFile(m.path)))
		if !strings.HasPrefix(raw, "Return-Path: <x@x.example>\r\n") || !strings.Contains(raw, plain(subject)) || strings.Contains(raw, "daticert") {
			t.Errorf("the anomaly envelope:\n%.2000s", raw)
		}
		for _, end := range []string{"\n.\n", "\n.\r\n", "\r.\r", "\r\n\x00.\r\n"} {
			c := must[*client](t)(p.dialIncoming(secure))
			text := refusal(c.submit("x@x.example", []string{address("lucia")}, plain("contrabbando")+end+"MAIL FROM:<x@x.example>\r\nRCPT TO:<"+address("lucia")+">\r\nDATA\r\n"+plain("due")))
			if !strings.HasPrefix(text, "550 5.6.11") {
				t.Errorf("%q inside a message: %q", end, text)
			}
			_ = c.Close()
		}
	}
	p.idle(t, waitMail)
	p.stop(t)
	for _, m := range p.mailbox(t, "lucia") {
		if strings.Contains(m.Subject, "contrabbando") || strings.Contains(m.Subject, "due") {
			t.Errorf("smuggled: %s", m.Subject)
		}
	}
	p.verifyLog(t)
	p.audited(t)
	if code, out := p.scripta(t, "audit", "--settled"); code != 0 {
		t.Errorf("audit: %s", out)
	}
}
