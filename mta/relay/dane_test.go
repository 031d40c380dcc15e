package relay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"io"
	"log"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/foxcpp/go-mockdns"
	"github.com/miekg/dns"
)

func tlsa(usage, selector, matching uint8, data []byte) *dns.TLSA {
	switch matching {
	case 1:
		h := sha256.Sum256(data)
		data = h[:]
	case 2:
		h := sha512.Sum512(data)
		data = h[:]
	}
	return &dns.TLSA{Hdr: dns.RR_Header{Name: "_25._tcp.mx.b.example.", Rrtype: dns.TypeTLSA, Class: dns.ClassINET, Ttl: 60}, Usage: usage, Selector: selector, MatchingType: matching, Certificate: hex.EncodeToString(data)}
}

// issued makes an authority and a server's certificate for a name by it.
func issued(t *testing.T, name string) (server tls.Certificate, authority *x509.Certificate) {
	t.Helper()
	ca := certificate(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, ca.Leaf.Raw}, PrivateKey: key, Leaf: leaf}, ca.Leaf
}

func TestDANE(t *testing.T) {
	t.Parallel()
	cert, ca := issued(t, "mx.b.example")
	wrongName, otherCA := issued(t, "other.example")
	other := certificate(t, "mx.b.example")
	pub := cert.Leaf.RawSubjectPublicKeyInfo
	type zones = map[string]mockdns.Zone
	for name, c := range map[string]struct {
		cert    tls.Certificate
		records []*dns.TLSA
		change  func(z zones)
		noTLS   bool
		state   State
		status  string
	}{
		"the server's key":           {cert, []*dns.TLSA{tlsa(3, 1, 1, pub)}, nil, false, Taken, "250"},
		"its certificate":            {cert, []*dns.TLSA{tlsa(3, 0, 2, cert.Leaf.Raw)}, nil, false, Taken, "250"},
		"all of it":                  {cert, []*dns.TLSA{tlsa(3, 0, 0, cert.Leaf.Raw)}, nil, false, Taken, "250"},
		"one of two":                 {cert, []*dns.TLSA{tlsa(3, 1, 1, []byte("old")), tlsa(3, 1, 1, pub)}, nil, false, Taken, "250"},
		"its authority":              {cert, []*dns.TLSA{tlsa(2, 0, 1, ca.Raw)}, nil, false, Taken, "250"},
		"its authority's key":        {cert, []*dns.TLSA{tlsa(2, 1, 2, ca.RawSubjectPublicKeyInfo)}, nil, false, Taken, "250"},
		"another key":                {other, []*dns.TLSA{tlsa(3, 1, 1, pub)}, nil, false, Deferred, "4.7.5"},
		"another authority":          {cert, []*dns.TLSA{tlsa(2, 0, 1, otherCA.Raw)}, nil, false, Deferred, "4.7.5"},
		"authority for another name": {wrongName, []*dns.TLSA{tlsa(2, 0, 1, otherCA.Raw)}, nil, false, Deferred, "4.7.5"},
		"server's key, other name":   {wrongName, []*dns.TLSA{tlsa(3, 1, 1, wrongName.Leaf.RawSubjectPublicKeyInfo)}, nil, false, Taken, "250"},
		"no TLS":                     {cert, []*dns.TLSA{tlsa(3, 1, 1, pub)}, nil, true, Deferred, "4.7.0"},
		"useless record":             {cert, []*dns.TLSA{tlsa(0, 0, 1, []byte("x"))}, nil, false, Taken, "250"},
		"useless record, no TLS":     {cert, []*dns.TLSA{tlsa(1, 0, 1, []byte("x"))}, nil, true, Deferred, "4.7.0"},
		"no record, no TLS":          {cert, nil, nil, true, Taken, "250"},
		"unproven record": {other, []*dns.TLSA{tlsa(3, 1, 1, pub)}, func(z zones) {
			x := z["_25._tcp.mx.b.example."]
			x.AD = false
			z["_25._tcp.mx.b.example."] = x
		}, false, Taken, "250"},
		"unproven MX": {other, []*dns.TLSA{tlsa(3, 1, 1, pub)}, func(z zones) {
			x := z["b.example."]
			x.AD = false
			z["b.example."] = x
		}, false, Taken, "250"},
		"records cannot be read": {cert, nil, func(z zones) { z["_25._tcp.mx.b.example."] = mockdns.Zone{Err: io.ErrUnexpectedEOF} }, false, Deferred, "4.7.5"},
		"MX cannot be read":      {cert, nil, func(z zones) { z["b.example."] = mockdns.Zone{Err: io.ErrUnexpectedEOF} }, false, Deferred, "4.4.3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := zones{"b.example.": {AD: true, MX: []net.MX{{Host: "mx.b.example.", Pref: 1}}}, "mx.b.example.": {AD: true, A: []string{"192.0.2.2"}, AAAA: []string{"2001:db8::2"}}}
			if c.records != nil {
				var rrs []dns.RR
				for _, r := range c.records {
					rrs = append(rrs, r)
				}
				z["_25._tcp.mx.b.example."] = mockdns.Zone{AD: true, Misc: map[dns.Type][]dns.RR{dns.Type(dns.TypeTLSA): rrs}}
			}
			if c.change != nil {
				c.change(z)
			}
			server, err := mockdns.NewServerWithLogger(z, log.New(io.Discard, "", 0), false)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			p := newPeer(t, nil)
			if !c.noTLS {
				p.withTLS(&tls.Config{Certificates: []tls.Certificate{c.cert}})
			}
			n := lan(z, map[string]*peer{"192.0.2.2": p})
			tr := n.transport()
			tr.DANE = &DANE{Server: server.LocalAddr().String()}
			a := one(t, tr.Send(t.Context(), mailTo("a@b.example"), open(text)))
			a.want(t, c.state, c.status, "")
			if (c.state == Taken) != (len(p.taken()) == 1) {
				t.Errorf("%d messages arrived", len(p.taken()))
			}
		})
	}
}
