package mta

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"syscall"
	"testing"

	"scripta/internal/cms"
	"scripta/internal/cms/cmstest"
	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/mta/pec"
	"scripta/mta/providers"
)

// A message whose envelope was signed before the renewal of the signing
// certificate, and that waits, is carried on after it, as long as the index knows
// the earlier certificate as ours; its later receipts are signed with the new one.
func TestJobAcrossRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	index := func(certs ...*x509.Certificate) func() *providers.Index {
		x := providers.New(&providers.Provider{Name: "Esempio", Domains: []string{domain}, ServiceAddress: "posta-certificata@" + domain, Certificates: certs})
		return func() *providers.Index { return x }
	}
	before := w.signer.Certificate()
	fsys, err := faultfs.New(w.fault, func(_ int, c faultfs.Call) error {
		if strings.Contains(c.Name, "/lucia/") {
			return syscall.EIO
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.begin(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.send("one", "To: lucia@"+domain+"\r\nSubject: prova\r\n", "lucia@"+domain); err != nil {
		t.Fatal(err)
	}
	// The envelope is stored and taken in charge, and cannot be delivered.
	if err := p.drain(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if err := p.end(); err != nil {
		t.Fatal(err)
	}

	ca, key := cmstest.New(t), cmstest.ECDSA(t)
	cert := ca.Issue(t, key.Public(), func(c *x509.Certificate) {
		c.EmailAddresses = []string{"posta-certificata@" + domain}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	})
	if w.signer, err = cms.NewSigner(key, cert, ca.Intermediate); err != nil {
		t.Fatal(err)
	}
	w.roots = w.roots.Clone()
	w.roots.AddCert(ca.Root)
	if p, err = w.begin(durable.OS); err != nil {
		t.Fatal(err)
	}
	first := <-p.tasks
	if err := p.run(t.Context(), first, slog.New(slog.DiscardHandler)); !errors.Is(err, errBadEnvelope) {
		t.Errorf("with the new certificate alone: %v", err)
	}
	p.index = index(cert, before)
	if err := p.run(t.Context(), first, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	if got := p.records(t, "one"); !maps.Equal(got, inRegister) {
		t.Errorf("records %v", got)
	}
	if got := w.mailboxOf("lucia"); got[pec.TransportEnvelope] != 1 || len(got) != 1 {
		t.Errorf("lucia has %v", got)
	}
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
}
