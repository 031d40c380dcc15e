package tsa

import (
	"errors"
	"fmt"
	"strings"

	"github.com/digitorus/timestamp"

	"scripta/internal/cms"
)

// The checks of Verify, in their order, as CheckError names them.
const (
	CheckFormat     = "format"              // DER of RFC 3161, no bytes left over
	CheckStatus     = "status"              // the authority granted the request
	CheckSigner     = "signer"              // one signer, whose certificate is at hand
	CheckAttributes = "signed-attributes"   // content type and digest of the TSTInfo are signed
	CheckAlgorithm  = "algorithm"           // SHA-256, SHA-384 or SHA-512 everywhere; RSA from 2048 bits, ECDSA from 256
	CheckESS        = "signing-certificate" // ESSCertIDv2 binds the signer's certificate (RFC 5816)
	CheckSignature  = "signature"           // the CMS signature
	CheckUsage      = "key-usage"           // timeStamping is the sole use, and critical; not a CA (RFC 3161 §2.3)
	CheckValidity   = "validity"            // the certificate was valid at the token's time
	CheckChain      = "chain"               // it led to a trusted root at the token's time
	CheckImprint    = "imprint"             // what was stamped is what should have been
	CheckNonce      = "nonce"               // the reply belongs to the request
	CheckPolicy     = "policy"              // issued under an accepted policy
	CheckAccuracy   = "accuracy"            // stated, and good enough
	CheckQualified  = "qualified"           // states that it is qualified (EN 319 422 §9.1)
)

// CheckError says which check a time stamp failed, and why.
type CheckError struct {
	Check string // one of the Check constants
	Err   error
}

// Error implements error.
func (e *CheckError) Error() string { return "tsa: " + e.Check + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *CheckError) Unwrap() error { return e.Err }

func failed(check, format string, args ...any) error {
	return &CheckError{check, fmt.Errorf(format, args...)}
}

// cmsCheck finds the check that an error of package cms belongs to.
func cmsCheck(err error) error {
	check := CheckFormat
	for _, c := range []struct {
		check  string
		causes []error
	}{
		{CheckSigner, []error{cms.ErrSignerCount, cms.ErrSignerID, cms.ErrNoCertificate}},
		{CheckAttributes, []error{cms.ErrNoSignedAttributes, cms.ErrAttribute, cms.ErrContentType, cms.ErrMessageDigest}},
		{CheckAlgorithm, []error{cms.ErrAlgorithm, cms.ErrWeakDigest, cms.ErrWeakKey}},
		{CheckESS, []error{cms.ErrSigningCertificate, cms.ErrNoSigningCertificate}},
		{CheckSignature, []error{cms.ErrSignature}},
	} {
		for _, cause := range c.causes {
			if errors.Is(err, cause) {
				check = c.check
			}
		}
	}
	return &CheckError{check, err}
}

// RejectedError is an authority's answer that there is no time stamp (RFC 3161 §2.4.2).
type RejectedError struct {
	Status  timestamp.Status      // 2 rejection, 3 waiting, 4 revocation warning, 5 revocation notification
	Failure timestamp.FailureInfo // the reason; UnknownFailureInfo if none was given
	Text    string                // what the authority adds, cut at 500 bytes
}

// Error implements error.
func (e *RejectedError) Error() string {
	s := "tsa: " + e.Status.String()
	if e.Failure != timestamp.UnknownFailureInfo {
		s += ": " + e.Failure.String()
	}
	if e.Text != "" {
		s += fmt.Sprintf(" (%q)", e.Text)
	}
	return s
}

// HTTPError is an answer that is no time-stamp reply at all.
type HTTPError struct {
	Status      int    // HTTP status code
	ContentType string // as received
	Body        string // its beginning, cut at 500 bytes
}

// Error implements error.
func (e *HTTPError) Error() string {
	s := fmt.Sprintf("tsa: the authority answered HTTP %d, content type %q", e.Status, e.ContentType)
	if e.Status == 401 || e.Status == 403 {
		s += " (user or password refused, or the lot of time stamps is used up)"
	}
	if e.Body != "" {
		s += fmt.Sprintf(": %q", e.Body)
	}
	return s
}

// excerpt makes a stranger's text fit for an error message.
func excerpt(s string) string {
	const limit = 500
	return strings.ToValidUTF8(s[:min(len(s), limit)], "�")
}
