package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"
)

// maxLine bounds a line of the dialog and of a message, octets. RFC 5321 asks
// for 1,000; real messages have longer ones, which are carried as they are.
const maxLine = 1 << 20

// handshakeTime bounds a TLS handshake, and the dialog before STARTTLS: a client
// that says nothing must not keep one of the connections.
const handshakeTime = 30 * time.Second

// Config says how a server behaves.
type Config struct {
	Domain          string // in the greeting
	EightBit        bool   // offer 8BITMIME: messages are taken as they are (RFC 6152)
	Backend         smtp.Backend
	TLS             *tls.Config
	MaxMessageBytes int64
	MaxRecipients   int // of one transaction; beyond it 452
	Connections     int // at once, in all
	PerAddress      int // at once, from one IP address
	// Admit is asked for each connection from an address and port; its error
	// refuses it with 421. nil: all are welcome.
	Admit  func(remote string) error
	Idle   time.Duration
	Total  time.Duration // for one command, or one message
	Logger *slog.Logger
}

// Server serves SMTP on any number of listeners.
type Server struct {
	cfg      Config
	smtp     *smtp.Server
	patience time.Duration // for what comes before SMTP over TLS

	mu      sync.Mutex // guards what follows
	conns   map[*Conn]struct{}
	from    map[string]int // connections by IP address
	closing bool
	raw     map[net.Conn]struct{} // connections before TLS

	stop chan struct{} // closed by Shutdown
}

// NewServer makes a server; it serves nothing yet.
func NewServer(cfg Config) *Server {
	s := &Server{cfg: cfg, patience: handshakeTime, conns: map[*Conn]struct{}{}, from: map[string]int{}, raw: map[net.Conn]struct{}{}, stop: make(chan struct{})}
	s.smtp = smtp.NewServer(cfg.Backend)
	s.smtp.Domain = cfg.Domain
	s.smtp.MaxMessageBytes = cfg.MaxMessageBytes
	s.smtp.MaxRecipients = cfg.MaxRecipients
	s.smtp.MaxLineLength = maxLine
	s.smtp.ReadTimeout, s.smtp.WriteTimeout = cfg.Total, cfg.Idle
	s.smtp.AllowInsecureAuth = true // TLS is below go-smtp: it cannot see it; Conn.TLS can
	s.smtp.ErrorLog = slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug)
	return s
}

// ServeTLS serves connections that begin with TLS (RFC 8314), until Shutdown.
func (s *Server) ServeTLS(l net.Listener) error {
	return s.serve(l, func(c net.Conn) (secured, bool) {
		t, ok := handshake(c, s.cfg.TLS, s.patience)
		return secured{Conn: t}, ok
	})
}

// ServeStartTLS serves connections that begin in clear and must be secured by
// STARTTLS before anything else, until Shutdown.
func (s *Server) ServeStartTLS(l net.Listener) error {
	return s.serve(l, s.clear(false).secure)
}

// ServeOpportunistic serves connections that begin in clear and may be secured by
// STARTTLS before the first message, as between mail servers (RFC 3207, RFC 6109
// §5.3), until Shutdown. [Conn.TLS] tells what a client did.
func (s *Server) ServeOpportunistic(l net.Listener) error {
	return s.serve(l, s.clear(true).secure)
}

// clear is the dialog before TLS.
func (s *Server) clear(optional bool) *clearDialog {
	d := &clearDialog{domain: s.cfg.Domain, tls: s.cfg.TLS, patience: s.patience}
	if optional {
		d.optional, d.capabilities = true, []string{"PIPELINING", fmt.Sprintf("SIZE %d", s.cfg.MaxMessageBytes)}
		if s.cfg.EightBit {
			d.capabilities = append(d.capabilities, "8BITMIME")
		}
	}
	return d
}

// secured is a connection that is ready for SMTP. What was said on it before is
// replayed to the SMTP server, whose answers to it the client must not get again.
type secured struct {
	net.Conn
	greeted  bool // the client got its greeting
	answered bool // and the answer to its EHLO or HELO, which is replayed
}

// serve hands on what secure has made of the connections that l accepts.
func (s *Server) serve(l net.Listener, secure func(net.Conn) (secured, bool)) error {
	q := &queue{Listener: l, ready: make(chan net.Conn), ended: make(chan struct{})}
	go func() {
		defer close(q.ended)
		for {
			c, err := s.accept(l)
			if err != nil {
				q.err = err
				return
			}
			if s.admit(c) {
				go s.hand(c, secure, q)
			}
		}
	}()
	return s.smtp.Serve(q)
}

// accept waits for the next connection. When there is no descriptor or memory
// for one it tries again later: only a listener that is closed ends.
func (s *Server) accept(l net.Listener) (net.Conn, error) {
	for delay := 5 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		c, err := l.Accept()
		if err == nil || final(err) {
			return c, err
		}
		s.cfg.Logger.Error("a connection could not be accepted", "listener", l.Addr().String(), "err", err, "again in", delay)
		select {
		case <-time.After(delay):
		case <-s.stop:
			return nil, net.ErrClosed
		}
	}
}

// final tells of an error of accept after which there can be no connection any
// more. All others are of one connection, or pass (accept(2)).
func final(err error) bool {
	for _, e := range []error{net.ErrClosed, io.EOF, io.ErrClosedPipe, syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// hand secures a connection and hands it on.
func (s *Server) hand(c net.Conn, secure func(net.Conn) (secured, bool), q *queue) {
	t, ok := secure(c)
	if !ok {
		_ = c.Close()
		s.leave(c)
		return
	}
	w := s.wrap(c, t)
	select {
	case q.ready <- w:
	case <-q.ended:
		_ = w.Close()
	case <-s.stop:
		_ = w.Close()
	}
}

// admit counts a connection, or refuses it with 421.
func (s *Server) admit(c net.Conn) bool {
	ip := host(c)
	s.mu.Lock()
	full := s.closing || len(s.conns)+len(s.raw) >= s.cfg.Connections || s.from[ip] >= s.cfg.PerAddress
	if !full {
		s.from[ip]++
		s.raw[c] = struct{}{}
	}
	s.mu.Unlock()
	if !full && s.cfg.Admit != nil {
		if err := s.cfg.Admit(c.RemoteAddr().String()); err != nil {
			s.cfg.Logger.Info("a connection was refused", "peer", c.RemoteAddr().String(), "err", err)
			full = true
			s.leave(c)
		}
	}
	if full {
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte("421 4.7.0 Troppe connessioni, riprovare piu' tardi / Too many connections, try again later\r\n"))
		_ = c.Close()
	}
	return !full
}

func (s *Server) leave(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.raw, c)
	if ip := host(c); s.from[ip] > 1 {
		s.from[ip]--
	} else {
		delete(s.from, ip)
	}
}

// wrap makes the connection that go-smtp sees of an admitted one.
func (s *Server) wrap(raw net.Conn, c secured) *Conn {
	w := &Conn{Conn: c.Conn, idle: s.cfg.Idle, domain: s.cfg.Domain, eightBit: s.cfg.EightBit, muteLine: c.greeted, muteAnswer: c.answered}
	w.release = func() {
		s.mu.Lock()
		delete(s.conns, w)
		s.mu.Unlock()
		s.leave(raw)
	}
	s.mu.Lock()
	delete(s.raw, raw)
	s.conns[w] = struct{}{}
	s.mu.Unlock()
	return w
}

func host(c net.Conn) string {
	h, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		return c.RemoteAddr().String()
	}
	return h
}

// Shutdown stops listening, lets the messages under way finish until ctx ends,
// and then closes every connection. Idle connections are closed at once.
func (s *Server) Shutdown(ctx context.Context, busy func(*Conn) bool) error {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		close(s.stop)
	}
	for c := range s.raw {
		_ = c.Close()
	}
	s.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- s.smtp.Shutdown(ctx) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		for c := range s.conns {
			if !busy(c) {
				go c.Conn.Close() // closing TLS may wait for the peer
			}
		}
		s.mu.Unlock()
		select {
		case err := <-done:
			if errors.Is(err, net.ErrClosed) {
				err = nil
			}
			if ctx.Err() != nil {
				_ = s.smtp.Close()
			}
			return err
		case <-tick.C:
		}
	}
}

// queue is a listener that hands on connections which are ready.
type queue struct {
	net.Listener
	ready chan net.Conn
	ended chan struct{} // closed after err is set
	err   error
}

// Accept implements [net.Listener].
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.ready:
		return c, nil
	case <-q.ended:
		return nil, q.err
	}
}
