package providers

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"scripta/internal/cms"
	"scripta/mta/revocation"
)

// Trust says whose signature over the directory counts.
type Trust struct {
	Roots *x509.CertPool
	// Signers are who may sign, each by the SHA-256 of a certificate, in 64
	// hexadecimal digits, or by a certificate's subject (RFC 2253, as Go writes it:
	// "CN=…,O=…,C=IT"). A certificate that merely leads to a root is not enough:
	// the same authorities issue for many.
	Signers []string
	// Revocation is asked about the chain of who signed a new directory; nil: nobody
	// is. What nobody can tell counts as good, or a dead responder would stop the
	// renewal of the index.
	Revocation interface {
		Check(ctx context.Context, chain []*x509.Certificate, at time.Time) revocation.Status
	}
}

// Signature is what is known of a directory's signature.
type Signature struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
	Time        time.Time // what the signer claims
}

// Why a signature does not count.
var (
	// ErrSigner is a good signature by somebody who is not among the signers.
	ErrSigner = errors.New("the signer is not one of index.signers")
	// ErrSigningTime is a signature that does not say when it was made, or says a
	// time to come: without it an old file could be given back to us for a new one.
	ErrSigningTime = errors.New("the signature has no signing time that could be")
)

// ErrRevoked is a good signature under a certificate that was revoked.
var ErrRevoked = errors.New("the certificate that signed the directory was revoked")

// checkRevocation asks whether the signer's certificate was revoked.
func (t *Trust) checkRevocation(ctx context.Context, s *Signature, at time.Time) error {
	if t.Revocation == nil {
		return nil
	}
	if status := t.Revocation.Check(ctx, s.Chain, at); status.State == revocation.Revoked {
		return fmt.Errorf("%w: %v", ErrRevoked, status)
	}
	return nil
}

// maxAhead is how far a signer's clock may be ahead of ours.
const maxAhead = 24 * time.Hour

// Open verifies a signed LDIF file (.p7m; RFC 6109 §4.5: CMS with the content
// inside, DER, and BER as it is met) at a time, and returns the LDIF.
func (t *Trust) Open(p7m []byte, at time.Time) ([]byte, *Signature, error) {
	file, s, err := cms.VerifyAttached(p7m, cms.Policy{Roots: t.Roots, At: at})
	if err != nil {
		return nil, nil, fmt.Errorf("the directory's signature is not good: %w", err)
	}
	sum := sha256.Sum256(s.Certificate.Raw)
	hash, subject := hex.EncodeToString(sum[:]), s.Certificate.Subject.String()
	if !slices.ContainsFunc(t.Signers, func(a string) bool { return strings.EqualFold(a, hash) || a == subject }) {
		return nil, nil, fmt.Errorf("%w: it is %q with the certificate %s; if that is right, add one of the two", ErrSigner, subject, hash)
	}
	if s.SigningTime.IsZero() || s.SigningTime.After(at.Add(maxAhead)) {
		return nil, nil, fmt.Errorf("%w: %v", ErrSigningTime, s.SigningTime)
	}
	return file, &Signature{Certificate: s.Certificate, Chain: s.Chain, Time: s.SigningTime}, nil
}
