package tsa

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"slices"
	"time"

	"scripta/internal/cms"
)

// DefaultMaxAccuracy is the accuracy that a time stamp must reach unless a
// Check says otherwise: the second that the law asks of a time reference
// (DM 2 November 2005 art. 9) and EN 319 422 of a time-stamp token.
const DefaultMaxAccuracy = time.Second

// Check is what a token must satisfy.
type Check struct {
	// Digest is the SHA-256 of what was stamped.
	Digest [32]byte
	// Nonce is the request's; nil accepts any, or none, as for a token that was kept without its request.
	Nonce *big.Int
	// Roots are the authorities trusted to certify time stamps. Nil trusts nobody.
	Roots *x509.CertPool
	// Certificates are at hand beside those in the token: the signer's, for a
	// token that carries none, and intermediates.
	Certificates []*x509.Certificate
	// RequireQualified wants the token to state that it is a qualified time
	// stamp. That the statement is true follows from Roots: anyone can make it.
	RequireQualified bool
	// MaxAccuracy is the coarsest accuracy accepted; 0 is DefaultMaxAccuracy.
	MaxAccuracy time.Duration
	// Policies are the accepted ones; empty accepts any.
	Policies []asn1.ObjectIdentifier
	// AllowESSv1 accepts the signing-certificate attribute of RFC 2634, a SHA-1
	// of the certificate, in place of ESSCertIDv2.
	AllowESSv1 bool
}

// Token is a verified time stamp.
type Token struct {
	Time        time.Time           // UTC, as precise as the authority states it
	Accuracy    time.Duration       // Time is off by at most this
	Serial      *big.Int            // unique per authority
	Policy      string              // dotted object identifier
	Qualified   bool                // the token states that it is qualified (EN 319 422 §9.1)
	Ordering    bool                // tokens of this authority are ordered by Time alone
	Nonce       *big.Int            // nil if the token has none
	Certificate *x509.Certificate   // of the time-stamping unit
	Chain       []*x509.Certificate // Certificate first, the trusted root last
	Hash        crypto.Hash         // digest of the CMS signature
	DER         []byte              // the bare token, as a .tst file holds it
}

// Verify verifies a time stamp over c.Digest, in the form of a whole reply
// (TimeStampResp, .tsr) or of the bare token (.tst), of at most [MaxReply]
// bytes. Each failure is a [CheckError].
//
// The certificate's chain is built for the token's own time, so that a stamp
// outlives the certificate that made it; whether a certificate had been revoked
// by then is not looked at. The token's encoding may be BER, its TSTInfo not.
func Verify(der []byte, c Check) (*Token, error) {
	token, err := tokenOf(der)
	if err != nil {
		return nil, err
	}
	sd, err := cms.Parse(token, MaxReply)
	if err != nil {
		return nil, cmsCheck(err)
	}
	if !sd.Attached {
		return nil, failed(CheckFormat, "the token has no TSTInfo inside")
	}
	sig, err := sd.VerifySigner(oidTSTInfo(), cms.DigestOf(sd.Content), c.Certificates, false)
	if err != nil {
		return nil, cmsCheck(err)
	}
	// Without it another certificate of the same key could be put in the signer's place (RFC 5816 §2.2.1).
	if !sig.ESS && !(c.AllowESSv1 && sig.ESSv1) {
		return nil, &CheckError{CheckESS, cms.ErrNoSigningCertificate}
	}
	info, err := parseTSTInfo(sd.Content)
	if err != nil {
		return nil, &CheckError{CheckFormat, err}
	}
	if err := checkUsage(sig.Certificate); err != nil {
		return nil, err
	}
	if info.time.Before(sig.Certificate.NotBefore) || info.time.After(sig.Certificate.NotAfter) {
		return nil, failed(CheckValidity, "stamped at %s by a certificate valid from %s to %s",
			info.time.Format(time.RFC3339Nano), sig.Certificate.NotBefore.Format(time.RFC3339), sig.Certificate.NotAfter.Format(time.RFC3339))
	}
	chain, err := cms.VerifyChain(sig.Certificate, slices.Concat(sd.Certificates, c.Certificates),
		cms.Policy{Roots: c.Roots, At: info.time, EKU: x509.ExtKeyUsageTimeStamping})
	if err != nil {
		return nil, &CheckError{CheckChain, err}
	}
	if err := info.check(c); err != nil {
		return nil, err
	}
	return &Token{
		Time: info.time, Accuracy: *info.accuracy, Serial: info.serial, Policy: info.policy.String(), Qualified: info.qualified,
		Ordering: info.ordering, Nonce: info.nonce, Certificate: sig.Certificate, Chain: chain, Hash: sig.Hash, DER: token,
	}, nil
}

// checkUsage wants a certificate for time stamps and nothing else (RFC 3161 §2.3).
func checkUsage(cert *x509.Certificate) error {
	critical := false
	for _, e := range cert.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 37}) {
			critical = e.Critical
		}
	}
	switch {
	case cert.IsCA:
		return failed(CheckUsage, "signed by a certification authority's certificate")
	case len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping || len(cert.UnknownExtKeyUsage) > 0:
		return failed(CheckUsage, "timeStamping is not the certificate's only extended key usage")
	case !critical:
		return failed(CheckUsage, "the certificate's extended key usage is not critical")
	}
	return nil
}

// check compares what was stamped with what should have been.
func (t *tstInfo) check(c Check) error {
	switch {
	case t.imprint.hash == 0:
		return failed(CheckAlgorithm, "the imprint's hash is unknown or too weak")
	case t.imprint.hash != crypto.SHA256 || !bytes.Equal(t.imprint.digest, c.Digest[:]):
		return failed(CheckImprint, "the token stamps %v %x", t.imprint.hash, t.imprint.digest)
	case c.Nonce != nil && t.nonce == nil:
		return failed(CheckNonce, "the token has none")
	case c.Nonce != nil && t.nonce.Cmp(c.Nonce) != 0:
		return failed(CheckNonce, "the token answers another request")
	case len(c.Policies) > 0 && !slices.ContainsFunc(c.Policies, t.policy.Equal):
		return failed(CheckPolicy, "issued under %v", t.policy)
	case t.accuracy == nil:
		return failed(CheckAccuracy, "the token states none")
	}
	limit := c.MaxAccuracy
	if limit == 0 {
		limit = DefaultMaxAccuracy
	}
	if *t.accuracy > limit {
		return failed(CheckAccuracy, "%v, the limit is %v", *t.accuracy, limit)
	}
	if c.RequireQualified && !t.qualified {
		return failed(CheckQualified, "the token does not state that it is a qualified time stamp")
	}
	return nil
}
