package keys

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
)

// keyStore is a key store of three months with a copy, and what it held.
type keyStore struct {
	root, dir, master, copy string
	secrets                 map[Month][32]byte
	service, hold           [32]byte
}

const first = Month(2024*12 + 4) // May 2024

var later = DisposableFrom(first)

func newStore(t *testing.T) *keyStore {
	t.Helper()
	s := &keyStore{root: t.TempDir(), secrets: map[Month][32]byte{}}
	s.dir, s.master, s.copy = filepath.Join(s.root, "keys", "months"), filepath.Join(s.root, "keys", "master.key"), filepath.Join(s.root, "usb", "keys")
	m, err := CreateMonths(durable.OS, s.dir, s.master)
	check(t, err)
	for i := range Month(3) {
		check(t, m.Confirm(first+i))
		s.secrets[first+i], err = m.Secret(first + i)
		check(t, err)
	}
	s.service = m.Service()
	s.hold, err = m.Hold()
	check(t, err)
	check(t, m.CopyTo(s.copy))
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens the store, or a copy of it, and holds that it gives everything but,
// if gone is set, the first month. It returns whether that is gone.
func (s *keyStore) open(t *testing.T, dir, master string, gone bool) bool {
	t.Helper()
	m, err := OpenMonths(durable.OS, dir, master)
	check(t, err)
	if m.Service() != s.service {
		t.Error("another service secret")
	}
	if h, err := m.Hold(); err != nil || h != s.hold {
		t.Errorf("another secret of held records: %v", err)
	}
	for month, want := range s.secrets {
		got, err := m.Secret(month)
		if month == first && errors.Is(err, ErrDisposed) {
			gone = true
			continue
		}
		if err != nil || got != want || month == first && gone {
			t.Errorf("the secret of %s: %v", month, err)
		}
	}
	return gone
}

func TestDisposalIsTakenUpAfterACrash(t *testing.T) {
	t.Parallel()
	calls := 0
	for n := 1; ; n++ {
		s := newStore(t)
		before := contents(t, s.root)
		fsys, err := faultfs.New(s.root, nil)
		check(t, err)
		m, err := OpenMonths(fsys, s.dir, s.master)
		check(t, err)
		already := len(fsys.Calls())
		fsys.SetFault(faultfs.CrashAt(already + n))
		pending, err := m.Dispose(first, later, []string{s.copy})
		if !fsys.Crashed() {
			check(t, err)
			if len(pending) > 0 {
				t.Fatal(pending)
			}
			break
		}
		calls++
		if err == nil && len(pending) == 0 {
			t.Fatalf("call %d crashed and nobody noticed", n)
		}
		s.open(t, s.dir, s.master, false)
		m, err = OpenMonths(durable.OS, s.dir, s.master)
		check(t, err)
		if pending, err = m.Dispose(first, later, []string{s.copy}); err != nil || len(pending) > 0 {
			t.Fatalf("call %d, taken up: %v, %v", n, pending, err)
		}
		s.disposed(t, before)
	}
	if calls < 40 {
		t.Errorf("only %d calls", calls)
	}
}

// contents are all files below root.
func contents(t *testing.T, root string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	check(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all[name], err = os.ReadFile(name)
		}
		return err
	}))
	return all
}

// disposed holds that the first month is gone from the store and the copy, that
// everything else is there, and that the old master key opens nothing and is
// nowhere.
func (s *keyStore) disposed(t *testing.T, before map[string][]byte) {
	t.Helper()
	if !s.open(t, s.dir, s.master, true) {
		t.Error("the store still gives the secret")
	}
	if !s.open(t, filepath.Join(s.copy, copyMonths), filepath.Join(s.copy, copyMaster), true) {
		t.Error("the copy still gives the secret")
	}
	wrapped := before[filepath.Join(s.dir, first.String()+secretSuffix)]
	for name, b := range contents(t, s.root) {
		if bytes.Equal(b, before[s.master]) || bytes.Contains(b, wrapped) {
			t.Errorf("%s is as it was", name)
		}
		if strings.HasSuffix(name, nextSuffix) || strings.HasSuffix(name, disposingFile) {
			t.Errorf("%s is left over", name)
		}
	}
	// What somebody kept of the wrapped files opens with no key that there is.
	k, err := loadMaster(durable.OS, s.master)
	check(t, err)
	if _, err := k.unwrap(uint16(first), wrapped); !errors.Is(err, ErrMasterKey) {
		t.Errorf("an old file of the month: %v", err)
	}
}

func TestDisposalWithoutItsCopy(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	before := contents(t, s.root)
	away := s.copy + ".away"
	check(t, os.Rename(s.copy, away))
	m, err := OpenMonths(durable.OS, s.dir, s.master)
	check(t, err)
	pending, err := m.Dispose(first, later, []string{s.copy})
	if err != nil || len(pending) != 1 || !errors.Is(pending[0].Err, ErrNoCopy) {
		t.Fatalf("%v, %v", pending, err)
	}
	if _, err := m.Secret(first); !errors.Is(err, ErrDisposed) {
		t.Errorf("the month is still given: %v", err)
	}
	if month, ok := m.Disposing(); !ok || month != first {
		t.Error("the disposal does not count as begun")
	}
	if _, err := m.Dispose(first+1, later.AddDate(1, 0, 0), []string{s.copy}); !errors.Is(err, ErrPending) {
		t.Errorf("another disposal meanwhile: %v", err)
	}
	check(t, os.Rename(away, s.copy))
	m, err = OpenMonths(durable.OS, s.dir, s.master)
	check(t, err)
	if pending, err := m.Dispose(first, later, []string{s.copy}); err != nil || len(pending) > 0 {
		t.Fatalf("with the copy back: %v, %v", pending, err)
	}
	s.disposed(t, before)
	if pending, err := m.Dispose(first, later, []string{s.copy}); err != nil || len(pending) > 0 {
		t.Errorf("again: %v, %v", pending, err)
	}
}

func TestDisposalRefuses(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	m, err := OpenMonths(durable.OS, s.dir, s.master)
	check(t, err)
	for name, c := range map[string]struct {
		month Month
		now   time.Time
		want  error
	}{
		"too young":       {first, later.Add(-time.Second), ErrRetention},
		"the open one":    {first + 2, later.AddDate(9, 0, 0), ErrRetention},
		"one never known": {first - 1, later, ErrNoSecret},
	} {
		if _, err := m.Dispose(c.month, c.now, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.open(t, s.dir, s.master, false)
	other := filepath.Join(s.root, "other")
	check(t, os.MkdirAll(other, 0o700))
	check(t, os.WriteFile(filepath.Join(other, "x"), nil, 0o600))
	if err := m.CopyTo(other); !errors.Is(err, ErrNoCopy) {
		t.Errorf("a copy over something else: %v", err)
	}
}

func TestRestoreMonths(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	dir, master := filepath.Join(s.root, "new", "months"), filepath.Join(s.root, "new", "master.key")
	check(t, os.MkdirAll(filepath.Dir(master), 0o700))
	check(t, RestoreMonths(durable.OS, s.copy, dir, master))
	s.open(t, dir, master, false)
	if err := RestoreMonths(durable.OS, s.copy, dir, master); err == nil {
		t.Error("restored over a store")
	}
}
