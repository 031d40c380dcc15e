// Package providers is the index of the providers of certified e-mail: which
// domains are certified, and whose certificate signs for them (RFC 6109 §5.1).
//
// In this release the index has one entry, this provider itself: messages pass
// between its own accounts. The signed LDIF and LDAP index of all providers
// fills the same type later.
package providers

import (
	"crypto/sha256"
	"crypto/x509"
	"strings"
)

// Provider is one entry of the index.
type Provider struct {
	Name           string
	Domains        []string // lower case
	ServiceAddress string   // mailReceipt: where take-charges go
	Certificates   [][32]byte
}

// Index finds providers. It does not change once made.
type Index struct {
	byDomain      map[string]*Provider
	byCertificate map[[32]byte]*Provider
}

// New makes an index of entries. A domain of two entries belongs to the first.
func New(entries ...*Provider) *Index {
	x := &Index{map[string]*Provider{}, map[[32]byte]*Provider{}}
	for _, p := range entries {
		for _, d := range p.Domains {
			if _, taken := x.byDomain[strings.ToLower(d)]; !taken {
				x.byDomain[strings.ToLower(d)] = p
			}
		}
		for _, c := range p.Certificates {
			x.byCertificate[c] = p
		}
	}
	return x
}

// Fingerprint is the SHA-256 of a certificate, by which the index knows it.
func Fingerprint(c *x509.Certificate) [32]byte { return sha256.Sum256(c.Raw) }

// OfAddress returns the provider of an address's domain: an address is certified
// when its domain is in the index, whether or not the mailbox exists.
func (x *Index) OfAddress(address string) (*Provider, bool) {
	p, ok := x.byDomain[Domain(address)]
	return p, ok
}

// OfCertificate returns the provider that signs with a certificate.
func (x *Index) OfCertificate(c *x509.Certificate) (*Provider, bool) {
	p, ok := x.byCertificate[Fingerprint(c)]
	return p, ok
}

// Domain returns the domain of an address in lower case, or "" without one.
func Domain(address string) string {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return ""
	}
	return strings.ToLower(address[i+1:])
}
