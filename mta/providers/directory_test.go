package providers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/mta/providers/ldif"
	"scripta/mta/providers/slapdtest"
)

// certificate makes one for a name, signed by itself.
func certificate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	c, _ := pair(t, name)
	return c
}

func pair(t testing.TB, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{Organization: []string{name}, CommonName: "Posta Certificata"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

// sample is a directory with what the real one may hold.
func sample(t testing.TB) *Directory {
	t.Helper()
	old, renewed, other := certificate(t, "Anonima S.p.A."), certificate(t, "Anonima S.p.A."), certificate(t, "Società, \"Poste\"")
	return &Directory{Root: true, Location: "https://igpec.example.it/igpec.ldif.p7m", Providers: []*Provider{
		{Name: "Anonima S.p.A.", Domains: []string{"mail.anonima.example.it", "zeta.example.it"}, ServiceAddress: "ricevute@anonima.example.it",
			Certificates: []*x509.Certificate{old, renewed}, LDIF: "https://anonima.example.it/anonima.ldif.p7m", Description: "Servizi di posta certificata per le aziende"},
		{Name: "Anonima S.p.A.", Unit: "Ambiente secondario", Domains: []string{"interno.anonima.example.it"}, ServiceAddress: "notifiche@secondario.anonima.example.it",
			Certificates: []*x509.Certificate{old}},
		{Name: "Società, \"Poste\" + S.r.l.", Domains: []string{"pec.example.it", strings.Repeat("lungo.", 30) + "example.it"}, ServiceAddress: "presa-in-carico@pec.example.it",
			Certificates: []*x509.Certificate{other}, Description: "È accentato "},
	}}
}

// reread reads an LDIF file and fails on any fault.
func reread(t testing.TB, file []byte) *Directory {
	t.Helper()
	entries, faults, err := ldif.Parse(file, ldif.DefaultLimits())
	if err != nil || len(faults) > 0 {
		t.Fatalf("%v %v\n%s", err, faults, file)
	}
	d, faults := Read(entries)
	if len(faults) > 0 {
		t.Fatalf("%v\n%s", faults, file)
	}
	return d
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	d := sample(t)
	again := reread(t, d.LDIF())
	if !again.Root || again.Location != d.Location || len(again.Providers) != 3 || again.Domains() != 5 {
		t.Fatalf("%+v", again)
	}
	for i, p := range again.Providers {
		w := d.Providers[i]
		slices.Sort(w.Domains)
		if p.Name != w.Name || p.Unit != w.Unit || p.ServiceAddress != w.ServiceAddress || p.LDIF != w.LDIF || !slices.Equal(p.Domains, w.Domains) || len(p.Certificates) != len(w.Certificates) {
			t.Errorf("%+v, want %+v", p, w)
		}
	}
	if reread(t, again.LDIF()).Digest() != again.Digest() {
		t.Error("the file of what was read is another")
	}
	// The order of records, and of what is in them, makes no difference.
	entries, _, _ := ldif.Parse(d.LDIF(), ldif.DefaultLimits())
	slices.Reverse(entries)
	for _, e := range entries {
		slices.Reverse(e.Attributes)
	}
	if other, faults := Read(entries); other.Digest() != again.Digest() || len(faults) > 0 {
		t.Errorf("another order, another directory: %v\n%s", faults, other.LDIF())
	}
	x := New(again.Providers...)
	if p, ok := x.OfAddress("a@interno.anonima.example.it"); !ok || p.Unit == "" {
		t.Error("the secondary environment's domain is not found")
	}
}

// What slapd makes of our file, and ldapsearch says of it, we read as it was.
func TestDirectoryThroughSlapd(t *testing.T) {
	t.Parallel()
	d := reread(t, sample(t).LDIF())
	s := slapdtest.Start(t, slapdtest.Options{LDIF: d.LDIF()})
	if got := reread(t, s.Search("objectClass=*")); got.Digest() != d.Digest() {
		t.Errorf("ldapsearch gives\n%s\nof\n%s", got.LDIF(), d.LDIF())
	}
	if got := reread(t, s.Slapcat()); got.Digest() != d.Digest() {
		t.Errorf("slapcat gives\n%s", got.LDIF())
	}
	// Case does not matter where the schema says so.
	found := s.Search(fmt.Sprintf("(&(providerCertificateHash=%s)(manageddomains=PEC.example.it))", strings.ToUpper(Hash(d.Providers[2].Certificates[0]))), "mailReceipt")
	if !bytes.Contains(found, []byte("mailReceipt: presa-in-carico@pec.example.it")) {
		t.Errorf("ldapsearch by hash and domain says %s", found)
	}
}

// One wrong record, or one wrong value, never costs the others.
func TestDirectoryFaults(t *testing.T) {
	t.Parallel()
	good := sample(t)
	cert := certificate(t, "C")
	record := func(edit func(*ldif.Entry)) *ldif.Entry {
		e := (&Directory{Providers: []*Provider{{Name: "C", Domains: []string{"c.example.it"}, ServiceAddress: "r@c.example.it", Certificates: []*x509.Certificate{cert}}}}).Entries()[0]
		edit(e)
		return e
	}
	drop := func(name string) func(*ldif.Entry) {
		return func(e *ldif.Entry) {
			e.Attributes = slices.DeleteFunc(e.Attributes, func(a ldif.Attribute) bool { return a.Is(name) })
		}
	}
	with := func(name, value string) func(*ldif.Entry) {
		return func(e *ldif.Entry) {
			e.Attributes = append(e.Attributes, ldif.Attribute{Type: name, Value: []byte(value)})
		}
	}
	set := func(name, value string) func(*ldif.Entry) {
		return func(e *ldif.Entry) { drop(name)(e); with(name, value)(e) }
	}
	for name, x := range map[string]struct {
		edit func(*ldif.Entry)
		kept bool // the record, beside the fault
		want string
	}{
		"no name":                  {drop(attrName), false, "no providerName"},
		"two names":                {with(attrName, "D"), false, "2 values"},
		"name of another":          {set(attrName, "D"), true, "the dn says otherwise"},
		"control in name":          {set(attrName, "C\x01"), false, "printable"},
		"no receipt":               {drop(attrReceipt), false, "no mailReceipt"},
		"receipt with brackets":    {set(attrReceipt, "<r@c.example.it>"), false, "no plain address"},
		"receipt without domain":   {set(attrReceipt, "r@"), false, "no plain address"},
		"no domain":                {drop(attrDomains), false, "no domain"},
		"bad domain":               {with(attrDomains, "c_example"), true, "c_example"},
		"only a bad domain":        {set(attrDomains, "-"), false, "managedDomains"},
		"domain of another":        {with(attrDomains, "ZETA.example.it"), true, "which keeps it"},
		"no certificate":           {drop(attrCertificate), false, "providerCertificateHash"},
		"no hash":                  {drop(attrHash), false, "left out"},
		"bad hash":                 {with(attrHash, "abc"), true, "no SHA-1"},
		"hash without certificate": {with(attrHash, strings.Repeat("0", 40)), true, "no certificate has"},
		"unreadable certificate":   {with(attrCertificate, "nonsense"), true, "cannot be read"},
		"foreign class":            {set(attrClass, "person"), false, "neither the root"},
		"foreign dn":               {func(e *ldif.Entry) { e.DN = "cn=C,o=postacert" }, false, "the dn is not"},
		"foreign base":             {func(e *ldif.Entry) { e.DN = "providerName=C,o=other" }, false, "the dn is not"},
		"broken dn":                {func(e *ldif.Entry) { e.DN = "providerName=C\\" }, false, "the dn is not"},
		"unit in the dn only":      {func(e *ldif.Entry) { e.DN = "providerUnit=U," + e.DN }, true, "the dn says otherwise"},
		"again":                    {func(e *ldif.Entry) { e.DN = "providerName=anonima s.p.a.,o=postacert" }, false, "came before"},
	} {
		d, faults := Read(append(good.Entries(), record(x.edit)))
		_, kept := New(d.Providers...).OfAddress("x@c.example.it")
		if kept != x.kept || len(d.Providers) < 3 {
			t.Errorf("%s: %d providers, kept %v: %v", name, len(d.Providers), kept, faults)
		}
		if len(faults) == 0 || !slices.ContainsFunc(faults, func(f *ldif.Fault) bool { return strings.Contains(f.Error(), x.want) }) {
			t.Errorf("%s: %v, want %q", name, faults, x.want)
		}
	}
	// By identifiers instead of names, hash in capitals with colons.
	e := record(func(e *ldif.Entry) {
		for i, a := range e.Attributes {
			if a.Is(attrDomains) {
				e.Attributes[i].Type = oidArc + "5"
			}
			if a.Is(attrHash) {
				h := strings.ToUpper(string(a.Value))
				e.Attributes[i].Value = []byte(h[:2] + ":" + h[2:])
			}
		}
	})
	if d, faults := Read([]*ldif.Entry{e}); len(faults) > 0 || len(d.Providers) != 1 {
		t.Errorf("%v", faults)
	}
}

func FuzzDirectory(f *testing.F) {
	f.Add(sample(f).LDIF())
	f.Add([]byte("dn: providerUnit=U\\,\\2c,providerName=C,o=postacert\nobjectClass: provider\nproviderName: C\nproviderUnit: U\nmanagedDomains: x.it\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, _, err := ldif.Parse(data, ldif.Limits{Bytes: 1 << 16, Entries: 100, Values: 100, Line: 1 << 13})
		if err != nil {
			return
		}
		d, _ := Read(entries)
		again, faults, err := ldif.Parse(d.LDIF(), ldif.DefaultLimits())
		if err != nil || len(faults) > 0 {
			t.Fatalf("our own file: %v %v", err, faults)
		}
		if second, faults := Read(again); len(second.Providers) != len(d.Providers) {
			t.Fatalf("%d providers became %d: %v\n%s", len(d.Providers), len(second.Providers), faults, d.LDIF())
		}
	})
}
