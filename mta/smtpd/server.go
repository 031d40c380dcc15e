package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// maxLine bounds a line of the dialog and of a message, octets. RFC 5321 asks
// for 1,000; real messages have longer ones, which are carried as they are.
const maxLine = 1 << 20

// handshakeTime bounds a TLS handshake, and the dialog before STARTTLS.
const handshakeTime = 30 * time.Second

// Config says how a server behaves.
type Config struct {
	Domain          string // in the greeting
	Backend         smtp.Backend
	TLS             *tls.Config
	MaxMessageBytes int64
	MaxRecipients   int // of one transaction; beyond it 452
	Connections     int // at once, in all
	PerAddress      int // at once, from one IP address
	Idle            time.Duration
	Total           time.Duration // for one command, or one message
	Logger          *slog.Logger
}

// Server serves SMTP on any number of listeners.
type Server struct {
	cfg  Config
	smtp *smtp.Server

	mu      sync.Mutex // guards what follows
	conns   map[*Conn]struct{}
	from    map[string]int // connections by IP address
	closing bool
	raw     map[net.Conn]struct{} // connections before TLS

	stop chan struct{} // closed by Shutdown
}

// NewServer makes a server; it serves nothing yet.
func NewServer(cfg Config) *Server {
	s := &Server{cfg: cfg, conns: map[*Conn]struct{}{}, from: map[string]int{}, raw: map[net.Conn]struct{}{}, stop: make(chan struct{})}
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
	return s.smtp.Serve(&listener{Listener: l, s: s, open: func(c net.Conn) (net.Conn, bool) {
		return tls.Server(c, s.cfg.TLS), false
	}})
}

// ServeStartTLS serves connections that begin in clear and must be secured by
// STARTTLS before anything else, until Shutdown.
func (s *Server) ServeStartTLS(l net.Listener) error {
	ready := make(chan net.Conn)
	q := &queueListener{Listener: l, ready: ready, closed: make(chan struct{})}
	var wait sync.WaitGroup
	go func() {
		defer close(q.closed)
		for {
			c, err := l.Accept()
			if err != nil {
				q.err = err
				break
			}
			if !s.admit(c) {
				continue
			}
			wait.Go(func() { s.secure(c, ready) })
		}
		wait.Wait()
	}()
	return s.smtp.Serve(q)
}

// secure holds the dialog in clear and hands the connection on.
func (s *Server) secure(c net.Conn, ready chan<- net.Conn) {
	t, ok := startTLS(c, s.cfg.Domain, s.cfg.TLS)
	if !ok {
		_ = c.Close()
		s.leave(c)
		return
	}
	w := s.wrap(c, t, true)
	select {
	case ready <- w:
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
	if full {
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte("421 4.7.0 Too many connections, try again later\r\n"))
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
func (s *Server) wrap(raw, c net.Conn, mute bool) *Conn {
	w := &Conn{Conn: c, idle: s.cfg.Idle, muteLine: mute}
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

// listener turns accepted connections into Conns.
type listener struct {
	net.Listener
	s    *Server
	open func(net.Conn) (c net.Conn, mute bool)
}

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.s.admit(c) {
			t, mute := l.open(c)
			return l.s.wrap(c, t, mute), nil
		}
	}
}

// queueListener hands on connections that another goroutine made ready.
type queueListener struct {
	net.Listener
	ready  chan net.Conn
	closed chan struct{} // closed after err is set
	err    error
}

// Accept implements [net.Listener].
func (q *queueListener) Accept() (net.Conn, error) {
	select {
	case c := <-q.ready:
		return c, nil
	case <-q.closed:
		return nil, q.err
	}
}
