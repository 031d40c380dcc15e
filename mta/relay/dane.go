package relay

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"
)

// DANE asks a DNS server that validates DNSSEC for what proves a mail server's certificate (RFC 7672). Its word (the AD
// bit) is believed, so that it must be on this machine. TLSA records are looked for below the name that the MX record
// has, not below what a CNAME there leads to.
type DANE struct {
	// Server is the address of the DNS server, IP:port.
	Server string
}

// maxTLSA bounds the records of one server that are looked at.
const maxTLSA = 50

// ask sends one question and returns the answer and whether DNSSEC proved it. A name or type that does not exist is a
// [net.DNSError] with IsNotFound.
func (d *DANE) ask(ctx context.Context, name string, kind uint16) (answer []dns.RR, secure bool, err error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), kind)
	m.SetEdns0(4096, true)
	m.AuthenticatedData = true
	failed := func(text string, temporary bool) error {
		return &net.DNSError{Err: text, Name: name, Server: d.Server, IsTemporary: temporary, IsNotFound: !temporary}
	}
	var in *dns.Msg
	for _, network := range []string{"udp", "udp", "tcp"} {
		in, _, err = (&dns.Client{Net: network, Timeout: 5 * time.Second}).ExchangeContext(ctx, m, d.Server)
		if err == nil && !in.Truncated {
			break
		}
		if ctx.Err() != nil {
			break
		}
	}
	switch {
	case err != nil:
		return nil, false, failed(err.Error(), true)
	case in.Truncated:
		return nil, false, failed("the answer is cut short", true)
	case in.Rcode == dns.RcodeNameError:
		return nil, in.AuthenticatedData, failed("no such host", false)
	case in.Rcode != dns.RcodeSuccess:
		return nil, false, failed("the server says "+dns.RcodeToString[in.Rcode], true)
	}
	for _, rr := range in.Answer {
		if rr.Header().Rrtype == kind {
			answer = append(answer, rr)
		}
	}
	if len(answer) == 0 {
		return nil, in.AuthenticatedData, failed("no such record", false)
	}
	return answer, in.AuthenticatedData, nil
}

// mx returns a domain's MX records. secure holds of their absence, too.
func (d *DANE) mx(ctx context.Context, domain string) (mxs []*net.MX, secure bool, err error) {
	found, secure, err := d.ask(ctx, domain, dns.TypeMX)
	for _, rr := range found {
		mx := rr.(*dns.MX)
		mxs = append(mxs, &net.MX{Host: mx.Mx, Pref: mx.Preference})
	}
	return mxs, secure, err
}

// secureHost says whether DNSSEC proves the addresses of a host: where it does not, there is no use in asking for TLSA
// records (RFC 7672 §2.2.2).
func (d *DANE) secureHost(ctx context.Context, host string) bool {
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		if _, secure, err := d.ask(ctx, host, kind); !secure || err != nil && !notFound(err) {
			return false
		}
	}
	return true
}

// tlsaRecords are those of a server, proven.
type tlsaRecords []*dns.TLSA

// records returns the TLSA records of a server; none, if DNSSEC does not prove them. An error means that nobody knows
// whether there are any: the server must not be used then (RFC 7672 §2.1.1).
func (d *DANE) records(ctx context.Context, host, port string) (list tlsaRecords, err error) {
	found, secure, err := d.ask(ctx, "_"+port+"._tcp."+host, dns.TypeTLSA)
	if notFound(err) || err == nil && !secure {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	for _, rr := range found[:min(len(found), maxTLSA)] {
		list = append(list, rr.(*dns.TLSA))
	}
	return list, nil
}

// Usages of a TLSA record that count for mail (RFC 7672 §3.1).
const (
	daneTA = 2 // an authority's certificate
	daneEE = 3 // the server's own
)

// usable says whether we understand a record.
func usable(r *dns.TLSA) bool {
	want := map[uint8]int{0: -1, 1: sha256.Size, 2: sha512.Size}
	size, known := want[r.MatchingType]
	b, err := hex.DecodeString(r.Certificate)
	return known && err == nil && (size < 0 || len(b) == size) && r.Selector <= 1 && (r.Usage == daneTA || r.Usage == daneEE)
}

// matches says whether a record is about a certificate.
func matches(r *dns.TLSA, c *x509.Certificate) bool {
	data := c.Raw
	if r.Selector == 1 {
		data = c.RawSubjectPublicKeyInfo
	}
	var sum []byte
	switch r.MatchingType {
	case 0:
		sum = data
	case 1:
		h := sha256.Sum256(data)
		sum = h[:]
	case 2:
		h := sha512.Sum512(data)
		sum = h[:]
	}
	want, err := hex.DecodeString(r.Certificate)
	return err == nil && string(want) == string(sum)
}

// verify checks a server's certificates. When no record is of use, TLS is needed all the same, with any certificate
// (RFC 7672 §2.2).
func (list tlsaRecords) verify(host string) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the server has no certificate")
		}
		some := false
		for _, r := range list {
			if !usable(r) {
				continue
			}
			some = true
			if r.Usage == daneEE && matches(r, s.PeerCertificates[0]) { // neither name nor time counts (RFC 7672 §3.1.1)
				return nil
			}
			if r.Usage == daneTA && verifyTA(r, host, s.PeerCertificates) == nil {
				return nil
			}
		}
		if some {
			return fmt.Errorf("no TLSA record of %s fits the server's certificate", host)
		}
		return nil
	}
}

// verifyTA checks that the chain which the server sent leads to the record's authority.
func verifyTA(r *dns.TLSA, host string, chain []*x509.Certificate) error {
	roots := x509.NewCertPool()
	found := false
	for _, c := range chain {
		if matches(r, c) {
			roots.AddCert(c)
			found = true
		}
	}
	if r.Selector == 0 && r.MatchingType == 0 { // the record holds the certificate: the server need not send it
		b, _ := hex.DecodeString(r.Certificate)
		if c, err := x509.ParseCertificate(b); err == nil {
			roots.AddCert(c)
			found = true
		}
	}
	if !found {
		return errors.New("the authority's certificate is not there")
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: pool(chain[1:])})
	return err
}
