package mta

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"scripta/internal/cms/cmstest"
	"scripta/internal/durable"
	"scripta/mta/pec"
	"scripta/mta/providers"
	"scripta/mta/rates"
	"scripta/mta/smtpd"
)

// serveIncoming serves the Incoming Point of a process and returns its address.
func (p *process) serveIncoming(t *testing.T) string {
	t.Helper()
	ca, key := cmstest.New(t), cmstest.ECDSA(t)
	cert := ca.Issue(t, key.Public(), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	point := NewIncomingPoint(p.Pipeline, slog.New(slog.DiscardHandler))
	s := smtpd.NewServer(smtpd.Config{Domain: domain, Backend: point, TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}},
		MaxMessageBytes: 1 << 20, MaxRecipients: 100, Connections: 50, PerAddress: 50, EightBit: true, Idle: 10 * time.Second, Total: 30 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.ServeOpportunistic(l)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx, point.Busy); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return l.Addr().String()
}

// peer is another mail server.
type peer struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dialPeer(t *testing.T, address string) *peer {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p := &peer{t, c, bufio.NewReader(c)}
	p.expect("220")
	p.say("EHLO mx.example", "250")
	return p
}

// expect reads an answer; its last line must begin so.
func (p *peer) expect(want string) string {
	p.t.Helper()
	for {
		_ = p.SetReadDeadline(time.Now().Add(10 * time.Second))
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("waiting for %s: %v", want, err)
		}
		if len(line) > 3 && line[3] == ' ' {
			if !strings.HasPrefix(line, want) {
				p.t.Errorf("want %s, got %s", want, line)
			}
			return line
		}
	}
}

func (p *peer) say(line, want string) string {
	p.t.Helper()
	if _, err := fmt.Fprintf(p, "%s\r\n", line); err != nil {
		p.t.Fatal(err)
	}
	return p.expect(want)
}

func (p *peer) data(msg []byte, want string) {
	p.t.Helper()
	p.say("DATA", "354")
	if _, err := p.Write(bytes.ReplaceAll(msg, []byte("\r\n."), []byte("\r\n.."))); err != nil {
		p.t.Fatal(err)
	}
	p.say(".", want)
}

// What each peer is told, at the moment when it can still do something about it.
func TestIncomingSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	elsewhere := w.join(newForeign(t, "Gamma", "gamma.example", func(c *x509.Certificate) { c.EmailAddresses = []string{"posta-certificata@gestore.example"} }))
	elsewhere.entry.ServiceAddress = "ricevute@servizio.example"
	w.incoming = Incoming{Ordinary: func(a string) bool { return strings.HasPrefix(strings.ToLower(a), "lucia@") }}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	address := p.serveIncoming(t)
	at := func(l string) string { return l + "@" + domain }
	for _, x := range []struct{ from, mail, to, rcpt string }{
		{"x@y.example", "250", at("lucia"), "250"},
		{"x@y.example", "250", strings.ToUpper(at("lucia")), "250"},
		{"x@y.example", "250", at("mario"), "550 5.7.1 Questa casella"},
		{"x@y.example", "250", at("nessuno"), "550 5.1.1"},
		{"x@y.example", "250", "x@beta.example", "550 5.7.1 Sono serviti"}, // certified, and not ours
		{"x@y.example", "250", "x@z.example", "550 5.7.1 Sono serviti"},
		{"x@y.example", "250", `"lucia"@` + domain + `@y.example`, "553"},
		{"x@y.example", "250", "lucia%y.example@" + domain, "550 5.1.1"},
		// From the PEC network everything of ours is taken: a non-delivery tells.
		{b.at("anna"), "250", at("mario"), "250"},
		{b.at("anna"), "250", at("nessuno"), "250"},
		{b.at("anna"), "250", at("piena"), "250"},
		{b.entry.ServiceAddress, "250", at("mario"), "250"},
		{"ricevute@servizio.example", "250", at("nessuno"), "250"},
		{"posta-certificata@gestore.example", "250", at("nessuno"), "250"},
		{"altri@gestore.example", "250", at("nessuno"), "550 5.1.1"},
		{b.at("anna"), "250", "x@y.example", "550 5.7.1 Sono serviti"},
		{"", "250", at("mario"), "250"},
		{"", "250", at("nessuno"), "550 5.1.1"},
		{at("mario"), "550 5.7.1 I mittenti", "", ""},
		{"posta-certificata@" + domain, "550 5.7.1 I mittenti", "", ""},
		{"MARIO@" + strings.ToUpper(domain), "550 5.7.1 I mittenti", "", ""},
		{"x y@y.example", "501", "", ""},
	} {
		d := dialPeer(t, address)
		d.say("MAIL FROM:<"+x.from+">", x.mail)
		if x.to != "" {
			d.say("RCPT TO:<"+x.to+">", x.rcpt)
		}
		d.Close()
	}
	d := dialPeer(t, address)
	d.say("AUTH PLAIN AGEAYg==", "504")
	d.say("RCPT TO:<"+at("lucia")+">", "503")
	d.say("DATA", "503")
	// A message in the form of a provider, over a connection in clear.
	msg := b.envelope("prova", at("mario"), at("nessuno"))
	d.say("MAIL FROM:<"+b.at("anna")+"> BODY=8BITMIME", "250")
	d.say("RCPT TO:<"+at("mario")+">", "250")
	d.say("RCPT TO:<"+at("nessuno")+">", "250")
	d.say("RCPT TO:<"+at("Mario")+">", "250") // the same again
	d.data(msg, "250 2.0.0")
	// The same again is answered alike, and dropped.
	d.say("MAIL FROM:<"+b.at("anna")+">", "250")
	d.say("RCPT TO:<"+at("mario")+">", "250")
	d.data(msg, "250 2.0.0")
	d.say("MAIL FROM:<"+b.at("anna")+">", "250")
	d.say("RCPT TO:<"+at("mario")+">", "250")
	d.data([]byte("From: x@y.example\r\n\r\nnot signed\r\n"), "554 5.7.1")
	d.say("QUIT", "221")
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if m := &p.metrics; m.Received.Load() != 1 || m.Duplicates.Load() != 1 || m.Alarms.Load() != 0 || len(w.files("mario")) != 1 {
		t.Errorf("received %d, duplicates %d, mario has %d", m.Received.Load(), m.Duplicates.Load(), len(w.files("mario")))
	}
	if !bytes.Equal(w.files("mario")[0], msg) {
		t.Error("the envelope is not there as it came")
	}
}

// Nothing smuggled, cut short or ended by BDAT gets in; the bounds on an address
// hold until a provider has shown himself.
func TestHostileIncoming(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.incoming = Incoming{Ordinary: func(string) bool { return true }}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	address := p.serveIncoming(t)
	begin := func() *peer {
		d := dialPeer(t, address)
		d.say("MAIL FROM:<x@y.example>", "250")
		d.say("RCPT TO:<lucia@"+domain+">", "250")
		return d
	}
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n\x00.\r\n"} {
		d := begin()
		d.data([]byte("Subject: one\r\n\r\nbody"+end+"MAIL FROM:<x@y.example>\r\nRCPT TO:<lucia@"+domain+">\r\nDATA\r\nSubject: two\r\n\r\nsmuggled\r\n"), "550 5.6.11")
		d.say("MAIL FROM:<x@y.example>", "421 4.5.0") // what was read ahead is not looked at
	}
	d := begin()
	fmt.Fprintf(d, "BDAT 1000 LAST\r\nSubject: cut\r\n\r\n")
	d.Close()
	d = begin()
	d.data(nil, "550 5.6.0")
	d = begin()
	d.data([]byte("Subject: x\r\n"+strings.Repeat("X-Y: "+strings.Repeat("x", 1000)+"\r\n", 300)+"\r\n"), "552 5.3.4")
	d = begin()
	d.data([]byte("Subject: x\r\n\r\n"+strings.Repeat(strings.Repeat("x", 998)+"\r\n", 1100)), "552 5.3.4")
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if n := p.metrics.Received.Load(); n != 0 || len(w.files("lucia")) != 0 {
		t.Errorf("%d were taken", n)
	}
	p.rates = rates.New(rates.Limits{TransactionsPerMinute: 2})
	for range 2 {
		begin().Close()
	}
	dialPeer(t, address).say("MAIL FROM:<x@y.example>", "451 4.7.1")
}

// FuzzClassify judges any message: it is certified only if a provider signed its
// very octets.
func FuzzClassify(f *testing.F) {
	b := newForeign(f, "Beta", "beta.example")
	roots := x509.NewCertPool()
	roots.AddCert(b.ca.Root)
	index := providers.New(&providers.Provider{Name: "Esempio", Domains: []string{domain}, ServiceAddress: "posta-certificata@" + domain}, b.entry)
	p := &Pipeline{index: func() *providers.Index { return index }, log: slog.New(slog.DiscardHandler), incoming: Incoming{Roots: roots, AllowSHA1: true}}
	lucia := "lucia@" + domain
	receipt, err := b.composer.Delivery(b.issue(), b.facts("m1@"+domain), b.at("anna"), pec.Concise, nil)
	signed := map[string]bool{}
	for _, msg := range [][]byte{b.envelope("prova", lucia), b.bytes(receipt, nil, err), b.resigned(b.envelope("x", lucia), func(e string) string { return strings.ReplaceAll(e, "daticert", "x") })} {
		s, err := pec.ReadSigned(bytes.NewReader(msg), pec.Limits{})
		if err != nil {
			f.Fatal(err)
		}
		content, _ := s.ContentDigest(crypto.SHA256)
		signed[string(content)] = true
		f.Add(msg)
	}
	f.Add([]byte("Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=x\r\n\r\n--x\r\n\r\n--x\r\nContent-Transfer-Encoding: base64\r\n\r\nMIA=\r\n--x--\r\n"))
	at := time.Now()
	f.Fuzz(func(t *testing.T, msg []byte) {
		s, err := pec.ReadSigned(bytes.NewReader(msg), pec.Limits{})
		if err != nil {
			return
		}
		v, err := p.classify(t.Context(), s, b.at("anna"), []string{lucia}, at)
		if err != nil {
			t.Fatal(err)
		}
		content, _ := s.ContentDigest(crypto.SHA256)
		if v.class != isOrdinary && !signed[string(content)] {
			t.Fatalf("class %s of what nobody signed", v.class)
		}
		if (v.class == isEnvelope || v.class == isNotification) != (v.fault == nil) || (v.class == isOrdinary || v.class == isMalformed) && v.reason == "" {
			t.Fatalf("verdict %+v", v)
		}
	})
}
