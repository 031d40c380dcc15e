package cms_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"scripta/internal/cms"
	"scripta/internal/cms/cmstest"
)

const golden = "testdata/openssl" // made by the make.sh in it

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(golden, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func goldenPolicy(t testing.TB) cms.Policy {
	block, _ := pem.Decode(read(t, "root.pem"))
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return cms.Policy{Roots: roots, At: root.NotBefore.Add(time.Hour), EKU: x509.ExtKeyUsageEmailProtection}
}

func TestOpenSSLSignatures(t *testing.T) {
	t.Parallel()
	body := read(t, "content")
	for _, c := range []struct {
		file string
		sha1 bool
		hash crypto.Hash
		ess  bool
		want error
	}{
		{file: "rsa.p7s", hash: crypto.SHA256},
		{file: "cades.p7s", hash: crypto.SHA256, ess: true},
		{file: "sha512.p7s", hash: crypto.SHA512},
		{file: "pss.p7s", hash: crypto.SHA256},
		{file: "psssha384.p7s", hash: crypto.SHA384},
		{file: "ec.p7s", hash: crypto.SHA256},
		{file: "ecsha512.p7s", hash: crypto.SHA512},
		{file: "sha1.p7s", want: cms.ErrWeakDigest},
		{file: "sha1.p7s", sha1: true, hash: crypto.SHA1},
		{file: "sha1cades.p7s", sha1: true, hash: crypto.SHA1, ess: true},
		{file: "noattr.p7s", want: cms.ErrNoSignedAttributes},
		{file: "keyid.p7s", want: cms.ErrSignerID},
		{file: "nocerts.p7s", want: cms.ErrNoCertificate},
		{file: "two.p7s", want: cms.ErrSignerCount},
		{file: "weak.p7s", want: cms.ErrWeakKey},
		{file: "web.p7s", want: cms.ErrUsage},
		{file: "contenttype.p7s", want: cms.ErrContentType},
		{file: "stream.p7m", want: cms.ErrNotDetached},
		{file: "encrypted.p7m", want: cms.ErrNotSignedData},
		{file: "content", want: cms.ErrMalformed},
	} {
		p := goldenPolicy(t)
		p.AllowSHA1 = c.sha1
		s, err := cms.Verify(read(t, c.file), cms.DigestOf(body), p)
		if !errors.Is(err, c.want) || (err == nil) != (s != nil) {
			t.Errorf("%s: %+v, %v; want %v", c.file, s, err, c.want)
			continue
		}
		if s != nil && (s.Hash != c.hash || (s.ESS || s.ESSv1) != c.ess || s.ESSv1 && s.Hash != crypto.SHA1 || s.SigningTime.IsZero()) {
			t.Errorf("%s: %+v", c.file, s)
		}
		if c.want == nil {
			if _, err := cms.Verify(read(t, c.file), cms.DigestOf(append(body, '\n')), p); !errors.Is(err, cms.ErrMessageDigest) {
				t.Errorf("%s with other content: %v", c.file, err)
			}
		}
	}
}

func TestOpenSSLAttached(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"stream.p7m", "cades.p7m"} {
		got, _, err := cms.VerifyAttached(read(t, file), goldenPolicy(t))
		if err != nil || !bytes.Equal(got, read(t, "content")) {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
}

func TestOpenSSLStreamOfManySegments(t *testing.T) {
	t.Parallel()
	openssl := cmstest.Program(t, "openssl")
	key := cmstest.RSA(t)
	ca := cmstest.New(t)
	cert := ca.Issue(t, key.Public())
	body := bytes.Repeat([]byte("managedDomains: esempio.example\n"), 20_000)
	out := cmstest.WriteFile(t, "out.p7m", nil)
	cmd := exec.Command(openssl, "cms", "-sign", "-binary", "-nodetach", "-stream", "-outform", "DER", "-out", out,
		"-in", cmstest.WriteFile(t, "in", body), "-signer", cmstest.WritePEM(t, cert), "-inkey", cmstest.WriteKey(t, key),
		"-certfile", cmstest.WritePEM(t, ca.Intermediate))
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	p7m, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(p7m, []byte{0x30, 0x80}) {
		t.Fatal("openssl did not write BER of indefinite length")
	}
	got, s, err := cms.VerifyAttached(p7m, cms.Policy{Roots: ca.Roots, At: at})
	if err != nil || !bytes.Equal(got, body) || !s.Certificate.Equal(cert) {
		t.Errorf("%d bytes of %d, %v", len(got), len(body), err)
	}
}

func FuzzVerify(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(golden, "*.p7?"))
	if err != nil || len(files) == 0 {
		f.Fatalf("%d seeds, %v", len(files), err)
	}
	for _, name := range files {
		f.Add(read(f, filepath.Base(name)))
	}
	p := goldenPolicy(f)
	p.AllowSHA1 = true
	body := read(f, "content")
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := cms.Verify(b, cms.DigestOf(body), p)
		if (err == nil) != (s != nil) {
			t.Fatalf("%+v, %v", s, err)
		}
		if content, s, err := cms.VerifyAttached(b, p); err == nil && (s == nil || !bytes.Equal(content, body)) {
			t.Fatalf("accepted %q", content) // signed by nobody
		}
		der, err := cms.DER(b, cms.MaxDetached)
		if err != nil {
			return
		}
		if again, err := cms.DER(der, cms.MaxDetached); err != nil || !bytes.Equal(again, der) {
			t.Fatalf("DER does not stay as it is: %x, %v", again, err)
		}
	})
}
