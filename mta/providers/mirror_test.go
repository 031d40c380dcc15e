package providers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/internal/cms"
	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/mta/providers/ldif"
	"scripta/mta/revocation"
)

// authority signs the directory.
type authority struct {
	signer *cms.Signer
	trust  *Trust
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	cert, key := pair(t, "Indice dei gestori")
	s, err := cms.NewSigner(key, cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	sum := sha256.Sum256(cert.Raw)
	return &authority{s, &Trust{Roots: roots, Signers: []string{hex.EncodeToString(sum[:])}}}
}

func (a *authority) sign(t testing.TB, content []byte, at time.Time) []byte {
	t.Helper()
	p7m, err := a.signer.SignAttached(content, at)
	if err != nil {
		t.Fatal(err)
	}
	return p7m
}

// fake is a source that a test changes.
type fake struct {
	mu     sync.Mutex
	data   []byte
	err    error
	signed bool
	asked  int
}

func (f *fake) Fetch(context.Context, Validators) (*Content, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return &Content{Data: f.data}, f.err
}
func (f *fake) Signed() bool   { return f.signed }
func (f *fake) String() string { return "fake" }

func (f *fake) set(data []byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data, f.err = data, err
}

// setting is a mirror's surroundings.
type setting struct {
	*authority
	t       testing.TB
	source  *fake
	o       Options
	now     time.Time
	updates []*Update
}

func newSetting(t testing.TB) *setting {
	t.Helper()
	s := &setting{authority: newAuthority(t), t: t, source: &fake{signed: true}, now: time.Now().Truncate(time.Second)}
	s.o = Options{Own: []*Provider{{Name: "Noi", Domains: []string{"noi.example.it"}, ServiceAddress: "posta-certificata@noi.example.it", Certificates: []*x509.Certificate{certificate(t, "Noi")}}},
		Source: s.source, Trust: s.trust, Dir: filepath.Join(t.TempDir(), "index"), FS: durable.OS, MaxShrink: 50, WarnAfter: 48 * time.Hour,
		Now: func() (time.Time, error) { return s.now, nil }, Logger: slog.New(slog.DiscardHandler),
		Record: func(_ context.Context, u *Update) error { s.updates = append(s.updates, u); return nil }}
	return s
}

func (s *setting) open() *Mirror {
	s.t.Helper()
	m, err := Open(s.o)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// of is a directory of providers named by their domains.
func of(cert *x509.Certificate, names ...string) *Directory {
	d := &Directory{Root: true}
	for _, n := range names {
		d.Providers = append(d.Providers, &Provider{Name: n, Domains: []string{n + ".example.it"}, ServiceAddress: "r@" + n + ".example.it", Certificates: []*x509.Certificate{cert}})
	}
	return d
}

func (s *setting) offer(d *Directory) { s.source.set(s.sign(s.t, d.LDIF(), s.now), nil) }

func known(m *Mirror, name string) bool {
	_, ok := m.Index().OfAddress("x@" + name + ".example.it")
	return ok
}

func TestMirror(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	cert := certificate(t, "B")
	m := s.open()
	if m.Missing() == nil || !known(m, "noi") || known(m, "b") {
		t.Fatal("without a copy")
	}
	s.source.set(nil, errors.New("no network"))
	if _, err := m.Refresh(t.Context(), ""); err == nil || !strings.Contains(m.Missing().Error(), "no network") {
		t.Fatalf("%v, %v", err, m.Missing())
	}
	s.offer(of(cert, "b", "c"))
	u, err := m.Refresh(t.Context(), "")
	if err != nil || !u.Changed || u.Providers != 2 || u.Domains != 2 || len(u.Added) != 2 || u.Signer == "" || len(s.updates) != 1 {
		t.Fatalf("%+v %v", u, err)
	}
	if !known(m, "b") || m.Missing() != nil || !strings.Contains(strings.Join(u.Faults, "|"), "no record of Noi") {
		t.Errorf("after the first refresh: %v %v", u.Faults, m.Missing())
	}
	// The same again, signed later: checked, and no record.
	s.now = s.now.Add(24 * time.Hour)
	s.offer(of(cert, "b", "c"))
	if u, err := m.Refresh(t.Context(), ""); err != nil || u.Changed || len(s.updates) != 1 || !m.Status().Checked.Equal(s.now) {
		t.Errorf("%+v %v", u, err)
	}
	// A restart while the network is down goes on with the copy, and says when it is old.
	s.source.set(nil, errors.New("no network"))
	m = s.open()
	if !known(m, "b") || m.Missing() != nil || m.Old(s.now) != "" {
		t.Error("the copy is not used after a restart")
	}
	if _, err := m.Refresh(t.Context(), ""); err == nil || !known(m, "b") || m.Status().Failures != 1 || m.Status().Trouble == "" {
		t.Errorf("%v %+v", err, m.Status())
	}
	if old := m.Old(s.now.Add(49 * time.Hour)); !strings.Contains(old, "49h") {
		t.Errorf("49 hours later: %q", old)
	}
}

func TestMirrorRefuses(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	cert := certificate(t, "B")
	first := s.now
	s.offer(of(cert, "a", "b", "c", "d"))
	m := s.open()
	if _, err := m.Refresh(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	refused := func(name string) *RefusedError {
		t.Helper()
		_, err := m.Refresh(t.Context(), "")
		var r *RefusedError
		if !errors.As(err, &r) || !known(m, "d") || m.Status().Trouble == "" || len(s.updates) != 1 {
			t.Fatalf("%s: %v", name, err)
		}
		return r
	}
	// An older one, however good.
	s.source.set(s.sign(t, of(cert, "a", "b", "c", "d", "e").LDIF(), first.Add(-time.Hour)), nil)
	if r := refused("rollback"); !strings.Contains(r.Error(), "old one") {
		t.Error(r)
	}
	// Nobody in it.
	s.now = s.now.Add(time.Hour)
	s.source.set(s.sign(t, []byte("dn: o=postacert\no: postacert\n"), s.now), nil)
	refused("empty")
	// A foreign signer under the same root, and one whose signature is broken.
	other := newAuthority(t)
	s.trust.Roots.AddCert(other.signer.Certificate())
	s.source.set(other.sign(t, of(cert, "a", "b", "c", "d", "e").LDIF(), s.now), nil)
	if _, err := m.Refresh(t.Context(), ""); !errors.Is(err, ErrSigner) {
		t.Errorf("a foreign signer: %v", err)
	}
	broken := s.sign(t, of(cert, "a", "b", "c", "d", "e").LDIF(), s.now)
	s.source.set(bytes.Replace(broken, []byte("e.example.it"), []byte("f.example.it"), 1), nil)
	if _, err := m.Refresh(t.Context(), ""); !errors.Is(err, cms.ErrMessageDigest) {
		t.Errorf("a changed file: %v", err)
	}
	s.source.set(s.sign(t, of(cert, "a", "b", "c", "d").LDIF(), s.now.Add(48*time.Hour)), nil)
	if _, err := m.Refresh(t.Context(), ""); !errors.Is(err, ErrSigningTime) {
		t.Errorf("signed in two days: %v", err)
	}
	// Three of four gone: only by a person's word, and for that very directory.
	s.offer(of(cert, "a"))
	r := refused("shrunk")
	if _, err := m.Refresh(t.Context(), strings.Repeat("0", 64)); err == nil {
		t.Error("another digest was accepted")
	}
	u, err := m.Refresh(t.Context(), strings.ToUpper(r.Index))
	if err != nil || !u.Accepted || len(u.Gone) != 3 || known(m, "d") || !known(m, "a") || len(s.updates) != 2 {
		t.Errorf("%+v %v", u, err)
	}
	// Half gone is within the limit.
	s.offer(of(cert, "a", "x"))
	if _, err := m.Refresh(t.Context(), ""); err != nil {
		t.Error(err)
	}
	s.offer(of(cert, "a"))
	if _, err := m.Refresh(t.Context(), ""); err != nil {
		t.Error(err)
	}
	// By a certificate that was revoked; what nobody can tell counts as good.
	s.offer(of(cert, "a", "y"))
	s.trust.Revocation = oracle(revocation.Revoked)
	if _, err := m.Refresh(t.Context(), ""); !errors.Is(err, ErrRevoked) || known(m, "y") {
		t.Errorf("revoked: %v", err)
	}
	s.trust.Revocation = oracle(revocation.Unknown)
	if _, err := m.Refresh(t.Context(), ""); err != nil || !known(m, "y") {
		t.Errorf("not known to be revoked: %v", err)
	}
	// By subject instead of by hash.
	s.trust.Signers = []string{s.signer.Certificate().Subject.String()}
	s.offer(of(cert, "a", "z"))
	if _, err := m.Refresh(t.Context(), ""); err != nil || !known(m, "z") {
		t.Error(err)
	}
}

// oracle answers about every chain.
type oracle revocation.State

func (o oracle) Check(context.Context, []*x509.Certificate, time.Time) revocation.Status {
	return revocation.Status{State: revocation.State(o)}
}

// What cannot be recorded is not used.
func TestMirrorRecordsFirst(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.offer(of(certificate(t, "B"), "b"))
	s.o.Record = func(context.Context, *Update) error { return errors.New("the register has stopped") }
	m := s.open()
	if _, err := m.Refresh(t.Context(), ""); err == nil || known(m, "b") {
		t.Errorf("%v", err)
	}
	if m = s.open(); known(m, "b") {
		t.Error("it was stored")
	}
}

// Our own records are those of the configuration, whatever the directory says.
func TestMirrorOwn(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	foreign := certificate(t, "F")
	d := of(foreign, "b", "Noi")
	d.Providers[0].Domains = append(d.Providers[0].Domains, "noi.example.it")
	d.Providers[1].Domains = []string{"altro.example.it"}
	s.offer(d)
	m := s.open()
	u, err := m.Refresh(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := m.Index().OfAddress("x@noi.example.it"); p != s.o.Own[0] {
		t.Errorf("our domain is of %v", p)
	}
	if p, _ := m.Index().OfCertificate(foreign); p == nil || p.Name != "b" {
		t.Errorf("the certificate that the directory gives us is of %v", p)
	}
	all := strings.Join(u.Faults, "\n")
	for _, want := range []string{"b claims our domain", "does not say that we manage noi.example.it", "altro.example.it, which is not ours", "mailReceipt", "that we sign with"} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing says %q:\n%s", want, all)
		}
	}
}

// Killed at any step of storing, and with the disk refusing any, there is the old
// copy or the new one, whole, and it is used.
func TestMirrorKilled(t *testing.T) {
	t.Parallel()
	cert := certificate(t, "B")
	for _, fault := range []struct {
		name string
		at   func(int) faultfs.Fault
	}{
		{"crash", faultfs.CrashAt}, {"full", func(n int) faultfs.Fault { return faultfs.FailAt(n, errors.New("no space left on device")) }},
	} {
		for n, done := 1, false; !done; n++ {
			s := newSetting(t)
			root := t.TempDir()
			s.o.Dir = filepath.Join(root, "index")
			fsys, err := faultfs.New(root, nil)
			if err != nil {
				t.Fatal(err)
			}
			s.o.FS = fsys
			s.offer(of(cert, "a", "old"))
			m := s.open()
			if _, err := m.Refresh(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
			before := len(fsys.Calls())
			fsys.SetFault(fault.at(before + n))
			s.now = s.now.Add(time.Hour)
			s.offer(of(cert, "a", "new"))
			_, err = m.Refresh(t.Context(), "")
			done = len(fsys.Calls()) < before+n
			if done && err != nil || err == nil && !known(m, "new") {
				t.Fatalf("%s %d: %v", fault.name, n, err)
			}
			if known(m, "new") == known(m, "old") {
				t.Fatalf("%s %d: the process has both or neither", fault.name, n)
			}
			fsys.SetFault(nil)
			if fault.name == "crash" {
				if err := fsys.PowerLoss(); err != nil {
					t.Fatal(err)
				}
			}
			s.o.FS = durable.OS
			m = s.open()
			if known(m, "new") == known(m, "old") || m.Missing() != nil {
				t.Fatalf("%s %d: after the restart there are both or neither: %v", fault.name, n, m.Missing())
			}
			if _, err := m.Refresh(t.Context(), ""); err != nil || !known(m, "new") {
				t.Fatalf("%s %d: %v", fault.name, n, err)
			}
			files, err := os.ReadDir(s.o.Dir)
			if err != nil || len(files) != 2 {
				t.Errorf("%s %d: %v %v", fault.name, n, files, err)
			}
		}
	}
}

// A copy that was changed on the disk is noticed and not used.
func TestMirrorDamaged(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"state", "*.p7m"} {
		s := newSetting(t)
		s.offer(of(certificate(t, "B"), "b"))
		if _, err := s.open().Refresh(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(s.o.Dir, pattern))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		data, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(files[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
		m := s.open()
		if known(m, "b") || m.Missing() == nil {
			t.Errorf("%s: a damaged copy is used", pattern)
		}
		if _, err := m.Refresh(t.Context(), ""); err != nil || !known(m, "b") || m.Missing() != nil {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

// A copy is used only if the present configuration would take it.
func TestMirrorCopyUntrusted(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.offer(of(certificate(t, "B"), "b"))
	if _, err := s.open().Refresh(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	trust := s.o.Trust
	s.o.Trust = &Trust{Roots: trust.Roots, Signers: []string{"CN=Another"}}
	if m := s.open(); known(m, "b") || !strings.Contains(fmt.Sprint(m.Missing()), "index.signers") {
		t.Errorf("a signer that counts no more: %v", m.Missing())
	}
	s.o.Trust = trust
	s.o.Source = &fake{}
	if m := s.open(); known(m, "b") {
		t.Error("a signed copy is used for a source that is not")
	}
	s.o.Source = nil
	if m := s.open(); known(m, "b") || m.Missing() != nil || !known(m, "noi") {
		t.Error("without a source")
	}
	// When the signer's certificate is over, the copy stays what it was.
	s.o.Source = s.source
	s.now = s.now.Add(2000 * time.Hour)
	if m := s.open(); !known(m, "b") {
		t.Error("the copy is lost when the signer's certificate is over")
	}
}

func TestMirrorRun(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.source.set(nil, errors.New("no network"))
	m := s.open()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { m.Run(ctx, 10*time.Millisecond); close(ended) }()
	until(t, func() bool { return m.Status().Failures > 1 })
	s.offer(of(certificate(t, "B"), "b"))
	until(t, func() bool { return known(m, "b") })
	stop()
	<-ended
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("it does not come about")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestPublisher(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	over := certificate(t, "Noi")
	over.NotAfter = s.now.Add(-time.Hour)
	own := *s.o.Own[0]
	own.Certificates = append(slices.Clone(own.Certificates), over)
	p := &Publisher{Own: []*Provider{&own}, Sign: s.signer.SignAttached, Now: s.o.Now}
	plain, p7m, err := p.Make(s.now)
	if err != nil {
		t.Fatal(err)
	}
	content, _, err := s.trust.Open(p7m, s.now)
	if err != nil || !bytes.Equal(content, plain) {
		t.Fatalf("%v", err)
	}
	d := reread(t, plain)
	if len(d.Providers) != 1 || d.Root || len(d.Providers[0].Certificates) != 1 || !reflect.DeepEqual(d.Providers[0].Domains, own.Domains) {
		t.Errorf("%+v", d)
	}
}

// Domains count as records do: a provider that lost most of its own looks wrong, too.
func TestMirrorShrinks(t *testing.T) {
	t.Parallel()
	cert := certificate(t, "B")
	with := func(domains int) *Directory {
		d := of(cert, "b")
		for i := range domains - 1 {
			d.Providers[0].Domains = append(d.Providers[0].Domains, fmt.Sprintf("d%d.example.it", i))
		}
		return d
	}
	for _, x := range []struct {
		limit, before, after int
		refused              bool
	}{{50, 10, 5, false}, {50, 10, 4, true}, {0, 10, 10, false}, {0, 10, 9, true}, {100, 10, 1, false}, {50, 4, 100, false}} {
		s := newSetting(t)
		s.o.MaxShrink = x.limit
		m := s.open()
		s.offer(with(x.before))
		if _, err := m.Refresh(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		s.offer(with(x.after))
		_, err := m.Refresh(t.Context(), "")
		if refused := errors.As(err, new(*RefusedError)); refused != x.refused || !refused && err != nil {
			t.Errorf("%+v: %v", x, err)
		}
	}
}

// What is told of a directory that is wrong throughout stays within bounds.
func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	e := of(certificate(t, "B"), "b").Entries()[1]
	for range 2 * mostFaults {
		e.Attributes = append(e.Attributes, ldif.Attribute{Type: attrDomains, Value: []byte("-")})
	}
	d, faults := Read([]*ldif.Entry{e})
	if len(d.Providers) != 1 || len(faults) != mostFaults {
		t.Errorf("%d providers, %d faults", len(d.Providers), len(faults))
	}
	s := newSetting(t)
	s.source.set(s.sign(t, ldif.Encode(e), s.now), nil)
	m := s.open()
	if _, err := m.Refresh(t.Context(), ""); err != nil || len(m.Faults()) > maxFaults+2 {
		t.Errorf("%d remarks, %v", len(m.Faults()), err)
	}
}
