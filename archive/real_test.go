package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register"
	"scripta/register/record"
	"scripta/register/stamps"
	"scripta/tsa"
)

// real is a register and its log on the disk.
type real struct {
	log      *merkle.Log
	register *register.Register
	months   *keys.Months
}

func openReal(t *testing.T, h *house, dir string) *real {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	r := &real{}
	var err error
	r.months, err = keys.OpenMonths(durable.OS, filepath.Join(dir, "months"), filepath.Join(dir, "master.key"))
	must(t, err)
	r.log, err = merkle.Open(context.Background(), merkle.Options{Dir: filepath.Join(dir, "log"), Origin: testOrigin,
		Signer: h.logSigner, Verifier: h.trust.Log, MinFree: 1, Logger: quiet})
	must(t, err)
	samples := make([][]byte, 40)
	for i := range samples {
		samples[i] = fmt.Appendf(nil, "Subject: ACCETTAZIONE %d\r\n\r\nIl giorno\r\n", i)
	}
	r.register, err = register.Open(context.Background(), register.Options{Dir: filepath.Join(dir, "receipts"), FS: durable.OS, Origin: testOrigin,
		Log: r.log, Months: r.months, Samples: samples, Logger: quiet})
	must(t, err)
	return r
}

func (r *real) close(t *testing.T) {
	t.Helper()
	must(t, errors.Join(r.register.Close(), r.log.Close()))
}

// With the real log, register and stamps: days are closed while records come,
// over a restart, and everything verifies.
func TestRealRegister(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var mu sync.Mutex
	at := day(20).Add(time.Hour)
	now := func() (time.Time, error) {
		mu.Lock()
		defer mu.Unlock()
		return at, nil
	}
	set := func(to time.Time) {
		mu.Lock()
		defer mu.Unlock()
		at = to
	}
	h := newHouse(t, now)
	_, err := keys.CreateMonths(durable.OS, filepath.Join(dir, "months"), filepath.Join(dir, "master.key"))
	must(t, err)
	reg := openReal(t, h, dir)
	client := &tsa.Client{URL: "http://localhost/", HTTP: h.client()}
	var stampDir = filepath.Join(dir, "stamps")
	var stamper *stamps.Stamper
	closer := func() *Closer {
		store, err := stamps.Open(durable.OS, stampDir, h.trust.Log, h.trust.TSA)
		must(t, err)
		stamper = stamps.NewStamper(stamps.Options{Store: store, Register: reg.register, Ceiling: 100, Now: now, Logger: slog.New(slog.DiscardHandler),
			Authorities: []stamps.Authority{{Name: "test", Client: client}}})
		c, err := New(Options{Dir: filepath.Join(dir, "archive"), FS: durable.OS, Log: reg.log, Register: reg.register, Signer: h.signer, Trust: h.trust,
			Stamps: KeptStamps{Store: store, Ask: stamper.Latest, Request: func(size uint64) ([]byte, error) {
				return os.ReadFile(filepath.Join(stampDir, fmt.Sprintf("%d.tsq", size)))
			}},
			Provider: "Esempio PEC", Now: now, Logger: slog.New(slog.DiscardHandler)})
		must(t, err)
		return c
	}
	ctx := context.Background()
	var serial uint32
	add := func(at time.Time, n int) {
		t.Helper()
		must(t, reg.register.Begin(at))
		for range n {
			serial++
			_, err := reg.register.Append(ctx, register.Entry{ID: record.MakeID([16]byte{2}, 1, serial),
				Record: &record.Record{Kind: record.Submitted, Time: at, Sender: "mario@pec.example", Subject: "prova"}})
			must(t, err)
		}
	}
	c := closer()
	add(day(20).Add(time.Hour), 30)
	if _, err := stamper.Latest(ctx); err != nil {
		t.Fatal(err)
	}
	add(day(20).Add(2*time.Hour), 7)

	// Appends go on while the day is closed.
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := uint32(0); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				_, err := reg.register.Append(ctx, register.Entry{ID: record.MakeID([16]byte{3}, uint16(w), i),
					Record: &record.Record{Kind: record.Heartbeat, Time: day(20).Add(time.Duration(i) * time.Second)}})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for k := range 6 {
		until := day(20).Add(time.Duration(3+k) * time.Hour)
		set(until)
		if _, err := c.Close(ctx, until); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	writers.Wait()
	reg.close(t)

	// Two days later, in another month for the last one.
	reg = openReal(t, h, dir)
	defer reg.close(t)
	set(day(30))
	must(t, reg.months.Confirm(keys.MonthOf(day(30))))
	c = closer()
	add(day(30).Add(5*time.Hour), 3)
	add(day(31).Add(5*time.Hour), 4)
	set(day(32).Add(time.Minute))
	made, err := c.Close(ctx, day(32))
	must(t, err)
	if last := made[len(made)-1].Index; last.Timestamp != Granted || last.EndSize >= reg.log.Size() {
		t.Errorf("the last package ends with %d of %d, %s", last.EndSize, reg.log.Size(), last.Timestamp)
	}
	all, err := VerifyAll(filepath.Join(dir, "archive"), h.trust)
	must(t, err)
	for _, v := range all {
		if v.Report.Verdict() != "VERIFIED" {
			t.Errorf("%s: %s\n%s", v.Name, v.Report.Verdict(), failures(v.Report))
		}
	}
	packages, err := Packages(filepath.Join(dir, "archive"))
	must(t, err)
	var personal, next uint64
	for _, p := range packages {
		if c := VerifyRecords(p, reg.register); c.Err != nil {
			t.Errorf("%s: %v", p.Name(), c.Err)
		}
		must(t, p.Records(reg.register, func(index uint64, o *record.Opened) error {
			if f, err := reg.register.Read(ctx, index); err != nil || f.Opened.ID != o.ID || index != next {
				return fmt.Errorf("record %d is not %d of the register: %w", index, next, err)
			}
			next++
			return nil
		}))
		personal += p.Index.Records.Personal
	}
	if personal != 30+7+3+4 {
		t.Errorf("%d records about people", personal)
	}
	if n := len(packages); !packages[n-1].Index.End.Equal(day(32)) || n < 6+12 {
		t.Errorf("%d packages, to %v", n, packages[n-1].Index.End)
	}
	// Another secret, another key.
	a, err := reg.register.PackageKey(uint16(keys.MonthOf(day(30))), []byte("x"))
	must(t, err)
	b, err := reg.register.PackageKey(uint16(keys.MonthOf(day(31))), []byte("x"))
	must(t, err)
	d, err := reg.register.PackageKey(0, []byte("x"))
	must(t, err)
	if a == b || a == d {
		t.Error("two months have one key")
	}
	if _, err := reg.register.PackageKey(uint16(keys.MonthOf(day(30)))+7, []byte("x")); !errors.Is(err, keys.ErrNoSecret) {
		t.Errorf("a month that never was: %v", err)
	}
}
