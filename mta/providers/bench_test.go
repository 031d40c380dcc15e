package providers

import (
	"crypto/x509"
	"fmt"
	"testing"

	"scripta/mta/providers/ldif"
)

// BenchmarkRead reads a directory of 40 providers with 500,000 domains, which is
// more than the real one has, and makes the index of it.
func BenchmarkRead(b *testing.B) {
	cert := certificate(b, "B")
	d := &Directory{Root: true}
	for i := range 40 {
		p := &Provider{Name: fmt.Sprint("p", i), ServiceAddress: "r@x.example.it", Certificates: []*x509.Certificate{cert}}
		for j := range 12_500 {
			p.Domains = append(p.Domains, fmt.Sprintf("dominio%d-%d.example.it", i, j))
		}
		d.Providers = append(d.Providers, p)
	}
	file := d.LDIF()
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		entries, _, err := ldif.Parse(file, ldif.DefaultLimits())
		if err != nil {
			b.Fatal(err)
		}
		read, faults := Read(entries)
		if len(faults) > 0 || read.Domains() != 500_000 {
			b.Fatal(faults)
		}
		read.Digest()
		New(read.Providers...)
	}
}
