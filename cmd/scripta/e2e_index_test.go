package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"scripta/internal/cms"
	"scripta/internal/config"
	"scripta/internal/keys"
	"scripta/mta/pec"
	"scripta/mta/providers"
	"scripta/mta/providers/slapdtest"
	"scripta/register/record"
)

// directoryServer gives out a signed directory to one client.
type directoryServer struct {
	*httptest.Server
	keys   *keys.Quickstart
	signer *cms.Signer
	file   atomic.Pointer[[]byte] // nil: the network is down
	folder string
}

func newDirectoryServer(t *testing.T) *directoryServer {
	t.Helper()
	s := &directoryServer{folder: t.TempDir()}
	s.keys = must[*keys.Quickstart](t)(keys.NewQuickstart(keys.QuickstartConfig{Domain: "igpec.example.it", Provider: "Indice dei gestori", LogID: "x", Now: time.Now()}))
	s.signer = must[*cms.Signer](t)(cms.NewSigner(s.keys.PEC.Key, s.keys.PEC.Certificate))
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file := s.file.Load()
		switch {
		case len(r.TLS.PeerCertificates) == 0 || !r.TLS.PeerCertificates[0].Equal(s.keys.TSU.Certificate):
			http.Error(w, "who are you?", http.StatusForbidden)
		case file == nil:
			http.Error(w, "down", http.StatusBadGateway)
		default:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(*file))
		}
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{{Certificate: [][]byte{s.keys.TLS.Certificate.Raw}, PrivateKey: s.keys.TLS.Key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	for name, c := range map[string]*x509.Certificate{"roots.pem": s.keys.PECAuthority.Certificate, "tls-ca.pem": s.keys.TLSAuthority.Certificate, "client.pem": s.keys.TSU.Certificate} {
		if err := os.WriteFile(filepath.Join(s.folder, name), keys.EncodeCertificates(c), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := keys.SaveSigner(filepath.Join(s.folder, "client.key"), s.keys.TSU.Key); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *directoryServer) configure(c *config.Config) {
	c.Index.Source = s.URL + "/igpec.ldif.p7m"
	c.Index.Signers = []string{s.keys.PEC.Certificate.Subject.String()}
	c.Index.Roots, c.Index.TLSCA = filepath.Join(s.folder, "roots.pem"), filepath.Join(s.folder, "tls-ca.pem")
	c.Index.ClientCertificate, c.Index.ClientKey = filepath.Join(s.folder, "client.pem"), filepath.Join(s.folder, "client.key")
}

// others is a directory of other providers.
func (s *directoryServer) others(names ...string) *providers.Directory {
	d := &providers.Directory{Root: true}
	for _, n := range names {
		d.Providers = append(d.Providers, &providers.Provider{Name: n, Domains: []string{n + ".example.it"}, ServiceAddress: "ricevute@" + n + ".example.it",
			Certificates: []*x509.Certificate{s.keys.PEC.Certificate}})
	}
	return d
}

func (s *directoryServer) offer(t *testing.T, d *providers.Directory, at time.Time) {
	t.Helper()
	file := must[[]byte](t)(s.signer.SignAttached(d.LDIF(), at))
	s.file.Store(&file)
}

// The directory of providers comes over HTTPS, signed; while it never came nothing
// is accepted, and once it came its loss stops nothing, not even over a SIGKILL.
func TestIndexOverHTTPS(t *testing.T) {
	t.Parallel()
	s := newDirectoryServer(t)
	p := newProvider(t, []string{"mario", "lucia"}, s.configure)
	p.start(t)
	role := func(state, text string) {
		t.Helper()
		last := ""
		eventually(t, patience, "role providers "+state, func() bool {
			_, last = p.scripta(t, "status")
			return regexp.MustCompile(`(?m)^` + state + ` +providers .*` + text).MatchString(last)
		})
	}
	role("FAILED", "no message is taken: there is no copy")
	c := must[*client](t)(p.login("mario"))
	l := letter{from: address("mario"), to: []string{address("lucia")}, subject: "Troppo presto"}
	if err := c.submit(l.from, l.recipients(), l.String()); !strings.HasPrefix(refusal(err), "451 ") {
		t.Errorf("without a directory: %v", err)
	}
	_ = c.Close()

	now := time.Now()
	s.offer(t, s.others("b", "c", "d", "e"), now)
	if out := p.command(t, "index", "refresh"); !strings.HasPrefix(out, "changed: 4 records came, 0 went: 4 records, 4 domains") || !strings.Contains(out, "has no record of Scripta di prova") {
		t.Errorf("refresh: %s", out)
	}
	role("warn", "4 records, 4 domains, .*remarks") // that we are not in it
	p.send(t, letter{from: address("mario"), to: []string{address("lucia")}, subject: "Adesso"})
	p.one(t, "mario", pec.Delivery, "Adesso")

	// The network goes, and the process.
	s.file.Store(nil)
	p.daemon.kill()
	p.start(t)
	role("warn", "the last refresh failed: .*502")
	p.send(t, letter{from: address("mario"), to: []string{address("lucia")}, subject: "Senza rete"})
	p.one(t, "mario", pec.Delivery, "Senza rete")
	if out := p.command(t, "index", "show", "--providers"); !strings.Contains(out, "mailReceipt  ricevute@e.example.it") || !strings.Contains(out, "signed ") {
		t.Errorf("show: %s", out)
	}

	// What was signed before is refused; so is a directory that lost most of its providers, until a person says otherwise.
	s.offer(t, s.others("b", "c", "d", "e", "f"), now.Add(-time.Hour))
	if code, out := p.scripta(t, "index", "refresh"); code != 1 || !strings.Contains(out, "an old one") {
		t.Errorf("an older one: exit %d %s", code, out)
	}
	s.offer(t, s.others("b"), now.Add(time.Minute))
	code, out := p.scripta(t, "index", "refresh")
	digest := regexp.MustCompile(`--digest ([0-9a-f]{64})`).FindStringSubmatch(out)
	if code != 1 || digest == nil || !strings.Contains(out, "3 of 4 records are gone") {
		t.Fatalf("a shrunk one: exit %d %s", code, out)
	}
	if out := p.command(t, "index", "accept", "--digest", digest[1]); !strings.Contains(out, "3 went") {
		t.Errorf("accept: %s", out)
	}
	p.stop(t)

	// Stopped, the same commands work on the folder; our record gets into the directory.
	own := filepath.Join(t.TempDir(), "own.ldif.p7m")
	p.command(t, "index", "export", "--out", own)
	openssl := need(t, "openssl")
	bare, err := run(t, openssl, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", own, "-CAfile", p.dir.PublicCA(), "-out", own+".ldif")
	if err != nil {
		t.Fatalf("%v\n%s", err, bare)
	}
	file := must[[]byte](t)(os.ReadFile(own + ".ldif"))
	d := s.others("b", "g")
	whole := append(append(d.LDIF(), '\n'), file...)
	signed := must[[]byte](t)(s.signer.SignAttached(whole, now.Add(2*time.Minute)))
	s.file.Store(&signed)
	if out := p.command(t, "index", "refresh"); !strings.HasPrefix(out, "changed: 2 records came, 0 went: 3 records, 3 domains") || strings.Contains(out, "remark") {
		t.Errorf("with our record: %s", out)
	}
	p.start(t)
	role("ok", "3 records, 3 domains")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(must[[]byte](t)(os.ReadFile(p.dir.PublicTLSCA())))
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	resp := must[*http.Response](t)(h.Get("https://" + p.listen.HTTPS + providers.PublishedPath))
	p7m := must[[]byte](t)(io.ReadAll(resp.Body))
	_ = resp.Body.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(must[[]byte](t)(os.ReadFile(p.dir.PublicCA())))
	chain := must[[]*x509.Certificate](t)(keys.LoadCertificates(p.dir.PECCertificate()))
	trust := &providers.Trust{Roots: roots, Signers: []string{chain[0].Subject.String()}}
	if got, _, err := trust.Open(p7m, time.Now()); err != nil || !bytes.Equal(got, file) {
		t.Errorf("what is published is not what was exported: %v\n%s", err, got)
	}
	p.stop(t)
	p.verifyLog(t)
	if n := p.count(t, record.IndexChanged); n != 3 {
		t.Errorf("%d records of a changed index, want 3", n)
	}
}

// count counts the records of a kind in a stopped provider's log.
func (p *provider) count(t *testing.T, kind record.Kind) (n int) {
	t.Helper()
	a := must[*app](t)(openApp(t.Context(), p.dir, slog.New(slog.DiscardHandler)))
	for i := range a.merkle.Size() {
		f, err := a.register.Read(t.Context(), i)
		if err != nil {
			t.Errorf("record %d: %v", i, err)
		} else if f.Record.Kind == kind {
			n++
		}
	}
	if err := a.close(); err != nil {
		t.Error(err)
	}
	return n
}

// From the directory's server itself: a real slapd, which goes away and comes back.
func TestIndexOverLDAP(t *testing.T) {
	t.Parallel()
	slapdtest.Need(t)
	q := newDirectoryServer(t)
	slapd := slapdtest.Start(t, slapdtest.Options{LDIF: q.others("b").LDIF()})
	p := newProvider(t, []string{"mario"}, func(c *config.Config) { c.Index.Source = slapd.URL })
	p.start(t) // ready means that the directory has come, as it could be had
	p.send(t, letter{from: address("mario"), to: []string{address("mario")}, subject: "Subito"})
	p.one(t, "mario", pec.Delivery, "Subito")
	slapd.Stop()
	p.daemon.kill()
	p.start(t)
	if out := p.command(t, "index", "show"); !strings.Contains(out, "an LDAP server says so") || !strings.Contains(out, "holds      1 records") {
		t.Errorf("show: %s", out)
	}
	slapd.Run()
	slapd.Replace(q.others("b", "c").LDIF())
	if out := p.command(t, "index", "refresh"); !strings.Contains(out, "2 records, 2 domains") {
		t.Errorf("refresh: %s", out)
	}
	p.stop(t)
	p.verifyLog(t)
}

// After a renewal of the signing certificate the earlier one is still ours.
func TestIndexAfterRenewal(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario"}, nil)
	before := strings.Count(p.command(t, "index", "show", "--providers"), "  certificate  ")
	p.renew(t)
	if after := strings.Count(p.command(t, "index", "show", "--providers"), "  certificate  "); before != 1 || after != 2 {
		t.Errorf("%d certificates before the renewal, %d after it", before, after)
	}
	own := p.command(t, "index", "export", "--out", "-", "--plain")
	if n := strings.Count(own, "providerCertificate;binary::"); n != 2 {
		t.Errorf("our record has %d certificates:\n%s", n, own)
	}
	p.start(t)
	p.send(t, letter{from: address("mario"), to: []string{address("mario")}, subject: "Rinnovato"})
	p.one(t, "mario", pec.Delivery, "Rinnovato")
	p.stop(t)
	p.verifyLog(t)
}

// renew gives the provider another signing key and certificate, of another authority.
func (p *provider) renew(t *testing.T) {
	t.Helper()
	q := must[*keys.Quickstart](t)(keys.NewQuickstart(keys.QuickstartConfig{Domain: testDomain, Provider: "Scripta di prova", LogID: "x", Now: time.Now()}))
	roots := must[[]byte](t)(os.ReadFile(p.dir.PublicCA()))
	err := errors.Join(keys.SaveSigner(p.dir.PECKey(), q.PEC.Key), os.WriteFile(p.dir.PECCertificate(), keys.EncodeCertificates(q.PEC.Certificate), 0o600),
		os.WriteFile(p.dir.PublicCA(), append(roots, keys.EncodeCertificates(q.PECAuthority.Certificate)...), 0o644))
	if err != nil {
		t.Fatal(err)
	}
}

// What one provider publishes of itself another reads, over HTTPS and by nothing
// but the configuration: the least directory there can be.
func TestIndexOfAnotherProvider(t *testing.T) {
	t.Parallel()
	b := newProviderOf(t, filepath.Join(t.TempDir(), "b"), duoB, "Gestore B", []string{"bice"}, nil)
	b.start(t)
	chain := must[[]*x509.Certificate](t)(keys.LoadCertificates(b.dir.PECCertificate()))
	a := newProviderOf(t, filepath.Join(t.TempDir(), "a"), duoA, "Gestore A", []string{"anna"}, func(c *config.Config) {
		c.Index.Source = "https://" + b.listen.HTTPS + providers.PublishedPath
		c.Index.Signers = []string{fmt.Sprintf("%X", sha256.Sum256(chain[0].Raw))}
		c.Index.Roots, c.Index.TLSCA = b.dir.PublicCA(), b.dir.PublicTLSCA()
	})
	if out := a.command(t, "index", "refresh"); !strings.Contains(out, "1 records, 1 domains") {
		t.Errorf("refresh: %s", out)
	}
	out := a.command(t, "index", "show", "--providers")
	if !strings.Contains(out, "Gestore B\n  mailReceipt  posta-certificata@"+duoB+"\n  domains      "+duoB+"\n") || !strings.Contains(out, providers.Hash(chain[0])) {
		t.Errorf("show: %s", out)
	}
	// Asked again on the same day, it is the same file: B does not send it again.
	before := a.count(t, record.IndexChanged)
	if out := a.command(t, "index", "refresh"); !strings.HasPrefix(out, "unchanged") || a.count(t, record.IndexChanged) != before {
		t.Errorf("refresh: %s", out)
	}
	b.stop(t)
}
