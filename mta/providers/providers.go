// Package providers is the index of the providers of certified e-mail: which
// domains are certified, and whose certificate signs for them (RFC 6109 §4.5).
//
// An [Index] is a value that does not change; whoever needs the current one asks
// the function that he was given for it, once for each decision, because the
// index is renewed daily while the service runs.
package providers

import (
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"strings"
)

// Provider is one record of the index: a provider's main environment, or one of
// its secondary ones, which has domains, certificates and a service address of
// its own (RFC 6109 §4.5.7).
type Provider struct {
	Name           string   // providerName, as it stands in certificates
	Unit           string   // providerUnit; empty for the main environment
	Domains        []string // managedDomains, lower case
	ServiceAddress string   // mailReceipt: where take-charges and virus detections go
	Certificates   []*x509.Certificate
	LDIF           string // LDIFLocationURL: where the provider publishes its own records
	Description    string
}

// String returns the provider's name, with the environment's behind a slash.
func (p *Provider) String() string {
	if p.Unit == "" {
		return p.Name
	}
	return p.Name + "/" + p.Unit
}

// Signs says whether a certificate is one of those that sign for the record.
func (p *Provider) Signs(c *x509.Certificate) bool {
	return slices.ContainsFunc(p.Certificates, c.Equal)
}

// Manages says whether an address, or a domain after "@", is of the record.
func (p *Provider) Manages(address string) bool {
	return slices.ContainsFunc(p.Domains, func(d string) bool { return strings.EqualFold(d, Domain(address)) })
}

// Index finds providers. It does not change once made.
type Index struct {
	entries       []*Provider
	byDomain      map[string]*Provider
	byCertificate map[[32]byte][]*Provider
	byService     map[string]*Provider
}

// New makes an index of entries. A domain of two entries belongs to the first.
func New(entries ...*Provider) *Index {
	x := &Index{entries, map[string]*Provider{}, map[[32]byte][]*Provider{}, map[string]*Provider{}}
	for _, p := range entries {
		for _, d := range p.Domains {
			if _, taken := x.byDomain[strings.ToLower(d)]; !taken {
				x.byDomain[strings.ToLower(d)] = p
			}
		}
		for _, c := range p.Certificates {
			f := Fingerprint(c)
			x.byCertificate[f] = append(x.byCertificate[f], p)
		}
		if service := strings.ToLower(p.ServiceAddress); service != "" && x.byService[service] == nil {
			x.byService[service] = p
		}
	}
	return x
}

// Fingerprint is the SHA-256 of a certificate, by which the index knows it.
func Fingerprint(c *x509.Certificate) [32]byte { return sha256.Sum256(c.Raw) }

// Entries returns the records in their order. The caller changes nothing in them.
func (x *Index) Entries() []*Provider { return x.entries }

// OfAddress returns the provider of an address's domain: an address is certified
// when its domain is in the index, whether or not the mailbox exists.
func (x *Index) OfAddress(address string) (*Provider, bool) {
	p, ok := x.byDomain[Domain(address)]
	return p, ok
}

// OfCertificate returns the provider that signs with a certificate: of several
// records with it, the first. Whether it signs for a domain, [Index.SignsFor] says.
func (x *Index) OfCertificate(c *x509.Certificate) (*Provider, bool) {
	all := x.byCertificate[Fingerprint(c)]
	if len(all) == 0 {
		return nil, false
	}
	return all[0], true
}

// SignsFor says whether a certificate stands in the record of an address's domain.
// A receipt counts for a recipient only if its signer signs for the recipient.
func (x *Index) SignsFor(c *x509.Certificate, address string) bool {
	p, ok := x.OfAddress(address)
	return ok && p.Signs(c)
}

// OfServiceAddress returns the provider whose mailReceipt an address is.
func (x *Index) OfServiceAddress(address string) (*Provider, bool) {
	p, ok := x.byService[strings.ToLower(address)]
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
