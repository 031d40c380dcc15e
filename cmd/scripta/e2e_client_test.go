package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"
)

// patience bounds each step of a dialog.
const patience = 30 * time.Second

// client is one SMTP connection over TLS.
type client struct {
	*textproto.Conn
	conn net.Conn
	user string // address it is authenticated as
}

// dial connects to the submission port and greets.
func (p *provider) dial() (*client, error) {
	pem, err := os.ReadFile(p.dir.PublicTLSCA())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: &tls.Config{RootCAs: roots, ServerName: "localhost"}}
	conn, err := dialer.Dial("tcp", p.listen.Submissions)
	if err != nil {
		return nil, err
	}
	c := &client{Conn: textproto.NewConn(conn), conn: conn}
	if _, err := c.answer(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := c.expect(250, "EHLO client.example"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// login connects and authenticates as an account of the provider.
func (p *provider) login(local string) (*client, error) {
	c, err := p.dial()
	if err != nil {
		return nil, err
	}
	c.user = p.address(local)
	if err := c.auth(c.user, testPassword); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// must is for what cannot fail in a test.
func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// answer reads one whole answer. One that is not 2xx or 3xx is a
// *textproto.Error.
func (c *client) answer() (string, error) {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	code, text, err := c.ReadResponse(0)
	if err == nil && code >= 400 {
		err = &textproto.Error{Code: code, Msg: text}
	}
	return fmt.Sprintf("%d %s", code, text), err
}

// command says a line and reads the answer.
func (c *client) command(line string) (string, error) {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		return "", err
	}
	return c.answer()
}

func (c *client) expect(code int, line string) error {
	text, err := c.command(line)
	if err == nil && !strings.HasPrefix(text, fmt.Sprint(code)) {
		err = fmt.Errorf("%s: answered %s", line, text)
	}
	return err
}

func (c *client) auth(user, password string) error {
	return c.expect(235, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
}

// submit hands in a message. It returns nil after 250, the answer that refused
// it, or why the connection failed.
func (c *client) submit(from string, to []string, message string) error {
	if err := c.expect(250, "MAIL FROM:<"+from+">"); err != nil {
		return err
	}
	for _, r := range to {
		if err := c.expect(250, "RCPT TO:<"+r+">"); err != nil {
			return err
		}
	}
	if err := c.expect(354, "DATA"); err != nil {
		return err
	}
	return c.data(message)
}

// data sends a message whose lines do not begin with a dot, as it is.
func (c *client) data(message string) error {
	_ = c.conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.WriteString(c.conn, message+".\r\n"); err != nil {
		return err
	}
	_, err := c.answer()
	return err
}

// refusal is the answer in an error, or "".
func refusal(err error) string {
	var e *textproto.Error
	if errors.As(err, &e) {
		return fmt.Sprintf("%d %s", e.Code, e.Msg)
	}
	return ""
}

// letter is what an author writes.
type letter struct {
	id      string // Message-ID, "" for none
	from    string
	to, cc  []string
	subject string
	more    string // further fields, each with its CRLF
	body    string // with CRLF at its end

	infected bool // the test virus is in it
}

// String is the message, with CRLF line ends.
func (l letter) String() string {
	var b strings.Builder
	field := func(name, value string) {
		if value != "" {
			b.WriteString(name + ": " + value + "\r\n")
		}
	}
	field("From", l.from)
	field("To", strings.Join(l.to, ",\r\n "))
	field("Cc", strings.Join(l.cc, ",\r\n "))
	field("Subject", l.subject)
	field("Message-ID", l.id)
	field("Date", "Mon, 23 Nov 2026 09:30:00 +0100")
	b.WriteString(l.more)
	if l.body == "" {
		l.body = "Ciao.\r\n"
	}
	return b.String() + "\r\n" + l.body
}

// recipients are all addresses in To and Cc.
func (l letter) recipients() []string { return append(append([]string(nil), l.to...), l.cc...) }

// send hands a letter in, over a connection of its own.
func (p *provider) send(t *testing.T, l letter) {
	t.Helper()
	local, _, _ := strings.Cut(l.from, "@")
	c := must[*client](t)(p.login(local))
	defer c.Close()
	if err := c.submit(l.from, l.recipients(), l.String()); err != nil {
		t.Fatalf("%s: %v", l.subject, err)
	}
}
