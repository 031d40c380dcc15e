package relay

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// session is one SMTP connection, on the client's side.
type session struct {
	conn  net.Conn // TLS after STARTTLS
	raw   net.Conn
	r     *bufio.Reader
	w     *bufio.Writer // over paced
	paced *paced
	name  string // ours, for EHLO
	times Timeouts
	over  time.Time // when the whole session ends
	hop   Hop
	esmtp bool
	ext   map[string]string // of EHLO: keyword in upper case, parameters
	stop  func() bool       // unbinds it from its attempt's context

	uses     int  // messages that were taken over it
	reusable bool // the last one was, and nothing is left to say about it
	expiry   *time.Timer
}

// dial connects to one address. The connection ends with ctx.
func dial(ctx context.Context, d Dialer, address string, host, name string, times Timeouts, over time.Time) (*session, error) {
	dialing, cancel := context.WithTimeout(ctx, times.Connect)
	defer cancel()
	conn, err := d.DialContext(dialing, "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &session{raw: conn, name: name, times: times, over: over, hop: Hop{Host: host, Peer: Peer{Address: conn.RemoteAddr().String()}}}
	s.use(conn)
	s.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	return s, nil
}

// use makes conn what is talked over.
func (s *session) use(conn net.Conn) {
	s.conn = conn
	s.r = bufio.NewReaderSize(conn, maxReplyLine)
	s.paced = &paced{conn, s.times.Block, s.over}
	s.w = bufio.NewWriterSize(s.paced, 32<<10)
}

// paced gives each write a time of its own.
type paced struct {
	conn  net.Conn
	block time.Duration
	over  time.Time
}

func (p *paced) Write(b []byte) (int, error) {
	if err := p.conn.SetWriteDeadline(earliest(time.Now().Add(p.block), p.over)); err != nil {
		return 0, err
	}
	return p.conn.Write(b)
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// close ends the connection without a word.
func (s *session) close() {
	s.stop()
	_ = s.raw.Close()
}

// quit takes leave. What has been answered stands whatever comes of it.
func (s *session) quit() {
	_, _ = s.say(s.times.Quit, "QUIT")
	s.close()
}

// hear reads a reply, which must be there whole after limit.
func (s *session) hear(limit time.Duration) (reply, error) {
	if err := s.conn.SetReadDeadline(earliest(time.Now().Add(limit), s.over)); err != nil {
		return reply{}, err
	}
	return readReply(s.r)
}

// say sends a command and reads its reply.
func (s *session) say(limit time.Duration, line string) (reply, error) {
	if _, err := s.w.WriteString(line + "\r\n"); err != nil {
		return reply{}, err
	}
	if err := s.w.Flush(); err != nil {
		return reply{}, err
	}
	return s.hear(limit)
}

// hello sends EHLO, or HELO to a server that does not know it (RFC 5321 §3.2), and returns the last reply.
func (s *session) hello() (reply, error) {
	s.ext, s.esmtp = map[string]string{}, false
	rep, err := s.say(s.times.Hello, "EHLO "+s.name)
	if err != nil || rep.class() == 4 {
		return rep, err
	}
	if rep.class() != 2 {
		return s.say(s.times.Hello, "HELO "+s.name)
	}
	s.esmtp = true
	for _, line := range rep.lines[1:] {
		keyword, parameters, _ := strings.Cut(strings.TrimSpace(line), " ")
		s.ext[strings.ToUpper(keyword)] = parameters
	}
	return rep, nil
}

func (s *session) offers(keyword string) bool {
	_, ok := s.ext[keyword]
	return ok
}

// errInjected says that somebody put replies before the TLS handshake, to be taken for those after it.
var errInjected = errors.New("relay: the server went on talking after it had agreed to TLS")

// startTLS makes the handshake, after the server agreed to it, and says EHLO anew (RFC 3207 §4.2). The certificate is
// not judged here.
func (s *session) startTLS(ctx context.Context, min uint16) error {
	if s.r.Buffered() > 0 {
		return errInjected
	}
	name := s.hop.Host
	if _, err := netip.ParseAddr(name); err == nil {
		name = ""
	}
	// Providers of certified e-mail have certificates of their own making (RFC 6109 asks for TLS and for nothing
	// more); where a policy asks for a certain one, it is judged after the handshake.
	t := tls.Client(s.raw, &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: min, CipherSuites: suites()})
	limit := earliest(time.Now().Add(s.times.TLS), s.over)
	if err := s.raw.SetDeadline(limit); err != nil {
		return err
	}
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	_ = s.raw.SetDeadline(time.Time{})
	s.use(t)
	state := t.ConnectionState()
	s.hop.Peer.TLS, s.hop.Peer.Cipher = tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite)
	if len(state.PeerCertificates) > 0 {
		sum := sha256.Sum256(state.PeerCertificates[0].Raw)
		s.hop.Peer.Certificate = sum[:]
	}
	return nil
}

// suites are Go's, and those without forward secrecy that some servers have nothing better than: the alternative is no
// encryption towards an ordinary domain, and no mail at all to a provider. RC4 and 3DES are not among them.
func suites() (ids []uint16) {
	for _, c := range tls.CipherSuites() {
		ids = append(ids, c.ID)
	}
	return append(ids, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA)
}

// state is that of TLS; ok is false without it.
func (s *session) state() (state tls.ConnectionState, ok bool) {
	if t, is := s.conn.(*tls.Conn); is {
		return t.ConnectionState(), true
	}
	return state, false
}

// trouble is an answer about a connection that failed.
func trouble(doing string, err error) Answer {
	a := Answer{State: Deferred, Enhanced: "4.4.2"}
	switch {
	case errors.Is(err, errReply), errors.Is(err, errInjected):
		a.Enhanced = "4.5.0"
		a.Text = fmt.Sprintf("%s: %s", doing, strings.TrimPrefix(err.Error(), "relay: "))
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		a.Text = doing + ": no answer in time"
	default:
		var op *net.OpError
		if errors.As(err, &op) && op.Err != nil {
			err = op.Err
		}
		a.Text = fmt.Sprintf("%s: the connection was lost: %v", doing, err)
	}
	a.Text = printable(a.Text, maxReplyText)
	return a
}

// judged is the answer that a reply is, to a command that is done by a reply of class good.
func judged(rep *reply, good int) Answer {
	a := Answer{Code: rep.code, Enhanced: rep.enhanced, Text: rep.text}
	switch rep.class() {
	case good:
		a.State = Taken
	case 5:
		a.State = Refused
	default: // 4, and what no server says there
		a.State = Deferred
	}
	return a
}
