package smtpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// incoming serves as between mail servers and returns the address.
func incoming(t *testing.T, b *backend) string {
	t.Helper()
	s := NewServer(Config{Domain: "pec.example", Backend: b, TLS: testTLS(t), MaxMessageBytes: 1 << 20, MaxRecipients: 10, EightBit: true,
		Connections: 50, PerAddress: 50, Idle: 5 * time.Second, Total: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	l := listen(t)
	go s.ServeOpportunistic(l)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx, func(*Conn) bool { return false }); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return l.Addr().String()
}

func dialClear(t *testing.T, addr string) *dialog {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	d := &dialog{t, c, bufio.NewReader(c)}
	d.expect("220")
	return d
}

func (d *dialog) startTLS() *dialog {
	d.t.Helper()
	d.say("STARTTLS\r\n", "220")
	tc := tls.Client(d.Conn, &tls.Config{InsecureSkipVerify: true})
	return &dialog{d.t, tc, bufio.NewReader(tc)}
}

// Who does without TLS is served in clear, and gets each answer once.
func TestOpportunisticClear(t *testing.T) {
	t.Parallel()
	for name, hello := range map[string]string{"EHLO": "EHLO me.example\r\n", "HELO": "HELO me.example\r\n", "twice": "EHLO x.example\r\nNOOP\r\nEHLO me.example\r\n"} {
		b := &backend{}
		d := dialClear(t, incoming(t, b))
		caps := d.say(hello, "250")
		if name == "twice" {
			d.expect("250")
			caps = d.expect("250")
		}
		for _, want := range []string{"STARTTLS", "SIZE 1048576", "8BITMIME"} {
			if name != "HELO" && !strings.Contains(caps, want) {
				t.Errorf("%s: no %s: %q", name, want, caps)
			}
		}
		for _, no := range []string{"CHUNKING", "AUTH"} {
			if strings.Contains(caps, no) {
				t.Errorf("%s: %s is offered: %q", name, no, caps)
			}
		}
		d.say("MAIL FROM:<a@b.c>\r\n", "250")
		d.say("RCPT TO:<d@e.f>\r\n", "250")
		d.say("DATA\r\n", "354")
		d.say("Subject: one\r\n\r\nperch\xc3\xa9\r\n.\r\n", "250")
		d.say("STARTTLS\r\n", "502") // too late
		if caps := d.say("EHLO me.example\r\n", "250"); strings.Contains(caps, "STARTTLS") {
			t.Errorf("%s: STARTTLS is offered too late: %q", name, caps)
		}
		d.say("QUIT\r\n", "221")
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.msgs) != 1 || string(b.msgs[0]) != "Subject: one\r\n\r\nperch\xc3\xa9\r\n" {
			t.Errorf("%s: taken: %q", name, b.msgs)
		}
	}
}

func TestOpportunisticTLS(t *testing.T) {
	t.Parallel()
	b := &backend{}
	d := dialClear(t, incoming(t, b))
	d.say("EHLO me.example\r\n", "250")
	d = d.startTLS()
	d.say("MAIL FROM:<a@b.c>\r\n", "503") // what was said before TLS is forgotten
	caps := d.say("EHLO me.example\r\n", "250")
	if strings.Contains(caps, "STARTTLS") || strings.Contains(caps, "AUTH") || !strings.Contains(caps, "8BITMIME") {
		t.Errorf("after STARTTLS: %q", caps)
	}
	d.say("MAIL FROM:<a@b.c> BODY=8BITMIME\r\n", "250")
}

// Commands that come without waiting for answers get theirs, in order, and nothing
// that was sent in clear is read inside TLS.
func TestOpportunisticPipelined(t *testing.T) {
	t.Parallel()
	b := &backend{}
	addr := incoming(t, b)
	d := dialClear(t, addr)
	d.say("EHLO me.example\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n", "250")
	d.expect("250")
	d.expect("250")
	d.expect("354")
	d.say("Subject: one\r\n\r\nx\r\n.\r\n", "250")

	c := dialClear(t, addr)
	if _, err := c.Write([]byte("STARTTLS\r\nEHLO injected\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if rest, err := io.ReadAll(c.r); err == nil && len(rest) > 0 {
		t.Errorf("answered %q", rest)
	}
	// A line of any length, and one that is none of the dialog's, get an answer.
	dialClear(t, addr).say("EHLO \r\n", "501")
	dialClear(t, addr).say("WHAT "+strings.Repeat("x", 9000)+"\r\n", "500")
	dialClear(t, addr).say("MAIL FROM:<a@b.c>\r\n", "503")
}

// The same set of ends of a message as on submission, in clear and inside TLS.
func TestSmugglingIncoming(t *testing.T) {
	t.Parallel()
	for _, end := range smuggled {
		for _, secure := range []bool{false, true} {
			b := &backend{}
			d := dialClear(t, incoming(t, b))
			d.say("EHLO me.example\r\n", "250")
			if secure {
				d = d.startTLS()
				d.say("EHLO me.example\r\n", "250")
			}
			smuggle(d, end)
			b.mu.Lock()
			if len(b.msgs) != 0 {
				t.Errorf("%q (TLS %v): %d messages taken", end, secure, len(b.msgs))
			}
			b.mu.Unlock()
			d.say("NOOP\r\n", "250")
		}
	}
	// A bare LF before the first command of the dialog counts, too.
	b := &backend{}
	d := dialClear(t, incoming(t, b))
	d.say("EHLO me.example\nMAIL FROM:<a@b.c>\r\n", "250")
	d.expect("250")
	d.say("RCPT TO:<d@e.f>\r\n", "250")
	d.say("DATA\r\n", "354")
	d.say("Subject: one\r\n\r\nx\r\n.\r\n", "550")
}
