package cms

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"
)

// maxChains is how many chains a ChainCache keeps. A few dozen providers exist.
const maxChains = 1024

// ChainCache remembers the chains that [VerifyChain] found, because a peer
// signs thousands of messages with one certificate and its issuers' large RSA
// keys cost more than the message's own signature. Failures are not remembered.
//
// A remembered chain answers only for the same certificate, pools and use, and
// only at times at which each of its certificates is valid, so that it never
// says more than a new verification would. The zero value is ready; it is safe
// for concurrent use. Take new pools, or a new cache, when a root loses trust.
type ChainCache struct {
	mu     sync.Mutex
	chains map[chainKey]validChain
}

type chainKey struct {
	cert                 [sha256.Size]byte
	roots, intermediates *x509.CertPool
	eku                  x509.ExtKeyUsage
}

type validChain struct {
	certs    []*x509.Certificate
	from, to time.Time
}

func keyOf(cert *x509.Certificate, p Policy) chainKey {
	return chainKey{sha256.Sum256(cert.Raw), p.Roots, p.Intermediates, p.EKU}
}

func (c *ChainCache) get(k chainKey, at time.Time) ([]*x509.Certificate, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.chains[k]
	if !ok || at.Before(v.from) || at.After(v.to) {
		return nil, false
	}
	return v.certs, true
}

func (c *ChainCache) put(k chainKey, certs []*x509.Certificate) {
	v := validChain{certs: certs, from: certs[0].NotBefore, to: certs[0].NotAfter}
	for _, cert := range certs[1:] {
		if cert.NotBefore.After(v.from) {
			v.from = cert.NotBefore
		}
		if cert.NotAfter.Before(v.to) {
			v.to = cert.NotAfter
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chains == nil || len(c.chains) >= maxChains {
		c.chains = make(map[chainKey]validChain)
	}
	c.chains[k] = v
}
