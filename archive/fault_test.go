package archive

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"scripta/internal/durable/faultfs"
	"scripta/register"
)

// The process dies, or the power fails, at every call that changes the disk, and
// around the record of a closing; each time the next closing leaves no gap, no
// second package and no second record.
func TestFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		at    func(n int) faultfs.Fault
		power bool
		days  int  // that are closed under the fault
		first bool // the fault meets the very first closing
	}{
		"killed":        {faultfs.CrashAt, false, 2, false},
		"first":         {faultfs.CrashAt, true, 1, true},
		"power cut":     {faultfs.CrashAt, true, 1, false},
		"disk full":     {func(n int) faultfs.Fault { return faultfs.FailAt(n, syscall.ENOSPC) }, false, 1, false},
		"disk broken":   {func(n int) faultfs.Fault { return faultfs.FailAt(n, syscall.EIO) }, false, 1, true},
		"full for good": {func(n int) faultfs.Fault { return from(n, syscall.ENOSPC) }, true, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			for n := 1; ; n++ {
				// A day is closed, then the fault meets the closing of others, of
				// which the second is empty.
				r.again()
				r.record(day(20))
				if !fault.first {
					r.fs = r.faulty(nil)
					r.close(r.closer(), day(21))
				}
				r.record(day(21).Add(time.Hour))
				r.record(day(21).Add(2 * time.Hour))
				fsys := r.faulty(fault.at(n))
				r.fs = fsys
				end := day(21 + fault.days)
				r.set(end)
				_, err := r.closer().Close(context.Background(), end)
				if fault.power {
					must(t, fsys.PowerLoss())
				}
				again := fsys
				if fsys.SetFault(nil); fsys.Crashed() {
					again = r.faulty(nil)
				}
				r.fs = again
				r.close(r.closer(), end)
				r.check(day(20), end)
				// What was acknowledged survives a power cut now.
				must(t, again.PowerLoss())
				r.check(day(20), end)
				if calls := fsys.Calls(); err != nil {
					continue
				} else if len(calls) >= n {
					t.Fatalf("call %d failed and nobody noticed: %v", n, calls[n-1])
				}
				if n < 40 {
					t.Fatalf("only %d calls were tried", n)
				}
				return
			}
		})
	}
}

// faulty is a file system over the archive's parent folder.
func (r *rig) faulty(f faultfs.Fault) *faultfs.FS {
	r.t.Helper()
	fsys, err := faultfs.New(filepath.Dir(r.dir), f)
	must(r.t, err)
	return fsys
}

// from lets all calls from the n-th on fail.
func from(n int, err error) faultfs.Fault {
	return func(i int, _ faultfs.Call) error {
		if i >= n {
			return err
		}
		return nil
	}
}

// halting is a register whose process dies while it appends.
type halting struct {
	*memory
	appends int  // how many calls pass
	after   bool // the record is in the log all the same
}

var errHalted = errors.New("halted")

func (h *halting) Append(ctx context.Context, e ...register.Entry) ([]register.Appended, error) {
	h.appends--
	if h.appends >= 0 {
		return h.memory.Append(ctx, e...)
	}
	if h.after {
		_, _ = h.memory.Append(ctx, e...)
	}
	return nil, errHalted
}

// The record of a closing is appended once, whether the process dies before or
// after it is in the log.
func TestHaltAtRecord(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		r := newRig(t)
		r.record(day(20))
		for passed := range 3 {
			o := r.options()
			o.Register = &halting{memory: r.m, appends: passed, after: after}
			c, err := New(o)
			must(t, err)
			r.set(day(24))
			if _, err := c.Close(context.Background(), day(24)); !errors.Is(err, errHalted) {
				t.Fatalf("after %d records: %v", passed, err)
			}
		}
		r.close(r.closer(), day(24))
		r.check(day(20), day(24))
	}
}

// What the disk gives back differs from what was written: no record is made of
// it, and a person is told.
func TestDiskLies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.record(day(20).Add(time.Hour))
	r.set(day(21))
	r.m.refuse = errors.New("not yet")
	if _, err := r.closer().Close(context.Background(), day(21)); !errors.Is(err, r.m.refuse) {
		t.Fatal(err)
	}
	r.m.refuse = nil
	name := filepath.Join(r.dir, "20261120T000000Z_20261121T000000Z", nameRecords)
	b, err := os.ReadFile(name)
	must(t, err)
	b[len(b)-1]++
	must(t, os.WriteFile(name, b, 0o600))
	size := r.m.Size()
	if _, err := r.closer().Close(context.Background(), day(21)); !errors.Is(err, ErrUnsound) {
		t.Fatalf("a damaged package was closed: %v", err)
	}
	if r.m.Size() != size {
		t.Fatal("a damaged package was recorded")
	}
	must(t, os.RemoveAll(filepath.Dir(name)))
	r.close(r.closer(), day(21))
	r.check(day(20), day(21))
}
