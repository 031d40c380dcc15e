package cms

import (
	"crypto"
	_ "crypto/sha1" // linked for peers that still sign under SHA-1
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	// MaxDetached is the largest detached signature that Verify reads, in bytes.
	// Those of certified mail have 2 to 8 KiB.
	MaxDetached = 1 << 20
	// MaxAttached is the largest file that VerifyAttached reads, in bytes. The
	// index of providers lists every certified domain.
	MaxAttached = 64 << 20
)

// Policy is what a signature must satisfy beyond its arithmetic.
type Policy struct {
	// Roots are the trusted roots. Nil trusts nobody: the system's roots are never used.
	Roots *x509.CertPool
	// Intermediates may help to reach a root, beside the certificates that the signature brings.
	Intermediates *x509.CertPool
	// At is the time at which the whole chain must be valid; it must be set. For
	// mail it is the time of receipt: what a signer says of himself counts for nothing.
	At time.Time
	// EKU is the use that the certificate must have been issued for. The zero value accepts any.
	EKU x509.ExtKeyUsage
	// RequireESS refuses signatures without the signing-certificate-v2 attribute;
	// with AllowSHA1 the older signing-certificate attribute will do.
	RequireESS bool
	// AllowSHA1 accepts digests and signatures under SHA-1. Providers still sent
	// them at the end of 2024. Certificates signed under SHA-1 stay refused.
	AllowSHA1 bool
	// Chains, if not nil, is asked before a chain is built, and told what was built.
	Chains *ChainCache
}

// Signature is what is known of a verified signature.
type Signature struct {
	Certificate *x509.Certificate   // the signer
	Chain       []*x509.Certificate // the signer first, the trusted root last
	SigningTime time.Time           // what the signer claims; zero if nothing
	Hash        crypto.Hash         // digest of the content
	ESS         bool                // a signing-certificate-v2 attribute binds the certificate
	ESSv1       bool                // the older signing-certificate attribute does, by a SHA-1
}

// Verify verifies a detached signature over a content of type id-data, DER or
// BER, of at most [MaxDetached] bytes. It calls digest once, for the content's
// digest under the hash that the signer used, and fails with [ErrNoDigest] if
// that answers false.
//
// The content must not be inside the signature, and the signature must be by
// one signer, over signed attributes. The order of the checks is: structure,
// signer, attributes, digest, signature, chain at p.At, use.
func Verify(sig []byte, digest func(crypto.Hash) ([]byte, bool), p Policy) (*Signature, error) {
	sd, err := Parse(sig, MaxDetached)
	if err != nil {
		return nil, err
	}
	if sd.Attached {
		return nil, ErrNotDetached
	}
	return sd.verify(digest, p)
}

// VerifyAttached verifies a signature that carries its content, of type
// id-data (.p7m, DER or BER, not base64), of at most [MaxAttached] bytes, and
// returns the content.
func VerifyAttached(p7m []byte, p Policy) ([]byte, *Signature, error) {
	sd, err := Parse(p7m, MaxAttached)
	if err != nil {
		return nil, nil, err
	}
	if !sd.Attached {
		return nil, nil, ErrNoContent
	}
	s, err := sd.verify(DigestOf(sd.Content), p)
	if err != nil {
		return nil, nil, err
	}
	return sd.Content, s, nil
}

// DigestOf answers for the digests of a content that is in memory.
func DigestOf(content []byte) func(crypto.Hash) ([]byte, bool) {
	return func(h crypto.Hash) ([]byte, bool) {
		if !h.Available() {
			return nil, false
		}
		d := h.New()
		d.Write(content)
		return d.Sum(nil), true
	}
}

func (sd *SignedData) verify(digest func(crypto.Hash) ([]byte, bool), p Policy) (*Signature, error) {
	s, err := sd.VerifySigner(idData(), digest, nil, p.AllowSHA1)
	if err != nil {
		return nil, err
	}
	if p.RequireESS && !s.ESS && !(p.AllowSHA1 && s.ESSv1) {
		return nil, ErrNoSigningCertificate
	}
	if s.Chain, err = VerifyChain(s.Certificate, sd.Certificates, p); err != nil {
		return nil, err
	}
	return s, nil
}

// VerifySigner checks everything but the trust in the certificate: that one
// signer signed, with which certificate (of the bag, or of extra), the signed
// attributes, the content's type and digest, the signing-certificate attributes
// where there are any, and the signature. The chain is left empty.
func (sd *SignedData) VerifySigner(contentType asn1.ObjectIdentifier, digest func(crypto.Hash) ([]byte, bool),
	extra []*x509.Certificate, allowSHA1 bool) (*Signature, error) {
	if len(sd.signers) != 1 {
		return nil, ErrSignerCount
	}
	si := &sd.signers[0]
	cert, err := sd.certificate(si, extra)
	if err != nil {
		return nil, err
	}
	if !sd.ContentType.Equal(contentType) {
		return nil, fmt.Errorf("%w: %v, expected %v", ErrContentType, sd.ContentType, contentType)
	}
	hash := hashOf(si.digestAlgorithm.oid)
	switch {
	case hash == 0:
		return nil, fmt.Errorf("%w: digest %v", ErrAlgorithm, si.digestAlgorithm.oid)
	case hash == crypto.SHA1 && !allowSHA1:
		return nil, ErrWeakDigest
	}
	if len(si.attributes) == 0 {
		return nil, ErrNoSignedAttributes
	}
	attrs, err := parseAttributes(si.attributes)
	if err != nil {
		return nil, err
	}
	s := &Signature{Certificate: cert, Hash: hash}
	var typ oid
	if !readOID(&attrs.contentType, &typ) || !attrs.contentType.Empty() {
		return nil, fmt.Errorf("%w: content-type missing or malformed", ErrAttribute)
	}
	if want, err := asn1.Marshal(contentType); err != nil || string(want[2:]) != string(typ) {
		return nil, fmt.Errorf("%w: the attribute says %v", ErrContentType, typ)
	}
	var signed cryptobyte.String
	if !attrs.messageDigest.ReadASN1(&signed, cbasn1.OCTET_STRING) || !attrs.messageDigest.Empty() {
		return nil, fmt.Errorf("%w: message-digest missing or malformed", ErrAttribute)
	}
	if s.SigningTime, err = parseSigningTime(attrs.signingTime); err != nil {
		return nil, err
	}
	computed, ok := digest(hash)
	if !ok {
		return nil, fmt.Errorf("%w: %v", ErrNoDigest, hash)
	}
	if subtle.ConstantTimeCompare(signed, computed) != 1 {
		return nil, ErrMessageDigest
	}
	if err := attrs.bind(cert); err != nil {
		return nil, err
	}
	s.ESS, s.ESSv1 = attrs.signingCertV2 != nil, attrs.signingCert != nil
	if err := checkKey(cert.PublicKey); err != nil {
		return nil, err
	}
	return s, verifyAttributes(cert, si, hash)
}

// VerifyChain builds a chain from cert to one of p.Roots that is valid at p.At
// for p.EKU, with the help of bag, and returns it, cert first. A key usage, if
// the certificate has one, must allow signatures (RFC 8550 §4.4.2). Errors:
// [ErrExpired], [ErrUsage], [ErrWeakKey], [ErrUntrusted], each with the cause
// that crypto/x509 gives.
func VerifyChain(cert *x509.Certificate, bag []*x509.Certificate, p Policy) ([]*x509.Certificate, error) {
	if p.At.IsZero() {
		return nil, errors.New("cms: Policy.At is not set")
	}
	var key chainKey
	if p.Chains != nil {
		key = keyOf(cert, p)
		if chain, ok := p.Chains.get(key, p.At); ok {
			return chain, nil
		}
	}
	const signs = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	if cert.KeyUsage != 0 && cert.KeyUsage&signs == 0 {
		return nil, fmt.Errorf("%w: its key usage does not allow signatures", ErrUsage)
	}
	opts := x509.VerifyOptions{Roots: p.Roots, Intermediates: p.Intermediates, CurrentTime: p.At, KeyUsages: []x509.ExtKeyUsage{p.EKU}}
	if opts.Roots == nil {
		opts.Roots = x509.NewCertPool()
	}
	if len(bag) > 0 {
		if opts.Intermediates == nil {
			opts.Intermediates = x509.NewCertPool()
		} else {
			opts.Intermediates = opts.Intermediates.Clone()
		}
		for _, c := range bag {
			opts.Intermediates.AddCert(c)
		}
	}
	chains, err := cert.Verify(opts)
	if err != nil {
		return nil, chainError(err)
	}
	for _, chain := range chains {
		err = nil
		for _, c := range chain {
			if err = checkKey(c.PublicKey); err != nil {
				break
			}
		}
		if err == nil {
			if p.Chains != nil {
				p.Chains.put(key, chain)
			}
			return chain, nil
		}
	}
	return nil, err
}

// chainError sorts what crypto/x509 says of a chain.
func chainError(err error) error {
	kind := ErrUntrusted
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason {
		case x509.Expired:
			kind = ErrExpired
		case x509.IncompatibleUsage:
			kind = ErrUsage
		}
	}
	return fmt.Errorf("%w: %w", kind, err)
}
