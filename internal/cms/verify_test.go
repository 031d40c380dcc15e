package cms

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"testing"
	"time"

	"scripta/internal/cms/cmstest"
)

var (
	testContent = []byte("Subject: prova\r\n\r\nTesto di prova.\r\n")
	testAt      = time.Date(2026, 3, 4, 10, 20, 30, 0, time.UTC)
)

// forge is a signature that can be made wrong in any one way; its zero changes
// make a right one. Everything that is not changed is signed properly.
type forge struct {
	ca   *cmstest.CA
	key  crypto.Signer
	cert *x509.Certificate

	eContentType []byte            // encoded
	content      []byte            // attached if not nil
	bag          [][]byte          // encoded certificates
	attrs        map[string][]byte // encoded attributes by name, in no particular order
	more         [][]byte          // further encoded attributes
	unsorted     bool              // send the attributes in reverse order
	bare         bool              // no signed attributes
	digestAlg    oid
	alg          []byte // encoded signature algorithm
	sid          []byte // encoded signer identifier
	signers      int
	spoil        func(sig []byte)
	tail         []byte
}

func newForge(t *testing.T, changes ...func(*x509.Certificate)) *forge {
	t.Helper()
	f := &forge{ca: cmstest.New(t), key: cmstest.ECDSA(t), digestAlg: oidSHA256, signers: 1, eContentType: oidData.der()}
	f.cert = f.ca.Issue(t, f.key.Public(), changes...)
	f.bag = [][]byte{f.cert.Raw, f.ca.Intermediate.Raw}
	digest, hash := sha256.Sum256(testContent), sha256.Sum256(f.cert.Raw)
	f.attrs = map[string][]byte{
		"type":   attribute(oidContentType, oidData.der()),
		"digest": attribute(oidMessageDigest, tlv(tagOctets, digest[:])),
		"time":   attribute(oidSigningTime, must(testAt)),
		"ess":    attribute(oidSigningCertV2, tlv(tagSequence, tlv(tagSequence, tlv(tagSequence, tlv(tagOctets, hash[:]))))),
	}
	f.alg = tlv(tagSequence, oidECDSASHA256.der())
	f.sid = tlv(tagSequence, f.cert.RawIssuer, must(f.cert.SerialNumber))
	return f
}

func must(v any) []byte {
	b, err := asn1.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (f *forge) der(t *testing.T) []byte {
	t.Helper()
	var elements [][]byte
	for _, a := range f.attrs {
		elements = append(elements, a)
	}
	elements = append(elements, f.more...)
	slices.SortFunc(elements, bytes.Compare)
	signed := tlv(tagSet, elements...)
	if f.bare {
		signed = testContent
	}
	digest := sha256.Sum256(signed)
	sig, err := f.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if f.spoil != nil {
		f.spoil(sig)
	}
	if f.unsorted {
		slices.Reverse(elements)
	}
	attrs := tlv(tagContext0, elements...)
	if f.bare {
		attrs = nil
	}
	info := tlv(tagSequence, version1, f.sid, tlv(tagSequence, f.digestAlg.der()), attrs, f.alg, tlv(tagOctets, sig))
	encap := tlv(tagSequence, f.eContentType)
	if f.content != nil {
		encap = tlv(tagSequence, f.eContentType, tlv(tagContext0, tlv(tagOctets, f.content)))
	}
	sd := tlv(tagSequence, version1, digestAlgs, encap, tlv(tagContext0, f.bag...), tlv(tagSet, bytes.Repeat(info, f.signers)))
	return append(tlv(tagSequence, oidSignedData.der(), tlv(tagContext0, sd)), f.tail...)
}

func (f *forge) policy() Policy {
	return Policy{Roots: f.ca.Roots, At: testAt, EKU: x509.ExtKeyUsageEmailProtection, RequireESS: true}
}

func TestEachFailureHasItsError(t *testing.T) {
	t.Parallel()
	usage := func(u x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{u} }
	}
	otherHash := sha256.Sum256([]byte("another certificate"))
	for _, c := range []struct {
		name   string
		cert   func(*x509.Certificate)
		change func(*forge)
		policy func(*Policy)
		want   error
	}{
		{name: "nothing wrong"},
		{name: "attributes in another order", change: func(f *forge) { f.unsorted = true }},
		{name: "no signing time", change: func(f *forge) { delete(f.attrs, "time") }},
		{name: "unknown attribute", change: func(f *forge) { f.more = [][]byte{attribute(oidRSA, must(1))} }},
		{name: "attribute certificate in the bag", change: func(f *forge) { f.bag = append(f.bag, tlv(0xA2, version1)) }},
		{name: "trailing byte", change: func(f *forge) { f.tail = []byte{0} }, want: ErrTrailing},
		{name: "trailing structure", change: func(f *forge) { f.tail = version1 }, want: ErrTrailing},
		{name: "content inside", change: func(f *forge) { f.content = testContent }, want: ErrNotDetached},
		{name: "no signer", change: func(f *forge) { f.signers = 0 }, want: ErrSignerCount},
		{name: "two signers", change: func(f *forge) { f.signers = 2 }, want: ErrSignerCount},
		{name: "no certificate", change: func(f *forge) { f.bag = f.bag[1:] }, want: ErrNoCertificate},
		{name: "signer named as the intermediate", change: func(f *forge) {
			f.sid = tlv(tagSequence, f.ca.Intermediate.RawIssuer, must(f.ca.Intermediate.SerialNumber))
		}, want: ErrSigningCertificate},
		{name: "no signed attributes", change: func(f *forge) { f.bare = true }, want: ErrNoSignedAttributes},
		{name: "empty signed attributes", change: func(f *forge) { f.attrs = nil }, want: ErrNoSignedAttributes},
		{name: "other content type", change: func(f *forge) { f.eContentType = oidSignedData.der() }, want: ErrContentType},
		{name: "content-type attribute says another", change: func(f *forge) { f.attrs["type"] = attribute(oidContentType, oidSignedData.der()) }, want: ErrContentType},
		{name: "no content-type", change: func(f *forge) { delete(f.attrs, "type") }, want: ErrAttribute},
		{name: "content-type of two values", change: func(f *forge) { f.attrs["type"] = attribute(oidContentType, append(oidData.der(), oidData.der()...)) }, want: ErrAttribute},
		{name: "no message-digest", change: func(f *forge) { delete(f.attrs, "digest") }, want: ErrAttribute},
		{name: "message-digest twice", change: func(f *forge) { f.more = [][]byte{attribute(oidMessageDigest, must(otherHash[:]))} }, want: ErrAttribute},
		{name: "message-digest without value", change: func(f *forge) { f.attrs["digest"] = attribute(oidMessageDigest, nil) }, want: ErrAttribute},
		{name: "digest of other content", change: func(f *forge) { f.attrs["digest"] = attribute(oidMessageDigest, must(otherHash[:])) }, want: ErrMessageDigest},
		{name: "signing-time is no time", change: func(f *forge) { f.attrs["time"] = attribute(oidSigningTime, must(1)) }, want: ErrAttribute},
		{name: "signing-certificate of another", change: func(f *forge) {
			f.attrs["ess"] = attribute(oidSigningCertV2, tlv(tagSequence, tlv(tagSequence, tlv(tagSequence, must(otherHash[:])))))
		}, want: ErrSigningCertificate},
		{name: "signing-certificate of SHA-1, another's", change: func(f *forge) {
			f.more = [][]byte{attribute(oidSigningCertificate, tlv(tagSequence, tlv(tagSequence, tlv(tagSequence, must(otherHash[:20])))))}
		}, want: ErrSigningCertificate},
		{name: "signing-certificate with another serial", change: func(f *forge) { f.attrs["ess"] = f.essWithSerial(1) }, want: ErrSigningCertificate},
		{name: "signing-certificate empty", change: func(f *forge) { f.attrs["ess"] = attribute(oidSigningCertV2, tlv(tagSequence, tlv(tagSequence))) }, want: ErrAttribute},
		{name: "signing-certificate with an unknown hash", change: func(f *forge) {
			f.attrs["ess"] = attribute(oidSigningCertV2, tlv(tagSequence, tlv(tagSequence, tlv(tagSequence, tlv(tagSequence, oidRSA.der()), must(otherHash[:])))))
		}, want: ErrAlgorithm},
		{name: "no signing-certificate", change: func(f *forge) { delete(f.attrs, "ess") }, want: ErrNoSigningCertificate},
		{name: "no signing-certificate, none required", change: func(f *forge) { delete(f.attrs, "ess") }, policy: func(p *Policy) { p.RequireESS = false }},
		{name: "only the SHA-1 signing-certificate", change: (*forge).oldESS, want: ErrNoSigningCertificate},
		{name: "only the SHA-1 signing-certificate, allowed", change: (*forge).oldESS, policy: func(p *Policy) { p.AllowSHA1 = true }},
		{name: "unknown digest", change: func(f *forge) { f.digestAlg = oidRSA }, want: ErrAlgorithm},
		{name: "SHA-1 digest", change: func(f *forge) { f.digestAlg = oidSHA1 }, want: ErrWeakDigest},
		{name: "unknown signature algorithm", change: func(f *forge) { f.alg = tlv(tagSequence, oidSHA256.der()) }, want: ErrAlgorithm},
		{name: "signature of another hash", change: func(f *forge) { f.digestAlg = oidSHA512; f.digest512() }, want: ErrAlgorithm},
		{name: "RSA signature with an EC key", change: func(f *forge) { f.alg = tlv(tagSequence, oidRSA.der(), asn1.NullBytes) }, want: ErrAlgorithm},
		{name: "spoilt signature", change: func(f *forge) { f.spoil = func(sig []byte) { sig[len(sig)-1] ^= 1 } }, want: ErrSignature},
		{name: "another's key", change: func(f *forge) { f.key = cmstest.ECDSA(t) }, want: ErrSignature},
		{name: "too many certificates", change: func(f *forge) {
			for range maxCertificates {
				f.bag = append(f.bag, f.ca.Intermediate.Raw)
			}
		}, want: ErrMalformed},
		{name: "expired", cert: func(c *x509.Certificate) { c.NotAfter = testAt.Add(-time.Second) }, want: ErrExpired},
		{name: "expired now, valid then", policy: func(p *Policy) { p.At = cmstest.NotAfter }},
		{name: "not valid yet", cert: func(c *x509.Certificate) { c.NotBefore = testAt.Add(time.Second) }, want: ErrExpired},
		{name: "web server's certificate", cert: usage(x509.ExtKeyUsageServerAuth), want: ErrUsage},
		{name: "web server's certificate, any use", cert: usage(x509.ExtKeyUsageServerAuth), policy: func(p *Policy) { p.EKU = x509.ExtKeyUsageAny }},
		{name: "key for encryption", cert: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, want: ErrUsage},
		{name: "other roots", policy: func(p *Policy) { p.Roots = cmstest.New(t).Roots }, want: ErrUntrusted},
		{name: "no roots", policy: func(p *Policy) { p.Roots = nil }, want: ErrUntrusted},
		{name: "no intermediate", change: func(f *forge) { f.bag = f.bag[:1] }, want: ErrUntrusted},
		{name: "intermediate of ours", change: func(f *forge) { f.bag = f.bag[:1] }, policy: nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var certChanges []func(*x509.Certificate)
			if c.cert != nil {
				certChanges = append(certChanges, c.cert)
			}
			f := newForge(t, certChanges...)
			if c.change != nil {
				c.change(f)
			}
			p := f.policy()
			if c.policy != nil {
				c.policy(&p)
			}
			if c.name == "intermediate of ours" {
				p.Intermediates = x509.NewCertPool()
				p.Intermediates.AddCert(f.ca.Intermediate)
			}
			der := f.der(t)
			s, err := Verify(der, DigestOf(testContent), p)
			if !errors.Is(err, c.want) || (err == nil) != (s != nil) {
				t.Fatalf("%+v, %v; want %v", s, err, c.want)
			}
			// The same as BER: the verdict must not depend on the encoding.
			if _, again := Verify(append(toBER(der[:len(der)-len(f.tail)]), f.tail...), DigestOf(testContent), p); !errors.Is(again, c.want) {
				t.Errorf("as BER: %v; want %v", again, c.want)
			}
		})
	}
}

func (f *forge) essWithSerial(n int) []byte {
	hash := sha256.Sum256(f.cert.Raw)
	issuerSerial := tlv(tagSequence, tlv(tagSequence, tlv(0xA4, f.cert.RawIssuer)), must(n))
	return attribute(oidSigningCertV2, tlv(tagSequence, tlv(tagSequence, tlv(tagSequence, must(hash[:]), issuerSerial))))
}

func (f *forge) oldESS() {
	delete(f.attrs, "ess")
	hash := sha1.Sum(f.cert.Raw)
	f.more = [][]byte{attribute(oidSigningCertificate, tlv(tagSequence, tlv(tagSequence, tlv(tagSequence, must(hash[:])))))}
}

func (f *forge) digest512() {
	d, _ := DigestOf(testContent)(crypto.SHA512)
	f.attrs["digest"] = attribute(oidMessageDigest, must(d))
}

func TestTamperedAttributesAreNoticed(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	der := f.der(t)
	i := bytes.Index(der, []byte("260304102030Z"))
	if i < 0 {
		t.Fatal("no signing time in the signature")
	}
	der[i] = '1'
	if _, err := Verify(der, DigestOf(testContent), f.policy()); !errors.Is(err, ErrSignature) {
		t.Errorf("another signing time: %v", err)
	}
}

func TestNoSingleByteCanChange(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	der := f.der(t)
	want, err := Verify(der, DigestOf(testContent), f.policy())
	if err != nil {
		t.Fatal(err)
	}
	for i := range der {
		b := bytes.Clone(der)
		b[i] ^= 0x01
		got, err := Verify(b, DigestOf(testContent), f.policy())
		// Some bytes say nothing that counts: the version, the outer list of
		// digest algorithms. None may change what is reported.
		if err == nil && (!got.Certificate.Equal(want.Certificate) || got.SigningTime != want.SigningTime || got.Hash != want.Hash || got.ESS != want.ESS) {
			t.Errorf("byte %d changed: %+v", i, got)
		}
	}
}

func TestDigestIsAskedUnderTheSignersHash(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	var asked []crypto.Hash
	_, err := Verify(f.der(t), func(h crypto.Hash) ([]byte, bool) { asked = append(asked, h); return nil, false }, f.policy())
	if !errors.Is(err, ErrNoDigest) || !slices.Equal(asked, []crypto.Hash{crypto.SHA256}) {
		t.Errorf("asked for %v, %v", asked, err)
	}
}

func TestPolicyNeedsATime(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	p := f.policy()
	p.At = time.Time{}
	if s, err := Verify(f.der(t), DigestOf(testContent), p); err == nil {
		t.Errorf("verified at no time: %+v", s)
	}
}

func TestAttachedAndDetachedAreNotMixed(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	if _, _, err := VerifyAttached(f.der(t), f.policy()); !errors.Is(err, ErrNoContent) {
		t.Errorf("detached as attached: %v", err)
	}
	f.content = append([]byte("x"), testContent...)
	if _, _, err := VerifyAttached(f.der(t), f.policy()); !errors.Is(err, ErrMessageDigest) {
		t.Errorf("attached with other content: %v", err)
	}
}

func TestCachedChainSaysNoMoreThanANewOne(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	der, p := f.der(t), f.policy()
	p.Chains = new(ChainCache)
	for range 2 {
		if s, err := Verify(der, DigestOf(testContent), p); err != nil || len(s.Chain) != 3 {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	if len(p.Chains.chains) != 1 {
		t.Errorf("%d chains remembered", len(p.Chains.chains))
	}
	late, web, others := p, p, p
	late.At = cmstest.NotAfter.Add(time.Second)
	web.EKU = x509.ExtKeyUsageServerAuth
	others.Roots = cmstest.New(t).Roots
	for want, p := range map[error]Policy{ErrExpired: late, ErrUsage: web, ErrUntrusted: others} {
		if _, err := Verify(der, DigestOf(testContent), p); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	for i := range 2 * maxChains {
		p.Chains.put(chainKey{eku: x509.ExtKeyUsage(i)}, []*x509.Certificate{f.cert})
	}
	if n := len(p.Chains.chains); n > maxChains {
		t.Errorf("%d chains remembered", n)
	}
}
