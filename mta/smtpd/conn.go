package smtpd

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is one client's connection, after TLS where there is any.
type Conn struct {
	net.Conn // what go-smtp reads and writes: TLS, or plain TCP
	idle     time.Duration
	broken   atomic.Bool
	bare     atomic.Bool
	chunked  atomic.Bool // a chunk of a message was taken, and the message has not ended
	controls controls    // of the goroutine that reads
	domain   string      // of the server
	eightBit bool        // 8BITMIME is offered
	midLine  bool        // the last write did not end its line
	release  func()
	once     sync.Once

	muteLine   bool // drop the next line written: the greeting after STARTTLS
	muteAnswer bool // drop the next answer written after that, of one line or several

	mu    sync.Mutex // guards total
	total time.Time  // deadline set by the server for the whole command or message
}

// Broken reports whether reading has failed or met the end of the connection:
// what was read before it may be cut short.
func (c *Conn) Broken() bool { return c.broken.Load() }

// TakeBare reports whether a bare CR, a bare LF or a NUL has come since the last
// call, or a BDAT command that does not say how long its chunk is: what follows may
// be a part of another message. A message read meanwhile must be refused with 550
// 5.6.11.
func (c *Conn) TakeBare() bool { return c.bare.Swap(false) }

// Chunked reports whether a message that comes by BDAT is not at its end. A client
// that gives such a message up (RSET, EHLO, a chunk too large) must not send
// another over the connection: go-smtp ends the first in the background, and may
// take its outcome for the second's.
func (c *Conn) Chunked() bool { return c.chunked.Load() }

// EndChunks says that the message has ended, whole or not.
func (c *Conn) EndChunks() { c.chunked.Store(false) }

// TLS returns the connection's TLS state; ok is false without TLS.
func (c *Conn) TLS() (state tls.ConnectionState, ok bool) {
	if t, is := c.Conn.(*tls.Conn); is {
		return t.ConnectionState(), true
	}
	return state, false
}

// Read waits at most the idle time, and never beyond the server's deadline,
// which covers a whole message.
func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	deadline := c.total
	c.mu.Unlock()
	if d := time.Now().Add(c.idle); deadline.IsZero() || d.Before(deadline) {
		deadline = d
	}
	if err := c.Conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if !c.controls.clean(p[:n]) {
		c.bare.Store(true)
	}
	if err != nil {
		c.broken.Store(true)
	}
	return n, err
}

// SetReadDeadline bounds all reads until it is called again.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.total = t
	c.mu.Unlock()
	return nil
}

// SetDeadline implements [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.Conn.SetWriteDeadline(t)
}

// Write passes on what the server says, in our words. go-smtp writes each line by
// one call, but for a line of more than 4 KiB, of which the rest is dropped.
func (c *Conn) Write(p []byte) (int, error) {
	ends := bytes.HasSuffix(p, []byte("\n"))
	rest := c.midLine
	c.midLine = !ends
	if rest {
		return len(p), nil
	}
	if c.muteLine {
		c.muteLine = false
		return len(p), nil
	}
	if c.muteAnswer {
		c.muteAnswer = len(p) > 3 && p[3] == '-'
		return len(p), nil
	}
	if lostCount(string(p)) {
		c.bare.Store(true)
	}
	if bytes.HasPrefix(p, []byte("250 2.0.0 Continue")) {
		c.chunked.Store(true)
	}
	line, drop := rewrite(string(p), c.domain, c.eightBit)
	if drop {
		return len(p), nil
	}
	if _, err := io.WriteString(c.Conn, line); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close implements [net.Conn]. go-smtp goes on with what it has read already: none
// of that is a whole message.
func (c *Conn) Close() error {
	c.broken.Store(true)
	c.once.Do(c.release)
	return c.Conn.Close()
}
