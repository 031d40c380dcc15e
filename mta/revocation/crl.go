package revocation

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxCRL bounds a CRL, octets: some 400,000 revoked certificates.
const maxCRL = 16 << 20

// crl is a complete list of one issuer.
type crl struct {
	issuer   []byte               // its subject, raw
	revoked  map[string]time.Time // by serial number
	from, to time.Time
	scope    scope
}

// scope is which certificates of the issuer the list is about (RFC 5280 §5.2.5).
type scope struct{ onlyUsers, onlyCAs bool }

func (l *crl) validity() (from, to time.Time) { return l.from, l.to }

// about implements answer.
func (l *crl) about(cert *x509.Certificate) (State, time.Time) {
	if !bytes.Equal(cert.RawIssuer, l.issuer) || l.scope.onlyUsers && cert.IsCA || l.scope.onlyCAs && !cert.IsCA {
		return Unknown, time.Time{}
	}
	if since, is := l.revoked[string(cert.SerialNumber.Bytes())]; is {
		return Revoked, since
	}
	return Good, time.Time{}
}

func (c *Checker) fetchCRL(ctx context.Context, url string, issuer *x509.Certificate) (answer, error) {
	b, err := c.fetch(ctx, http.MethodGet, url, "", nil, maxCRL)
	if err != nil {
		return nil, err
	}
	return parseCRL(b, issuer)
}

// removeFromCRL is the reason by which a certificate is no longer on hold.
const removeFromCRL = 8

// parseCRL reads a CRL in DER and verifies that its issuer signed it. Lists that
// do not stand for themselves (delta, indirect, of some reasons only) are refused.
func parseCRL(der []byte, issuer *x509.Certificate) (*crl, error) {
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the CRL: %w", err)
	}
	if !bytes.Equal(l.RawIssuer, issuer.RawSubject) {
		return nil, errors.New("the CRL is another issuer's")
	}
	if err := l.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("the CRL's signature does not verify: %w", err)
	}
	if l.NextUpdate.IsZero() {
		return nil, errors.New("the CRL does not say when the next one comes")
	}
	list := &crl{issuer: issuer.RawSubject, revoked: make(map[string]time.Time, len(l.RevokedCertificateEntries)), from: l.ThisUpdate, to: l.NextUpdate}
	for _, x := range l.Extensions {
		switch {
		case x.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 28}): // issuing distribution point
			if list.scope, err = parseScope(x.Value); err != nil {
				return nil, err
			}
		case x.Critical:
			return nil, fmt.Errorf("the CRL has a critical extension %v, which is not supported", x.Id)
		}
	}
	for _, x := range l.RevokedCertificateEntries {
		for _, ext := range x.Extensions {
			if ext.Critical {
				return nil, fmt.Errorf("an entry of the CRL has a critical extension %v, which is not supported", ext.Id)
			}
		}
		if x.ReasonCode != removeFromCRL {
			list.revoked[string(x.SerialNumber.Bytes())] = x.RevocationTime
		}
	}
	return list, nil
}

// parseScope reads an IssuingDistributionPoint (RFC 5280 §5.2.5).
func parseScope(der []byte) (s scope, err error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	bad := errors.New("the CRL's issuing distribution point is malformed")
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return s, bad
	}
	for !seq.Empty() {
		var field cryptobyte.String
		var tag cbasn1.Tag
		if !seq.ReadAnyASN1(&field, &tag) {
			return s, bad
		}
		set := len(field) == 1 && field[0] != 0
		switch tag {
		case cbasn1.Tag(0).ContextSpecific().Constructed(): // distributionPoint: where it was fetched
		case cbasn1.Tag(1).ContextSpecific():
			s.onlyUsers = set
		case cbasn1.Tag(2).ContextSpecific():
			s.onlyCAs = set
		default: // onlySomeReasons, indirectCRL, onlyContainsAttributeCerts
			if tag == cbasn1.Tag(3).ContextSpecific() || set {
				return s, errors.New("the CRL is of some reasons only, indirect, or about attribute certificates")
			}
		}
	}
	return s, nil
}
