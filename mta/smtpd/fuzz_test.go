package smtpd

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// FuzzSubmission says anything to the port of clients, as it is inside TLS.
func FuzzSubmission(f *testing.F) {
	fuzzDialog(f, false, func(s *Server, l net.Listener) error {
		return s.serve(l, func(c net.Conn) (secured, bool) { return secured{Conn: c}, true })
	}, "BDAT 5\r\nabc\r\nBDAT 0 LAST\r\nBDAT x\r\nMAIL FROM:<a@b.c>\r\n")
}

// FuzzOpportunistic says anything to the port of other mail servers.
func FuzzOpportunistic(f *testing.F) {
	f.Add([]byte("NOOP\r\nSTARTTLS\r\nEHLO x\r\n"))
	fuzzDialog(f, true, (*Server).ServeOpportunistic, "BDAT 5 LAST\r\nabc\r\nQUIT\r\n")
}

// fuzzDialog says anything to a port: the server neither falls, nor takes two
// messages where one was ended, nor one with bare controls. chunks is a seed that
// follows a transaction's recipients.
func fuzzDialog(f *testing.F, eightBit bool, serve func(*Server, net.Listener) error, chunks string) {
	const begin = "EHLO a\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n"
	for _, end := range smuggled {
		f.Add([]byte(begin + "DATA\r\nSubject: x\r\n\r\nx" + end + "MAIL FROM:<x@y.z>\r\nRCPT TO:<d@e.f>\r\nDATA\r\ny\r\n.\r\n"))
	}
	f.Add([]byte(begin + chunks))
	b := &backend{}
	s := NewServer(Config{Domain: "pec.example", Backend: b, TLS: &tls.Config{}, MaxMessageBytes: 1 << 20, MaxRecipients: 10, EightBit: eightBit,
		Connections: 1000, PerAddress: 1000, Idle: time.Second, Total: time.Second, Logger: slog.New(slog.DiscardHandler)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	go serve(s, l)
	f.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx, func(*Conn) bool { return false })
	})
	var dialogs atomic.Uint32
	f.Fuzz(func(t *testing.T, in []byte) {
		b.mu.Lock()
		b.msgs = nil
		b.mu.Unlock()
		// From another loopback address each time: one alone has no free port left
		// after some ten thousand dialogs, and a dialog that is not held shows nothing.
		n := dialogs.Add(1)
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(n>>8), byte(n))}}
		c, err := from.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := c.Write(in); err != nil {
			return
		}
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		ends := strings.Count("\r\n"+string(in), "\r\n.\r\n") + strings.Count(strings.ToUpper(string(in)), "BDAT")
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.msgs) > ends {
			t.Fatalf("%d messages where %d were ended", len(b.msgs), ends)
		}
		for _, m := range b.msgs {
			if !new(controls).clean(m) {
				t.Fatalf("a message with bare controls: %q", m)
			}
		}
	})
}
