package keys

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"time"
)

// serialBits is the length of serial numbers, all of it random.
const serialBits = 127

// leaf returns the template of an end certificate. Without
// BasicConstraintsValid crypto/x509 writes no basicConstraints, which RFC 6109
// §5.5.2 forbids.
func leaf(c QuickstartConfig, name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{
			Country:            []string{"IT"},
			Organization:       []string{c.Provider},
			OrganizationalUnit: []string{NoLegalValue},
			CommonName:         name,
		},
		// Clocks of those who verify differ a little.
		NotBefore: c.Now.Add(-time.Hour),
	}
}

func authority(c QuickstartConfig, name string) *x509.Certificate {
	t := leaf(c, name)
	t.NotAfter = c.Now.AddDate(authorityYears, 0, 0)
	t.BasicConstraintsValid = true
	t.IsCA = true
	t.MaxPathLenZero = true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return t
}

// issue signs the template with by, or with its own key when by is empty.
func issue(t *x509.Certificate, key crypto.Signer, by Pair) (Pair, error) {
	id, err := keyID(key.Public())
	if err != nil {
		return Pair{}, err
	}
	t.SubjectKeyId = id
	serial := make([]byte, (serialBits+7)/8)
	rand.Read(serial)
	serial[0] = serial[0]&0x3f | 0x40 // positive, and always of one length
	t.SerialNumber = new(big.Int).SetBytes(serial)
	parent, signer := by.Certificate, by.Key
	if signer == nil {
		parent, signer = t, key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return Pair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Pair{}, err
	}
	if bytes.Equal(cert.RawSubject, cert.RawIssuer) != (by.Key == nil) {
		return Pair{}, errors.New("the subject and the issuer have one name")
	}
	return Pair{Certificate: cert, Key: key}, nil
}

// keyID returns the subjectKeyIdentifier of RFC 7093 §2, method 1: the left
// 160 bits of SHA-256 of the public key's bit string.
func keyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(info.Key.Bytes)
	return sum[:20], nil
}

// criticalTimeStamping returns the extension that RFC 3161 §2.3 asks for;
// crypto/x509 alone would write it as not critical.
func criticalTimeStamping() (pkix.Extension, error) {
	value, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: value}, err
}
