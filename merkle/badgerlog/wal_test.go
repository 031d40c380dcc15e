package badgerlog

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/google/trillian"
)

// TestWALIsFollowed writes more than a memtable holds: each new write-ahead log
// is noticed, or else its name would not be durable, and is advised against
// read-ahead.
func TestWALIsFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newPreordered(t, Options{Dir: dir})
	last := func() string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(dir, "*.mem"))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		return slices.Max(names)
	}
	current := func() int {
		l.commitMu.Lock()
		defer l.commitMu.Unlock()
		return l.wal
	}
	first := current()
	if want := l.walName(first); last() != want {
		t.Fatalf("the write-ahead log is %s, taken for %s", last(), want)
	}
	value := make([]byte, valueThreshold-1)
	for i := byte(0); current() == first; i++ {
		if i > 200 {
			t.Fatalf("no new write-ahead log after %d MiB; there is %s", i, last())
		}
		txn := l.newWrite()
		if err := txn.Set([]byte{'x', i}, value); err != nil {
			t.Fatal(err)
		}
		if err := l.commit(txn); err != nil {
			t.Fatal(err)
		}
		txn.Discard()
	}
	if want := l.walName(current()); last() != want || current() != first+1 {
		t.Errorf("the write-ahead log is %s, taken for %s", last(), want)
	}
	if runtime.GOOS != "linux" {
		return
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip("mappings can't be read:", err)
	}
	_, mapping, ok := bytes.Cut(smaps, []byte(l.walName(current())+"\n"))
	if !ok {
		t.Fatalf("%s is not mapped", l.walName(current()))
	}
	_, flags, _ := bytes.Cut(mapping, []byte("VmFlags:"))
	flags, _, _ = bytes.Cut(flags, []byte("\n"))
	if !slices.ContainsFunc(bytes.Fields(flags), func(f []byte) bool { return string(f) == "rr" }) {
		t.Errorf("the write-ahead log is read ahead: flags %s", flags)
	}
}

// Empty files, as a power cut leaves them, do not keep the database
// from opening, and what was committed before it is there.
func TestEmptyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newPreordered(t, Options{Dir: dir})
	if _, err := l.add([]*trillian.LogLeaf{leaf(0)}); err != nil {
		t.Fatal(err)
	}
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"00009.mem", "000009.vlog"} {
		if err := os.WriteFile(filepath.Join(crashed, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db, err := Open(Options{Dir: crashed, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got, ok, err := db.LogStorage().IndexOf(l.tree.TreeId, [32]byte(leaf(0).LeafIdentityHash)); err != nil || !ok || got != 0 {
		t.Errorf("the leaf is at %d, %v, %v", got, ok, err)
	}
	if err := db.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
