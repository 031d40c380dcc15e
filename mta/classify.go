package mta

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"scripta/internal/cms"
	"scripta/mta/pec"
	"scripta/mta/providers"
	"scripta/mta/revocation"
	"scripta/register/record"
)

// class is what the Incoming Point takes a message for (RFC 6109 §2.2.2).
type class string

// The classes of what comes in.
const (
	isEnvelope     class = "envelope"     // a correct transport envelope
	isNotification class = "notification" // a correct receipt or notice
	isMalformed    class = "malformed"    // a provider signed it, and it is neither
	isOrdinary     class = "ordinary"     // no provider signed it
)

// verdict is what the checks of a message came to.
type verdict struct {
	class  class
	reason string // in an anomaly envelope, in Italian
	fault  error  // what was wrong, for the log and the record
	signer *providers.Provider
	cert   *x509.Certificate // by which it is signed, as far as that was found out
	hash   crypto.Hash
	status string // of revocation
}

// detail is what a record tells of the checks.
func (v *verdict) detail() []record.Pair {
	var all []record.Pair
	if v.cert != nil {
		sum := providers.Fingerprint(v.cert)
		all = append(all, record.Pair{Name: "certificate", Value: hex.EncodeToString(sum[:])}, record.Pair{Name: "signature", Value: v.hash.String()})
	}
	if v.status != "" {
		all = append(all, record.Pair{Name: "revocation", Value: v.status})
	}
	if v.fault != nil {
		const most = 500
		text := v.fault.Error()
		all = append(all, record.Pair{Name: "reason", Value: text[:min(len(text), most)]})
	}
	return all
}

// RevocationPolicy says what follows from what is known of the revocation of
// another provider's certificate.
type RevocationPolicy int

// Policies of revocation.
const (
	RevocationOff  RevocationPolicy = iota // nobody is asked
	RevocationSoft                         // taken as not revoked when nobody tells
	RevocationHard                         // the message is put off when nobody answers
)

// RevocationChecker asks whether a certificate was revoked (mta/revocation).
type RevocationChecker interface {
	Check(ctx context.Context, chain []*x509.Certificate, at time.Time) revocation.Status
}

// revocationTime bounds what a message waits for authorities.
const revocationTime = 30 * time.Second

// errRevocationUnknown says that policy asks to know, and nobody answered.
var errRevocationUnknown = errors.New("mta: nobody tells whether the provider's certificate was revoked (incoming.revocation)")

// classify runs the checks of RFC 6109 §2.2.2 over a message that came in: is it
// signed, by a provider, validly, and is it then a correct envelope or
// notification? from and rcpt are those of its SMTP transaction, rcpt recipients
// of ours. An error says that this cannot be told now.
//
// Existence, origin and validity decide whether the message comes from the PEC
// network at all. Its form decides no more than what is done with it there.
func (p *Pipeline) classify(ctx context.Context, s *pec.Signed, from string, rcpt []string, at time.Time) (*verdict, error) {
	v := &verdict{class: isOrdinary}
	ordinary := func(reason string, fault error) (*verdict, error) {
		v.reason, v.fault = reason, fault
		return v, nil
	}
	if len(s.Signature) == 0 {
		return ordinary(pec.AnomalyNotSigned, errors.Join(s.Fault, errNoSignature))
	}
	sd, err := cms.Parse(s.Signature, cms.MaxDetached)
	if err == nil && sd.Attached {
		err = cms.ErrNotDetached
	}
	if err != nil {
		return ordinary(pec.AnomalySignature, err)
	}
	sig, err := sd.VerifySigner(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}, s.ContentDigest, nil, p.incoming.AllowSHA1)
	if err != nil {
		return ordinary(pec.AnomalySignature, err)
	}
	v.cert, v.hash = sig.Certificate, sig.Hash
	index := p.index()
	signer, known := index.OfCertificate(sig.Certificate)
	if !known {
		return ordinary(pec.AnomalyOrdinary, fmt.Errorf("no provider of the index signs with certificate %v", sig.Certificate.SerialNumber))
	}
	chain, err := cms.VerifyChain(sig.Certificate, sd.Certificates, cms.Policy{Roots: p.incoming.Roots, At: at, EKU: x509.ExtKeyUsageEmailProtection, Chains: &p.chains})
	if err != nil {
		return ordinary(pec.AnomalySignature, err)
	}
	if valid, err := p.notRevoked(ctx, v, chain, at); err != nil {
		return nil, err
	} else if !valid {
		return ordinary(pec.AnomalySignature, errors.New("the signer's certificate: "+v.status))
	}
	if who := speaksFor(s); who != "" && index.SignsFor(sig.Certificate, who) {
		signer, _ = index.OfAddress(who) // of several environments with one certificate
	}
	v.signer = signer
	if v.fault = formFault(index, s, sig.Certificate, from, rcpt); v.fault != nil {
		v.class, v.reason = isMalformed, pec.AnomalyMalformed
		return v, nil
	}
	if v.class = isNotification; s.Kind == pec.TransportEnvelope {
		v.class = isEnvelope
	}
	return v, nil
}

// speaksFor is the address whose provider a message must come from: an envelope
// from its sender's, a receipt from that of a recipient whom it is about. It is
// empty when the message names none.
func speaksFor(s *pec.Signed) string {
	c := s.Certification
	if c == nil {
		return ""
	}
	if about := notified(c); s.Kind != pec.TransportEnvelope && len(about) > 0 {
		return about[0]
	}
	return c.Sender
}

var errNoSignature = errors.New("there is no signature")

// notRevoked asks about a provider's certificate, and says what policy makes of
// the answer.
func (p *Pipeline) notRevoked(ctx context.Context, v *verdict, chain []*x509.Certificate, at time.Time) (bool, error) {
	if p.incoming.Revocation == RevocationOff || p.incoming.Revoked == nil {
		v.status = "not asked"
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, revocationTime)
	defer cancel()
	s := p.incoming.Revoked.Check(ctx, chain, at)
	v.status = s.String()
	switch s.State {
	case revocation.Good:
		return true, nil
	case revocation.Revoked:
		return false, nil
	}
	p.log.Warn("whether a provider's certificate was revoked is not known", "certificate", chain[0].SerialNumber, "err", s.Err)
	p.metrics.RevocationUnknown.Add(1)
	switch {
	case p.incoming.Revocation == RevocationSoft:
		return true, nil
	case s.State == revocation.Unstated: // nobody could ever tell
		return false, nil
	}
	return false, fmt.Errorf("%w: %w", errRevocationUnknown, s.Err)
}

// formFault says why a message with a provider's valid signature is no correct
// envelope or notification, nil when it is one (RFC 6109 §2.2.2, formal
// correctness).
func formFault(index *providers.Index, s *pec.Signed, signer *x509.Certificate, from string, rcpt []string) error {
	if s.Fault != nil {
		return s.Fault
	}
	if len(s.From) != 1 || !signedBy(signer, s.From[0]) {
		return fmt.Errorf("its From %.200q is not the signer %.200q", s.From, signer.EmailAddresses)
	}
	if s.Kind == pec.AnomalyEnvelope {
		return errors.New("it is another provider's anomaly envelope")
	}
	if s.Certification == nil {
		return errors.New("it certifies nothing")
	}
	c := s.Certification.Facts() // as receipts about it repeat them
	switch {
	case trimID(c.EnvelopeID) == "":
		return errors.New("it does not say which envelope it is about")
	case strings.TrimSpace(c.Sender) == "" || len(c.Recipients) == 0:
		return errors.New("it has no sender, or no recipients")
	case s.Kind != pec.TransportEnvelope && trimID(s.MessageID) == "":
		return errors.New("it has no Message-ID")
	case s.Kind != pec.TransportEnvelope:
		return nil
	case trimID(s.MessageID) != trimID(c.EnvelopeID):
		return fmt.Errorf("its Message-ID %.200q is not the one that it certifies, %.200q", s.MessageID, c.EnvelopeID)
	case !pec.SameAddress(from, c.Sender):
		return errors.New("its reverse path is not the sender that it certifies")
	case !index.SignsFor(signer, c.Sender):
		return errors.New("the signer is not the provider of the sender's domain")
	}
	certified := make(map[string]bool, len(c.Recipients))
	for _, r := range c.Recipients {
		certified[pec.NormalizeAddress(r.Address)] = true
	}
	for _, r := range rcpt {
		if !certified[pec.NormalizeAddress(r)] {
			return errors.New("it came for a recipient that it does not certify")
		}
	}
	return nil
}

// signedBy says whether an address is one of a certificate's.
func signedBy(cert *x509.Certificate, address string) bool {
	for _, a := range cert.EmailAddresses {
		if pec.SameAddress(a, address) {
			return true
		}
	}
	return false
}
