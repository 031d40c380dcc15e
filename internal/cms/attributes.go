package cms

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// signedAttributes holds the content of the value sets of the attributes that
// count; nil where the attribute is missing.
type signedAttributes struct {
	contentType, messageDigest, signingTime, signingCert, signingCertV2 cryptobyte.String
}

// parseAttributes reads the content of a set of attributes. None of those that
// count may come twice (RFC 5652 §11: one instance, one value); others are ignored.
func parseAttributes(set cryptobyte.String) (a signedAttributes, err error) {
	for !set.Empty() {
		var attr, values cryptobyte.String
		var typ oid
		if !set.ReadASN1(&attr, cbasn1.SEQUENCE) || !readOID(&attr, &typ) || !attr.ReadASN1(&values, cbasn1.SET) || !attr.Empty() {
			return a, malformed("signed attributes")
		}
		var slot *cryptobyte.String
		switch typ {
		case oidContentType:
			slot = &a.contentType
		case oidMessageDigest:
			slot = &a.messageDigest
		case oidSigningTime:
			slot = &a.signingTime
		case oidSigningCertificate:
			slot = &a.signingCert
		case oidSigningCertV2:
			slot = &a.signingCertV2
		default:
			continue
		}
		if *slot != nil {
			return a, fmt.Errorf("%w: %v comes twice", ErrAttribute, typ)
		}
		if values.Empty() {
			return a, fmt.Errorf("%w: %v has no value", ErrAttribute, typ)
		}
		*slot = values
	}
	return a, nil
}

// parseSigningTime reads the value set of a signing-time attribute; nil is no claim.
func parseSigningTime(values cryptobyte.String) (t time.Time, err error) {
	if values == nil {
		return t, nil
	}
	ok := false
	if values.PeekASN1Tag(cbasn1.UTCTime) {
		ok = values.ReadASN1UTCTime(&t)
	} else {
		ok = values.ReadASN1GeneralizedTime(&t)
	}
	if !ok || !values.Empty() {
		return t, fmt.Errorf("%w: signing-time malformed", ErrAttribute)
	}
	return t.UTC(), nil
}

// bind compares the signing-certificate attributes that are there with the certificate.
func (a *signedAttributes) bind(cert *x509.Certificate) error {
	if a.signingCertV2 != nil {
		if err := checkSigningCertificate(a.signingCertV2, cert, true); err != nil {
			return err
		}
	}
	if a.signingCert != nil {
		return checkSigningCertificate(a.signingCert, cert, false)
	}
	return nil
}

// checkSigningCertificate reads the value set of a signing-certificate
// attribute, whose first entry must be cert (RFC 5035 §3 and §4). The entries
// after it, and the policies, are hints that this package does not use. Of the
// issuerSerial only the number is compared: the hash covers the rest.
func checkSigningCertificate(values cryptobyte.String, cert *x509.Certificate, v2 bool) error {
	bad := fmt.Errorf("%w: signing-certificate malformed", ErrAttribute)
	var sc, ids, id, hashed, issuerSerial cryptobyte.String
	if !values.ReadASN1(&sc, cbasn1.SEQUENCE) || !values.Empty() ||
		!sc.ReadASN1(&ids, cbasn1.SEQUENCE) || !sc.SkipOptionalASN1(cbasn1.SEQUENCE) || !sc.Empty() ||
		!ids.ReadASN1(&id, cbasn1.SEQUENCE) {
		return bad
	}
	hash := crypto.SHA1
	if v2 {
		hash = crypto.SHA256 // the default
		if id.PeekASN1Tag(cbasn1.SEQUENCE) {
			var alg algorithm
			if !readAlgorithm(&id, &alg) {
				return bad
			}
			if hash = hashOf(alg.oid); hash == 0 || hash == crypto.SHA1 {
				return fmt.Errorf("%w: signing-certificate hash %v", ErrAlgorithm, alg.oid)
			}
		}
	}
	if !id.ReadASN1(&hashed, cbasn1.OCTET_STRING) {
		return bad
	}
	if !id.Empty() {
		var serial big.Int
		if !id.ReadASN1(&issuerSerial, cbasn1.SEQUENCE) || !id.Empty() ||
			!issuerSerial.SkipASN1(cbasn1.SEQUENCE) || !issuerSerial.ReadASN1Integer(&serial) || !issuerSerial.SkipOptionalASN1(cbasn1.BIT_STRING) || !issuerSerial.Empty() {
			return bad
		}
		if serial.Cmp(cert.SerialNumber) != 0 {
			return fmt.Errorf("%w: serial number %x", ErrSigningCertificate, &serial)
		}
	}
	h := hash.New()
	h.Write(cert.Raw)
	if !bytes.Equal(h.Sum(nil), hashed) {
		return ErrSigningCertificate
	}
	return nil
}

// sortSet returns the content of a set of attributes in DER order, or nil if it is in that order.
func sortSet(set cryptobyte.String) []byte {
	var elements []cryptobyte.String
	for rest := set; !rest.Empty(); {
		var e cryptobyte.String
		if !rest.ReadASN1Element(&e, cbasn1.SEQUENCE) {
			return nil
		}
		elements = append(elements, e)
	}
	order := func(a, b cryptobyte.String) int { return cmp.Or(bytes.Compare(a, b), len(a)-len(b)) }
	if slices.IsSortedFunc(elements, order) {
		return nil
	}
	slices.SortFunc(elements, order)
	return slices.Concat(elements...)
}
