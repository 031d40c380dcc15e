package extract

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/cms"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register"
	"scripta/register/calendar"
	"scripta/register/record"
	"scripta/register/stamps"
)

const (
	anna  = "anna@pec.example"
	bruno = "bruno@pec.example"
	carla = "carla@pec.example"
)

// start is a Monday, so that the fifth working day is the next one.
var start = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// quickstart has the keys that all tests sign with.
var quickstart = sync.OnceValues(func() (*keys.Quickstart, error) {
	return keys.NewQuickstart(keys.QuickstartConfig{Domain: "pec.example", Provider: "Test", LogID: "0001", Now: start})
})

// fixture is a register over a temporary folder and a clock that each reading
// moves on.
type fixture struct {
	*register.Register
	t        *testing.T
	dir      string
	months   *keys.Months
	extract  *Extractor
	verifier note.Verifier
	roots    *x509.CertPool

	mu       sync.Mutex
	now      time.Time
	readings int
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), now: start}
	q, err := quickstart()
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	f.months, err = keys.CreateMonths(durable.OS, filepath.Join(f.dir, "months"), filepath.Join(f.dir, "master"))
	must(err)
	signer, err := note.NewSigner(q.LogSigner)
	must(err)
	f.verifier, err = note.NewVerifier(q.LogVerifier)
	must(err)
	quiet := slog.New(slog.DiscardHandler)
	log, err := merkle.Open(t.Context(), merkle.Options{Dir: filepath.Join(f.dir, "log"), Origin: signer.Name(), Signer: signer, Verifier: f.verifier, Logger: quiet, MinFree: 1 << 20})
	must(err)
	f.Register, err = register.Open(t.Context(), register.Options{Dir: filepath.Join(f.dir, "register"), FS: durable.OS, Origin: log.Origin(), Log: log, Months: f.months, Logger: quiet})
	must(err)
	t.Cleanup(func() {
		if err := errors.Join(f.Close(), log.Close()); err != nil {
			t.Error(err)
		}
	})
	store, err := stamps.Open(durable.OS, filepath.Join(f.dir, "stamps"), f.verifier, x509.NewCertPool())
	must(err)
	cmsSigner, err := cms.NewSigner(q.PEC.Key, q.PEC.Certificate)
	must(err)
	f.roots = x509.NewCertPool()
	f.roots.AddCert(q.PECAuthority.Certificate)
	f.extract = New(Options{Register: f.Register, Stamps: store, Signer: cmsSigner, Provider: "Test", Logger: quiet})
	return f
}

func (f *fixture) clock() (time.Time, []record.Pair, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(time.Second + 137*time.Microsecond)
	f.readings++
	return f.now, []record.Pair{{Name: "clock", Value: "time not traceable: unknown"}}, nil
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fixture) options(fsys durable.FS) RequestOptions {
	return RequestOptions{Dir: filepath.Join(f.dir, "extracts"), FS: fsys, Months: f.months, Register: f.Register, Calendar: &calendar.Calendar{},
		Write: f.extract.Write, Now: f.clock, Logger: slog.New(slog.DiscardHandler)}
}

func (f *fixture) open(o RequestOptions) *Requests {
	f.t.Helper()
	r, err := OpenRequests(o)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// event appends one record of a message from one mailbox to another.
func (f *fixture) event(n int, from, to string) {
	f.t.Helper()
	at, _, _ := f.clock()
	if err := f.Begin(at); err != nil {
		f.t.Fatal(err)
	}
	_, err := f.Append(f.t.Context(), register.Entry{ID: record.MakeID([16]byte{1, byte(n)}, 1, 0), Record: &record.Record{Kind: record.Delivered, Time: at,
		MessageID: fmt.Sprintf("%d@pec.example", n), Sender: from, About: []string{to}}})
	if err != nil {
		f.t.Fatal(err)
	}
}

// runUntil runs the worker until done says so, or half a minute is over.
func (r *Requests) runUntil(ctx context.Context, done func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	for !done() && ctx.Err() == nil {
		time.Sleep(time.Millisecond) // the condition is looked at again
	}
	ok := ctx.Err() == nil
	cancel()
	wg.Wait()
	return ok
}

// work is runUntil for the test's own goroutine.
func work(t *testing.T, r *Requests, done func() bool) {
	t.Helper()
	if !r.runUntil(t.Context(), done) {
		t.Fatal("the worker did not come to its end")
	}
}

func answered(r *Requests, id RequestID) func() bool {
	return func() bool { return r.get(id).State() != StateAsked }
}

// idle says that every request is answered, and the worker has taken up the last.
func idle(r *Requests) func() bool {
	return func() bool {
		open, _ := r.Waiting(start)
		r.mu.Lock()
		defer r.mu.Unlock()
		return open == 0 && len(r.queue) == 0
	}
}

// records returns the records of a request by kind, and fails when a kind has
// more than one.
func (f *fixture) records(mailbox string, id RequestID) map[record.Kind]*record.Record {
	f.t.Helper()
	got := map[record.Kind]*record.Record{}
	err := f.Search(f.t.Context(), register.Query{Mailbox: mailbox}, start.AddDate(1, 0, 0), func(x *register.Found) bool {
		if x.Opened.ID.Transaction() != id {
			return true
		}
		if got[x.Record.Kind] != nil {
			f.t.Errorf("two records %v of request %v", x.Record.Kind, id)
		}
		got[x.Record.Kind] = x.Record
		return true
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return got
}

func detail(r *record.Record, name string) string {
	for _, p := range r.Detail {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

func countFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
