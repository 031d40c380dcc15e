package cms

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxCertificates is how many certificates a signature may bring. Peers send two or three.
const maxCertificates = 64

var (
	context0 = cbasn1.Tag(0).ContextSpecific().Constructed()
	context1 = cbasn1.Tag(1).ContextSpecific().Constructed()
	context2 = cbasn1.Tag(2).ContextSpecific().Constructed()
	context3 = cbasn1.Tag(3).ContextSpecific().Constructed()
)

// SignedData is a parsed CMS SignedData (RFC 5652 §5.1). Nothing in it is
// verified: see [SignedData.VerifySigner].
type SignedData struct {
	ContentType  asn1.ObjectIdentifier // of the encapsulated content
	Attached     bool                  // the content is inside
	Content      []byte                // the content, if Attached
	Certificates []*x509.Certificate   // the bag, in its order, without what is not a readable X.509 certificate

	signers []signerInfo
}

type signerInfo struct {
	keyID           bool // named by key identifier: the next two are empty
	issuer          []byte
	serial          *big.Int
	digestAlgorithm algorithm
	attributes      []byte // content of the set; nil if there are none
	algorithm       algorithm
	signature       []byte
}

// algorithm is an AlgorithmIdentifier; parameters is empty or one element.
type algorithm struct {
	oid        oid
	parameters cryptobyte.String
}

// Parse reads a CMS ContentInfo that holds SignedData, DER or BER, of at most
// limit bytes. The result does not share memory with ber. Errors: those of
// [DER], and [ErrNotSignedData].
func Parse(ber []byte, limit int) (*SignedData, error) {
	der, err := DER(ber, limit)
	if err != nil {
		return nil, err
	}
	input := cryptobyte.String(der)
	var info, explicit, body cryptobyte.String
	typ, ok := oid(""), input.ReadASN1(&info, cbasn1.SEQUENCE)
	if !ok || !readOID(&info, &typ) {
		return nil, malformed("content info")
	}
	if typ != oidSignedData {
		return nil, fmt.Errorf("%w: content type %v", ErrNotSignedData, typ)
	}
	if !info.ReadASN1(&explicit, context0) || !info.Empty() ||
		!explicit.ReadASN1(&body, cbasn1.SEQUENCE) || !explicit.Empty() {
		return nil, malformed("content info")
	}
	return parseSignedData(body)
}

func parseSignedData(body cryptobyte.String) (*SignedData, error) {
	var (
		sd                                      SignedData
		version                                 int
		digests, encap, content, bag, signerSet cryptobyte.String
		hasBag                                  bool
	)
	if !body.ReadASN1Integer(&version) || version < 1 || version > 5 || !body.ReadASN1(&digests, cbasn1.SET) {
		return nil, malformed("version or digest algorithms")
	}
	if !body.ReadASN1(&encap, cbasn1.SEQUENCE) || !encap.ReadASN1ObjectIdentifier(&sd.ContentType) ||
		!encap.ReadOptionalASN1(&content, &sd.Attached, context0) || !encap.Empty() {
		return nil, malformed("encapsulated content")
	}
	if sd.Attached {
		var octets cryptobyte.String
		if !content.ReadASN1(&octets, cbasn1.OCTET_STRING) || !content.Empty() {
			return nil, malformed("encapsulated content")
		}
		sd.Content = octets
	}
	if !body.ReadOptionalASN1(&bag, &hasBag, context0) || !body.SkipOptionalASN1(context1) ||
		!body.ReadASN1(&signerSet, cbasn1.SET) || !body.Empty() {
		return nil, malformed("certificates, revocation lists or signers")
	}
	for n := 0; !bag.Empty(); n++ {
		var raw cryptobyte.String
		var tag cbasn1.Tag
		if !bag.ReadAnyASN1Element(&raw, &tag) || n == maxCertificates {
			return nil, malformed("certificates, or more than %d", maxCertificates)
		}
		// A bag may hold attribute certificates, and old roots that Go cannot
		// read: what is missing shows when the signer or the chain is looked for.
		if tag == cbasn1.SEQUENCE {
			if c, err := x509.ParseCertificate(raw); err == nil {
				sd.Certificates = append(sd.Certificates, c)
			}
		}
	}
	for !signerSet.Empty() {
		var info cryptobyte.String
		if !signerSet.ReadASN1(&info, cbasn1.SEQUENCE) {
			return nil, malformed("signer info")
		}
		si, err := parseSignerInfo(info)
		if err != nil {
			return nil, err
		}
		if sd.signers = append(sd.signers, si); len(sd.signers) > 1 {
			break // one too many already
		}
	}
	return &sd, nil
}

func parseSignerInfo(info cryptobyte.String) (si signerInfo, err error) {
	var version int
	var id, attrs, unsigned, sig cryptobyte.String
	var hasAttrs, hasUnsigned bool
	if !info.ReadASN1Integer(&version) {
		return si, malformed("signer info version")
	}
	switch {
	case version == 1 && info.ReadASN1(&id, cbasn1.SEQUENCE):
		var issuer cryptobyte.String
		si.serial = new(big.Int)
		if !id.ReadASN1Element(&issuer, cbasn1.SEQUENCE) || !id.ReadASN1Integer(si.serial) || !id.Empty() {
			return si, malformed("signer's issuer and serial number")
		}
		si.issuer = issuer
	case version == 3 && info.SkipASN1(cbasn1.Tag(0).ContextSpecific()):
		si.keyID = true
	default:
		return si, malformed("signer identifier, version %d", version)
	}
	if !readAlgorithm(&info, &si.digestAlgorithm) ||
		!info.ReadOptionalASN1(&attrs, &hasAttrs, context0) ||
		!readAlgorithm(&info, &si.algorithm) ||
		!info.ReadASN1(&sig, cbasn1.OCTET_STRING) ||
		!info.ReadOptionalASN1(&unsigned, &hasUnsigned, context1) || !info.Empty() {
		return si, malformed("signer info")
	}
	if hasAttrs {
		si.attributes = attrs
	}
	si.signature = sig
	return si, nil
}

// certificate finds the signer's certificate in the bag, then in extra.
func (sd *SignedData) certificate(si *signerInfo, extra []*x509.Certificate) (*x509.Certificate, error) {
	if si.keyID {
		return nil, ErrSignerID
	}
	for _, certs := range [...][]*x509.Certificate{sd.Certificates, extra} {
		for _, c := range certs {
			if c.SerialNumber.Cmp(si.serial) == 0 && bytes.Equal(c.RawIssuer, si.issuer) {
				return c, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: serial number %x", ErrNoCertificate, si.serial)
}

func readOID(s *cryptobyte.String, out *oid) bool {
	var b cryptobyte.String
	if !s.ReadASN1(&b, cbasn1.OBJECT_IDENTIFIER) {
		return false
	}
	*out = oid(b)
	return true
}

func readAlgorithm(s *cryptobyte.String, out *algorithm) bool {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !readOID(&seq, &out.oid) {
		return false
	}
	if seq.Empty() {
		return true
	}
	var tag cbasn1.Tag
	return seq.ReadAnyASN1Element(&out.parameters, &tag) && seq.Empty()
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}
