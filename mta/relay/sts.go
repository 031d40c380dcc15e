package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"sync"
	"time"
)

// Policies finds and keeps the MTA-STS policies of domains (RFC 8461). They are kept in memory: after a restart a
// policy is asked for again. Its methods may be called concurrently.
type Policies struct {
	resolver Resolver
	client   *http.Client
	roots    *x509.CertPool
	now      func() time.Time

	mu   sync.Mutex // guards kept
	kept map[string]*keptPolicy
}

// keptPolicy is what is known of a domain. Its lock is held while its policy is fetched: who needs the same one waits.
type keptPolicy struct {
	mu      sync.Mutex
	id      string
	policy  *stsPolicy // nil: none was found
	expires time.Time
	failed  time.Time // when fetching last failed
}

const (
	maxPolicies = 20_000          // domains that are kept
	fetchAgain  = 5 * time.Minute // after a policy could not be fetched (RFC 8461 §3.3)
	fetchTime   = 20 * time.Second
)

// NewPolicies makes an empty store. Certificates of policy servers and of mail servers must lead to roots; nil are the
// system's.
func NewPolicies(resolver Resolver, dialer Dialer, roots *x509.CertPool) *Policies {
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	if dialer == nil {
		dialer = new(net.Dialer)
	}
	p := &Policies{resolver: resolver, roots: roots, now: time.Now, kept: map[string]*keptPolicy{}}
	p.client = &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: 64 << 10, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return dialHost(ctx, resolver, dialer, network, address)
			}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // RFC 8461 §3.3
	}
	return p
}

// dialHost connects to the first address of a host that answers.
func dialHost(ctx context.Context, r Resolver, d Dialer, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	found, err := r.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	err = errors.New("no address")
	for _, ip := range found[:min(len(found), 4)] {
		var c net.Conn
		if c, err = d.DialContext(ctx, network, net.JoinHostPort(ip.String(), port)); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// policy returns the policy that a domain's mail goes by, or nil. One that is kept holds until it expires, whatever DNS
// says meanwhile: who can hide the TXT record must not get rid of it.
func (p *Policies) policy(ctx context.Context, domain string) *stsPolicy {
	records, err := p.resolver.LookupTXT(ctx, "_mta-sts."+domain)
	id, published := stsID(records)
	if err != nil {
		published = false
	}
	k := p.entry(domain, published)
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := p.now()
	if k.policy != nil && !now.Before(k.expires) {
		k.policy, k.id = nil, ""
	}
	if published && (k.policy == nil || k.id != id) && now.Sub(k.failed) >= fetchAgain {
		found, err := p.fetch(ctx, domain)
		if err != nil {
			k.failed = now
		} else {
			k.id, k.policy, k.expires, k.failed = id, found, now.Add(found.maxAge), time.Time{}
		}
	}
	return k.policy
}

// entry is what is known of a domain; a new one is made only if a policy is published.
func (p *Policies) entry(domain string, published bool) *keptPolicy {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.kept[domain]
	if k == nil && published {
		if len(p.kept) >= maxPolicies {
			for other := range p.kept { // any one: it is fetched again when it is needed
				delete(p.kept, other)
				break
			}
		}
		k = new(keptPolicy)
		p.kept[domain] = k
	}
	return k
}

// fetch asks the domain's policy server.
func (p *Policies) fetch(ctx context.Context, domain string) (*stsPolicy, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://mta-sts."+domain+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the policy server answers %s", resp.Status)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "text/plain" {
		return nil, fmt.Errorf("%w: it is %.100q", errPolicy, resp.Header.Get("Content-Type"))
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPolicy+1))
	if err != nil {
		return nil, err
	}
	return parsePolicy(string(b))
}

// verify checks a mail server's certificate as RFC 8461 §4.2 says.
func (p *Policies) verify(host string) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the server has no certificate")
		}
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: host, Roots: p.roots, Intermediates: pool(s.PeerCertificates[1:]), CurrentTime: p.now()})
		return err
	}
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	all := x509.NewCertPool()
	for _, c := range certs {
		all.AddCert(c)
	}
	return all
}
