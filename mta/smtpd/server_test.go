package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// backend takes messages and remembers them.
type backend struct {
	mu   sync.Mutex
	msgs [][]byte
	errs []error
}

func (b *backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{b, c.Conn().(*Conn)}, nil
}

type session struct {
	b *backend
	c *Conn
}

func (*session) Reset()                               {}
func (*session) Logout() error                        { return nil }
func (*session) Mail(string, *smtp.MailOptions) error { return nil }
func (*session) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s *session) Data(r io.Reader) error {
	msg, err := io.ReadAll(r)
	if err == nil && s.c.Broken() {
		err = io.ErrUnexpectedEOF
	}
	if s.c.TakeBare() && err == nil {
		err = errors.New("bare control")
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if err != nil {
		s.b.errs = append(s.b.errs, err)
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 6, 11}, Message: "no"}
	}
	s.b.msgs = append(s.b.msgs, msg)
	return nil
}

func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func serve(t *testing.T, b *backend, edit func(*Config)) (tlsAddr, clearAddr string) {
	t.Helper()
	cfg := Config{Domain: "pec.example", Backend: b, TLS: testTLS(t), MaxMessageBytes: 1 << 20, MaxRecipients: 10,
		Connections: 50, PerAddress: 50, Idle: 5 * time.Second, Total: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)}
	if edit != nil {
		edit(&cfg)
	}
	s := NewServer(cfg)
	var ls []net.Listener
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ls = append(ls, l)
	}
	go s.ServeTLS(ls[0])
	go s.ServeStartTLS(ls[1])
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx, func(*Conn) bool { return false }); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return ls[0].Addr().String(), ls[1].Addr().String()
}

type dialog struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dialTLS(t *testing.T, addr string) *dialog {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	d := &dialog{t, c, bufio.NewReader(c)}
	d.expect("220")
	return d
}

// expect reads a whole answer and checks how its last line begins.
func (d *dialog) expect(code string) string {
	d.t.Helper()
	var all strings.Builder
	for {
		_ = d.SetReadDeadline(time.Now().Add(5 * time.Second))
		line, err := d.r.ReadString('\n')
		if err != nil {
			d.t.Fatalf("waiting for %s: %v after %q", code, err, all.String())
		}
		all.WriteString(line)
		if len(line) > 3 && line[3] == ' ' {
			if !strings.HasPrefix(line, code) {
				d.t.Fatalf("want %s, got %q", code, all.String())
			}
			return all.String()
		}
	}
}

func (d *dialog) say(s, code string) string {
	d.t.Helper()
	if _, err := d.Write([]byte(s)); err != nil {
		d.t.Fatal(err)
	}
	return d.expect(code)
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	addr, clear := serve(t, &backend{}, nil)
	caps := dialTLS(t, addr).say("EHLO me.example\r\n", "250")
	for _, no := range []string{"CHUNKING", "8BITMIME", "STARTTLS"} {
		if strings.Contains(caps, no) {
			t.Errorf("%s is offered: %q", no, caps)
		}
	}
	if !strings.Contains(caps, "SIZE 1048576") {
		t.Errorf("no SIZE: %q", caps)
	}
	c, err := net.Dial("tcp", clear)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d := &dialog{t, c, bufio.NewReader(c)}
	d.expect("220")
	d.say("MAIL FROM:<a@b.c>\r\n", "530")
	d.say("AUTH PLAIN AGEAYg==\r\n", "530")
	if caps := d.say("EHLO me.example\r\n", "250"); strings.Contains(caps, "AUTH") {
		t.Errorf("AUTH offered in clear: %q", caps)
	}
	d.say("STARTTLS\r\n", "220")
	tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	d = &dialog{t, tc, bufio.NewReader(tc)}
	if caps := d.say("EHLO me.example\r\n", "250"); strings.Contains(caps, "STARTTLS") || strings.Contains(caps, "220") {
		t.Errorf("after STARTTLS: %q", caps)
	}
	d.say("QUIT\r\n", "221")
}

// A command in the packet of STARTTLS must not be run inside TLS.
func TestStartTLSInjection(t *testing.T) {
	t.Parallel()
	_, clear := serve(t, &backend{}, nil)
	c, err := net.Dial("tcp", clear)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d := &dialog{t, c, bufio.NewReader(c)}
	d.expect("220")
	if _, err := c.Write([]byte("STARTTLS\r\nEHLO injected\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if rest, err := io.ReadAll(d.r); err == nil && len(rest) > 0 {
		t.Fatalf("answered %q", rest)
	}
}

// A message that BDAT announces and the connection cuts short is never taken.
func TestTruncatedBDAT(t *testing.T) {
	t.Parallel()
	b := &backend{}
	addr, _ := serve(t, b, nil)
	d := dialTLS(t, addr)
	d.say("EHLO me.example\r\n", "250")
	d.say("MAIL FROM:<a@b.c>\r\n", "250")
	d.say("RCPT TO:<d@e.f>\r\n", "250")
	if _, err := fmt.Fprintf(d, "BDAT 1000 LAST\r\n%s", strings.Repeat("0123456789\r\n", 40)); err != nil {
		t.Fatal(err)
	}
	d.Close()
	deadline := time.Now().Add(5 * time.Second)
	for {
		b.mu.Lock()
		msgs, errs := len(b.msgs), len(b.errs)
		b.mu.Unlock()
		if msgs > 0 {
			t.Fatal("a message cut short was taken for a whole one")
		}
		if errs > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("Data was not called")
		}
		time.Sleep(time.Millisecond)
	}
}

// smuggled are ends of a message to some servers, and not to others.
var smuggled = []string{"\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r\n.\n", "\r\n\x00.\r\n", "\r.\r\n"}

// smuggle sends a message with such an end in it, and another behind.
func smuggle(d *dialog, end string) {
	d.t.Helper()
	d.say("MAIL FROM:<a@b.c>\r\n", "250")
	d.say("RCPT TO:<d@e.f>\r\n", "250")
	d.say("DATA\r\n", "354")
	d.say("Subject: one\r\n\r\nbody"+end+"MAIL FROM:<x@y.z>\r\nRCPT TO:<d@e.f>\r\nDATA\r\nSubject: two\r\n\r\nsmuggled\r\n.\r\n", "550")
}

// Nothing that ends a message elsewhere may pass inside one here, and no input
// gives two messages (SMTP smuggling).
func TestSmuggling(t *testing.T) {
	t.Parallel()
	for _, end := range smuggled {
		b := &backend{}
		addr, _ := serve(t, b, nil)
		d := dialTLS(t, addr)
		d.say("EHLO me.example\r\n", "250")
		smuggle(d, end)
		b.mu.Lock()
		if len(b.msgs) != 0 {
			t.Errorf("%q: %d messages taken", end, len(b.msgs))
		}
		b.mu.Unlock()
		d.say("NOOP\r\n", "250")
	}
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, &backend{}, func(c *Config) { c.PerAddress = 2 })
	dialTLS(t, addr)
	dialTLS(t, addr)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "421 ") {
		t.Fatalf("third connection: %q, %v", line, err)
	}
}

func TestControls(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"": true, "a\r\nb\r\n": true, "\r\n\r\n": true, "no end": true,
		"a\nb": false, "a\rb": false, "a\x00b": false, "\r\r\n": false, "\n": false, "\r\x00\n": false,
	} {
		if got := new(controls).clean([]byte(in)); got != want {
			t.Errorf("%q: %v", in, got)
		}
		c, got := new(controls), true
		for i := range len(in) {
			got = c.clean([]byte{in[i]}) && got
		}
		if got != want {
			t.Errorf("%q octet by octet: %v", in, got)
		}
	}
}

// A BDAT command that does not say how long its chunk is leaves nothing behind it
// that could be taken for a message.
func TestMalformedBDAT(t *testing.T) {
	t.Parallel()
	for _, size := range []string{"", " x LAST", " -1 LAST", " 99999999999 LAST", " 1 2 LAST", " 5 LATE", " 0x5 LAST"} {
		b := &backend{}
		addr, _ := serve(t, b, nil)
		d := dialTLS(t, addr)
		d.say("EHLO me.example\r\n", "250")
		d.say("BDAT"+size+"\r\n", "501")
		d.say("MAIL FROM:<a@b.c>\r\n", "250")
		d.say("RCPT TO:<d@e.f>\r\n", "250")
		d.say("DATA\r\n", "354")
		d.say("Subject: x\r\n\r\nx\r\n.\r\n", "550")
		b.mu.Lock()
		if len(b.msgs) != 0 {
			t.Errorf("BDAT%s: %d messages", size, len(b.msgs))
		}
		b.mu.Unlock()
	}
}

func FuzzStartTLS(f *testing.F) {
	required := &clearDialog{domain: "pec.example", tls: &tls.Config{}, patience: time.Second}
	f.Add([]byte("EHLO a\r\nSTARTTLS\r\n"))
	f.Add([]byte("STARTTLS\r\nEHLO x\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		client, server := net.Pipe()
		go func() { _, _ = client.Write(in); _ = client.Close() }()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		if _, ok := required.secure(server); ok && !bytes.Contains(bytes.ToUpper(in), []byte("STARTTLS")) {
			t.Fatal("TLS without STARTTLS")
		}
		_ = server.Close()
	})
}
