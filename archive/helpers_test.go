package archive

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
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
	"scripta/merkle/checkpoint"
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
	client := &tsa.Client{URL: "http://localhost/", HTTP: h.client()}
	r, err := client.Stamp(ctx, sha256.Sum256(cp.Stamped()), nonce)
	if err != nil {
		return nil, err
	}
	return &Stamp{Signed: cp, Request: r.Request, Reply: r.Reply}, nil
}

// client reaches the authority without a network.
func (h *house) client() *http.Client { return &http.Client{Transport: h} }

// RoundTrip implements [http.RoundTripper].
func (h *house) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.authority.ServeHTTP(w, r)
	return w.Result(), nil
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
		Certificates: []evidence.File{evidence.NewFile("certificates/ca.pem", pemOf(r.h.roots[0])), evidence.NewFile("certificates/tsa-ca.pem", pemOf(r.h.roots[1]))},
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
