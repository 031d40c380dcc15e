package bench

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"time"
)

// client is a mail client with one connection, kept open. It
// waits for each answer, as clients do that do not pipeline.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	from string
}

// clientTimeout bounds each message's dialog.
const clientTimeout = 2 * time.Minute

// dialPlain connects to a server that wants neither TLS nor a password.
func dialPlain(server, from string) (*client, error) {
	conn, err := net.DialTimeout("tcp", server, 10*time.Second)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, 4096), from: from}
	if _, err = c.answer("220"); err == nil {
		err = c.command("250", "EHLO client.bench.example")
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// dial connects to the provider and logs in.
func dial(p *provider, user string) (*client, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", p.address, p.tls)
	if err != nil {
		return nil, fmt.Errorf("couldn't connect to the provider: %w", err)
	}
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, 4096), from: user}
	auth := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	_, err = c.answer("220")
	if err == nil {
		err = c.command("250", "EHLO client.bench.example")
	}
	if err == nil {
		err = c.command("235", "AUTH PLAIN "+auth)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("couldn't log in as %s: %w", user, err)
	}
	return c, nil
}

// send hands in a message, given with CRLF line ends and dots stuffed, and
// returns when it was answered 250.
func (c *client) send(to string, message []byte) (time.Time, error) {
	if err := c.conn.SetDeadline(time.Now().Add(clientTimeout)); err != nil {
		return time.Time{}, err
	}
	for _, step := range []struct{ want, command string }{
		{"250", "MAIL FROM:<" + c.from + ">"}, {"250", "RCPT TO:<" + to + ">"}, {"354", "DATA"},
	} {
		if err := c.command(step.want, step.command); err != nil {
			return time.Time{}, err
		}
	}
	if _, err := c.conn.Write(message); err != nil {
		return time.Time{}, err
	}
	_, err := c.answer("250")
	return time.Now(), err
}

func (c *client) command(want, line string) error {
	if _, err := c.conn.Write([]byte(line + "\r\n")); err != nil {
		return err
	}
	_, err := c.answer(want)
	return err
}

// answer reads an answer, of one line or several (RFC 5321 §4.2.1).
func (c *client) answer(want string) (string, error) {
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(line, want) {
			return "", fmt.Errorf("the provider answered %q, not %s", strings.TrimSpace(line), want)
		}
		if len(line) < 4 || line[3] != '-' {
			return line, nil
		}
	}
}

func (c *client) close() error { return c.conn.Close() }
