package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/foxcpp/go-mockdns"
)

// peer is a server that says what a test wants. A reply is one or more lines without line ends; "-" says nothing,
// "hang up" closes the connection; what a test does not set is "250 ok".
type peer struct {
	t       *testing.T
	address string
	tls     *tls.Config // STARTTLS is offered and answered if it is set

	mu        sync.Mutex
	says      map[string]string // by verb, or by verb and argument; "greeting", "EHLO", ".", "after ." and "TLS EHLO" too
	commands  []string          // that came, of all connections
	messages  []delivered
	conns     int
	onConnect func()
}

// delivered is a message that a peer took.
type delivered struct {
	from  string // the whole argument of MAIL
	rcpts []string
	data  []byte // without doubled dots
	tls   bool
}

// newPeer listens on a loopback port.
func newPeer(t *testing.T, says map[string]string) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &peer{t: t, address: l.Addr().String(), says: map[string]string{"greeting": "220 peer.example ESMTP", "EHLO": "250 peer.example", "DATA": "354 go on", "QUIT": "221 bye"}}
	for k, v := range says {
		p.says[k] = v
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns++
			on := p.onConnect
			p.mu.Unlock()
			if on != nil {
				on()
			}
			go p.serve(c)
		}
	}()
	return p
}

// withTLS makes the peer offer STARTTLS.
func (p *peer) withTLS(c *tls.Config) *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tls = c
	p.says["EHLO"] = "250-peer.example\n250 STARTTLS"
	p.says["TLS EHLO"] = "250-peer.example\n250-SIZE 100000\n250 8BITMIME"
	p.says["STARTTLS"] = "220 go on"
	return p
}

func (p *peer) reply(keys ...string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range keys {
		if s, ok := p.says[k]; ok {
			return s
		}
	}
	return "250 ok"
}

func (p *peer) serve(c net.Conn) {
	raw := c
	defer func() { raw.Close() }()
	r := bufio.NewReader(c)
	say := func(s string) (open bool) {
		if s == "hang up" {
			return false
		}
		if s != "-" {
			_, _ = io.WriteString(c, strings.ReplaceAll(s, "\n", "\r\n")+"\r\n")
		}
		return true
	}
	if !say(p.reply("greeting")) {
		return
	}
	var m delivered
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, arg, _ := strings.Cut(line, " ")
		p.mu.Lock()
		p.commands = append(p.commands, line)
		p.mu.Unlock()
		if m.tls && p.reply("TLS "+verb) != "250 ok" {
			verb = "TLS " + verb
		}
		said := p.reply(verb+" "+arg, verb)
		if !say(said) {
			return
		}
		switch {
		case verb == "QUIT":
			return
		case verb == "STARTTLS" && said[0] == '2' && p.config() != nil:
			t := tls.Server(raw, p.config())
			if err := t.Handshake(); err != nil {
				return
			}
			c, r = t, bufio.NewReader(t)
			m.tls = true
		case said[0] != '2' && verb != "DATA":
		case verb == "MAIL":
			m = delivered{from: arg, tls: m.tls}
		case verb == "RCPT":
			m.rcpts = append(m.rcpts, arg)
		case verb == "DATA" && strings.HasPrefix(said, "354"):
			data, whole := readData(r)
			if !whole {
				return
			}
			m.data = data
			said := p.reply(".")
			if said[0] == '2' {
				p.mu.Lock()
				p.messages = append(p.messages, m)
				p.mu.Unlock()
			}
			if !say(said) || p.reply("after .") == "hang up" {
				return
			}
		}
	}
}

// readData reads up to the final dot and takes out what SMTP doubled.
func readData(r *bufio.Reader) (data []byte, whole bool) {
	begins := true
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, false
		}
		if begins && bytes.HasPrefix(line, []byte(".")) {
			if string(line) == ".\r\n" {
				return data, true
			}
			line = line[1:]
		}
		data = append(data, line...)
		begins = bytes.HasSuffix(line, []byte("\r\n"))
	}
}

func (p *peer) config() *tls.Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tls
}

// say changes a reply; an empty one is "250 ok" again.
func (p *peer) say(at, reply string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.says[at] = reply; reply == "" {
		delete(p.says, at)
	}
}

func (p *peer) taken() []delivered {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.messages
}

// heard says whether a command that begins so came.
func (p *peer) heard(begin string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.commands {
		if strings.HasPrefix(c, begin) {
			return true
		}
	}
	return false
}

func (p *peer) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns
}

// certificate makes one for the names, of its own making.
func certificate(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: names, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// network is where names of servers lead to peers: addresses of a network for documentation, dialled for real. An
// address that has no peer refuses the connection.
type network struct {
	zones map[string]mockdns.Zone
	at    map[string]string // "192.0.2.1:25" to a loopback port
	mu    sync.Mutex
	tried []string
}

func (n *network) DialContext(ctx context.Context, kind, address string) (net.Conn, error) {
	n.mu.Lock()
	n.tried = append(n.tried, address)
	n.mu.Unlock()
	to, ok := n.at[address]
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: kind, Err: fmt.Errorf("connection refused")}
	}
	return new(net.Dialer).DialContext(ctx, kind, to)
}

func (n *network) transport() *Transport {
	return &Transport{Name: "me.example", Resolver: &mockdns.Resolver{Zones: n.zones}, Dialer: n, Timeouts: quick()}
}

// quick are times that a test waits for at most; those that a test needs to end are set shorter by it.
func quick() Timeouts { return Timeouts{Quit: time.Second} }

// direct leads every domain to peers, in order.
func direct(peers ...*peer) *Transport {
	t := &Transport{Name: "me.example", Timeouts: quick(), Routes: Routes{}}
	for _, p := range peers {
		t.Routes["*"] = append(t.Routes["*"], p.address)
	}
	return t
}

// open opens a message.
func open(message string) Opener {
	return func(context.Context, *Letter) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(message)), nil
	}
}

const text = "Subject: prova\r\n\r\n.un punto\r\n..due\r\n.\r\nfine\r\n"

// mail is a letter with the message text.
func mailTo(rcpts ...string) *Letter {
	return &Letter{ID: number(1), Destination: "d.example", From: "mario@pec.example", Recipients: rcpts, Size: int64(len(text))}
}

// one is the answer of a result that must have one.
func one(t *testing.T, r *Result) Answer {
	t.Helper()
	if len(r.Answers) != 1 {
		t.Fatalf("%d answers: %+v", len(r.Answers), r.Answers)
	}
	return r.Answers[0]
}

// want checks an answer by its state, codes and a part of its text.
func (a Answer) want(t *testing.T, s State, status, part string) {
	t.Helper()
	if a.State != s || a.Status() != status || !strings.Contains(a.Text, part) {
		t.Errorf("%s: %v %s %q, want %v %s …%s…", a.Recipient, a.State, a.Status(), a.Text, s, status, part)
	}
}
