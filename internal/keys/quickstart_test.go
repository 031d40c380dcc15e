package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

var quickstartNow = time.Now()

var makeQuickstart = sync.OnceValues(func() (*Quickstart, error) {
	return NewQuickstart(QuickstartConfig{Domain: "pec.example.test", Provider: "Società Esempio S.p.A.", LogID: "0123abcd", Now: quickstartNow})
})

// quickstart is one for all tests, which only read it.
func quickstart(t *testing.T) *Quickstart {
	t.Helper()
	q, err := makeQuickstart()
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func pool(c *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}

var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidAltName          = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// extensions maps each extension to whether it is critical.
func extensions(c *x509.Certificate) map[string]bool {
	m := make(map[string]bool)
	for _, e := range c.Extensions {
		m[e.Id.String()] = e.Critical
	}
	return m
}

// RFC 6109 §5.5, line by line.
func TestPECCertificateProfile(t *testing.T) {
	t.Parallel()
	q := quickstart(t)
	c := q.PEC.Certificate
	key, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() != 2048 {
		t.Errorf("public key %T", c.PublicKey)
	}
	if c.SignatureAlgorithm != x509.SHA256WithRSA || c.Version != 3 {
		t.Errorf("%v, version %d", c.SignatureAlgorithm, c.Version)
	}
	if !slices.Equal(c.Subject.Organization, []string{"Società Esempio S.p.A."}) {
		t.Errorf("organization %q", c.Subject.Organization)
	}
	if strings.Contains(c.Subject.String(), "@") {
		t.Errorf("an address in the subject: %s", c.Subject)
	}
	if !slices.Equal(c.EmailAddresses, []string{"posta-certificata@pec.example.test"}) || len(c.DNSNames)+len(c.IPAddresses)+len(c.URIs) > 0 {
		t.Errorf("subjectAltName: %v %v", c.EmailAddresses, c.DNSNames)
	}
	if c.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("keyUsage %b", c.KeyUsage)
	}
	if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}) || len(c.UnknownExtKeyUsage) > 0 {
		t.Errorf("extKeyUsage %v", c.ExtKeyUsage)
	}
	want := map[string]bool{
		oidKeyUsage.String(): true, oidExtKeyUsage.String(): false, oidSubjectKeyID.String(): false,
		oidAuthorityKeyID.String(): false, oidAltName.String(): false,
	}
	got := extensions(c)
	if len(got) != len(want) {
		t.Errorf("extensions %v, want %v", got, want)
	}
	for id, critical := range want {
		if is, there := got[id]; !there || is != critical {
			t.Errorf("extension %s: there %v, critical %v", id, there, is)
		}
	}
	if len(c.SubjectKeyId) != 20 || !slices.Equal(c.AuthorityKeyId, q.PECAuthority.Certificate.SubjectKeyId) {
		t.Errorf("key identifiers %x, %x", c.SubjectKeyId, c.AuthorityKeyId)
	}
	if want := quickstartNow.AddDate(3, 0, 0).UTC().Truncate(time.Second); !c.NotAfter.Equal(want) {
		t.Errorf("valid to %v, want %v", c.NotAfter, want)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: pool(q.PECAuthority.Certificate), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}); err != nil {
		t.Error(err)
	}
}

// RFC 3161 §2.3: timeStamping is the only extended key usage, and critical.
func TestTSUCertificateProfile(t *testing.T) {
	t.Parallel()
	q := quickstart(t)
	c := q.TSU.Certificate
	if critical, there := extensions(c)[oidExtKeyUsage.String()]; !there || !critical {
		t.Error("extKeyUsage is not critical")
	}
	if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}) || len(c.UnknownExtKeyUsage) > 0 {
		t.Errorf("extKeyUsage %v", c.ExtKeyUsage)
	}
	if _, there := extensions(c)[oidBasicConstraints.String()]; there || c.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("basicConstraints %v, keyUsage %b", there, c.KeyUsage)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: pool(q.TSAAuthority.Certificate), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}}); err != nil {
		t.Error(err)
	}
	for _, c := range []*x509.Certificate{c, q.TSAAuthority.Certificate} {
		if !strings.Contains(c.Subject.CommonName, "NOT QUALIFIED") {
			t.Errorf("%s does not say NOT QUALIFIED", c.Subject)
		}
	}
}

func TestEverySubjectSaysNoLegalValue(t *testing.T) {
	t.Parallel()
	q := quickstart(t)
	serials := make(map[string]bool)
	for _, p := range []Pair{q.PECAuthority, q.TLSAuthority, q.TSAAuthority, q.PEC, q.TLS, q.TSU} {
		if !slices.Equal(p.Certificate.Subject.OrganizationalUnit, []string{NoLegalValue}) {
			t.Errorf("%s", p.Certificate.Subject)
		}
		serials[p.Certificate.SerialNumber.String()] = true
		if p.Certificate.SerialNumber.BitLen() != serialBits {
			t.Errorf("serial number of %d bits", p.Certificate.SerialNumber.BitLen())
		}
	}
	if len(serials) != 6 {
		t.Error("serial numbers repeat")
	}
}

// An authority is good for one purpose and for the provider's names only.
func TestAuthoritiesKeepPurposesApart(t *testing.T) {
	t.Parallel()
	q := quickstart(t)
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageTimeStamping}
	c := QuickstartConfig{Domain: "pec.example.test", Provider: "P", Now: quickstartNow}
	for i, by := range []Pair{q.PECAuthority, q.TLSAuthority, q.TSAAuthority} {
		for j, usage := range usages {
			tmpl := leaf(c, "x")
			tmpl.NotAfter = c.Now.AddDate(1, 0, 0)
			tmpl.ExtKeyUsage = []x509.ExtKeyUsage{usage}
			p, err := issue(tmpl, q.TLS.Key, by)
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Certificate.Verify(x509.VerifyOptions{Roots: pool(by.Certificate), KeyUsages: []x509.ExtKeyUsage{usage}})
			if (err == nil) != (i == j) {
				t.Errorf("%s for usage %v: %v", by.Certificate.Subject.CommonName, usage, err)
			}
		}
	}
	foreign := c
	foreign.Domain = "bank.example.com"
	p, err := tlsServer(foreign, q.TLSAuthority)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Certificate.Verify(x509.VerifyOptions{Roots: pool(q.TLSAuthority.Certificate), DNSName: "bank.example.com"}); err == nil {
		t.Error("the TLS authority vouches for a foreign name")
	}
	p, err = pecSigner(foreign, q.PECAuthority)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Certificate.Verify(x509.VerifyOptions{Roots: pool(q.PECAuthority.Certificate), KeyUsages: usages[:1]}); err == nil {
		t.Error("the PEC authority vouches for a foreign domain")
	}
}

func TestTLSHandshake(t *testing.T) {
	t.Parallel()
	q := quickstart(t)
	if _, ok := q.TLS.Certificate.PublicKey.(*ecdsa.PublicKey); !ok {
		t.Errorf("%T", q.TLS.Certificate.PublicKey)
	}
	if days := q.TLS.Certificate.NotAfter.Sub(q.TLS.Certificate.NotBefore).Hours() / 24; days > 825 {
		t.Errorf("valid for %.0f days", days)
	}
	for _, name := range []string{"pec.example.test", "localhost", "127.0.0.1", "::1"} {
		server, client := net.Pipe()
		go func() {
			s := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{{
				Certificate: [][]byte{q.TLS.Certificate.Raw}, PrivateKey: q.TLS.Key,
			}}})
			_ = s.Handshake() // the client's own error says it
			server.Close()
		}()
		c := tls.Client(client, &tls.Config{ServerName: name, RootCAs: pool(q.TLSAuthority.Certificate)})
		if err := c.Handshake(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		client.Close()
	}
}

func TestLogKey(t *testing.T) {
	t.Parallel()
	q := quickstart(t)
	s, err := note.NewSigner(q.LogSigner)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(q.LogVerifier)
	if err != nil {
		t.Fatal(err)
	}
	if v.Name() != "pec.example.test/scripta/0123abcd" || s.KeyHash() != v.KeyHash() {
		t.Errorf("%s %x %x", v.Name(), s.KeyHash(), v.KeyHash())
	}
	sig, err := s.Sign([]byte("text"))
	if err != nil || !v.Verify([]byte("text"), sig) {
		t.Errorf("the key does not sign: %v", err)
	}
	if a, b := NewLogID(), NewLogID(); len(a) != 8 || a == b {
		t.Errorf("log ids %s %s", a, b)
	}
}

// openssl runs the program, or skips (fails with CI_STRICT=1) without it.
func openssl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI_STRICT") == "1" {
			t.Fatal("openssl is not installed")
		}
		t.Skip("openssl is not installed")
	}
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A stranger's program accepts the chains and shows the profiles.
func TestOpenSSLAccepts(t *testing.T) {
	t.Parallel()
	q := quickstart(t)
	dir := t.TempDir()
	for name, c := range map[string]*x509.Certificate{
		"ca": q.PECAuthority.Certificate, "pec": q.PEC.Certificate, "tls-ca": q.TLSAuthority.Certificate, "tls": q.TLS.Certificate,
		"tsa-ca": q.TSAAuthority.Certificate, "tsu": q.TSU.Certificate,
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".pem"), EncodeCertificates(c), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl(t, dir, "verify", "-x509_strict", "-purpose", "smimesign", "-CAfile", "ca.pem", "pec.pem")
	openssl(t, dir, "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "pec.example.test", "-CAfile", "tls-ca.pem", "tls.pem")
	openssl(t, dir, "verify", "-x509_strict", "-purpose", "sslserver", "-verify_ip", "127.0.0.1", "-CAfile", "tls-ca.pem", "tls.pem")
	openssl(t, dir, "verify", "-x509_strict", "-purpose", "timestampsign", "-CAfile", "tsa-ca.pem", "tsu.pem")
	text := openssl(t, dir, "x509", "-in", "pec.pem", "-noout", "-text", "-nameopt", "utf8,sep_comma_plus")
	for _, want := range []string{
		"X509v3 Key Usage: critical\n                Digital Signature\n", "email:posta-certificata@pec.example.test",
		"X509v3 Subject Key Identifier", "X509v3 Authority Key Identifier", "E-mail Protection", "sha256WithRSAEncryption", "Public-Key: (2048 bit)",
		"O=Società Esempio S.p.A.", "no legal value",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("openssl x509 does not show %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "Basic Constraints") {
		t.Error("basicConstraints in the signing certificate")
	}
	if text := openssl(t, dir, "x509", "-in", "tsu.pem", "-noout", "-text"); !strings.Contains(text, "X509v3 Extended Key Usage: critical\n                Time Stamping\n") {
		t.Errorf("openssl x509 of the TSU:\n%s", text)
	}
	// The key signs mail that openssl verifies for the purpose.
	if err := SaveSigner(filepath.Join(dir, "pec.key"), q.PEC.Key); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "m"), []byte("text\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, dir, "cms", "-sign", "-binary", "-in", "m", "-signer", "pec.pem", "-inkey", "pec.key", "-outform", "DER", "-out", "m.p7s", "-cades", "-md", "sha256")
	openssl(t, dir, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", "m.p7s", "-content", "m", "-CAfile", "ca.pem", "-out", "m.out")
}

// Each key belongs to its certificate.
func TestSignersSign(t *testing.T) {
	t.Parallel()
	q := quickstart(t)
	digest := sha256.Sum256([]byte("x"))
	for _, p := range []Pair{q.PEC, q.TLS, q.TSU} {
		sig, err := p.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		algorithm := x509.ECDSAWithSHA256
		if p == q.PEC {
			algorithm = x509.SHA256WithRSA
		}
		if err := p.Certificate.CheckSignature(algorithm, []byte("x"), sig); err != nil {
			t.Error(err)
		}
	}
}
