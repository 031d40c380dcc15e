package extract

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/register/record"
)

// Whatever call to the file system is the last before a crash or a power cut,
// the request is answered after the restart, and every step is recorded once.
func TestRequestSurvivesCrash(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.event(1, anna, bruno)
	for _, power := range []bool{false, true} {
		for n := 1; ; n++ {
			if n > 200 {
				t.Fatal("no end of calls")
			}
			if f.crash(n, power) {
				t.Logf("power cut %v: %d calls", power, n-1)
				break
			}
		}
	}
}

// crash goes through a request whose file system stops at the n-th call, and
// reports whether there were fewer calls.
func (f *fixture) crash(n int, power bool) (survived bool) {
	t := f.t
	root := t.TempDir()
	broken, err := faultfs.New(root, faultfs.CrashAt(n))
	if err != nil {
		t.Fatal(err)
	}
	o := f.options(broken)
	o.Dir = filepath.Join(root, "extracts")
	var id RequestID
	asked := false
	if r, err := OpenRequests(o); err == nil {
		x, err := r.Ask(t.Context(), Ask{Mailbox: anna})
		if asked = err == nil; asked {
			id = x.ID
			work(t, r, func() bool { return broken.Crashed() || r.get(id).State() != StateAsked })
		}
		if !broken.Crashed() {
			if _, file, err := r.Deliver(t.Context(), anna, id, record.Peer{}); err == nil {
				_ = file.Close()
			}
		}
	}
	survived = !broken.Crashed()
	if power {
		if err := broken.PowerLoss(); err != nil {
			t.Fatal(err)
		}
	}
	o.FS = durable.OS
	r := f.open(o)
	work(t, r, idle(r))
	list := r.List(anna)
	if len(list) > 1 || asked && len(list) != 1 {
		t.Fatalf("call %d: %d requests after the restart, asked %v", n, len(list), asked)
	}
	for _, x := range list {
		if asked && x.ID != id {
			t.Fatalf("call %d: another request", n)
		}
		y, file, err := r.Deliver(t.Context(), anna, x.ID, record.Peer{})
		if err != nil {
			t.Fatalf("call %d: %v", n, err)
		}
		b, err := io.ReadAll(io.NewSectionReader(file, 0, file.Size()))
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		got := f.records(anna, x.ID)
		sum := sha256.Sum256(b)
		if len(got) != 3 || !bytes.Equal(got[record.ExtractProduced].Digest, sum[:]) || !bytes.Equal(y.Digest, sum[:]) {
			t.Fatalf("call %d: records %v do not fit the file", n, got)
		}
	}
	if got, want := countFiles(t, o.Dir), 2*len(list); got != want {
		t.Fatalf("call %d: %d files for %d requests", n, got, len(list))
	}
	return survived
}

// An error of any one call to the file system puts the answer off, and every step
// is recorded once all the same. After a failed sync of a folder nothing is
// written there before a restart (durable.Group).
func TestRequestSurvivesErrors(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.event(1, anna, bruno)
	dir := t.TempDir()
	var wg sync.WaitGroup
	few := make(chan struct{}, 16) // at once: more would wait for the disk, and not for the request
	for _, fault := range []syscall.Errno{syscall.ENOSPC, syscall.EIO} {
		step := 1
		if testing.Short() {
			step = 4
		}
		for n := 1; n <= 60; n += step {
			few <- struct{}{}
			wg.Go(func() {
				defer func() { <-few }()
				if err := f.failing(filepath.Join(dir, fmt.Sprintf("%d-%d", fault, n)), faultfs.FailAt(n, fault)); err != nil {
					t.Errorf("%v at call %d: %v", fault, n, err)
				}
			})
		}
	}
	wg.Wait()
}

func (f *fixture) failing(root string, fault faultfs.Fault) error {
	if err := os.Mkdir(root, 0o700); err != nil {
		return err
	}
	broken, err := faultfs.New(root, fault)
	if err != nil {
		return err
	}
	o := f.options(broken)
	o.Dir = filepath.Join(root, "extracts")
	r, err := OpenRequests(o)
	if err != nil {
		return nil // said so
	}
	x, failed := r.Ask(f.t.Context(), Ask{Mailbox: anna})
	r.runUntil(f.t.Context(), func() bool { return idle(r)() || r.Failures.Load() > 1 })
	if r.Failures.Load() > 1 {
		if r, err = OpenRequests(o); err != nil {
			return err
		}
		r.runUntil(f.t.Context(), idle(r))
	}
	list := r.List(anna)
	if failed != nil {
		if len(list) != 0 {
			return fmt.Errorf("a request that could not be kept is there: %w", failed)
		}
		return nil
	}
	if len(list) != 1 || list[0].ID != x.ID || list[0].State() != StateProduced {
		return fmt.Errorf("%d requests, %d failures: %+v", len(list), r.Failures.Load(), list[0])
	}
	for range 2 { // the first may meet the fault
		_, file, err := r.Deliver(f.t.Context(), anna, x.ID, record.Peer{})
		if err != nil {
			continue
		}
		sum := sha256.New()
		_, err = io.Copy(sum, io.NewSectionReader(file, 0, file.Size()))
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		got := f.records(anna, x.ID)
		if len(got) != 3 || !bytes.Equal(got[record.ExtractProduced].Digest, sum.Sum(nil)) {
			return fmt.Errorf("records %v do not fit the file", got)
		}
		return nil
	}
	return errors.New("not delivered")
}
