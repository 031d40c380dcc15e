package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// indexAuthority signs the index of providers, as AgID does: a self-signed
// certificate made by openssl.
type indexAuthority struct {
	dir  string
	ldif []byte
}

// newIndexAuthority makes an index of these providers, written by hand as RFC
// 6109 section 4.5.10 shows it: nothing of the program under test makes it.
func newIndexAuthority(t *testing.T, all ...*provider) *indexAuthority {
	t.Helper()
	need(t, "openssl")
	x := &indexAuthority{dir: t.TempDir()}
	var b bytes.Buffer
	b.WriteString("dn: o=postacert\nobjectclass: top\nobjectclass: organization\nobjectClass: LDIFLocationURLObject\no: postacert\n" +
		"LDIFLocationURL: https://igpec.example/igpec.ldif.p7m\ndescription: Base root for the PEC providers directory\n")
	for _, p := range all {
		b.WriteString(p.ldif(t))
	}
	x.ldif = b.Bytes()
	if err := os.WriteFile(x.path("index.ldif"), x.ldif, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "2", "-subj", "/C=IT/O=Indice di prova/CN=Indice dei gestori",
			"-addext", "keyUsage=critical,digitalSignature,keyCertSign", "-addext", "basicConstraints=critical,CA:true",
			"-keyout", x.path("index.key"), "-out", x.certificate()},
		{"cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-md", "sha256", "-signer", x.certificate(), "-inkey", x.path("index.key"),
			"-in", x.path("index.ldif"), "-out", x.file()},
	} {
		if out, err := run(t, "openssl", args...); err != nil {
			t.Fatalf("openssl %s: %v\n%s", args[0], err, out)
		}
	}
	return x
}

func (x *indexAuthority) path(name string) string { return filepath.Join(x.dir, name) }

// certificate is the file (PEM) of the certificate that signs the index.
func (x *indexAuthority) certificate() string { return x.path("index.pem") }

// fingerprint is how the configuration names who signs.
func (x *indexAuthority) fingerprint(t *testing.T) string {
	t.Helper()
	block, _ := pem.Decode(must[[]byte](t)(os.ReadFile(x.certificate())))
	return sha256Hex(block.Bytes)
}

// file is the signed index (PKCS#7, DER).
func (x *indexAuthority) file() string { return x.path("index.ldif.p7m") }

// name is the provider's name in its certificate and in the index.
func (p *provider) name() string { return "Gestore " + p.domain }

// ldif is the provider's record in the index.
func (p *provider) ldif(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(p.dir.PECCertificate())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s holds no certificate", p.dir.PECCertificate())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\ndn: providerName=%s,o=postacert\nobjectclass: top\nobjectclass: provider\nproviderName: %[1]s\n", p.name())
	fmt.Fprintf(&b, "providerCertificateHash: %X\nproviderCertificate;binary::", sha1.Sum(block.Bytes))
	for rest := base64.StdEncoding.EncodeToString(block.Bytes); rest != ""; {
		n := min(len(rest), 58)
		b.WriteString("\n " + rest[:n])
		rest = rest[n:]
	}
	fmt.Fprintf(&b, "\nmailReceipt: posta-certificata@%s\nmanagedDomains: %[1]s\n", p.domain)
	return b.String()
}
