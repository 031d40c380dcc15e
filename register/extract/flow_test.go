package extract

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/cms"
	"scripta/internal/cms/cmstest"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/register"
	"scripta/register/evidence"
	"scripta/register/receipts"
	"scripta/register/record"
	"scripta/register/stamps"
	"scripta/tsa"
)

const origin = "pec.example/scripta/0001"

// house is a register with a time-stamp authority, in a temporary folder.
type house struct {
	t         *testing.T
	register  *register.Register
	stamper   *stamps.Stamper
	store     *stamps.Store
	extractor *Extractor
	trust     evidence.Trust
	now       time.Time // of the records and of the authority
	authority http.Handler
	down      bool // the authority does not answer
}

// Stamp implements stamps.Asker over the embedded authority's bytes.
func (h *house) Stamp(ctx context.Context, digest [32]byte, nonce *big.Int) (*tsa.Response, error) {
	if h.down {
		return nil, errors.New("the authority is down")
	}
	s := httptest.NewServer(h.authority)
	defer s.Close()
	return (&tsa.Client{URL: s.URL}).Stamp(ctx, digest, nonce)
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	dir, quiet := t.TempDir(), slog.New(slog.DiscardHandler)
	months, err := keys.CreateMonths(durable.OS, filepath.Join(dir, "months"), filepath.Join(dir, "master"))
	if err != nil {
		t.Fatal(err)
	}
	_, logKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, verifier, err := checkpoint.NewSigner(origin, logKey)
	if err != nil {
		t.Fatal(err)
	}
	log, err := merkle.Open(t.Context(), merkle.Options{Dir: filepath.Join(dir, "log"), Origin: origin, Signer: signer, Verifier: verifier, Logger: quiet, MinFree: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	h.register, err = register.Open(t.Context(), register.Options{Dir: filepath.Join(dir, "register"), FS: durable.OS, Origin: origin, Log: log, Months: months, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(h.register.Close(), log.Close()); err != nil {
			t.Error(err)
		}
	})
	ca := cmstest.New(t)
	key := cmstest.ECDSA(t)
	pecSigner, err := cms.NewSigner(key, ca.Issue(t, key.Public()), ca.Intermediate)
	if err != nil {
		t.Fatal(err)
	}
	h.authority, err = tsa.NewAuthority(tsa.AuthorityConfig{Key: key, Certificate: ca.Issue(t, key.Public(), cmstest.TimeStamping), Chain: []*x509.Certificate{ca.Intermediate},
		Policy: asn1.ObjectIdentifier{1, 2, 3}, Now: func() (time.Time, error) { return h.now, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if h.store, err = stamps.Open(durable.OS, filepath.Join(dir, "stamps"), verifier, ca.Roots); err != nil {
		t.Fatal(err)
	}
	h.stamper = stamps.NewStamper(stamps.Options{Store: h.store, Register: h.register, Authorities: []stamps.Authority{{Name: "test", Client: h}}, Ceiling: 5,
		Now: func() (time.Time, error) { return h.now, nil }, Logger: quiet})
	h.extractor = New(Options{Register: h.register, Stamps: h.store, Signer: pecSigner, Provider: "Esempio", Logger: quiet,
		Stamp: func(ctx context.Context) error { _, err := h.stamper.Latest(ctx); return err }})
	h.trust = evidence.Trust{PEC: ca.Roots, TSA: ca.Roots, Log: verifier}
	return h
}

// add appends an acceptance with its receipt.
func (h *house) add(n int, sender string) {
	h.t.Helper()
	if err := h.register.Begin(h.now); err != nil {
		h.t.Fatal(err)
	}
	id := record.MakeID([16]byte{byte(n)}, 2, 0)
	body := []byte("Subject: ricevuta\r\n\r\ntesto\r\n")
	digest := sha256.Sum256(body)
	m := &receipts.Issued{ID: id, Month: uint16(keys.MonthOf(h.now)), MessageID: "<r@pec.example>", Digest: digest, Size: int64(len(body)), Prefix: body}
	if err := h.register.Receipts().Put(m); err != nil {
		h.t.Fatal(err)
	}
	rec := &record.Record{Kind: record.AcceptanceIssued, Time: h.now, Sender: sender, MessageID: "m@pec.example", Digest: digest[:], Size: uint64(len(body)),
		Peer: record.Peer{Address: "192.0.2.7:1"}, Actor: "mario@pec.example"}
	if _, err := h.register.Append(h.t.Context(), register.Entry{ID: id, Record: rec}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) extract(q evidence.Query) (file []byte, report *evidence.Report, n int) {
	h.t.Helper()
	var b bytes.Buffer
	n, err := h.extractor.Write(h.t.Context(), &b, q, h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	return b.Bytes(), evidence.Verify(bytes.NewReader(b.Bytes()), int64(b.Len()), h.trust), n
}

func failed(r *evidence.Report) (names []string) {
	for _, c := range r.Checks {
		if c.Err != nil {
			names = append(names, c.Name+": "+c.Err.Error())
		}
	}
	return names
}

// Records of several stamped periods, and of one that is not stamped, are each
// proved against their own checkpoint.
func TestSeveralStamps(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for i := range 3 {
		h.add(i, "mario@pec.example")
		h.now = h.now.Add(30 * time.Minute)
		if _, err := h.stamper.Latest(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.now = h.now.Add(30 * time.Minute)
	}
	if _, err := h.stamper.Latest(t.Context()); err != nil { // nothing new: nobody is asked
		t.Fatal(err)
	}
	if got := h.stamper.Granted.Load(); got != 3 {
		t.Errorf("%d stamps were paid for", got)
	}
	_, r, n := h.extract(evidence.Query{Mailbox: "mario@pec.example"})
	if n != 3 || r.Verdict() != "VERIFIED" || len(failed(r)) > 0 {
		t.Fatalf("%d records, %s: %v", n, r.Verdict(), failed(r))
	}
	h.down = true
	h.add(9, "mario@pec.example")
	_, r, n = h.extract(evidence.Query{Mailbox: "mario@pec.example"})
	if n != 4 || r.Verdict() != "VERIFIED, time stamp pending" || len(failed(r)) > 0 {
		t.Fatalf("%d records, %s: %v", n, r.Verdict(), failed(r))
	}
	h.down = false
	if _, r, _ = h.extract(evidence.Query{Mailbox: "mario@pec.example"}); r.Verdict() != "VERIFIED" {
		t.Errorf("stamped on demand: %s %v", r.Verdict(), failed(r))
	}
}

// A record whose time lies outside the stamps around it is reported.
func TestBackdated(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.add(1, "mario@pec.example")
	if _, err := h.stamper.Latest(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(-time.Hour)
	h.add(2, "mario@pec.example")
	h.now = h.now.Add(2 * time.Hour)
	_, r, _ := h.extract(evidence.Query{Mailbox: "mario@pec.example"})
	if names := failed(r); len(names) != 1 || !strings.HasPrefix(names[0], "time ") || !r.OK() {
		t.Errorf("%v", names)
	}
}

func TestHolderSeesHisOwn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.add(1, "lucia@pec.example") // handed in by mario
	h.add(2, "mario@pec.example")
	file, r, n := h.extract(evidence.Query{Mailbox: "lucia@pec.example"})
	if n != 1 || !r.OK() {
		t.Fatalf("%d records: %v", n, failed(r))
	}
	if bytes.Contains(file, []byte("192.0.2.7")) || bytes.Contains(file, []byte("mario@pec.example")) {
		t.Error("another's network address or account is shown")
	}
	file, _, n = h.extract(evidence.Query{Mailbox: "Mario@pec.example"})
	if n != 2 || !bytes.Contains(file, []byte("192.0.2.7")) {
		t.Errorf("the actor sees %d records", n)
	}
	mario := evidence.Query{Mailbox: "mario@pec.example", Counterpart: "Lucia@pec.example", Kinds: []string{"submitted", "acceptance-issued"}, MessageID: "<m@pec.example>"}
	if _, r, n = h.extract(mario); n != 1 || !r.OK() || r.Query.Counterpart != mario.Counterpart {
		t.Errorf("filters: %d records: %v", n, failed(r))
	}
	mario.Kinds = []string{"delivered"}
	if _, err := h.extractor.Write(t.Context(), new(bytes.Buffer), mario, h.now); !errors.Is(err, ErrNothing) {
		t.Errorf("filters that nothing passes: %v", err)
	}
	if _, err := h.extractor.Write(t.Context(), new(bytes.Buffer), evidence.Query{Mailbox: "mario@pec.example", Kinds: []string{"no such kind"}}, h.now); err == nil || !strings.Contains(err.Error(), "no such kind") {
		t.Errorf("an unknown kind: %v", err)
	}
	if _, err := h.extractor.Write(t.Context(), new(bytes.Buffer), evidence.Query{Mailbox: "nessuno@pec.example"}, h.now); !errors.Is(err, ErrNothing) {
		t.Errorf("nobody: %v", err)
	}
}

func TestCeiling(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for i := range 6 {
		h.add(i, "mario@pec.example")
		_, err := h.stamper.Latest(t.Context())
		if want := i == 5; errors.Is(err, stamps.ErrCeiling) != want {
			t.Fatalf("stamp %d: %v", i, err)
		}
	}
	h.now = h.now.Add(24 * time.Hour)
	if _, err := h.stamper.Latest(t.Context()); err != nil {
		t.Errorf("the next day: %v", err)
	}
}

// Trust in other keys verifies nothing.
func TestOtherTrust(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.add(1, "mario@pec.example")
	file, _, _ := h.extract(evidence.Query{Mailbox: "mario@pec.example"})
	other := newHouse(t)
	for name, trust := range map[string]evidence.Trust{
		"manifest signature": {PEC: other.trust.PEC, TSA: h.trust.TSA, Log: h.trust.Log},
		"time stamp 1":       {PEC: h.trust.PEC, TSA: other.trust.TSA, Log: h.trust.Log},
		"checkpoint 1":       {PEC: h.trust.PEC, TSA: h.trust.TSA, Log: other.trust.Log},
	} {
		r := evidence.Verify(bytes.NewReader(file), int64(len(file)), trust)
		if r.OK() || !strings.Contains(strings.Join(failed(r), "\n"), name) {
			t.Errorf("%s: %s: %v", name, r.Verdict(), failed(r))
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if evidence.Verify(bytes.NewReader(b), int64(len(b)), evidence.Trust{}).OK() {
			t.Fatal("verified without any trust")
		}
	})
}
