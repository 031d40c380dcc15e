package smtpd

import (
	"bufio"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// flaky fails once with EMFILE, as accept does when descriptors run out.
type flaky struct {
	net.Listener
	failed atomic.Bool
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.failed.CompareAndSwap(false, true) {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

// ports are the ways to serve.
func ports(s *Server) map[string]func(net.Listener) error {
	return map[string]func(net.Listener) error{"tls": s.ServeTLS, "starttls": s.ServeStartTLS, "opportunistic": s.ServeOpportunistic}
}

func testServer(t *testing.T) *Server {
	t.Helper()
	return NewServer(Config{Domain: "pec.example", Backend: &backend{}, TLS: testTLS(t), MaxMessageBytes: 1 << 20, MaxRecipients: 10,
		Connections: 50, PerAddress: 50, Idle: 5 * time.Second, Total: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// A port survives an accept that fails for the moment. The one with STARTTLS once
// went on listening, and nobody answered.
func TestAcceptFailsForTheMoment(t *testing.T) {
	t.Parallel()
	s := testServer(t)
	for name, serve := range ports(s) {
		l := listen(t)
		go serve(&flaky{Listener: l})
		if name == "tls" {
			dialTLS(t, l.Addr().String()).say("NOOP\r\n", "250")
			continue
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		d := &dialog{t, c, bufio.NewReader(c)}
		d.expect("220")
		d.say("STARTTLS\r\n", "220")
		tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		d = &dialog{t, tc, bufio.NewReader(tc)}
		d.say("EHLO me.example\r\n", "250")
	}
}

// A listener that is closed ends serving, on every port.
func TestClosedListenerEndsServing(t *testing.T) {
	t.Parallel()
	s := testServer(t)
	for name, serve := range ports(s) {
		l := listen(t)
		ended := make(chan error, 1)
		go func() { ended <- serve(l) }()
		_ = l.Close()
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%s: ended without a reason", name)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: still serving", name)
		}
	}
}

// A client that connects and says nothing is cut, on every port: before TLS no
// other bound holds.
func TestSilentBeforeTLS(t *testing.T) {
	t.Parallel()
	s := testServer(t)
	s.patience = 50 * time.Millisecond
	for name, serve := range ports(s) {
		l := listen(t)
		go serve(l)
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: a silent client is kept", name)
		}
	}
}
