package providers

import (
	"crypto/x509"
	"testing"
)

func TestIndex(t *testing.T) {
	t.Parallel()
	cert, shared := &x509.Certificate{Raw: []byte("a certificate")}, &x509.Certificate{Raw: []byte("of two records")}
	x := New(&Provider{Name: "A", Domains: []string{"pec.example", "Legal.Example"}, ServiceAddress: "Ricevute@a.example", Certificates: []*x509.Certificate{cert, shared}},
		&Provider{Name: "A", Unit: "U", Domains: []string{"u.example"}, Certificates: []*x509.Certificate{shared}},
		&Provider{Name: "B", Domains: []string{"pec.example"}})
	for address, want := range map[string]string{"mario@pec.example": "A", "x@LEGAL.example": "A", "x@u.example": "A/U", "x@sub.pec.example": "",
		"pec.example": "", "a@b@pec.example": "A", "x@": ""} {
		p, ok := x.OfAddress(address)
		if ok != (want != "") || ok && p.String() != want {
			t.Errorf("%s: %v %v", address, p, ok)
		}
	}
	for _, c := range []*x509.Certificate{cert, shared} {
		if p, ok := x.OfCertificate(c); !ok || p.String() != "A" {
			t.Errorf("OfCertificate: %v %v", p, ok)
		}
	}
	if _, ok := x.OfCertificate(&x509.Certificate{Raw: []byte("another")}); ok {
		t.Error("an unknown certificate was found")
	}
	if !x.SignsFor(shared, "x@u.example") || x.SignsFor(cert, "x@u.example") || x.SignsFor(cert, "x@nowhere.example") || !x.SignsFor(cert, "x@legal.example") {
		t.Error("a certificate signs for the wrong domains")
	}
	if p, ok := x.OfServiceAddress("ricevute@A.example"); !ok || p.Name != "A" {
		t.Errorf("OfServiceAddress: %v %v", p, ok)
	}
	if _, ok := x.OfServiceAddress(""); ok {
		t.Error("an entry without service address was found by none")
	}
}
