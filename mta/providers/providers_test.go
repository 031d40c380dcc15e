package providers

import (
	"crypto/x509"
	"testing"
)

func TestIndex(t *testing.T) {
	t.Parallel()
	cert := &x509.Certificate{Raw: []byte("a certificate")}
	x := New(&Provider{Name: "A", Domains: []string{"pec.example", "Legal.Example"}, Certificates: [][32]byte{Fingerprint(cert)}},
		&Provider{Name: "B", Domains: []string{"pec.example"}})
	for address, want := range map[string]string{"mario@pec.example": "A", "x@LEGAL.example": "A", "x@sub.pec.example": "",
		"pec.example": "", "a@b@pec.example": "A", "x@": ""} {
		p, ok := x.OfAddress(address)
		if ok != (want != "") || ok && p.Name != want {
			t.Errorf("%s: %v %v", address, p, ok)
		}
	}
	if p, ok := x.OfCertificate(cert); !ok || p.Name != "A" {
		t.Errorf("OfCertificate: %v %v", p, ok)
	}
	if _, ok := x.OfCertificate(&x509.Certificate{Raw: []byte("another")}); ok {
		t.Error("an unknown certificate was found")
	}
}
