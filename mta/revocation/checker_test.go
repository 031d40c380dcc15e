package revocation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// authority is a CA in memory: what it serves is found by URL.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu    sync.Mutex
	serve map[string]func(body []byte) ([]byte, error)
	asked map[string]int
}

var at = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t), serve: map[string]func([]byte) ([]byte, error){}, asked: map[string]int{}}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(1, 0, 0), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	a.cert = a.sign(c, c, a.key)
	return a
}

func (a *authority) sign(c, parent *x509.Certificate, of *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, of.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return made
}

// issue makes a certificate that names sources.
func (a *authority) issue(serial int64, change func(*x509.Certificate)) *x509.Certificate {
	a.t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(1, 0, 0)}
	change(c)
	return a.sign(c, a.cert, newKey(a.t))
}

// list makes a CRL.
func (a *authority) list(change func(*x509.RevocationList), revoked ...int64) []byte {
	a.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at.Add(-time.Hour), NextUpdate: at.Add(24 * time.Hour)}
	for _, n := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: at.Add(-2 * time.Hour)})
	}
	if change != nil {
		change(l)
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// RoundTrip implements http.RoundTripper.
func (a *authority) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.asked[r.URL.String()]++
	f := a.serve[r.URL.String()]
	a.mu.Unlock()
	if f == nil {
		return &http.Response{StatusCode: 404, Status: "404 Not Found", Body: io.NopCloser(strings.NewReader(""))}, nil
	}
	b, err := f(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: 200, Status: "200 OK", Body: io.NopCloser(bytes.NewReader(b))}, nil
}

func (a *authority) count(url string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[url]
}

const (
	crlURL  = "http://crl.example/ca.crl"
	ocspURL = "http://ocsp.example/"
)

func fixed(b []byte) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) { return b, nil }
}

func TestCRL(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t, "CA"), newAuthority(t, "Altra CA")
	idp := func(value string, critical bool) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: critical, Value: []byte(value)}}
		}
	}
	for name, x := range map[string]struct {
		list []byte
		want State
	}{
		"not in it":        {ca.list(nil, 7, 8), Good},
		"in it":            {ca.list(nil, 7, 42), Revoked},
		"empty":            {ca.list(nil), Good},
		"another issuer's": {other.list(nil), Unknown},
		"expired":          {ca.list(func(l *x509.RevocationList) { l.NextUpdate = at.Add(-time.Minute) }), Unknown},
		"of tomorrow": {ca.list(func(l *x509.RevocationList) {
			l.ThisUpdate = at.Add(24 * time.Hour)
			l.NextUpdate = at.Add(48 * time.Hour)
		}), Unknown},
		"rubbish": {[]byte("<html>"), Unknown},
		"back from hold": {ca.list(func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(42), RevocationTime: at, ReasonCode: removeFromCRL}}
		}), Good},
		"of users":  {ca.list(idp("\x30\x03\x81\x01\xff", true)), Good},
		"of CAs":    {ca.list(idp("\x30\x03\x82\x01\xff", true)), Unknown},
		"indirect":  {ca.list(idp("\x30\x03\x84\x01\xff", true)), Unknown},
		"malformed": {ca.list(idp("\x31\x03\x84\x01\xff", true)), Unknown},
		"delta": {ca.list(func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}
		}), Unknown},
		"too large": {make([]byte, maxCRL+1), Unknown},
	} {
		ca := &authority{t: t, cert: ca.cert, key: ca.key, serve: map[string]func([]byte) ([]byte, error){crlURL: fixed(x.list)}, asked: map[string]int{}}
		cert := ca.issue(42, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{crlURL} })
		got := New(ca).Check(t.Context(), []*x509.Certificate{cert, ca.cert}, at)
		if got.State != x.want || got.Source != crlURL || (got.State == Unknown) != (got.Err != nil) || (got.State == Revoked) != !got.Since.IsZero() {
			t.Errorf("%s: %+v, want %v", name, got, x.want)
		}
	}
}

func TestOCSP(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "CA")
	cert := ca.issue(42, func(c *x509.Certificate) { c.OCSPServer = []string{ocspURL} })
	key := newKey(t)
	responder := func(change func(*x509.Certificate)) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(5), NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(1, 0, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}
		if change != nil {
			change(c)
		}
		return ca.sign(c, ca.cert, key)
	}
	answer := func(signer *x509.Certificate, k *ecdsa.PrivateKey, change func(*ocsp.Response)) []byte {
		r := ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(42), ThisUpdate: at.Add(-time.Minute), NextUpdate: at.Add(time.Hour)}
		if signer != ca.cert {
			r.Certificate = signer
		}
		if change != nil {
			change(&r)
		}
		der, err := ocsp.CreateResponse(ca.cert, signer, r, k)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for name, x := range map[string]struct {
		answer []byte
		want   State
	}{
		"good":             {answer(ca.cert, ca.key, nil), Good},
		"revoked":          {answer(ca.cert, ca.key, func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, at.Add(-time.Hour) }), Revoked},
		"knows it not":     {answer(ca.cert, ca.key, func(r *ocsp.Response) { r.Status = ocsp.Unknown }), Unknown},
		"about another":    {answer(ca.cert, ca.key, func(r *ocsp.Response) { r.SerialNumber = big.NewInt(43) }), Unknown},
		"expired":          {answer(ca.cert, ca.key, func(r *ocsp.Response) { r.NextUpdate = at.Add(-time.Second) }), Unknown},
		"undated":          {answer(ca.cert, ca.key, func(r *ocsp.Response) { r.NextUpdate = time.Time{} }), Good},
		"undated, old":     {answer(ca.cert, ca.key, func(r *ocsp.Response) { r.NextUpdate = time.Time{}; r.ThisUpdate = at.Add(-maxUndated) }), Unknown},
		"delegated":        {answer(responder(nil), key, nil), Good},
		"by another leaf":  {answer(responder(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }), key, nil), Unknown},
		"responder's past": {answer(responder(func(c *x509.Certificate) { c.NotAfter = at.Add(-time.Hour) }), key, nil), Unknown},
		"try later":        {ocsp.TryLaterErrorResponse, Unknown},
	} {
		ca := &authority{t: t, cert: ca.cert, key: ca.key, serve: map[string]func([]byte) ([]byte, error){ocspURL: fixed(x.answer)}, asked: map[string]int{}}
		got := New(ca).Check(t.Context(), []*x509.Certificate{cert, ca.cert}, at)
		if got.State != x.want || (got.State == Unknown) != (got.Err != nil) {
			t.Errorf("%s: %+v, want %v", name, got, x.want)
		}
	}
}

// A CRL that cannot be had is made up for by the responder; a chain is as good as
// its worst certificate.
func TestChain(t *testing.T) {
	t.Parallel()
	root := newAuthority(t, "Radice")
	middle := &authority{t: t, key: newKey(t)}
	issueMiddle := func(urls ...string) *x509.Certificate {
		return root.sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Intermedia"}, NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(1, 0, 0), IsCA: true,
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, CRLDistributionPoints: urls}, root.cert, middle.key)
	}
	const rootURL = "http://crl.example/root.crl"
	middle.cert = issueMiddle(rootURL)
	leaf := middle.issue(42, func(c *x509.Certificate) { c.CRLDistributionPoints, c.OCSPServer = []string{crlURL}, []string{ocspURL} })
	good, err := ocsp.CreateResponse(middle.cert, middle.cert, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(42), ThisUpdate: at.Add(-time.Minute), NextUpdate: at.Add(time.Hour)}, middle.key)
	if err != nil {
		t.Fatal(err)
	}
	chain := []*x509.Certificate{leaf, middle.cert, root.cert}
	root.serve[ocspURL], root.serve[rootURL] = fixed(good), fixed(root.list(nil))
	if got := New(root).Check(t.Context(), chain, at); got.State != Good || got.Source != ocspURL {
		t.Errorf("CRL is absent: %+v", got)
	}
	root.serve[rootURL] = fixed(root.list(nil, 2))
	if got := New(root).Check(t.Context(), chain, at); got.State != Revoked || got.Source != rootURL {
		t.Errorf("intermediate revoked: %+v", got)
	}
	delete(root.serve, rootURL)
	if got := New(root).Check(t.Context(), chain, at); got.State != Unknown || got.Source != rootURL {
		t.Errorf("intermediate unknown: %+v", got)
	}
	chain[1] = issueMiddle()
	if got := New(root).Check(t.Context(), chain, at); got.State != Unstated {
		t.Errorf("intermediate names nobody: %+v", got)
	}
	if got := New(root).Check(t.Context(), chain[2:], at); got.State != Unstated {
		t.Errorf("root alone: %+v", got)
	}
	ftp := middle.issue(43, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"ldap://x/y", "file:///etc/passwd"} })
	if got := New(root).Check(t.Context(), []*x509.Certificate{ftp, middle.cert}, at); got.State != Unknown {
		t.Errorf("no HTTP: %+v", got)
	}
}

// Answers are kept, asked for again when they are old, and serve on while nobody
// answers; a source that fails is not asked again at once.
func TestCache(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "CA")
	cert := ca.issue(42, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{crlURL} })
	chain := []*x509.Certificate{cert, ca.cert}
	ca.serve[crlURL] = fixed(ca.list(nil))
	c := New(ca)
	check := func(after time.Duration, want State, asked int) {
		t.Helper()
		if got := c.Check(t.Context(), chain, at.Add(after)); got.State != want || ca.count(crlURL) != asked {
			t.Errorf("after %v: %+v, asked %d times; want %v, %d", after, got, ca.count(crlURL), want, asked)
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { c.Check(t.Context(), chain, at) })
	}
	wg.Wait()
	check(0, Good, 1)
	check(refresh-time.Second, Good, 1)
	ca.mu.Lock()
	ca.serve[crlURL] = func([]byte) ([]byte, error) { return nil, errors.New("down") }
	ca.mu.Unlock()
	check(refresh, Good, 2)             // the old one is still valid
	check(refresh+time.Second, Good, 2) // the source is left in peace
	check(refresh+pause, Good, 3)       // and asked again
	check(24*time.Hour, Unknown, 4)     // its nextUpdate is past
	check(24*time.Hour+1, Unknown, 4)   // failures are remembered, too
	check(-25*time.Hour, Unknown, 4)    // before it was issued
	ca.mu.Lock()
	ca.serve[crlURL] = fixed(ca.list(func(l *x509.RevocationList) { l.NextUpdate = at.Add(72 * time.Hour) }, 42))
	ca.mu.Unlock()
	check(24*time.Hour+pause, Revoked, 5)
}

// FuzzAnswers reads what a source may send: nothing unsigned ever counts.
func FuzzAnswers(f *testing.F) {
	ca, key := newAuthority(f, "CA"), newAuthority(f, "CA") // the same name, another key
	cert := ca.issue(42, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{crlURL} })
	f.Add(key.list(nil, 42))
	if r, err := ocsp.CreateResponse(key.cert, key.cert, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(42), ThisUpdate: at, NextUpdate: at.Add(time.Hour)}, key.key); err == nil {
		f.Add(r)
	}
	f.Add([]byte("\x30\x03\x81\x01\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if l, err := parseCRL(in, ca.cert); err == nil {
			t.Fatalf("a CRL that the issuer did not sign counts: %+v", l)
		}
		if s, err := parseOCSP(in, cert, ca.cert, at); err == nil {
			t.Fatalf("an answer that the issuer did not sign counts: %+v", s)
		}
		_, _ = parseScope(in)
	})
}
