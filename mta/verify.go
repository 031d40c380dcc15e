package mta

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"scripta/internal/cms"
	"scripta/mta/pec"
	"scripta/register/record"
)

// issuedKinds says which message a record of issue tells of.
var issuedKinds = map[record.Kind]pec.Kind{
	record.AcceptanceIssued: pec.Acceptance, record.NonAcceptanceIssued: pec.NonAcceptance, record.Enveloped: pec.TransportEnvelope,
	record.TakeChargeIssued: pec.TakeCharge, record.DeliveryIssued: pec.Delivery, record.NonDeliveryIssued: pec.NonDelivery,
	record.DelayNoticeIssued: pec.DelayNotice, record.TimeoutNoticeIssued: pec.DelayNotice, record.VirusDetectionIssued: pec.VirusDetection,
	record.AnomalyEnveloped: pec.AnomalyEnvelope,
}

// VerifyIssued checks that a message is what its record says: a PEC message of
// the record's kind about the record's message identifier, from the provider's
// service address and signed by a certificate for it that leads to roots at the
// given time, over the entity whose digest the record holds. It needs no network
// and reads the message once.
func VerifyIssued(message io.Reader, rec *record.Record, at time.Time, roots *x509.CertPool, service string) error {
	s, err := pec.ReadSigned(message, pec.DefaultLimits())
	if err != nil {
		return err
	}
	if s.Fault != nil {
		return s.Fault
	}
	if want, known := issuedKinds[rec.Kind]; !known || s.Kind != want {
		return fmt.Errorf("it is a message of kind %q, not one of %q", s.Kind, rec.Kind)
	}
	if content, ok := s.ContentDigest(crypto.SHA256); !ok || !bytes.Equal(content, rec.Content) {
		return errors.New("its signed entity is not the one whose digest is in the record")
	}
	sig, err := cms.Verify(s.Signature, s.ContentDigest, cms.Policy{Roots: roots, At: at, EKU: x509.ExtKeyUsageEmailProtection})
	if err != nil {
		return err
	}
	if signers := sig.Certificate.EmailAddresses; len(signers) != 1 || len(s.From) != 1 || !pec.SameAddress(s.From[0], service) || !pec.SameAddress(signers[0], service) {
		return fmt.Errorf("it comes from %q and is signed by %q, not by %s", s.From, signers, service)
	}
	if s.Certification != nil && trimID(s.Certification.EnvelopeID) != rec.MessageID {
		return fmt.Errorf("it certifies message %q, the record %q", s.Certification.EnvelopeID, rec.MessageID)
	}
	return nil
}
