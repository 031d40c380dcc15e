package register

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/register/record"
)

const origin = "pec.example/scripta/0001"

// fixture is a register over a temporary folder, which can be closed and opened
// again.
type fixture struct {
	t   *testing.T
	dir string
	key ed25519.PrivateKey
	*Register
	log     *merkle.Log
	options Options
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, dir: t.TempDir(), key: key}
	if _, err := keys.CreateMonths(durable.OS, filepath.Join(f.dir, "months"), filepath.Join(f.dir, "master")); err != nil {
		t.Fatal(err)
	}
	f.open()
	t.Cleanup(f.close)
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	months, err := keys.OpenMonths(durable.OS, filepath.Join(f.dir, "months"), filepath.Join(f.dir, "master"))
	if err != nil {
		f.t.Fatal(err)
	}
	signer, verifier, err := checkpoint.NewSigner(origin, f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	open := func() error {
		f.log, err = merkle.Open(f.t.Context(), merkle.Options{Dir: filepath.Join(f.dir, "log"), Origin: origin, Signer: signer, Verifier: verifier, Logger: log, MinFree: 1 << 20})
		return err
	}
	// A process that a test beside this one starts shares the lock of the log that
	// was closed, until it has begun.
	for end := time.Now().Add(10 * time.Second); open() != nil && strings.Contains(err.Error(), "directory lock") && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.options = Options{Dir: filepath.Join(f.dir, "register"), FS: durable.OS, Origin: origin, Log: f.log, Months: months, Logger: log}
	if f.options.Holds, err = OpenHolds(durable.OS, filepath.Join(f.dir, "holds"), months); err != nil {
		f.t.Fatal(err)
	}
	if f.Register, err = Open(f.t.Context(), f.options); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) close() {
	if f.Register == nil {
		return
	}
	if err := errors.Join(f.Register.Close(), f.log.Close()); err != nil {
		f.t.Error(err)
	}
	f.Register = nil
}

var start = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func event(n int, at time.Time, sender string, about ...string) Entry {
	return Entry{ID: record.MakeID([16]byte{byte(n >> 8), byte(n)}, 1, 0), Record: &record.Record{Kind: record.Delivered, Time: at, MessageID: fmt.Sprintf("%d@pec.example", n),
		OriginalID: fmt.Sprintf("<orig%d@client>", n), Sender: sender, About: about, Subject: "oggetto"}}
}

func (f *fixture) append(entries ...Entry) []Appended {
	f.t.Helper()
	for _, e := range entries {
		if err := f.Begin(e.Record.Time); err != nil {
			f.t.Fatal(err)
		}
	}
	a, err := f.Append(f.t.Context(), entries...)
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

func (f *fixture) search(q Query) (got []string) {
	f.t.Helper()
	if err := f.Search(f.t.Context(), q, start.AddDate(0, 2, 0), func(x *Found) bool {
		got = append(got, x.Record.MessageID)
		return true
	}); err != nil {
		f.t.Fatal(err)
	}
	return got
}

func TestAppendAndSearch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			e := event(i, start.Add(time.Duration(i)*time.Second), "mario@pec.example", fmt.Sprintf("box%d@pec.example", i%10))
			if _, err := f.Append(t.Context(), e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f.append(event(1000, start.AddDate(0, 1, 0), "Mario@PEC.example", "lucia@pec.example")) // the next month
	if f.log.Size() != 201 {
		t.Fatalf("the log has %d leaves", f.log.Size())
	}
	check := func() {
		t.Helper()
		if got := f.search(Query{Mailbox: "MARIO@pec.example"}); len(got) != 201 {
			t.Errorf("mario has %d records", len(got))
		}
		if got := f.search(Query{Mailbox: "box3@pec.example"}); len(got) != 20 {
			t.Errorf("box3 has %d records", len(got))
		}
		if got := f.search(Query{Identifier: "<orig7@client>"}); !slices.Equal(got, []string{"7@pec.example"}) {
			t.Errorf("by original id: %v", got)
		}
		if got := f.search(Query{Identifier: "7@pec.example", Mailbox: "box8@pec.example"}); got != nil {
			t.Errorf("another's mailbox sees %v", got)
		}
		if got := f.search(Query{Mailbox: "mario@pec.example", From: start.Add(190 * time.Second), To: start.Add(195 * time.Second)}); len(got) != 5 {
			t.Errorf("in a period of 5: %v", got)
		}
		if got := f.search(Query{Mailbox: "nobody@pec.example"}); got != nil {
			t.Errorf("nobody has %v", got)
		}
	}
	check()
	f.close()
	f.open()
	check()
	// The index is a projection: without it everything is found again.
	f.close()
	if err := os.RemoveAll(filepath.Join(f.dir, "register", "index")); err != nil {
		t.Fatal(err)
	}
	f.open()
	check()
}

func TestIdempotence(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := event(1, start, "mario@pec.example")
	first := f.append(e, event(2, start, "mario@pec.example"))
	if again := f.append(e, event(3, start, "x@y"), event(2, start, "mario@pec.example")); again[0] != first[0] || again[2] != first[1] || again[1].Index != 2 {
		t.Errorf("again: %v, first %v", again, first)
	}
	// Many at once: one record.
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if a, err := f.Append(t.Context(), event(9, start, "x@y")); err != nil || a[0].Index != 3 {
				t.Errorf("%v, %v", a, err)
			}
		})
	}
	wg.Wait()
	other := event(1, start, "other@pec.example")
	if _, err := f.Append(t.Context(), other); !errors.Is(err, ErrConflict) {
		t.Errorf("another record under a used id: %v", err)
	}
	if _, err := f.Append(t.Context(), event(4, start, "x@y"), other); !errors.Is(err, ErrConflict) {
		t.Errorf("one of two: %v", err)
	}
	if err := f.Health(); err != nil {
		t.Errorf("a conflict stopped the register: %v", err)
	}
	f.close()
	f.open()
	if again := f.append(e); again[0] != first[0] {
		t.Errorf("after reopening: %v", again)
	}
	if f.log.Size() > 5 {
		t.Errorf("%d leaves", f.log.Size())
	}
}

// large is an event whose encoded fields have the given number of bytes.
func large(t *testing.T, n, size int) Entry {
	t.Helper()
	e := event(n, start, "mario@pec.example")
	f, err := e.Record.Fields()
	if err != nil {
		t.Fatal(err)
	}
	e.Record.Subject += strings.Repeat("x", size-f.Size())
	return e
}

// A record beyond the bound is its caller's error, told before anything of the
// call is appended; one of exactly the bound is kept. It once stopped the
// register for everybody.
func TestRecordTooLarge(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, err := f.Append(t.Context(), event(1, start, "a@b"), large(t, 2, MaxRecord+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte too many: %v", err)
	}
	if f.log.Size() != 0 {
		t.Errorf("%d records of the refused call are in the log", f.log.Size())
	}
	at := f.append(large(t, 3, MaxRecord), event(1, start, "a@b"))
	if err := f.Health(); err != nil {
		t.Errorf("the register stopped: %v", err)
	}
	f.close()
	f.open()
	x, err := f.Read(t.Context(), at[0].Index)
	if err != nil || len(x.Record.Subject) < MaxRecord/2 {
		t.Errorf("the largest record does not come back: %v", err)
	}
}

// One call with more than a commit holds is cut into several, in order.
func TestAppendOfManyLarge(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var all []Entry
	for i := range 10 {
		all = append(all, large(t, i, 800<<10))
	}
	for i, a := range f.append(all...) {
		if a.Index != uint64(i) {
			t.Errorf("record %d is at %d", i, a.Index)
		}
	}
}

// Nothing about a person may be readable in the register's folder.
func TestNothingReadableOnDisk(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := event(1, start, "visible@pec.example")
	e.Record.Subject = "visible subject"
	f.append(e)
	f.close()
	n := 0
	err := filepath.WalkDir(f.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		n++
		if bytes.Contains(b, []byte("visible")) {
			t.Errorf("%s shows it", path)
		}
		return err
	})
	if err != nil || n < 5 {
		t.Fatalf("%d files, %v", n, err)
	}
}

func TestClockThatJumps(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.append(event(1, start, "a@b"))
	var m *keys.MonthError
	if err := f.Begin(start.AddDate(0, 5, 0)); !errors.As(err, &m) {
		t.Errorf("five months ahead: %v", err)
	}
	if err := f.Begin(start.AddDate(0, -1, 0)); !errors.As(err, &m) {
		t.Errorf("a month back: %v", err)
	}
	if err := f.Begin(start.AddDate(0, 1, 0)); err != nil {
		t.Errorf("the next month: %v", err)
	}
	// A transaction of the month before still gets its records.
	if _, err := f.Append(t.Context(), event(2, start, "a@b")); err != nil {
		t.Errorf("a record of the month before: %v", err)
	}
}

// A leaf beside a sealed record that does not give it is never shown.
func TestReadChecksLeaf(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.append(event(1, start, "a@b"))
	leaves, err := f.log.Leaves(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	bad := leaves[0]
	bad.Value = bytes.Clone(bad.Value)
	bad.Value[9]++
	if _, _, err := f.openLeaf(bad); err == nil {
		t.Error("opened beside another leaf")
	}
	bad = leaves[0]
	bad.Extra = bytes.Clone(bad.Extra)
	bad.Extra[40]++
	if _, _, err := f.openLeaf(bad); err == nil {
		t.Error("a damaged record was opened")
	}
	if _, err := f.Read(t.Context(), 5); err == nil || !strings.Contains(err.Error(), "5") {
		t.Errorf("beyond the end: %v", err)
	}
}
