package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// NoLegalValue is the organizational unit of every certificate of a
// quickstart.
const NoLegalValue = "Scripta quickstart - TEST, no legal value"

// Validity of what a quickstart issues.
const (
	authorityYears = 10
	signingYears   = 3   // as certificates issued for PEC
	tsuYears       = 5   // a token outlives its day
	tlsDays        = 820 // mail clients refuse more than 825
)

// QuickstartConfig is what the certificates of a quickstart say.
type QuickstartConfig struct {
	Domain   string    // certified domain
	Provider string    // provider's name, at most 64 characters
	LogID    string    // last part of the log's origin; see NewLogID
	Now      time.Time // the certificates are valid from one hour before
}

// A Pair is a certificate and its key.
type Pair struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// Quickstart is everything that signs for a provider without accreditation.
// Three authorities keep the purposes apart: what is trusted for one is not
// for another.
type Quickstart struct {
	PECAuthority, TLSAuthority, TSAAuthority Pair

	PEC Pair // signs envelopes and receipts, RSA-2048 (RFC 6109 §5.5)
	TLS Pair // SMTPS, HTTPS, IMAPS, POP3S; ECDSA P-256
	TSU Pair // the embedded time-stamp unit, ECDSA P-256

	LogSigner   string // note signer key, a secret
	LogVerifier string // note verifier key (vkey), to be published
}

// NewLogID returns 8 random hexadecimal digits.
func NewLogID() string {
	var b [4]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// NewQuickstart makes all keys and certificates. It takes about half a second
// of one core and touches no file.
func NewQuickstart(c QuickstartConfig) (*Quickstart, error) {
	var q Quickstart
	steps := []struct {
		what string
		make func() error
	}{
		{"the PEC authority", func() (err error) { q.PECAuthority, err = pecAuthority(c); return }},
		{"the PEC signing certificate", func() (err error) { q.PEC, err = pecSigner(c, q.PECAuthority); return }},
		{"the TLS authority", func() (err error) { q.TLSAuthority, err = tlsAuthority(c); return }},
		{"the TLS certificate", func() (err error) { q.TLS, err = tlsServer(c, q.TLSAuthority); return }},
		{"the time-stamp authority", func() (err error) { q.TSAAuthority, err = tsaAuthority(c); return }},
		{"the time-stamp unit", func() (err error) { q.TSU, err = tsu(c, q.TSAAuthority); return }},
		{"the log's key", func() (err error) {
			q.LogSigner, q.LogVerifier, err = note.GenerateKey(rand.Reader, c.Domain+"/scripta/"+c.LogID)
			return
		}},
	}
	for _, s := range steps {
		if err := s.make(); err != nil {
			return nil, fmt.Errorf("couldn't make %s: %w", s.what, err)
		}
	}
	return &q, nil
}

func pecAuthority(c QuickstartConfig) (Pair, error) {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return Pair{}, err
	}
	t := authority(c, "Scripta quickstart PEC CA")
	t.PermittedEmailAddresses = []string{c.Domain}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	return issue(t, key, Pair{})
}

// pecSigner issues the certificate of RFC 6109 §5.5: the provider's name in
// the organization, the service address in subjectAltName and not in the
// subject, a critical keyUsage with digitalSignature, both key identifiers,
// no basicConstraints, and nothing else critical.
func pecSigner(c QuickstartConfig, by Pair) (Pair, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return Pair{}, err
	}
	t := leaf(c, "Posta Certificata")
	t.NotAfter = c.Now.AddDate(signingYears, 0, 0)
	t.EmailAddresses = []string{"posta-certificata@" + c.Domain}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	return issue(t, key, by)
}

// tlsAuthority is constrained to the provider's own names, so that nobody who
// trusts it in a browser gives away more than them.
func tlsAuthority(c QuickstartConfig) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	t := authority(c, "Scripta quickstart TLS CA")
	t.PermittedDNSDomainsCritical = true
	t.PermittedDNSDomains = []string{c.Domain, "localhost"}
	t.PermittedIPRanges = []*net.IPNet{
		{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
		{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
	}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return issue(t, key, Pair{})
}

func tlsServer(c QuickstartConfig, by Pair) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	t := leaf(c, "Scripta quickstart TLS")
	t.NotAfter = c.Now.AddDate(0, 0, tlsDays)
	t.DNSNames = []string{c.Domain, "localhost"}
	t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return issue(t, key, by)
}

func tsaAuthority(c QuickstartConfig) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	t := authority(c, "Scripta quickstart TSA CA - NOT QUALIFIED")
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}
	return issue(t, key, Pair{})
}

// tsu issues the certificate of RFC 3161 §2.3: timeStamping is its only
// extended key usage, and critical.
func tsu(c QuickstartConfig, by Pair) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	t := leaf(c, "Scripta quickstart TSU - NOT QUALIFIED")
	t.NotAfter = c.Now.AddDate(tsuYears, 0, 0)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	eku, err := criticalTimeStamping()
	if err != nil {
		return Pair{}, err
	}
	t.ExtraExtensions = append(t.ExtraExtensions, eku)
	return issue(t, key, by)
}
