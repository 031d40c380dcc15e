package relay

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

func certified(rcpts ...string) *Letter {
	l := mailTo(rcpts...)
	l.Certified = true
	return l
}

// Towards a provider the connection is encrypted, whatever the certificate, and the record can say how.
func TestCertifiedOverTLS(t *testing.T) {
	t.Parallel()
	cert := certificate(t, "somebody.else.example")
	for version, name := range map[uint16]string{tls.VersionTLS12: "TLS 1.2", tls.VersionTLS13: "TLS 1.3"} {
		p := newPeer(t, nil).withTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version})
		a := one(t, direct(p).Send(t.Context(), certified("a@b.example"), open(text)))
		a.want(t, Taken, "250", "")
		sum := sha256.Sum256(cert.Certificate[0])
		if a.Peer.TLS != name || !strings.HasPrefix(a.Peer.Cipher, "TLS_") || !bytes.Equal(a.Peer.Certificate, sum[:]) || a.Peer.Address != p.address {
			t.Errorf("%s: the peer is %+v", name, a.Peer)
		}
		if got := p.taken(); len(got) != 1 || !got[0].tls || string(got[0].data) != text {
			t.Errorf("%s: arrived: %+v", name, got)
		}
	}
}

// A provider whose server has only suites without forward secrecy is talked to all the same.
func TestCertifiedWithAnOldSuite(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, nil).withTLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_256_CBC_SHA}})
	a := one(t, direct(p).Send(t.Context(), certified("a@b.example"), open(text)))
	if a.want(t, Taken, "250", ""); a.Peer.Cipher != "TLS_RSA_WITH_AES_256_CBC_SHA" {
		t.Errorf("the peer is %+v", a.Peer)
	}
}

// Without TLS nothing is said to a provider that is about the message.
func TestCertifiedNeverInTheClear(t *testing.T) {
	t.Parallel()
	plain := newPeer(t, nil)
	helo := newPeer(t, map[string]string{"EHLO": "502 what?"})
	refuses := newPeer(t, nil).withTLS(&tls.Config{})
	refuses.say("STARTTLS", "454 4.7.0 no certificate today")
	old := newPeer(t, nil).withTLS(&tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	broken := newPeer(t, nil).withTLS(nil)
	for name, c := range map[string]struct {
		p    *peer
		part string
	}{
		"not offered": {plain, "does not offer STARTTLS"}, "HELO": {helo, "does not offer STARTTLS"}, "refused": {refuses, "no certificate today"},
		"too old": {old, "no TLS connection"}, "broken": {broken, "no TLS connection"},
	} {
		r := direct(c.p).Send(t.Context(), certified("a@b.example"), open(text))
		a := one(t, r)
		if a.State != Deferred || !strings.Contains(a.Text, c.part) || !strings.HasPrefix(a.Status(), "4.7.") || !r.Unreachable {
			t.Errorf("%s: %+v", name, a)
		}
		if c.p.heard("MAIL") || len(c.p.taken()) != 0 {
			t.Errorf("%s: MAIL in the clear", name)
		}
	}
}

// Towards ordinary domains TLS is taken where it works, and what does not work is done without (RFC 7435).
func TestOrdinaryTakesTLSWhereItWorks(t *testing.T) {
	t.Parallel()
	works := newPeer(t, nil).withTLS(&tls.Config{Certificates: []tls.Certificate{certificate(t)}})
	refuses := newPeer(t, nil).withTLS(&tls.Config{})
	refuses.say("STARTTLS", "454 4.7.0 no certificate today")
	broken := newPeer(t, nil).withTLS(&tls.Config{}) // without a certificate every handshake fails
	for name, c := range map[string]struct {
		p   *peer
		tls bool
	}{"works": {works, true}, "refused": {refuses, false}, "broken": {broken, false}} {
		a := one(t, direct(c.p).Send(t.Context(), mailTo("a@b.example"), open(text)))
		a.want(t, Taken, "250", "")
		if got := c.p.taken(); len(got) != 1 || got[0].tls != c.tls || (a.Peer.TLS != "") != c.tls {
			t.Errorf("%s: arrived %+v, peer %+v", name, got, a.Peer)
		}
	}
}

// Who sits between us and the server cannot put replies before the handshake that count after it (CVE-2011-0411, on
// the client's side).
func TestNothingIsTakenOverTheHandshake(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil).withTLS(&tls.Config{Certificates: []tls.Certificate{certificate(t)}})
	p.say("STARTTLS", "220 go on\n250 injected")
	a := one(t, direct(p).Send(t.Context(), certified("a@b.example"), open(text)))
	a.want(t, Deferred, "4.7.5", "went on talking")
	if p.heard("MAIL") {
		t.Error("it went on")
	}
}

// What the server offered in the clear does not count under TLS.
func TestHelloIsSaidAgain(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil).withTLS(&tls.Config{Certificates: []tls.Certificate{certificate(t)}})
	p.say("EHLO", "250-peer.example\n250-STARTTLS\n250-8BITMIME\n250 SIZE 1")
	p.say("TLS EHLO", "250 peer.example")
	l := certified("a@b.example")
	one(t, direct(p).Send(t.Context(), l, open(text))).want(t, Taken, "250", "")
	l.EightBit = true
	one(t, direct(p).Send(t.Context(), l, open(text))).want(t, Refused, "5.6.3", "")
}

// A server that says nothing in the handshake is left.
func TestSilentHandshake(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "220 x\r\n250-x\r\n250 STARTTLS\r\n220 go on\r\n")
			go func() { _, _ = io.Copy(io.Discard, c) }()
		}
	}()
	tr := &Transport{Name: "me.example", Routes: Routes{"*": {l.Addr().String()}}, Timeouts: quick()}
	tr.Timeouts.TLS = 1
	a := one(t, tr.Send(t.Context(), certified("a@b.example"), open(text)))
	if a.State != Deferred {
		t.Errorf("%+v", a)
	}
}
