package durable_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
)

// Before, at and after every step the file holds the old or the new contents.
func TestWriteFileIsAllOrNothing(t *testing.T) {
	t.Parallel()
	for _, power := range []bool{false, true} {
		for n := 1; ; n++ {
			dir := t.TempDir()
			name := filepath.Join(dir, "config")
			// A left-over of an earlier crash is in the way.
			for _, name := range []string{name, filepath.Join(dir, ".config.tmp")} {
				if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			fsys, err := faultfs.New(dir, faultfs.CrashAt(n))
			if err != nil {
				t.Fatal(err)
			}
			werr := durable.WriteFile(fsys, name, []byte("new!"), 0o600)
			crashed := fsys.Crashed()
			if crashed != errors.Is(werr, faultfs.ErrCrashed) {
				t.Fatalf("call %d: %v", n, werr)
			}
			if power {
				if err := fsys.PowerLoss(); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(name)
			if err != nil || string(got) != "new!" && (string(got) != "old" || werr == nil) {
				t.Fatalf("call %d, power cut %v: %q, %v after %v", n, power, got, err, werr)
			}
			if err := durable.WriteFile(durable.OS, name, []byte("again"), 0o600); err != nil {
				t.Fatalf("rerun after a crash at call %d: %v", n, err)
			}
			if !crashed {
				if n != 7 {
					t.Errorf("%d calls", n-1)
				}
				break
			}
		}
	}
}

func TestWriteFileCleansUpAndReports(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for _, op := range []string{"open", "write", "sync", "rename"} {
		fsys, err := faultfs.New(dir, faultfs.FailOp(op, syscall.ENOSPC))
		if err != nil {
			t.Fatal(err)
		}
		if err := durable.WriteFile(fsys, name, []byte("x"), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", op, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%s: %v left, %v", op, left, err)
		}
	}
	if err := durable.WriteFile(durable.OS, name, []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestGroupErrorIsForEver(t *testing.T) {
	t.Parallel()
	calls := 0
	g := durable.NewGroup(func() error {
		if calls++; calls == 2 {
			return syscall.EIO
		}
		return nil
	})
	for i, want := range []error{nil, syscall.EIO, syscall.EIO} {
		if err := g.Sync(); !errors.Is(err, want) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if calls != 2 {
		t.Errorf("synced %d times", calls)
	}
}

func TestSyncFS(t *testing.T) {
	t.Parallel()
	g, closeFS, err := durable.NewSyncFS(t.TempDir())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("the folder for tests is on a file system for which syncfs promises nothing")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Sync(); err != nil {
		t.Error(err)
	}
	if err := closeFS(); err != nil {
		t.Error(err)
	}
}

func TestSyncAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fsys, err := faultfs.New(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var files []durable.File
	var dirs []string
	for i := range 40 {
		d := filepath.Join(dir, fmt.Sprint(i%5))
		if err := fsys.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := fsys.OpenFile(filepath.Join(d, fmt.Sprint(i)), os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := fmt.Fprintf(f, "contents %d", i); err != nil {
			t.Fatal(err)
		}
		files, dirs = append(files, f), append(dirs, d)
	}
	before := len(fsys.Calls())
	if err := durable.SyncAll(fsys, files, append(dirs, dir)); err != nil {
		t.Fatal(err)
	}
	for i, c := range fsys.Calls()[before:] {
		if want := "sync"; i < 40 && c.Op != want {
			t.Errorf("call %d is %v, want all files before any folder", i, c)
		}
	}
	if n := len(fsys.Calls()) - before; n != 46 {
		t.Errorf("%d flushes of 40 files in 5 folders and their parent", n)
	}
	fsys.SetFault(faultfs.FailOp("syncdir", syscall.EIO))
	if err := durable.SyncAll(fsys, files, dirs); !errors.Is(err, syscall.EIO) {
		t.Errorf("failing folder: %v", err)
	}
	fsys.SetFault(faultfs.FailOp("sync", syscall.EIO))
	if err := durable.SyncAll(fsys, files, nil); !errors.Is(err, syscall.EIO) {
		t.Errorf("failing file: %v", err)
	}
	if err := fsys.PowerLoss(); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i%5), fmt.Sprint(i)))
		if err != nil || string(b) != fmt.Sprintf("contents %d", i) {
			t.Fatalf("file %d after a power cut: %q, %v", i, b, err)
		}
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "lock")
	unlock, err := durable.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.Lock(name); !errors.Is(err, durable.ErrLocked) {
		t.Fatalf("second lock: %v", err)
	}
	if pid := durable.Holder(name); pid != os.Getpid() {
		t.Errorf("the holder is %d", pid)
	}
	unlock()
	if pid := durable.Holder(name); pid != 0 {
		t.Errorf("after unlocking the holder is %d", pid)
	}
	for _, text := range []string{"", "x\n", "-1\n", "0\n", "4194305\n", "99999999999999999999999999"} { // PIDs end at 2^22
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if pid := durable.Holder(name); pid != 0 {
			t.Errorf("%q gives the holder %d", text, pid)
		}
	}
	unlock, err = durable.Lock(name)
	if err != nil {
		t.Fatalf("lock after unlocking: %v", err)
	}
	unlock()
}
