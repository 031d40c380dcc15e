package providers

import (
	"cmp"
	"crypto/sha1" // the directory names certificates by it: RFC 6109 §4.5.1
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	"scripta/internal/config"
	"scripta/mta/providers/ldif"
)

// Base is the directory's root (RFC 6109 §4.5).
const Base = "o=postacert"

// Attributes of the directory and their object identifiers (RFC 6109 §4.5.1–4.5.7).
const (
	attrHash        = "providerCertificateHash"
	attrCertificate = "providerCertificate"
	attrName        = "providerName"
	attrReceipt     = "mailReceipt"
	attrDomains     = "managedDomains"
	attrLocation    = "LDIFLocationURL"
	attrUnit        = "providerUnit"
	attrDescription = "description"
	attrClass       = "objectClass"
)

// oidArc is the arc of the attributes above, in their order, from 1.
const oidArc = "1.3.6.1.4.1.16572.2.2."

// Directory is what an LDIF file or an LDAP server says.
type Directory struct {
	Root      bool        // the root entry o=postacert is there
	Location  string      // the root's LDIFLocationURL: where the whole directory is
	Providers []*Provider // sorted by name and environment
}

// What is wrong with a record, or with one value of it.
var (
	errUnknown  = errors.New("neither the root o=postacert nor a provider's record: left out")
	errTwice    = errors.New("a record of this provider and environment came before: left out")
	errDN       = errors.New("the dn is not providerName=…,o=postacert nor providerUnit=…,providerName=…,o=postacert: left out")
	errNoDomain = errors.New("no domain that could be read in managedDomains: left out")
	errNoCert   = errors.New("no certificate that could be read, with its hash, in providerCertificate: left out")
)

// Read makes the directory of entries. A record that is wrong is left out, and so
// is a single wrong domain or certificate of an otherwise good one; the faults
// tell of them. A domain that several providers claim belongs to the first by
// name, whatever the order of the entries was.
//
// A certificate counts only beside its SHA-1 in providerCertificateHash: by it
// other providers look for signers.
func Read(entries []*ldif.Entry) (*Directory, []*ldif.Fault) {
	r := &directoryReader{seen: map[string]bool{}}
	for _, e := range entries {
		r.read(normalised(e))
	}
	slices.SortStableFunc(r.Providers, compare)
	r.domains()
	return &r.Directory, r.faults
}

// compare orders records: by name, a provider's main environment first.
func compare(a, b *Provider) int {
	return cmp.Or(cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(strings.ToLower(a.Unit), strings.ToLower(b.Unit)),
		cmp.Compare(a.Name, b.Name), cmp.Compare(a.Unit, b.Unit))
}

type directoryReader struct {
	Directory
	seen   map[string]bool // by dn in lower case
	faults []*ldif.Fault
}

// mostFaults bounds what is remembered of what is wrong.
const mostFaults = 10_000

func (r *directoryReader) fault(e *ldif.Entry, err error) {
	if len(r.faults) >= mostFaults {
		return
	}
	r.faults = append(r.faults, &ldif.Fault{Line: e.Line, DN: e.DN, Err: err})
}

// normalised writes attributes that are given by their object identifiers by name.
func normalised(e *ldif.Entry) *ldif.Entry {
	names := []string{attrHash, attrCertificate, attrName, attrReceipt, attrDomains, attrLocation, attrUnit}
	for i, a := range e.Attributes {
		if n, ok := strings.CutPrefix(a.Type, oidArc); ok && len(n) == 1 && n >= "1" && n <= "7" {
			e.Attributes[i].Type = names[n[0]-'1']
		}
	}
	return e
}

// isProvider says whether an entry says that it is a provider's record.
func isProvider(e *ldif.Entry) bool {
	return slices.ContainsFunc(e.Values(attrClass), func(v []byte) bool { return strings.EqualFold(string(v), "provider") })
}

// place is where an entry stands in the directory.
type place struct {
	root       bool
	name, unit string
}

// placeOf reads a dn.
func placeOf(dn string) (p place, ok bool) {
	parsed, err := ldap.ParseDN(dn)
	if err != nil || len(parsed.RDNs) == 0 || len(parsed.RDNs) > 3 {
		return p, false
	}
	var values []string
	names := [][]string{{"o"}, {"o", "providername"}, {"o", "providername", "providerunit"}}[len(parsed.RDNs)-1]
	for i, name := range names {
		rdn := parsed.RDNs[len(parsed.RDNs)-1-i]
		if len(rdn.Attributes) != 1 || !strings.EqualFold(rdn.Attributes[0].Type, name) {
			return p, false
		}
		values = append(values, strings.TrimSpace(rdn.Attributes[0].Value))
	}
	if !strings.EqualFold(values[0], "postacert") {
		return p, false
	}
	values = append(values, "", "")
	return place{root: len(names) == 1, name: values[1], unit: values[2]}, true
}

func (r *directoryReader) read(e *ldif.Entry) {
	at, ok := placeOf(e.DN)
	switch {
	case ok && at.root:
		r.Root = true
		if v := e.Values(attrLocation); len(v) > 0 {
			r.Location = string(v[0])
		}
		return
	case !isProvider(e):
		r.fault(e, errUnknown)
		return
	case !ok || at.name == "":
		r.fault(e, errDN)
		return
	}
	key := strings.ToLower(at.name + "\x00" + at.unit)
	if r.seen[key] {
		r.fault(e, errTwice)
		return
	}
	p := &Provider{}
	if err := r.record(e, at, p); err != nil {
		r.fault(e, err)
		return
	}
	r.seen[key] = true
	r.Providers = append(r.Providers, p)
}

// record reads a provider's record into p.
func (r *directoryReader) record(e *ldif.Entry, at place, p *Provider) (err error) {
	if p.Name, err = one(e, attrName, true); err != nil {
		return err
	}
	if err := checkName(p.Name); err != nil {
		return fmt.Errorf("providerName %w: left out", err)
	}
	if !strings.EqualFold(p.Name, at.name) {
		r.fault(e, fmt.Errorf("providerName is %q, and the dn says otherwise", p.Name))
	}
	if p.Unit, err = one(e, attrUnit, false); err != nil {
		return err
	}
	if !strings.EqualFold(p.Unit, at.unit) {
		r.fault(e, fmt.Errorf("providerUnit is %q, and the dn says otherwise", p.Unit))
		p.Unit = cmp.Or(at.unit, p.Unit)
	}
	if p.Unit != "" {
		if err := checkName(p.Unit); err != nil {
			return fmt.Errorf("providerUnit %w: left out", err)
		}
	}
	if p.ServiceAddress, err = one(e, attrReceipt, true); err != nil {
		return err
	}
	if !plainAddress(p.ServiceAddress) {
		return fmt.Errorf("mailReceipt %.100q is no plain address: left out", p.ServiceAddress)
	}
	if p.LDIF, err = one(e, attrLocation, false); err != nil {
		return err
	}
	if p.LDIF != "" && p.Unit != "" {
		r.fault(e, errors.New("a secondary environment has no LDIFLocationURL of its own (RFC 6109 §4.5.6)"))
		p.LDIF = ""
	}
	if v := e.Values(attrDescription); len(v) > 0 {
		p.Description = string(v[0])
	}
	r.recordDomains(e, p)
	if len(p.Domains) == 0 {
		return errNoDomain
	}
	r.recordCertificates(e, p)
	if len(p.Certificates) == 0 {
		return errNoCert
	}
	return nil
}

// one returns the only value of an attribute.
func one(e *ldif.Entry, name string, needed bool) (string, error) {
	switch v := e.Values(name); {
	case len(v) == 1 && utf8.Valid(v[0]) && len(v[0]) <= maxText:
		return strings.TrimSpace(string(v[0])), nil
	case len(v) == 0 && !needed:
		return "", nil
	case len(v) == 0:
		return "", fmt.Errorf("no %s: left out", name)
	case len(v) > 1:
		return "", fmt.Errorf("%d values of %s, which has one: left out", len(v), name)
	}
	return "", fmt.Errorf("%s is not UTF-8, or longer than %d bytes: left out", name, maxText)
}

// maxText bounds a text of the directory, in bytes.
const maxText = 1024

func checkName(s string) error {
	if s == "" || utf8.RuneCountInString(s) > 256 || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return fmt.Errorf("%.100q is not a name of 1 to 256 printable characters", s)
	}
	return nil
}

// plainAddress says whether an address is of dot-atoms on both sides (RFC 6109 §4.5.4).
func plainAddress(a string) bool {
	local, domain, ok := strings.Cut(a, "@")
	if !ok || len(a) > 254 || config.CheckDomain(strings.ToLower(domain)) != nil {
		return false
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(c rune) bool {
			return c <= ' ' || c >= 0x7f || strings.ContainsRune(`()<>[]:;@\,."`, c)
		}) {
			return false
		}
	}
	return true
}

func (r *directoryReader) recordDomains(e *ldif.Entry, p *Provider) {
	have := map[string]bool{}
	for _, v := range e.Values(attrDomains) {
		d := strings.ToLower(strings.TrimSpace(string(v)))
		if err := config.CheckDomain(d); err != nil {
			r.fault(e, fmt.Errorf("managedDomains %.100q: %w: the domain is left out", v, err))
		} else if !have[d] {
			have[d] = true
			p.Domains = append(p.Domains, d)
		}
	}
	slices.Sort(p.Domains)
}

func (r *directoryReader) recordCertificates(e *ldif.Entry, p *Provider) {
	hashes := map[string]bool{} // whether its certificate is there
	for _, v := range e.Values(attrHash) {
		h := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(string(v)))
		if b, err := hex.DecodeString(h); err != nil || len(b) != sha1.Size {
			r.fault(e, fmt.Errorf("providerCertificateHash %.100q is no SHA-1 in hexadecimal", v))
			continue
		}
		hashes[h] = false
	}
	for _, v := range e.Values(attrCertificate) {
		c, err := x509.ParseCertificate(v)
		if err != nil {
			r.fault(e, fmt.Errorf("a certificate cannot be read and is left out: %w", err))
			continue
		}
		h := Hash(c)
		if there, ok := hashes[h]; !ok {
			r.fault(e, fmt.Errorf("the certificate with SHA-1 %s is left out: its hash is not in providerCertificateHash", h))
		} else if !there {
			hashes[h] = true
			p.Certificates = append(p.Certificates, c)
		}
	}
	for _, h := range slices.Sorted(maps.Keys(hashes)) {
		if !hashes[h] {
			r.fault(e, fmt.Errorf("no certificate has the providerCertificateHash %s", h))
		}
	}
	slices.SortFunc(p.Certificates, func(a, b *x509.Certificate) int { return cmp.Compare(Hash(a), Hash(b)) })
}

// Hash is the providerCertificateHash of a certificate: its SHA-1, hexadecimal,
// lower case (RFC 6109 §4.5.1).
func Hash(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw)
	return hex.EncodeToString(sum[:])
}

// domains gives each domain to one record, and tells of those that several claim.
func (r *directoryReader) domains() {
	owner := map[string]*Provider{}
	for _, p := range r.Providers {
		p.Domains = slices.DeleteFunc(p.Domains, func(d string) bool {
			first, taken := owner[d]
			if !taken {
				owner[d] = p
				return false
			}
			r.fault(&ldif.Entry{DN: dn(p)}, fmt.Errorf("the domain %s is also of %s, which keeps it", d, first))
			return true
		})
	}
}

// dn returns a record's distinguished name.
func dn(p *Provider) string {
	s := "providerName=" + ldap.EscapeDN(p.Name) + "," + Base
	if p.Unit != "" {
		s = "providerUnit=" + ldap.EscapeDN(p.Unit) + "," + s
	}
	return s
}

// Entries returns the directory as entries, its root first if it has one.
func (d *Directory) Entries() []*ldif.Entry {
	var all []*ldif.Entry
	entry := func(dn string, classes ...string) *ldif.Entry {
		e := &ldif.Entry{DN: dn}
		for _, c := range classes {
			e.Attributes = append(e.Attributes, ldif.Attribute{Type: attrClass, Value: []byte(c)})
		}
		all = append(all, e)
		return e
	}
	if d.Root {
		classes := []string{"top", "organization"}
		if d.Location != "" {
			classes = append(classes, "LDIFLocationURLObject")
		}
		e := entry(Base, classes...)
		e.Attributes = append(e.Attributes, ldif.Attribute{Type: "o", Value: []byte("postacert")})
		add(e, attrLocation, d.Location)
	}
	for _, p := range d.Providers {
		e := entry(dn(p), "top", "provider")
		add(e, attrName, p.Name)
		add(e, attrUnit, p.Unit)
		for _, c := range p.Certificates {
			add(e, attrHash, Hash(c))
		}
		for _, c := range p.Certificates {
			e.Attributes = append(e.Attributes, ldif.Attribute{Type: attrCertificate, Options: "binary", Value: c.Raw})
		}
		add(e, attrReceipt, p.ServiceAddress)
		add(e, attrLocation, p.LDIF)
		for _, x := range p.Domains {
			add(e, attrDomains, x)
		}
		add(e, attrDescription, p.Description)
	}
	return all
}

func add(e *ldif.Entry, name, value string) {
	if value != "" {
		e.Attributes = append(e.Attributes, ldif.Attribute{Type: name, Value: []byte(value)})
	}
}

// LDIF returns the directory as an LDIF file. Two directories that say the same
// of the same providers, in whatever order, have the same file once they were
// read by [Read].
func (d *Directory) LDIF() []byte { return ldif.Encode(d.Entries()...) }

// Digest is the SHA-256 of the directory's LDIF, by which a change is noticed.
func (d *Directory) Digest() [32]byte { return sha256.Sum256(d.LDIF()) }

// Domains returns how many domains the records have.
func (d *Directory) Domains() int {
	n := 0
	for _, p := range d.Providers {
		n += len(p.Domains)
	}
	return n
}
