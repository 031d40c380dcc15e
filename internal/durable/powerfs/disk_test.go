//go:build linux

package powerfs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	ServeIfAsked()
	os.Exit(m.Run())
}

// mounted returns a disk, or ends the test where FUSE does not mount.
func mounted(t *testing.T, strict bool) *Disk {
	t.Helper()
	d, err := Mount(t.TempDir(), strict)
	if err != nil {
		if os.Getenv("CI_STRICT") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// once is where tests that lose all, and need no chance, take it from.
func once() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sync makes a file or a folder durable.
func keep(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	try(t, err)
	try(t, f.Sync())
	try(t, f.Close())
}

func TestCutKeepsWhatWasSynced(t *testing.T) {
	t.Parallel()
	d := mounted(t, true)
	at := func(name string) string { return filepath.Join(d.folder, name) }
	page := bytes.Repeat([]byte{'a'}, 5000)
	for _, name := range []string{"synced", "no name", "no contents", "renamed", "removed"} {
		try(t, os.WriteFile(at(name), page, 0o600))
		if name != "no contents" {
			keep(t, at(name))
		}
		if name != "no name" {
			keep(t, d.folder)
		}
		if name == "synced" {
			try(t, os.Mkdir(at("folder"), 0o700))
		}
	}
	// Since the last sync: all of this is lost.
	keep(t, d.folder)
	try(t, os.WriteFile(at("late"), page, 0o600))
	keep(t, at("late"))
	try(t, os.Rename(at("renamed"), at("folder/other")))
	try(t, os.Remove(at("removed")))
	f, err := os.OpenFile(at("synced"), os.O_RDWR, 0)
	try(t, err)
	_, err = f.WriteAt([]byte("new"), 4095)
	try(t, err)
	try(t, f.Truncate(4500))

	try(t, d.Cut())
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("a sync without power: %v", err)
	}
	_ = f.Close()
	try(t, d.Restore(LoseAll, once()))
	want := map[string]string{"synced": string(page), "no name": string(page), "no contents": "", "renamed": string(page), "removed": string(page)}
	for name, contents := range want {
		got, err := os.ReadFile(at(name))
		if err != nil || string(got) != contents {
			t.Errorf("%s has %d bytes, %v", name, len(got), err)
		}
	}
	entries, err := os.ReadDir(d.folder)
	if err != nil || len(entries) != len(want)+1 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
	if entries, err := os.ReadDir(at("folder")); err != nil || len(entries) != 0 {
		t.Errorf("the inner folder has %v, %v", entries, err)
	}
}

// A rename that is durable in one folder is durable in the other.
func TestRenameIsOneChange(t *testing.T) {
	t.Parallel()
	d := mounted(t, true)
	at := func(name string) string { return filepath.Join(d.folder, name) }
	try(t, os.Mkdir(at("tmp"), 0o700))
	try(t, os.Mkdir(at("new"), 0o700))
	try(t, os.WriteFile(at("tmp/m"), nil, 0o600))
	for _, name := range []string{"tmp", "new", ""} {
		keep(t, at(name))
	}
	try(t, os.Rename(at("tmp/m"), at("new/m")))
	keep(t, at("tmp"))
	try(t, d.Cut())
	try(t, d.Restore(LoseAll, once()))
	_, inTmp := os.Stat(at("tmp/m"))
	_, inNew := os.Stat(at("new/m"))
	if !errors.Is(inTmp, os.ErrNotExist) || inNew != nil {
		t.Errorf("in tmp: %v, in new: %v", inTmp, inNew)
	}
}

// What is written through a mapping is on the disk after msync, and not before.
func TestMappedFile(t *testing.T) {
	t.Parallel()
	d := mounted(t, true)
	name := filepath.Join(d.folder, "map")
	f, err := os.Create(name)
	try(t, err)
	try(t, f.Truncate(2*pageSize))
	try(t, f.Sync())
	keep(t, d.folder)
	m, err := unix.Mmap(int(f.Fd()), 0, 2*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	try(t, err)
	copy(m, "first")
	try(t, unix.Msync(m, unix.MS_SYNC))
	copy(m[pageSize:], "second")
	try(t, d.Cut())
	try(t, unix.Munmap(m))
	_ = f.Close()
	try(t, d.Restore(LoseAll, once()))
	got, err := os.ReadFile(name)
	if err != nil || len(got) != 2*pageSize || string(got[:5]) != "first" || got[pageSize] != 0 {
		t.Errorf("the file has %q, %v", bytes.Trim(got, "\x00"), err)
	}
}

// A cut that loses some leaves each page old or new, whole.
func TestCutLosesSome(t *testing.T) {
	t.Parallel()
	d := mounted(t, true)
	random := once()
	name := filepath.Join(d.folder, "f")
	try(t, os.WriteFile(name, bytes.Repeat([]byte{'a'}, 64*pageSize), 0o600))
	keep(t, name)
	keep(t, d.folder)
	mixed := false
	for range 10 {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		try(t, err)
		_, err = f.WriteAt(bytes.Repeat([]byte{'b'}, 64*pageSize), 0)
		try(t, err)
		try(t, d.Cut())
		_ = f.Close()
		try(t, d.Restore(LoseSome, random))
		got, err := os.ReadFile(name)
		try(t, err)
		was := 0
		for p := range 64 {
			switch part := got[p*pageSize : (p+1)*pageSize]; {
			case bytes.Equal(part, bytes.Repeat([]byte{'a'}, pageSize)):
				was++
			case !bytes.Equal(part, bytes.Repeat([]byte{'b'}, pageSize)):
				t.Fatalf("page %d is torn", p)
			}
		}
		mixed = mixed || was > 0 && was < 64
	}
	if !mixed {
		t.Error("no cut lost only some pages")
	}
}

// A disk that is not strict keeps the name of a file that was synced, and what
// happened to names before.
func TestSyncedFileKeepsItsName(t *testing.T) {
	t.Parallel()
	d := mounted(t, false)
	at := func(name string) string { return filepath.Join(d.folder, name) }
	try(t, os.WriteFile(at("before"), nil, 0o600))
	try(t, os.WriteFile(at("synced"), []byte("x"), 0o600))
	keep(t, at("synced"))
	try(t, os.WriteFile(at("after"), nil, 0o600))
	try(t, d.Cut())
	try(t, d.Restore(LoseAll, once()))
	for name, there := range map[string]bool{"before": true, "synced": true, "after": false} {
		if _, err := os.Stat(at(name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
}
