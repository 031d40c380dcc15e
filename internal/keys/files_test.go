package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSignerFiles(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"rsa": rsaKey, "ecdsa": ecKey, "ed25519": edKey} {
		path := filepath.Join(t.TempDir(), name+".key")
		if err := SaveSigner(path, key); err != nil {
			t.Fatal(err)
		}
		got, err := LoadSigner(path)
		if err != nil {
			t.Fatal(err)
		}
		if eq := key.(interface{ Equal(crypto.PrivateKey) bool }); !eq.Equal(got) {
			t.Errorf("%s: another key", name)
		}
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, fi.Mode(), err)
		}
		for _, mode := range []fs.FileMode{0o640, 0o604, 0o644, 0o620} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadSigner(path); !errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), "chmod 600 "+path) {
				t.Errorf("%s with mode %o: %v", name, mode, err)
			}
		}
		if err := os.Chmod(path, 0o400); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadSigner(path); err != nil {
			t.Errorf("%s with mode 0400: %v", name, err)
		}
	}
}

func TestParseSignerSaysWhatToDo(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"empty":       {nil, "no PEM block"},
		"DER":         {p8, "no PEM block"},
		"SEC1":        {block("EC PRIVATE KEY", sec1), "convert it to PKCS#8"},
		"encrypted":   {block("ENCRYPTED PRIVATE KEY", p8), "decrypt it"},
		"certificate": {block("CERTIFICATE", p8), `"PRIVATE KEY" is expected`},
		"two keys":    {append(block("PRIVATE KEY", p8), block("PRIVATE KEY", p8)...), "more than one"},
		"cut":         {block("PRIVATE KEY", p8[:50]), "asn1"},
	} {
		if _, err := parseSigner(tc.data); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want …%s…", name, err, tc.want)
		}
	}
	if _, err := parseSigner(block("PRIVATE KEY", p8)); err != nil {
		t.Error(err)
	}
}

func TestCertificateFiles(t *testing.T) {
	t.Parallel()
	q := quickstart(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "chain.pem")
	chain := EncodeCertificates(q.PEC.Certificate, q.PECAuthority.Certificate)
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("chain.pem", append([]byte("subject: some text\n"), chain...))
	certs, err := LoadCertificates(path)
	if err != nil || len(certs) != 2 || !certs[0].Equal(q.PEC.Certificate) || !certs[1].Equal(q.PECAuthority.Certificate) {
		t.Errorf("%d certificates, %v", len(certs), err)
	}
	for name, data := range map[string][]byte{
		"empty": nil, "der": q.PEC.Certificate.Raw,
		"key":     pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}),
		"damaged": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: q.PEC.Certificate.Raw[:100]}),
	} {
		if _, err := LoadCertificates(write(name, data)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := LoadCertificates(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}

	key := filepath.Join(dir, "pec.key")
	if err := SaveSigner(key, q.PEC.Key); err != nil {
		t.Fatal(err)
	}
	signer, certs, err := LoadPair(key, path)
	if err != nil || signer == nil || len(certs) != 2 {
		t.Errorf("LoadPair: %v", err)
	}
	if err := SaveSigner(key, q.TSU.Key); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadPair(key, path); err == nil || !strings.Contains(err.Error(), "is not that of") {
		t.Errorf("a pair that does not belong together: %v", err)
	}
}

func TestLoadNoteSigner(t *testing.T) {
	t.Parallel()
	q := quickstart(t)
	path := filepath.Join(t.TempDir(), "log.key")
	if err := os.WriteFile(path, []byte(q.LogSigner+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := LoadNoteSigner(path)
	if err != nil || s.Name() != "pec.example.test/scripta/0123abcd" {
		t.Errorf("%v %v", s, err)
	}
	if err := os.WriteFile(path, []byte(q.LogSigner[:len(q.LogSigner)-3]), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadNoteSigner(path); err == nil || strings.Contains(err.Error(), "PRIVATE") {
		t.Errorf("a damaged key: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadNoteSigner(path); !errors.Is(err, ErrExposed) {
		t.Errorf("an exposed key: %v", err)
	}
}
