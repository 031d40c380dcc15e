package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
)

// reopen returns what the journal in name holds, and the journal.
func reopen(t *testing.T, fsys durable.FS, name string) ([]string, *durable.Journal) {
	t.Helper()
	var recs []string
	var offs []int64
	j, err := durable.OpenJournal(fsys, name, func(off int64, rec []byte) error {
		recs, offs = append(recs, string(rec)), append(offs, off)
		return nil
	})
	if err != nil {
		t.Fatalf("OpenJournal: %v", err)
	}
	t.Cleanup(func() { _ = j.Close() })
	for i, off := range offs {
		if rec, err := j.ReadAt(off); err != nil || string(rec) != recs[i] {
			t.Fatalf("ReadAt(%d) = %q, %v; replay gave %q", off, rec, err, recs[i])
		}
	}
	return recs, j
}

func wantRecords(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Fatalf("records %.200q, want %.200q", got, want)
	}
}

func TestJournalKeepsRecords(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "j")
	recs, j := reopen(t, durable.OS, name)
	wantRecords(t, recs)
	offs, err := j.Append([]byte("one"), nil, []byte("three"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []int64{0, 11, 19}; fmt.Sprint(offs) != fmt.Sprint(want) || j.Size() != 32 {
		t.Fatalf("offsets %v, size %d", offs, j.Size())
	}
	if offs, err := j.Append(); err != nil || len(offs) != 0 || j.Size() != 32 {
		t.Fatalf("empty append: %v, %v, size %d", offs, err, j.Size())
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append([]byte("x")); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("append to a closed journal: %v", err)
	}
	recs, j = reopen(t, durable.OS, name)
	wantRecords(t, recs, "one", "", "three")
	if j.Torn() != 0 {
		t.Fatalf("torn %d", j.Torn())
	}
	if offs, err = j.Append([]byte("four")); err != nil || offs[0] != 32 {
		t.Fatalf("append after reopening: %v, %v", offs, err)
	}
	for _, off := range []int64{-1, 1, 12, 33, 44, 1 << 40} {
		if rec, err := j.ReadAt(off); !errors.Is(err, durable.ErrNoRecord) {
			t.Errorf("ReadAt(%d) = %q, %v", off, rec, err)
		}
	}
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", st.Mode(), err)
	}
}

func TestJournalRefusesTooLarge(t *testing.T) {
	t.Parallel()
	_, j := reopen(t, durable.OS, filepath.Join(t.TempDir(), "j"))
	big := make([]byte, durable.MaxRecord+1)
	for _, recs := range [][][]byte{{big}, {big[1:], big[1:], {}}} {
		if _, err := j.Append(recs...); !errors.Is(err, durable.ErrTooLarge) {
			t.Errorf("%v", err)
		}
	}
	if j.Size() != 0 {
		t.Errorf("size %d", j.Size())
	}
}

func TestJournalReplayError(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "j")
	_, j := reopen(t, durable.OS, name)
	if _, err := j.Append([]byte("a"), []byte("b")); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	stop := errors.New("stop")
	calls := 0
	_, err := durable.OpenJournal(durable.OS, name, func(int64, []byte) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Fatalf("%v after %d calls", err, calls)
	}
}

// Every write may be cut, every sync may fail: what was acknowledged is there
// after a SIGKILL and after a power cut, in order, and the journal opens.
func TestJournalSurvivesCrashAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, power := range []bool{false, true} {
		for n := 1; ; n++ {
			dir := t.TempDir()
			name := filepath.Join(dir, "j")
			fsys, err := faultfs.New(dir, faultfs.CrashAt(n))
			if err != nil {
				t.Fatal(err)
			}
			var acked, sent []string
			if j, err := durable.OpenJournal(fsys, name, nil); err == nil {
				for i := range 3 {
					rec := fmt.Sprintf("record %d", i)
					sent = append(sent, rec)
					if _, err := j.Append([]byte(rec)); err != nil {
						break
					}
					acked = append(acked, rec)
				}
				_ = j.Close()
			}
			crashed := fsys.Crashed()
			if power {
				if err := fsys.PowerLoss(); err != nil {
					t.Fatal(err)
				}
			}
			recs, _ := reopen(t, durable.OS, name)
			if len(recs) < len(acked) || len(recs) > len(sent) {
				t.Fatalf("call %d: %q there, %q acknowledged, %q sent", n, recs, acked, sent)
			}
			wantRecords(t, recs, sent[:len(recs)]...)
			if !crashed {
				if n < 8 {
					t.Fatalf("only %d calls to crash at", n)
				}
				break
			}
		}
	}
}

func TestJournalStopsAfterFailedSyncOrWrite(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		op  string
		err error
	}{{"sync", syscall.EIO}, {"sync", syscall.ENOSPC}, {"write", syscall.EIO}} {
		t.Run(tc.op+" "+tc.err.Error(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			name := filepath.Join(dir, "j")
			fsys, err := faultfs.New(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, j := reopen(t, fsys, name)
			if _, err := j.Append([]byte("first")); err != nil {
				t.Fatal(err)
			}
			fsys.SetFault(faultfs.FailOp(tc.op, tc.err))
			if _, err := j.Append([]byte("second")); !errors.Is(err, tc.err) {
				t.Fatalf("failing append: %v", err)
			}
			fsys.SetFault(nil)
			calls := len(fsys.Calls())
			if _, err := j.Append([]byte("third")); !errors.Is(err, tc.err) {
				t.Fatalf("append after it: %v", err)
			}
			if len(fsys.Calls()) != calls {
				t.Fatal("a stopped journal wrote")
			}
			if _, err := j.ReadAt(0); err != nil {
				t.Fatalf("reading: %v", err)
			}
			_ = j.Close()
			if recs, _ := reopen(t, durable.OS, name); recs[0] != "first" || len(recs) > 2 {
				t.Fatalf("records %q", recs)
			}
		})
	}
}

func TestJournalGoesOnWhenThereIsSpaceAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "j")
	fsys, err := faultfs.New(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, j := reopen(t, fsys, name)
	if _, err := j.Append([]byte("first")); err != nil {
		t.Fatal(err)
	}
	fsys.SetFault(faultfs.FailOp("write", syscall.ENOSPC))
	for range 2 {
		if _, err := j.Append([]byte("no room for this"), []byte("nor this")); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("append on a full disk: %v", err)
		}
	}
	if st, err := os.Stat(name); err != nil || st.Size() != j.Size() {
		t.Fatalf("file of %d bytes, journal of %d", st.Size(), j.Size())
	}
	fsys.SetFault(nil)
	if _, err := j.Append([]byte("second")); err != nil {
		t.Fatal(err)
	}
	// A full disk on which even the undoing fails stops the journal.
	fsys.SetFault(func(_ int, c faultfs.Call) error {
		if c.Op == "write" || c.Op == "truncate" {
			return syscall.ENOSPC
		}
		return nil
	})
	if _, err := j.Append([]byte("lost")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	fsys.SetFault(nil)
	if _, err := j.Append([]byte("refused")); err == nil {
		t.Fatal("a journal with a torn middle went on")
	}
	_ = j.Close()
	recs, j := reopen(t, durable.OS, name)
	wantRecords(t, recs, "first", "second")
	if j.Torn() == 0 {
		t.Error("the torn end was not reported")
	}
}

func TestJournalOnRealFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("couldn't mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	name, ballast := filepath.Join(dir, "j"), filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 128<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	_, j := reopen(t, durable.OS, name)
	var want []string
	rec := string(bytes.Repeat([]byte("x"), 5000))
	for {
		_, err := j.Append([]byte(rec))
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		if err != nil || len(want) > 100 {
			t.Fatalf("%d appends, then %v", len(want), err)
		}
		want = append(want, rec)
	}
	recs, other := reopen(t, durable.OS, name)
	wantRecords(t, recs, want...)
	if other.Torn() != 0 {
		t.Errorf("%d bytes torn after an append that was undone", other.Torn())
	}
	_ = other.Close()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append([]byte(rec)); err != nil {
		t.Fatalf("append with space again: %v", err)
	}
	_ = j.Close()
	recs, _ = reopen(t, durable.OS, name)
	wantRecords(t, recs, append(want, rec)...)
}

func TestJournalConcurrentAppends(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "j")
	fsys, err := faultfs.New(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, j := reopen(t, fsys, name)
	const writers, each = 16, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				a, b := fmt.Appendf(nil, "%d.%d a", w, i), fmt.Appendf(nil, "%d.%d b", w, i)
				offs, err := j.Append(a, b)
				if err != nil || offs[1] != offs[0]+8+int64(len(a)) {
					t.Errorf("Append: %v, %v", offs, err)
					return
				}
				if got, err := j.ReadAt(offs[1]); err != nil || !bytes.Equal(got, b) {
					t.Errorf("ReadAt: %q, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
	_ = j.Close()
	recs, _ := reopen(t, durable.OS, name)
	if len(recs) != 2*writers*each {
		t.Fatalf("%d records", len(recs))
	}
	next := map[string]int{} // by writer: appends in their own order, pairs together
	for i := 0; i < len(recs); i += 2 {
		w, rest, _ := strings.Cut(recs[i], ".")
		n := next[w]
		if rest != fmt.Sprintf("%d a", n) {
			t.Fatalf("record %q, want number %d", recs[i], n)
		}
		if recs[i+1] != fmt.Sprintf("%s.%d b", w, n) {
			t.Fatalf("%q after %q", recs[i+1], recs[i])
		}
		next[w]++
	}
}
