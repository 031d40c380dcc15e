package archive

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/cms"
	"scripta/internal/cms/cmstest"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/merkle/tiles"
	"scripta/register"
	"scripta/register/evidence"
	"scripta/register/record"
	"scripta/tsa"
)

const testOrigin = "pec.example/scripta/1"

// day is the UTC midnight of a day in November 2026.
func day(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC) }

// house is a provider for tests: a signer, an authority, a log key.
type house struct {
	trust     evidence.Trust
	signer    *cms.Signer
	roots     []*x509.Certificate // of the signer, of the authority
	authority *tsa.Authority
	logSigner note.Signer
	now       func() (time.Time, error)
}

func newHouse(t testing.TB, now func() (time.Time, error)) *house {
	t.Helper()
	ca, tsca := cmstest.New(t), cmstest.New(t)
	key, tsKey := cmstest.ECDSA(t), cmstest.ECDSA(t)
	h := &house{roots: []*x509.Certificate{ca.Root, tsca.Root}, now: now}
	var err error
	if h.signer, err = cms.NewSigner(key, ca.Issue(t, key.Public()), ca.Intermediate); err != nil {
		t.Fatal(err)
	}
	h.authority, err = tsa.NewAuthority(tsa.AuthorityConfig{Key: tsKey, Certificate: tsca.Issue(t, tsKey.Public(), cmstest.TimeStamping),
		Chain: []*x509.Certificate{tsca.Intermediate}, Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	var verifier note.Verifier
	h.logSigner, verifier, err = checkpoint.NewSigner(testOrigin, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	h.trust = evidence.Trust{PEC: ca.Roots, TSA: tsca.Roots, Log: verifier}
	return h
}

// stamp has a checkpoint stamped by the authority.
func (h *house) stamp(ctx context.Context, cp *checkpoint.Signed) (*Stamp, error) {
	nonce, err := tsa.NewNonce()
	if err != nil {
		return nil, err
	}
	client := &tsa.Client{URL: "http://localhost/", HTTP: &http.Client{Transport: h}}
	r, err := client.Stamp(ctx, sha256.Sum256(cp.Stamped()), nonce)
	if err != nil {
		return nil, err
	}
	return &Stamp{Signed: cp, Request: r.Request, Reply: r.Reply}, nil
}

// RoundTrip implements [http.RoundTripper].
func (h *house) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.authority.ServeHTTP(w, r)
	return w.Result(), nil
}

// memory is a register and its log in memory.
type memory struct {
	h *house

	mu       sync.Mutex // guards what follows
	leaves   []merkle.Leaf
	ids      map[record.ID]register.Appended
	disposed map[uint16]bool
	refuse   error // what Append answers
	serial   uint32
	stamps   []*Stamp
	noStamps error // what asking for a stamp answers
	asked    int
}

func newMemory(h *house) *memory {
	return &memory{h: h, ids: map[record.ID]register.Appended{}, disposed: map[uint16]bool{}}
}

func (m *memory) Origin() string { return testOrigin }

func secret(month uint16) (s [32]byte) {
	binary.BigEndian.PutUint16(s[:], month)
	s[31] = 1
	return s
}

// PackageKey implements Keys.
func (m *memory) PackageKey(month uint16, id []byte) ([32]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.disposed[month] {
		return [32]byte{}, keys.ErrDisposed
	}
	return keys.Derive(secret(month), "scripta/package/v1"+string(id)), nil
}

// Append implements Register.
func (m *memory) Append(_ context.Context, entries ...register.Entry) (out []register.Appended, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		return nil, m.refuse
	}
	for _, e := range entries {
		f, err := e.Record.Fields()
		if err != nil {
			return nil, err
		}
		var month uint16
		if e.Record.Kind.Class() == record.Personal {
			month = uint16(keys.MonthOf(e.Record.Time))
		}
		nonceKey, sealKey := keys.Derive(secret(month), keys.InfoNonce), keys.Derive(secret(month), keys.InfoSeal)
		nonce := record.NewNonce(&nonceKey, testOrigin, e.ID)
		leaf := f.Commit(nonce, e.Record.Kind.Class())
		at, ok := m.ids[e.ID]
		switch {
		case !ok:
			at = register.Appended{Index: uint64(len(m.leaves)), Leaf: leaf}
			m.ids[e.ID] = at
			m.leaves = append(m.leaves, merkle.Leaf{Value: leaf[:], Identity: record.Identity(e.ID),
				Extra: record.Seal(&sealKey, testOrigin, month, leaf, e.ID, nonce, f)})
		case at.Leaf != leaf:
			return nil, register.ErrConflict
		}
		out = append(out, at)
	}
	return out, nil
}

// Lookup implements Register.
func (m *memory) Lookup(_ context.Context, id record.ID) (register.Appended, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.ids[id]
	return at, ok, nil
}

// OpenLeaf implements Register.
func (m *memory) OpenLeaf(l merkle.Leaf) (*record.Opened, uint16, error) {
	month, err := record.Sealed(l.Extra).Month()
	if err != nil {
		return nil, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.disposed[month] {
		return nil, month, keys.ErrDisposed
	}
	key := keys.Derive(secret(month), keys.InfoSeal)
	o, err := record.Sealed(l.Extra).Open(&key, testOrigin, record.Leaf(l.Value))
	return o, month, err
}

// Size implements Log.
func (m *memory) Size() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.leaves))
}

// Scan implements Log.
func (m *memory) Scan(ctx context.Context, first, end uint64, visit func(uint64, merkle.Leaf) error) error {
	m.mu.Lock()
	leaves := m.leaves[first:end]
	m.mu.Unlock()
	for i, l := range leaves {
		if err := visit(first+uint64(i), l); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (m *memory) edge(from, to uint64) *tiles.Frontier {
	f := &tiles.Frontier{}
	for _, l := range m.leaves[from:to] {
		f.Append(tiles.LeafHash(l.Value))
	}
	return f
}

// RootAt implements Log.
func (m *memory) RootAt(_ context.Context, size uint64) ([32]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.edge(0, size).Root(), nil
}

// Frontier implements Log.
func (m *memory) Frontier(_ context.Context, size uint64) ([][32]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.edge(0, size).Hashes, nil
}

// Consistency implements Log, word for word after RFC 6962 §2.1.2.
func (m *memory) Consistency(_ context.Context, size1, size2 uint64) ([][32]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if size1 == 0 || size1 == size2 {
		return nil, nil
	}
	return m.subproof(size1, 0, size2, true), nil
}

func (m *memory) subproof(n, lo, hi uint64, whole bool) [][32]byte {
	if n == hi-lo {
		if whole {
			return nil
		}
		return [][32]byte{m.edge(lo, hi).Root()}
	}
	k := uint64(1)
	for k*2 < hi-lo {
		k *= 2
	}
	if n <= k {
		return append(m.subproof(n, lo, lo+k, whole), m.edge(lo+k, hi).Root())
	}
	return append(m.subproof(n-k, lo+k, hi, false), m.edge(lo, lo+k).Root())
}

// Publish implements Log.
func (m *memory) Publish(context.Context) (*checkpoint.Signed, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.edge(0, uint64(len(m.leaves)))
	return checkpoint.Sign(checkpoint.Checkpoint{Origin: testOrigin, Size: f.Size, Root: f.Root()}, m.h.logSigner)
}

// Covering implements Stamps.
func (m *memory) Covering(ctx context.Context, size uint64) (*Stamp, error) {
	for _, st := range m.stamps {
		if st.Signed.Size >= size {
			return st, nil
		}
	}
	m.asked++
	if m.noStamps != nil {
		return nil, m.noStamps
	}
	return m.stampNow(ctx)
}

func (m *memory) stampNow(ctx context.Context) (*Stamp, error) {
	cp, err := m.Publish(ctx)
	if err != nil {
		return nil, err
	}
	st, err := m.h.stamp(ctx, cp)
	if err == nil {
		m.stamps = append(m.stamps, st)
	}
	return st, err
}

// Between implements Stamps.
func (m *memory) Between(from, to uint64) (all []*Stamp, err error) {
	for _, st := range m.stamps {
		if n := st.Signed.Size; n > from && n <= to {
			all = append(all, st)
		}
	}
	return all, nil
}

// rig is a closer over a register in memory and a clock that a test sets.
type rig struct {
	t   testing.TB
	h   *house
	m   *memory
	fs  durable.FS
	dir string

	mu  sync.Mutex // guards at
	at  time.Time
	err error
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, fs: durable.OS, dir: filepath.Join(t.TempDir(), "archive"), at: day(20)}
	r.h = newHouse(t, r.now)
	r.m = newMemory(r.h)
	return r
}

// again begins the rig anew, with the same keys.
func (r *rig) again() {
	r.fs, r.dir, r.m = durable.OS, filepath.Join(r.t.TempDir(), "archive"), newMemory(r.h)
	r.set(day(20))
}

func (r *rig) now() (time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at, r.err
}

func (r *rig) set(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = at
}

func (r *rig) options() Options {
	return Options{Dir: r.dir, FS: r.fs, Log: r.m, Register: r.m, Stamps: r.m, Signer: r.h.signer, Trust: r.h.trust, Provider: "Esempio PEC",
		Certificates: []evidence.File{evidence.NewFile("certificates/pec-ca.pem", pemOf(r.h.roots[0])), evidence.NewFile("certificates/tsa-ca.pem", pemOf(r.h.roots[1]))},
		Now:          r.now, Logger: slog.New(slog.DiscardHandler)}
}

func (r *rig) closer() *Closer {
	r.t.Helper()
	c, err := New(r.options())
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// record appends a record of a time; every third is of the service.
func (r *rig) record(at time.Time) register.Appended {
	r.t.Helper()
	kind := record.Delivered
	if r.m.serial%3 == 2 {
		kind = record.Heartbeat
	}
	r.m.serial++
	rec := &record.Record{Kind: kind, Time: at}
	if kind == record.Delivered {
		rec.Sender, rec.Subject = "mario@pec.example", fmt.Sprintf("message %d", r.m.serial)
	}
	out, err := r.m.Append(context.Background(), register.Entry{ID: record.MakeID([16]byte{1}, 0, r.m.serial), Record: rec})
	if err != nil {
		r.t.Fatal(err)
	}
	return out[0]
}

// close sets the clock and closes up to it.
func (r *rig) close(c *Closer, until time.Time) []*Package {
	r.t.Helper()
	r.set(until)
	made, err := c.Close(context.Background(), until)
	if err != nil {
		r.t.Fatal(err)
	}
	return made
}

// check verifies everything: the chain of packages, that each verifies and its
// records open, that they tile from start to end and hold every leaf up to the
// last end, and that each has one record of its closing.
func (r *rig) check(start, end time.Time) []*Package {
	r.t.Helper()
	all, err := Packages(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(all) == 0 || !all[0].Index.Start.Equal(start) || !all[len(all)-1].Index.End.Equal(end) {
		r.t.Fatalf("%d packages, not from %v to %v", len(all), start, end)
	}
	verified, err := VerifyAll(r.dir, r.h.trust)
	if err != nil {
		r.t.Fatal(err)
	}
	var next uint64
	for n, p := range all {
		if !verified[n].Report.OK() {
			r.t.Fatalf("%s: %s\n%s", p.Name(), verified[n].Report.Verdict(), failures(verified[n].Report))
		}
		if c := VerifyRecords(p, r.m); c.Err != nil {
			r.t.Fatalf("%s: %v", p.Name(), c.Err)
		}
		if p.Index.StartSize != next {
			r.t.Fatalf("%s begins with leaf %d, not %d", p.Name(), p.Index.StartSize, next)
		}
		next = p.Index.EndSize
	}
	closed := map[string]int{}
	for _, l := range r.m.leaves {
		o, _, err := r.m.OpenLeaf(l)
		if err != nil {
			continue // disposed of
		}
		rec, err := o.Fields.Record()
		if err != nil {
			r.t.Fatal(err)
		}
		if rec.Kind == record.DayClosed {
			for _, d := range rec.Detail {
				if d.Name == "package" {
					closed[d.Value]++
				}
			}
		}
	}
	for _, p := range all {
		if closed[p.Name()] != 1 {
			r.t.Fatalf("%s has %d records of its closing", p.Name(), closed[p.Name()])
		}
	}
	if len(closed) != len(all) {
		r.t.Fatalf("%d packages were recorded, %d are there", len(closed), len(all))
	}
	left, err := os.ReadDir(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range left {
		if strings.HasPrefix(e.Name(), stagePrefix) {
			r.t.Fatalf("%s was left", e.Name())
		}
	}
	return all
}

// failures lists the checks that failed.
func failures(r *evidence.Report) string {
	var b strings.Builder
	for _, c := range r.Checks {
		if c.Err != nil && !c.Warning {
			fmt.Fprintf(&b, "%s: %v\n", c.Name, c.Err)
		}
	}
	return b.String()
}

// failed tells whether a check of this name failed.
func failed(r *evidence.Report, name string) bool {
	for _, c := range r.Checks {
		if c.Name == name && c.Err != nil && !c.Warning {
			return true
		}
	}
	return false
}

// contents are the files of a folder.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, rerr := filepath.Rel(dir, path)
		files[name] = string(b)
		return errors.Join(err, rerr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
