package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"
)

// Signer makes signatures with one key and certificate. All that does not
// change from one signature to the next is encoded once, so that a signature
// costs the key operation and a few microseconds. It is immutable and safe for
// concurrent use if the key is.
type Signer struct {
	key    crypto.Signer
	cert   *x509.Certificate
	maxSig int // longest signature value the key makes

	head     []byte // SignedData before signerInfos, detached id-data
	certs    []byte // SignedData.certificates
	id       []byte // SignerInfo: version, sid, digestAlgorithm
	typeData []byte // content-type attribute of id-data
	ess      []byte // signing-certificate-v2 attribute
	alg      []byte // SignerInfo.signatureAlgorithm
}

// Encoded values that are the same for every signer.
var (
	version1   = []byte{tagInteger, 1, 1}
	version3   = []byte{tagInteger, 1, 3}
	algSHA256  = tlv(tagSequence, oidSHA256.der()) // parameters absent, RFC 5754 §2
	digestAlgs = tlv(tagSet, algSHA256)
	timeHead   = oidSigningTime.der()
	digestHead = append(tlv(tagOID, []byte(oidMessageDigest)), tagSet, sha256.Size+2, tagOctets, sha256.Size)
)

// maxTime is the length of an encoded GeneralizedTime; a UTCTime has two bytes less.
const maxTime = 17

// NewSigner prepares signatures by key, whose certificate is cert. The chain is
// put into every signature after the certificate: issuer first, roots may be
// left out. The key may be any crypto.Signer (an HSM, too) of RSA of at least
// 2048 bits, which signs as PKCS #1 v1.5 under rsaEncryption as RFC 3370 §3.2
// wants, or of ECDSA on P-256, P-384 or P-521; the hash is SHA-256.
//
// It fails if the key is not the certificate's ([x509.Certificate.PublicKey]),
// if it is weak ([ErrWeakKey]) or of another kind ([ErrAlgorithm]), and if a
// certificate of the chain did not issue the one before it.
func NewSigner(key crypto.Signer, cert *x509.Certificate, chain ...*x509.Certificate) (*Signer, error) {
	if key == nil || cert == nil {
		return nil, errors.New("cms: a signer needs a key and a certificate")
	}
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return nil, fmt.Errorf("cms: the key does not belong to the certificate of %q", cert.Subject)
	}
	if err := checkKey(cert.PublicKey); err != nil {
		return nil, err
	}
	s := &Signer{key: key, cert: cert}
	switch k := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		s.maxSig = k.Size()
		s.alg = tlv(tagSequence, oidRSA.der(), asn1.NullBytes)
	case *ecdsa.PublicKey:
		n := (k.Curve.Params().BitSize + 7) / 8
		s.maxSig = tlvLen(2 * tlvLen(n+1))
		s.alg = tlv(tagSequence, oidECDSASHA256.der())
	}
	all := [][]byte{cert.Raw}
	for i, issued := 0, cert; i < len(chain); i++ {
		if err := issued.CheckSignatureFrom(chain[i]); err != nil {
			return nil, fmt.Errorf("cms: %q in the chain did not issue %q: %w", chain[i].Subject, issued.Subject, err)
		}
		issued = chain[i]
		all = append(all, issued.Raw)
	}
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return nil, fmt.Errorf("cms: encode the serial number of %q: %w", cert.Subject, err)
	}
	hash := sha256.Sum256(cert.Raw)
	// SigningCertificateV2 { certs { ESSCertIDv2 { certHash } } }: SHA-256 is the default and stays unwritten.
	signingCert := tlv(tagSequence, tlv(tagSequence, tlv(tagSequence, tlv(tagOctets, hash[:]))))

	s.certs = tlv(tagContext0, all...)
	s.head = concat(version1, digestAlgs, tlv(tagSequence, oidData.der()), s.certs)
	s.id = concat(version1, tlv(tagSequence, cert.RawIssuer, serial), algSHA256)
	s.typeData = attribute(oidContentType, oidData.der())
	s.ess = attribute(oidSigningCertV2, signingCert)
	return s, nil
}

// Certificate returns the signer's certificate.
func (s *Signer) Certificate() *x509.Certificate { return s.cert }

// MaxSize returns the largest length in bytes of what Sign returns.
func (s *Signer) MaxSize() int {
	attrs := len(s.typeData) + tlvLen(len(timeHead)+tlvLen(maxTime)) + tlvLen(len(digestHead)+sha256.Size) + len(s.ess)
	return s.assembledLen(len(s.head), attrs, s.maxSig)
}

// Sign returns the DER of a detached CAdES-BES signature over the content whose
// SHA-256 is digest. The signing-time attribute is at, to the second, which
// must lie between the years 1950 and 9999.
func (s *Signer) Sign(digest [sha256.Size]byte, at time.Time) ([]byte, error) {
	return s.sign(s.typeData, digest, at, s.head)
}

// SignAttached returns the DER of a CAdES-BES signature that carries content: a
// .p7m file. See [Signer.Sign] for at.
func (s *Signer) SignAttached(content []byte, at time.Time) ([]byte, error) {
	return s.Encapsulate(idData(), content, at, true)
}

// Encapsulate is SignAttached for a content of another type, for instance the
// TSTInfo of a time-stamp token; withCertificates false leaves the certificates out.
func (s *Signer) Encapsulate(contentType asn1.ObjectIdentifier, content []byte, at time.Time, withCertificates bool) ([]byte, error) {
	typ, err := asn1.Marshal(contentType)
	if err != nil {
		return nil, fmt.Errorf("cms: encode content type %v: %w", contentType, err)
	}
	if len(typ) >= maxTime-2 {
		return nil, fmt.Errorf("cms: content type %v is too long", contentType) // the order of the attributes would change
	}
	version := version1
	if string(typ[2:]) != string(oidData) {
		version = version3 // RFC 5652 §5.1
	}
	var certs []byte
	if withCertificates {
		certs = s.certs
	}
	octets := tlvLen(len(content))
	encap := appendHeader(nil, tagSequence, len(typ)+tlvLen(octets))
	encap = append(encap, typ...)
	encap = appendHeader(encap, tagContext0, octets)
	encap = appendHeader(encap, tagOctets, len(content))
	return s.sign(attribute(oidContentType, typ), sha256.Sum256(content), at, version, digestAlgs, encap, content, certs)
}

// sign signs the attributes and puts the SignedData together, whose fields
// before signerInfos are head.
func (s *Signer) sign(typeAttr []byte, digest [sha256.Size]byte, at time.Time, head ...[]byte) ([]byte, error) {
	when, err := encodeTime(at)
	if err != nil {
		return nil, err
	}
	// In this order the attributes are a DER set: each encoding is longer than
	// the one before, and so the second byte, the length, decides.
	n := len(typeAttr) + tlvLen(len(timeHead)+tlvLen(len(when))) + tlvLen(len(digestHead)+len(digest)) + len(s.ess)
	attrs := appendHeader(make([]byte, 0, tlvLen(n)), tagSet, n)
	attrs = append(attrs, typeAttr...)
	attrs = appendHeader(attrs, tagSequence, len(timeHead)+tlvLen(len(when)))
	attrs = append(attrs, timeHead...)
	attrs = appendHeader(attrs, tagSet, len(when))
	attrs = append(attrs, when...)
	attrs = appendHeader(attrs, tagSequence, len(digestHead)+len(digest))
	attrs = append(attrs, digestHead...)
	attrs = append(attrs, digest[:]...)
	attrs = append(attrs, s.ess...)

	hash := sha256.Sum256(attrs)
	sig, err := s.key.Sign(rand.Reader, hash[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("cms: the key of %q could not sign: %w", s.cert.Subject, err)
	}
	if len(sig) == 0 || len(sig) > s.maxSig {
		return nil, fmt.Errorf("cms: the key of %q made a signature of %d bytes, at most %d make sense", s.cert.Subject, len(sig), s.maxSig)
	}
	attrs[0] = tagContext0 // hashed as SET OF, sent as [0] IMPLICIT (RFC 5652 §5.4)

	headLen := 0
	for _, h := range head {
		headLen += len(h)
	}
	info := len(s.id) + len(attrs) + len(s.alg) + tlvLen(len(sig))
	signedData := headLen + tlvLen(tlvLen(info))
	explicit := tlvLen(signedData)
	out := make([]byte, 0, s.assembledLen(headLen, n, len(sig)))
	out = appendHeader(out, tagSequence, 2+len(oidSignedData)+tlvLen(explicit))
	out = appendHeader(out, tagOID, len(oidSignedData))
	out = append(out, oidSignedData...)
	out = appendHeader(out, tagContext0, explicit)
	out = appendHeader(out, tagSequence, signedData)
	for _, h := range head {
		out = append(out, h...)
	}
	out = appendHeader(out, tagSet, tlvLen(info))
	out = appendHeader(out, tagSequence, info)
	out = append(out, s.id...)
	out = append(out, attrs...)
	out = append(out, s.alg...)
	out = appendHeader(out, tagOctets, len(sig))
	return append(out, sig...), nil
}

// assembledLen returns the length of a signature from those of its parts.
func (s *Signer) assembledLen(head, attrs, sig int) int {
	info := len(s.id) + tlvLen(attrs) + len(s.alg) + tlvLen(sig)
	return tlvLen(2 + len(oidSignedData) + tlvLen(tlvLen(head+tlvLen(tlvLen(info)))))
}

// encodeTime encodes a signing time: UTCTime through 2049, then GeneralizedTime (RFC 5652 §11.3).
func encodeTime(at time.Time) ([]byte, error) {
	b, err := asn1.Marshal(at.UTC().Truncate(time.Second))
	if err != nil {
		return nil, fmt.Errorf("cms: encode signing time %v: %w", at, err)
	}
	return b, nil
}

// attribute encodes an attribute of one value.
func attribute(typ oid, value []byte) []byte {
	return tlv(tagSequence, typ.der(), tlv(tagSet, value))
}

func concat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}
