package pec

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scripta/internal/cms"
	"scripta/internal/cms/cmstest"
)

// With a real signer, OpenSSL and our own verifier accept what is issued, and refuse it after one changed octet.
func TestSignaturesVerify(t *testing.T) {
	t.Parallel()
	ca := cmstest.New(t)
	key := cmstest.RSA(t)
	signer, err := cms.NewSigner(key, ca.Issue(t, key.Public()), ca.Intermediate)
	if err != nil {
		t.Fatal(err)
	}
	roots := cmstest.WritePEM(t, ca.Root)
	c := testComposer(t)
	c.Signer = signer
	policy := cms.Policy{Roots: ca.Roots, At: testTransaction().Time, EKU: x509.ExtKeyUsageEmailProtection, RequireESS: true}
	for name, original := range map[string]string{
		"7bit":             testOriginal,
		"no final newline": strings.TrimSuffix(testOriginal, "\r\n"),
		"8bit":             testOriginal + "perché\r\n",
		"long line":        testOriginal + strings.Repeat("x", 3000),
	} {
		for kind, m := range issueAll(t, c, original, nil) {
			b := m.bytes(t)
			s := readSigned(t, b)
			if _, err := cms.Verify(s.Signature, s.ContentDigest, policy); err != nil {
				t.Errorf("%s, %s: our verifier: %v", name, kind, err)
			}
			if out, err := opensslVerify(t, roots, b); err != nil {
				t.Errorf("%s, %s: openssl: %v\n%s", name, kind, err, out)
			}
			changed := bytes.Replace(b, []byte("Identificativo"), []byte("identificativo"), 1)
			s = readSigned(t, changed)
			if _, err := cms.Verify(s.Signature, s.ContentDigest, policy); err == nil {
				t.Errorf("%s, %s: our verifier accepts a changed message", name, kind)
			}
			if out, err := opensslVerify(t, roots, changed); err == nil {
				t.Errorf("%s, %s: openssl accepts a changed message\n%s", name, kind, out)
			}
		}
	}
}

func opensslVerify(t *testing.T, roots string, message []byte) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "message.eml")
	if err := os.WriteFile(path, message, 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, nil, "openssl", "cms", "-verify", "-cades", "-purpose", "smimesign", "-in", path, "-CAfile", roots, "-out", os.DevNull)
}

// The signed entity is what OpenSSL takes for it: the content it writes out has our digest.
func TestSignedEntityIsOpenSSLs(t *testing.T) {
	t.Parallel()
	ca := cmstest.New(t)
	key := cmstest.ECDSA(t)
	signer, err := cms.NewSigner(key, ca.Issue(t, key.Public()), ca.Intermediate)
	if err != nil {
		t.Fatal(err)
	}
	c := testComposer(t)
	c.Signer = signer
	m := issueAll(t, c, testOriginal, nil)["transport-envelope"]
	folder := t.TempDir()
	in, out := filepath.Join(folder, "message.eml"), filepath.Join(folder, "content")
	if err := os.WriteFile(in, m.bytes(t), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := run(t, nil, "openssl", "cms", "-verify", "-in", in, "-CAfile", cmstest.WritePEM(t, ca.Root), "-out", out); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if sha(content) != m.Content {
		t.Errorf("OpenSSL's content has another digest than ours:\n%q", content)
	}
}

// What OpenSSL signs in the manner of other providers reads back with the same content.
func TestReadsOpenSSLsMessages(t *testing.T) {
	t.Parallel()
	ca := cmstest.New(t)
	key := cmstest.RSA(t)
	certificate := cmstest.WritePEM(t, ca.Issue(t, key.Public()))
	m := issueAll(t, testComposer(t), testOriginal, nil)["transport-envelope"]
	whole := string(m.bytes(t))
	entity := whole[strings.Index(whole, "Content-Type: multipart/mixed"):]
	entity, _, _ = strings.Cut(entity, "\r\n\r\n--=_al7iaf9uj0pjils5bkmp6i7tejb5s29c\r\n")
	for _, digest := range []string{"sha1", "sha256", "sha384", "sha512"} {
		out, err := run(t, []byte(entity+"\r\n"), "openssl", "cms", "-sign", "-crlfeol", "-binary", "-md", digest, "-signer", certificate, "-inkey", cmstest.WriteKey(t, key),
			"-certfile", cmstest.WritePEM(t, ca.Intermediate))
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		out = strings.ReplaceAll(strings.ReplaceAll(out, "\r\n", "\n"), "\n", "\r\n")
		s := readSigned(t, []byte("x-trasporto : Posta-Certificata\r\n"+out))
		policy := cms.Policy{Roots: ca.Roots, At: testTransaction().Time, EKU: x509.ExtKeyUsageEmailProtection, AllowSHA1: true}
		if _, err := cms.Verify(s.Signature, s.ContentDigest, policy); err != nil {
			t.Errorf("%s: %v", digest, err)
		}
		original, err := io.ReadAll(io.NewSectionReader(strings.NewReader("x-trasporto : Posta-Certificata\r\n"+out), s.Original.Offset, s.Original.Length))
		if err != nil || !bytes.Equal(original, includedBytes(t, *m.included)) {
			t.Errorf("%s: included original is %q, %v", digest, original, errors.Unwrap(err))
		}
	}
}
