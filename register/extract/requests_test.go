package extract

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/register/calendar"
	"scripta/register/evidence"
	"scripta/register/record"
)

func TestRequestIsAnswered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.event(1, anna, bruno)
	f.event(2, carla, anna)
	f.event(3, carla, bruno) // none of hers
	r := f.open(f.options(durable.OS))
	peer := record.Peer{Address: "192.0.2.1:4711", TLS: "TLS 1.3"}
	x, err := r.Ask(t.Context(), Ask{Mailbox: "Anna@PEC.example", Peer: peer})
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 11, 30, 23, 59, 59, 0, calendar.Rome()); !x.Due.Equal(want) {
		t.Errorf("due %v, not %v", x.Due, want)
	}
	if _, _, err := r.Deliver(t.Context(), anna, x.ID, peer); !errors.Is(err, ErrNotReady) {
		t.Errorf("delivered before it was produced: %v", err)
	}
	work(t, r, answered(r, x.ID))
	for _, other := range []string{bruno, "", "anna@pec.example.net"} {
		if _, err := r.Get(other, x.ID); !errors.Is(err, ErrNoRequest) {
			t.Errorf("%q gets anna's request: %v", other, err)
		}
		if _, _, err := r.Deliver(t.Context(), other, x.ID, peer); !errors.Is(err, ErrNoRequest) {
			t.Errorf("%q gets anna's file: %v", other, err)
		}
		if l := r.List(other); l != nil {
			t.Errorf("%q lists %v", other, l)
		}
	}
	before := f.readings
	var first []byte
	for range 2 {
		y, file, err := r.Deliver(t.Context(), "ANNA@pec.example", x.ID, peer)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(io.NewSectionReader(file, 0, file.Size()))
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(b); !bytes.Equal(sum[:], y.Digest) || y.Size != int64(len(b)) || y.Events != 2 || y.State() != StateDelivered {
			t.Errorf("%d bytes do not fit %+v", len(b), y)
		}
		if first == nil {
			first = b
		} else if !bytes.Equal(first, b) {
			t.Error("the second download has other bytes")
		}
	}
	if f.readings != before+1 {
		t.Errorf("delivery read the clock %d times", f.readings-before)
	}
	report := evidence.Verify(bytes.NewReader(first), int64(len(first)), evidence.Trust{PEC: f.roots, TSA: x509.NewCertPool(), Log: f.verifier})
	if v := report.Verdict(); v != "VERIFIED, time stamp pending" {
		t.Errorf("%s: %+v", v, report.Checks)
	}
	got := f.records(anna, x.ID)
	asked, produced, delivered := got[record.ExtractAsked], got[record.ExtractProduced], got[record.ExtractDelivered]
	if len(got) != 3 || asked == nil || produced == nil || delivered == nil {
		t.Fatalf("records %v", got)
	}
	for _, rec := range got {
		if rec.Actor != anna || rec.Sender != anna || detail(rec, "request") != x.ID.String() || detail(rec, "due") != "2026-11-30T23:59:59+01:00" || detail(rec, "clock") == "" {
			t.Errorf("%v: %+v", rec.Kind, rec)
		}
	}
	if !bytes.Equal(produced.Digest, delivered.Digest) || !bytes.Equal(produced.Digest, r.get(x.ID).Digest) || produced.Size != uint64(len(first)) || detail(produced, "events") != "2" {
		t.Errorf("produced %+v", produced)
	}
	if asked.Peer.Address != peer.Address || detail(asked, "to") == "" {
		t.Errorf("asked %+v", asked)
	}
	if !asked.Time.Before(produced.Time) || !produced.Time.Before(delivered.Time) {
		t.Error("the steps' times are not in order")
	}
}

// A mailbox in which nothing happened gets an answer, too, also the second time
// when the records of the first request exist.
func TestNoEventIsAnAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.event(1, anna, bruno)
	r := f.open(f.options(durable.OS))
	for _, a := range []Ask{{Mailbox: carla}, {Mailbox: anna, MessageID: "<no@such>"}, {Mailbox: anna, To: start}, {Mailbox: bruno, MessageID: "1@pec.example", From: start.Add(time.Hour).Add(-59 * time.Minute)}} {
		f.advance(2 * time.Minute)
		x, err := r.Ask(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		work(t, r, answered(r, x.ID))
		if x = r.get(x.ID); x.State() != StateRefused || x.Reason != ReasonNoEvents {
			t.Errorf("%+v: %+v", a, x)
		}
		if _, _, err := r.Deliver(t.Context(), a.Mailbox, x.ID, record.Peer{}); !errors.Is(err, ErrRefused) {
			t.Errorf("%+v: delivered: %v", a, err)
		}
		got := f.records(a.Mailbox, x.ID)
		if refused := got[record.ExtractRefused]; len(got) != 2 || refused == nil || refused.Outcome.Text != "nessun evento" || refused.Digest != nil {
			t.Errorf("%+v: records %v", a, got)
		}
	}
	if n := countFiles(t, filepath.Join(f.dir, "extracts", "evidence")); n != 0 {
		t.Errorf("%d evidence files without events", n)
	}
}

func TestAskIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.options(durable.OS)
	o.OpenPerMailbox, o.Queue = 2, 5
	r := f.open(o)
	var wg sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[error]int{}
	for range 8 {
		wg.Go(func() {
			_, err := r.Ask(t.Context(), Ask{Mailbox: anna})
			mu.Lock()
			defer mu.Unlock()
			outcomes[err]++
		})
	}
	wg.Wait()
	if outcomes[nil] != 2 || outcomes[ErrTooManyOpen] != 6 {
		t.Errorf("one mailbox: %v", outcomes)
	}
	for i, want := range []error{nil, nil, nil, ErrBusy, ErrBusy} {
		if _, err := r.Ask(t.Context(), Ask{Mailbox: fmt.Sprintf("box%d@pec.example", i)}); !errors.Is(err, want) {
			t.Errorf("mailbox %d: %v, not %v", i, err, want)
		}
	}
	if open, late := r.Waiting(start); open != 5 || late != 0 {
		t.Errorf("%d open, %d late", open, late)
	}
	if _, late := r.Waiting(start.AddDate(0, 0, 8)); late != 5 {
		t.Errorf("%d late after the due date", late)
	}
	work(t, r, idle(r))
	if _, err := r.Ask(t.Context(), Ask{Mailbox: anna}); err != nil {
		t.Errorf("after the answers: %v", err)
	}
	for _, a := range []Ask{{Mailbox: bruno, From: start.AddDate(1, 0, 0)}, {Mailbox: bruno, From: start, To: start}} {
		if _, err := r.Ask(t.Context(), a); !errors.Is(err, ErrPeriod) {
			t.Errorf("%v: %v", a, err)
		}
	}
}

// A full disk, a register that is stopped or a failed production leave the
// request open; it is answered when the cause is gone.
func TestProductionIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.event(1, anna, bruno)
	o := f.options(durable.OS)
	free := int64(0)
	var mu sync.Mutex
	o.MinFreeBytes, o.FreeBytes = 1000, func() (int64, error) {
		mu.Lock()
		defer mu.Unlock()
		free += 600
		return free, nil
	}
	r := f.open(o)
	x, err := r.Ask(t.Context(), Ask{Mailbox: anna})
	if err != nil {
		t.Fatal(err)
	}
	work(t, r, answered(r, x.ID))
	if x = r.get(x.ID); x.State() != StateProduced || r.Failures.Load() != 1 {
		t.Errorf("%v after %d failures", x.State(), r.Failures.Load())
	}
	if got := f.records(anna, x.ID); len(got) != 2 {
		t.Errorf("records %v", got)
	}
}

func TestTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.event(1, anna, bruno)
	o := f.options(durable.OS)
	o.MaxBytes = 1000
	r := f.open(o)
	x, err := r.Ask(t.Context(), Ask{Mailbox: anna})
	if err != nil {
		t.Fatal(err)
	}
	work(t, r, answered(r, x.ID))
	if x = r.get(x.ID); x.Reason != ReasonTooLarge {
		t.Errorf("%+v", x)
	}
}

func TestAnsweredRequestsAreDeleted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.event(1, anna, bruno)
	o := f.options(durable.OS)
	o.KeptPerMailbox = 2
	r := f.open(o)
	var ids []RequestID
	for range 3 {
		x, err := r.Ask(t.Context(), Ask{Mailbox: anna})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, x.ID)
		work(t, r, func() bool { return r.get(x.ID).State() == StateProduced && len(r.List(anna)) <= 2 })
	}
	if l := r.List(anna); len(l) != 2 || l[0].ID != ids[2] || l[1].ID != ids[1] {
		t.Errorf("kept %v", l)
	}
	f.advance(DefaultKeep - time.Minute)
	r = f.open(o)
	work(t, r, idle(r))
	if l := r.List(anna); len(l) != 2 {
		t.Errorf("deleted too early: %v", l)
	}
	f.advance(time.Minute)
	r = f.open(o)
	work(t, r, func() bool { return len(r.List(anna)) == 0 })
	if n := countFiles(t, o.Dir); n != 0 {
		t.Errorf("%d files are left", n)
	}
	if _, err := r.Get(anna, ids[2]); !errors.Is(err, ErrNoRequest) {
		t.Errorf("a deleted request: %v", err)
	}
	if got := f.records(anna, ids[0]); len(got) != 2 {
		t.Errorf("the records of a deleted request: %v", got)
	}
}

// What lies on the disk tells nobody whose requests they are, and a damaged file
// stops nothing else.
func TestRequestsAreSealed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.event(1, anna, bruno)
	o := f.options(durable.OS)
	r := f.open(o)
	var ids []RequestID
	for range 2 {
		x, err := r.Ask(t.Context(), Ask{Mailbox: anna, MessageID: "1@pec.example"})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, x.ID)
	}
	work(t, r, idle(r))
	err := filepath.WalkDir(o.Dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, st.Mode())
		}
		b, err := os.ReadFile(name)
		if bytes.Contains(b, []byte("anna")) || bytes.Contains(b, []byte("1@pec.example")) {
			t.Errorf("%s holds personal data in clear", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(o.Dir, "requests", ids[0].String())
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	r = f.open(o)
	if l := r.List(anna); len(l) != 1 || l[0].ID != ids[1] {
		t.Errorf("%v", l)
	}
	if !strings.Contains(said.String(), ids[0].String()) {
		t.Errorf("a damaged request is passed over: %s", said.String())
	}
}

func TestParseRequestID(t *testing.T) {
	t.Parallel()
	id := RequestID{1, 2, 0xff}
	if got, ok := ParseRequestID(id.String()); !ok || got != id {
		t.Errorf("%v, %v", got, ok)
	}
	for _, s := range []string{"", "01", strings.ToUpper(id.String()), id.String() + "00", "../" + id.String()[3:], strings.Repeat("g", 32)} {
		if _, ok := ParseRequestID(s); ok {
			t.Errorf("%q is taken", s)
		}
	}
}
