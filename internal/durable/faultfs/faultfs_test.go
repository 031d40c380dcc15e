package faultfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
)

func create(t *testing.T, fsys durable.FS, name, content string, sync bool) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
}

// tree lists the files under dir with their contents, and the folders.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		if d.IsDir() {
			all = append(all, rel+"/")
			return nil
		}
		b, err := os.ReadFile(name)
		all = append(all, rel+"="+string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPowerLossKeepsWhatWasSynced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(in("old"), 0o700); err != nil {
		t.Fatal(err)
	}
	create(t, durable.OS, in("old/kept"), "before", false)
	create(t, durable.OS, in("old/removed"), "before", false)
	fsys, err := faultfs.New(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	create(t, fsys, in("old/kept"), " after", false)
	must(fsys.Remove(in("old/removed")))
	must(fsys.MkdirAll(in("new/sub"), 0o700))
	must(fsys.MkdirAll(in("lost/sub"), 0o700))
	create(t, fsys, in("new/sub/a"), "a", true)
	create(t, fsys, in("new/empty"), "never synced", false)
	create(t, fsys, in("new/nameless"), "content without name", true)
	must(fsys.Rename(in("new/nameless"), in("new/sub/nameless")))
	must(fsys.Rename(in("new/sub/a"), in("new/b")))
	must(fsys.SyncDir(in("new")))
	must(fsys.SyncDir(dir + "/new/.."))
	create(t, fsys, in("lost/sub/c"), "c", true)
	must(fsys.Remove(in("lost/sub/c")))
	must(fsys.Rename(in("lost"), in("new/moved")))
	must(fsys.PowerLoss())
	want := []string{"lost/", "new/", "new/b=a", "new/empty=", "new/sub/", "old/", "old/kept=before", "old/removed=before"}
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
	if _, err := fsys.Stat(dir); !errors.Is(err, faultfs.ErrCrashed) {
		t.Errorf("stat after the power cut: %v", err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	fsys, err := faultfs.New(dir, faultfs.FailAt(3, syscall.ENOSPC))
	if err != nil {
		t.Fatal(err)
	}
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, want := range []error{nil, syscall.ENOSPC, nil} {
		if n, err := f.Write([]byte("abcd")); !errors.Is(err, want) || err != nil && n != 2 {
			t.Errorf("wrote %d, %v; want %v", n, err, want)
		}
	}
	fsys.SetFault(faultfs.CrashAt(6))
	if err := f.Truncate(5); err != nil {
		t.Error(err)
	}
	if err := fsys.Rename(name, name+"2"); !errors.Is(err, faultfs.ErrCrashed) {
		t.Errorf("call 6: %v", err)
	}
	_, rerr := fsys.ReadDir(dir)
	_, oerr := fsys.OpenFile(name, os.O_RDONLY, 0)
	for _, err := range []error{f.Sync(), fsys.Remove(name), fsys.MkdirAll(dir, 0o700), fsys.SyncDir(dir), rerr, oerr} {
		if !errors.Is(err, faultfs.ErrCrashed) {
			t.Errorf("after the crash: %v", err)
		}
	}
	want := []faultfs.Call{{Op: "open", Name: "f"}, {Op: "write", Name: "f"}, {Op: "write", Name: "f"},
		{Op: "write", Name: "f"}, {Op: "truncate", Name: "f"}, {Op: "rename", Name: "f -> f2"}}
	if got := fsys.Calls(); !slices.Equal(got, want) {
		t.Errorf("calls %v", got)
	}
	if got := tree(t, dir); !slices.Equal(got, []string{"f=abcda"}) {
		t.Errorf("left %q", got)
	}
}
