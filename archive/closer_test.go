package archive

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"scripta/internal/keys"
	"scripta/register"
	"scripta/register/record"
)

// names are the packages' names.
func names(all []*Package) []string {
	var out []string
	for _, p := range all {
		out = append(out, p.Name())
	}
	return out
}

// Days with records, without, over the end of a month, and after standing still:
// every record is in exactly one package, and every day has one.
func TestDays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.closer()
	if made := r.close(c, day(20).Add(time.Hour)); len(made) != 0 {
		t.Fatalf("a log without records was closed: %v", names(made))
	}
	for range 5 {
		r.record(day(27).Add(15 * time.Hour))
	}
	if got := names(r.close(c, day(28))); !slices.Equal(got, []string{"20261127T000000Z_20261128T000000Z"}) {
		t.Fatalf("made %v", got)
	}
	if made := r.close(c, day(28)); len(made) != 0 {
		t.Fatalf("closed twice: %v", names(made))
	}
	r.close(c, day(29)) // nothing happened but the closing itself

	// Two days without the closer, with a record that came late.
	r.record(day(29).Add(time.Hour))
	r.record(day(30).Add(time.Hour))
	r.record(day(29).Add(2 * time.Hour)) // late: after one of the 30th
	r.record(day(31).Add(-time.Millisecond))
	r.record(day(31)) // 1 December, 00:00:00.000
	made := r.close(c, day(32))
	if got, want := names(made), []string{"20261129T000000Z_20261130T000000Z", "20261130T000000Z_20261201T000000Z", "20261201T000000Z_20261202T000000Z"}; !slices.Equal(got, want) {
		t.Fatalf("made %v", got)
	}
	all := r.check(day(27), day(32))
	var totals []uint64
	for _, p := range all {
		totals = append(totals, p.Index.Records.Total)
	}
	// The records of closings are in the package of the day on which they were
	// appended; the last closing's are not closed yet.
	if want := []uint64{5, 1, 1 + 1, 3, 1}; !slices.Equal(totals, want) {
		t.Fatalf("records %v, want %v", totals, want)
	}
	if p := all[3].Index.Records; !p.Oldest.Equal(day(29).Add(2*time.Hour)) || !p.Newest.Equal(day(31).Add(-time.Millisecond)) {
		t.Fatalf("times %v to %v", p.Oldest, p.Newest)
	}
	if p := all[1].Index; p.Previous.Index != all[0].Digest || p.StartRoot != all[0].Index.EndRoot {
		t.Fatal("the second package does not name the first")
	}
}

// A begun day is closed up to now, and its rest by the next closing.
func TestBegunDay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.closer()
	at := day(20).Add(9*time.Hour + 700*time.Millisecond)
	r.record(at)
	// Before the first record: an interval of nothing.
	r.close(c, day(20).Add(8*time.Hour))
	// 09:00:00.700 is closed as 09:00:00: the record is not in it.
	r.close(c, at.Add(100*time.Millisecond))
	made := r.close(c, day(21))
	if got := names(made); !slices.Equal(got, []string{"20261120T090000Z_20261121T000000Z"}) {
		t.Fatalf("made %v", got)
	}
	all := r.check(day(20), day(21))
	if n := all[0].Index.Records.Total + all[1].Index.Records.Total; n != 0 || all[1].Index.EndSize != 0 || all[2].Index.EndSize == 0 {
		t.Fatalf("%d records before the first", n)
	}
}

func TestCloseRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.closer()
	r.record(day(20))
	if _, err := c.Close(context.Background(), day(20).Add(time.Second)); !errors.Is(err, ErrFuture) {
		t.Errorf("the future: %v", err)
	}
	r.err = errors.New("the clock is out")
	if _, err := c.Close(context.Background(), day(20)); !errors.Is(err, r.err) {
		t.Errorf("no clock: %v", err)
	}
	r.err = nil
	o := r.options()
	o.Certificates[0].Name = "certificates/../ca.pem"
	if _, err := New(o); err == nil {
		t.Error("a certificate outside its folder was accepted")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r.set(day(21))
	if _, err := c.Close(ctx, day(21)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	r.close(c, day(21))
	r.check(day(20), day(21))
}

// A package whose record could not be appended is recorded by the next closing,
// which does not make another. Made again from the same log, it is the same.
func TestRerun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 20 {
		r.record(day(20).Add(time.Duration(i) * time.Minute))
	}
	r.set(day(21))
	r.m.refuse = errors.New("the log is stopped")
	c := r.closer()
	if _, err := c.Close(context.Background(), day(21)); !errors.Is(err, r.m.refuse) {
		t.Fatalf("closed without a record: %v", err)
	}
	name := "20261120T000000Z_20261121T000000Z"
	first := contents(t, filepath.Join(r.dir, name))
	if err := os.Rename(filepath.Join(r.dir, name), filepath.Join(t.TempDir(), name)); err != nil {
		t.Fatal(err)
	}
	r.set(day(21).Add(time.Hour))
	if _, err := c.Close(context.Background(), day(21)); !errors.Is(err, r.m.refuse) {
		t.Fatalf("closed without a record: %v", err)
	}
	second := contents(t, filepath.Join(r.dir, name))
	for f := range first {
		differs := first[f] != second[f]
		if may := f == nameIndex || f == nameSignature || f == nameSums; differs != may {
			t.Errorf("%s: another content: %v", f, differs)
		}
	}
	if len(first) != len(second) || r.m.asked != 1 {
		t.Errorf("%d files, then %d; %d stamps were asked for", len(first), len(second), r.m.asked)
	}
	r.m.refuse = nil
	r.set(day(21).Add(2 * time.Hour))
	made, err := c.Close(context.Background(), day(21))
	if err != nil || len(made) != 0 {
		t.Fatalf("made %v, %v", names(made), err)
	}
	r.check(day(20), day(21))
	if !maps.Equal(second, contents(t, filepath.Join(r.dir, name))) {
		t.Error("the package was changed")
	}
}

// What must stop a closing, and leave everything as it was.
func TestCloseStops(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(t *testing.T, r *rig)
		want   error
	}{
		"a package in the middle is gone": {func(t *testing.T, r *rig) {
			must(t, os.RemoveAll(filepath.Join(r.dir, "20261121T000000Z_20261122T000000Z")))
		}, ErrTiling},
		"the last package is gone": {func(t *testing.T, r *rig) {
			must(t, os.RemoveAll(filepath.Join(r.dir, "20261122T000000Z_20261123T000000Z")))
		}, ErrLost},
		"all packages are gone": {func(t *testing.T, r *rig) { must(t, os.RemoveAll(r.dir)) }, ErrLost},
		"the last index was changed": {func(t *testing.T, r *rig) {
			p, err := load(filepath.Join(r.dir, "20261122T000000Z_20261123T000000Z"))
			must(t, err)
			p.Index.Provider = "Altro"
			b, err := p.Index.encode()
			must(t, err)
			must(t, os.WriteFile(filepath.Join(p.Dir, nameIndex), b, 0o600))
		}, ErrUnsound},
		"the last index is damaged": {func(t *testing.T, r *rig) {
			must(t, os.WriteFile(filepath.Join(r.dir, "20261122T000000Z_20261123T000000Z", nameIndex), []byte("{"), 0o600))
		}, ErrIndex},
		"the log was rolled back": {func(t *testing.T, r *rig) { r.m.leaves = r.m.leaves[:3] }, ErrDiverged},
		"the log is another":      {func(t *testing.T, r *rig) { r.m.leaves[1], r.m.leaves[2] = r.m.leaves[2], r.m.leaves[1] }, ErrDiverged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			for d := 20; d < 24; d++ {
				r.record(day(d).Add(time.Hour))
				r.record(day(d).Add(2 * time.Hour))
			}
			cl := r.closer()
			for d := 21; d < 24; d++ {
				r.close(cl, day(d))
			}
			c.damage(t, r)
			before, _ := os.ReadDir(r.dir)
			r.set(day(25))
			made, err := cl.Close(context.Background(), day(24))
			if !errors.Is(err, c.want) || len(made) != 0 {
				t.Fatalf("made %v, %v; want %v", names(made), err, c.want)
			}
			if after, _ := os.ReadDir(r.dir); len(after) != len(before) {
				t.Errorf("%d entries, then %d", len(before), len(after))
			}
		})
	}
}

// An archive that was lost is not begun anew with intervals cut otherwise.
func TestLostWithOtherIntervals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.record(day(20).Add(time.Hour))
	c := r.closer()
	r.close(c, day(20).Add(12*time.Hour))
	must(t, os.RemoveAll(r.dir))
	r.set(day(21))
	if _, err := c.Close(context.Background(), day(21)); !errors.Is(err, ErrLost) {
		t.Fatalf("closed again: %v", err)
	}
}

// Without an authority packages are made with their stamp pending; the first
// that has one covers those before it. An authority that fails is asked once.
func TestPendingStamp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.closer()
	r.m.noStamps = errors.New("the authority does not answer")
	r.record(day(20).Add(time.Hour))
	r.close(c, day(23))
	if r.m.asked != 1 {
		t.Errorf("asked %d times for three packages", r.m.asked)
	}
	for _, p := range r.check(day(20), day(23)) {
		rep := Verify(p.Dir, r.h.trust, nil)
		if !rep.OK() || !rep.Pending || p.Index.Timestamp != Pending {
			t.Errorf("%s: %s", p.Name(), rep.Verdict())
		}
	}
	all, err := VerifyAll(r.dir, r.h.trust)
	if err != nil || all[2].Report.Verdict() != "VERIFIED, time stamp pending" {
		t.Fatalf("verdict %q, %v", all[2].Report.Verdict(), err)
	}
	r.m.noStamps = nil
	r.close(c, day(24))
	if all, err = VerifyAll(r.dir, r.h.trust); err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		if v.Report.Verdict() != "VERIFIED" {
			t.Errorf("%s: %s", v.Name, v.Report.Verdict())
		}
	}
	// A package in between that does not verify breaks what leads to the stamp.
	must(t, os.WriteFile(filepath.Join(r.dir, all[2].Name, nameConsistency), nil, 0o600))
	if all, err = VerifyAll(r.dir, r.h.trust); err != nil {
		t.Fatal(err)
	}
	for n, want := range []bool{true, true, true, false} {
		if got := all[n].Report.Pending; got != want {
			t.Errorf("%s: pending %v", all[n].Name, got)
		}
	}
}

// Stamps within the interval are taken along; one that does not verify is not,
// and the stamp that covers the interval is then sought from an authority.
func TestStampsWithin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.closer()
	ctx := context.Background()
	for h := range 4 {
		r.record(day(20).Add(time.Duration(h) * time.Hour))
		r.record(day(20).Add(time.Duration(h) * time.Hour))
		r.set(day(20).Add(time.Duration(h)*time.Hour + time.Minute))
		if _, err := r.m.stampNow(ctx); err != nil {
			t.Fatal(err)
		}
	}
	r.m.stamps[1].Reply = r.m.stamps[0].Reply
	r.record(day(20).Add(20 * time.Hour))
	made := r.close(c, day(21))
	if got, want := made[0].Index.Stamps, []uint64{2, 6, 8, 9}; !slices.Equal(got, want) {
		t.Fatalf("stamps %v, want %v", got, want)
	}
	// The last stamp lies within the next interval, and covers what came before
	// it; nobody is asked again.
	r.record(day(21).Add(time.Hour))
	r.set(day(21).Add(2 * time.Hour))
	st, err := r.m.stampNow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	asked := r.m.asked
	made = r.close(c, day(22))
	if got := made[0].Index.Stamps; !slices.Equal(got, []uint64{st.Signed.Size}) || made[0].Index.Timestamp != Granted || r.m.asked != asked {
		t.Fatalf("stamps %v, asked %d times", got, r.m.asked-asked)
	}
	r.check(day(20), day(22))
}

// A month that was disposed of: its records are no longer in any package, and
// everything still verifies.
func TestDisposal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.closer()
	october := day(20).AddDate(0, -1, 0)
	for i := range 6 {
		r.record(day(20).Add(time.Duration(i) * time.Minute))
	}
	r.record(october) // late
	p := r.close(c, day(21))[0]
	read := func() (n int) {
		must(t, p.Records(r.m, func(_ uint64, o *record.Opened) error {
			n++
			return nil
		}))
		return n
	}
	if n := read(); n != 7 || len(p.Index.Months) != 3 {
		t.Fatalf("%d records open, months %v", n, p.Index.Months)
	}
	r.m.disposed[uint16(keys.MonthOf(day(20)))] = true
	if n := read(); n != 3 {
		t.Fatalf("%d records open after disposal", n)
	}
	r.check(day(20), day(21))

	// Disposed of before the closing: nothing of them comes into the package.
	r.record(day(21))
	r.m.disposed[uint16(keys.MonthOf(october))] = true
	r.record(october)
	r.record(october)
	made := r.close(c, day(22))
	r.check(day(20), day(22))
	if m := made[0].Index.Months; len(m) != 3 || m[0].Month != service || !m[1].Disposed || !m[2].Disposed || m[1].Plaintext != (Digest{}) {
		t.Fatalf("months %v", m)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A record that someone appended under the closing's id stops the closing.
func TestForeignRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.record(day(20))
	i := Interval{day(20), day(21)}
	_, err := r.m.Append(context.Background(), register.Entry{ID: closingID(packageID(testOrigin, i)), Record: &record.Record{Kind: record.Void, Time: day(20)}})
	must(t, err)
	r.set(day(21))
	if _, err := r.closer().Close(context.Background(), day(21)); !errors.Is(err, ErrLost) {
		t.Fatalf("closed: %v", err)
	}
}
