// Package cmstest makes certificates for the tests of the packages that sign
// and verify: a root, an intermediate, and whatever they are asked to issue.
// Nothing it makes has any value outside a test.
package cmstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Certificates are valid from NotBefore to NotAfter unless a test says otherwise.
var (
	NotBefore = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	NotAfter  = time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC)
)

// CA is a root and an intermediate below it.
type CA struct {
	Root, Intermediate *x509.Certificate
	Roots              *x509.CertPool // holds Root
	key                *ecdsa.PrivateKey
}

// New makes a CA.
func New(t testing.TB) *CA {
	t.Helper()
	rootKey, key := ECDSA(t), ECDSA(t)
	ca := &CA{key: key, Roots: x509.NewCertPool()}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: serial(t), Subject: pkix.Name{Organization: []string{"Scripta test, no legal value"}, CommonName: name},
			NotBefore: NotBefore, NotAfter: NotAfter, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	root := template("Root")
	ca.Root = create(t, root, root, rootKey.Public(), rootKey)
	ca.Intermediate = create(t, template("Intermediate"), ca.Root, key.Public(), rootKey)
	ca.Roots.AddCert(ca.Root)
	return ca
}

// Issue signs a certificate for pub. It is fit for certified mail unless the
// changes, which see the template, make it something else.
func (ca *CA) Issue(t testing.TB, pub crypto.PublicKey, changes ...func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{Organization: []string{"Scripta test, no legal value"}, CommonName: "Signer"},
		NotBefore: NotBefore, NotAfter: NotAfter, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, EmailAddresses: []string{"posta-certificata@pec.example"},
	}
	for _, change := range changes {
		change(c)
	}
	return create(t, c, ca.Intermediate, pub, ca.key)
}

// TimeStamping makes the certificate one for time stamps: the sole use, and critical (RFC 3161 §2.3).
func TimeStamping(c *x509.Certificate) {
	c.Subject.CommonName = "Time stamps, NOT QUALIFIED"
	c.EmailAddresses = nil
	c.ExtKeyUsage = nil // crypto/x509 would not mark it critical
	c.ExtraExtensions = []pkix.Extension{{
		Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: []byte("\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x08"),
	}}
}

// ECDSA makes a P-256 key.
func ECDSA(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// RSA returns a 2048-bit key, the same for all tests of a run: they are slow to make.
func RSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := sharedRSA()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var sharedRSA = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// Opaque hides everything of a key but its interface, as an HSM does.
func Opaque(k crypto.Signer) crypto.Signer { return opaque{k} }

type opaque struct{ k crypto.Signer }

func (o opaque) Public() crypto.PublicKey { return o.k.Public() }

func (o opaque) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return o.k.Sign(r, digest, opts)
}

// Program returns the path of an installed program. Without it the test is
// skipped, or fails where CI_STRICT=1 says that everything must be there.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI_STRICT") == "1" {
		t.Fatalf("%s is not installed: %v", name, err)
	}
	t.Skipf("%s is not installed: %v", name, err)
	return ""
}

// WritePEM writes certificates to a file in the test's own folder and returns its path.
func WritePEM(t testing.TB, certs ...*x509.Certificate) string {
	t.Helper()
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return WriteFile(t, "certificates.pem", b)
}

// WriteKey writes a key as PKCS #8 PEM to a file in the test's own folder and returns its path.
func WriteKey(t testing.TB, key crypto.Signer) string {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return WriteFile(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
}

// WriteFile writes a file to a new folder of the test and returns its path.
func WriteFile(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func serial(t testing.TB) *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func create(t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
