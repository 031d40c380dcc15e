package revocation

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// maxOCSP bounds a responder's answer, octets.
const maxOCSP = 64 << 10

// maxUndated is how long an answer counts that does not say when the next comes.
const maxUndated = time.Hour

// single is a responder's answer about one certificate.
type single struct {
	state           State
	since, from, to time.Time
}

func (s *single) validity() (from, to time.Time) { return s.from, s.to }

// about implements answer.
func (s *single) about(*x509.Certificate) (State, time.Time) { return s.state, s.since }

func (c *Checker) fetchOCSP(ctx context.Context, url string, cert, issuer *x509.Certificate, at time.Time) (answer, error) {
	req, err := ocsp.CreateRequest(cert, issuer, nil)
	if err != nil {
		return nil, err
	}
	b, err := c.fetch(ctx, http.MethodPost, url, "application/ocsp-request", req, maxOCSP)
	if err != nil {
		return nil, err
	}
	return parseOCSP(b, cert, issuer, at)
}

// parseOCSP reads a responder's answer about cert. The issuer must have signed it,
// or a responder to whom the issuer gave a certificate for that: x/crypto/ocsp
// would also take one that the issuer gave for anything else.
func parseOCSP(der []byte, cert, issuer *x509.Certificate, at time.Time) (*single, error) {
	r, err := ocsp.ParseResponseForCert(der, cert, issuer)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the responder's answer: %w", err)
	}
	if d := r.Certificate; d != nil && !bytes.Equal(d.Raw, issuer.Raw) {
		if !slices.Contains(d.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
			return nil, errors.New("the answer is signed by a certificate that was not issued for that")
		}
		if at.Before(d.NotBefore) || at.After(d.NotAfter) {
			return nil, errors.New("the responder's certificate is not valid now")
		}
	}
	s := &single{from: r.ThisUpdate, to: r.NextUpdate}
	if s.to.IsZero() {
		s.to = r.ThisUpdate.Add(maxUndated)
	}
	switch r.Status {
	case ocsp.Good:
		s.state = Good
	case ocsp.Revoked:
		s.state, s.since = Revoked, r.RevokedAt
	}
	return s, nil
}
