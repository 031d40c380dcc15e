package keys

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
)

var november = MonthOf(time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC))

// store is a new one in a folder of its own.
func store(t *testing.T) (m *Months, dir, master string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "months")
	master = filepath.Join(filepath.Dir(dir), "master.key")
	m, err := CreateMonths(durable.OS, dir, master)
	if err != nil {
		t.Fatal(err)
	}
	return m, dir, master
}

func reopen(t *testing.T, dir, master string) *Months {
	t.Helper()
	m, err := OpenMonths(durable.OS, dir, master)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustOpen(t *testing.T, m *Months, month Month) [32]byte {
	t.Helper()
	s, err := m.Open(month)
	if err != nil {
		t.Fatalf("%s: %v", month, err)
	}
	if s == [32]byte{} {
		t.Fatalf("%s: a secret of zeros", month)
	}
	return s
}

func TestMonths(t *testing.T) {
	t.Parallel()
	m, dir, master := store(t)
	if _, ok := m.Last(); ok {
		t.Error("a new store has a last month")
	}
	if _, err := m.Secret(november); !errors.Is(err, ErrNoSecret) {
		t.Errorf("Secret before Open: %v", err)
	}
	first := mustOpen(t, m, november)
	second := mustOpen(t, m, november.Next())
	if first == second || first == m.Service() {
		t.Error("two secrets are equal")
	}
	m2 := reopen(t, dir, master)
	if last, ok := m2.Last(); !ok || last != november.Next() {
		t.Errorf("last month after reopening: %s %v", last, ok)
	}
	for month, want := range map[Month][32]byte{november: first, november.Next(): second} {
		for _, store := range []*Months{m, m2, m2} {
			if got, err := store.Secret(month); err != nil || got != want {
				t.Errorf("%s: another secret, or %v", month, err)
			}
		}
	}
	if m2.Service() != m.Service() {
		t.Error("another service secret after reopening")
	}
	if mustOpen(t, m2, november.Next()) != second {
		t.Error("Open replaced a secret")
	}
	for _, name := range []string{"2026-11.secret", "2026-12.secret", "service.secret", "last", "../master.key"} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, fi, err)
		}
	}
}

// Only the last month and its successor open without a person.
func TestOpenStopsOnAClockThatJumps(t *testing.T) {
	t.Parallel()
	m, dir, master := store(t)
	mustOpen(t, m, november)
	for _, month := range []Month{0, november - 12, november - 1, november + 2, november + 120, MonthOf(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))} {
		for _, m := range []*Months{m, reopen(t, dir, master)} {
			checked := m.Check(month)
			_, err := m.Open(month)
			var me *MonthError
			if !errors.As(err, &me) || me.Month != month || me.Last != november || checked == nil || checked.Error() != err.Error() {
				t.Errorf("%s: %v, %v", month, err, checked)
			}
			if _, err := m.Secret(month); !errors.Is(err, ErrNoSecret) {
				t.Errorf("%s: a refused opening left a secret: %v", month, err)
			}
		}
	}
	for _, month := range []Month{november, november.Next()} {
		if err := m.Check(month); err != nil {
			t.Errorf("%s: %v", month, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("refused or checked openings left files: %v %v", entries, err)
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	m, dir, master := store(t)
	first := mustOpen(t, m, november)
	spring := november + 5
	if err := m.Confirm(spring); err != nil {
		t.Fatal(err)
	}
	ahead := mustOpen(t, m, spring)
	mustOpen(t, m, spring.Next())
	// The clock had run ahead: a person goes back, also over a restart, and
	// the months opened by mistake keep their secrets.
	if err := m.Confirm(november); err != nil {
		t.Fatal(err)
	}
	m = reopen(t, dir, master)
	if mustOpen(t, m, november) != first {
		t.Error("another secret after going back")
	}
	var me *MonthError
	if _, err := m.Open(spring); !errors.As(err, &me) {
		t.Errorf("a month that was opened by mistake opens again: %v", err)
	}
	for month := november.Next(); month < spring; month++ {
		mustOpen(t, m, month)
	}
	if mustOpen(t, m, spring) != ahead {
		t.Error("a secret was replaced")
	}
}

// A transaction that read the clock just before the turn of the month comes
// after one that read it just after.
func TestOpenAtTheTurnOfTheMonth(t *testing.T) {
	t.Parallel()
	m, _, _ := store(t)
	synctest.Test(t, func(t *testing.T) {
		first := mustOpen(t, m, november)
		var me *MonthError
		if _, err := m.Open(november - 1); !errors.As(err, &me) {
			t.Errorf("the month before the first: %v", err)
		}
		mustOpen(t, m, november.Next())
		if mustOpen(t, m, november) != first {
			t.Error("another secret")
		}
		time.Sleep(turnGrace) // of the bubble's clock
		if _, err := m.Open(november); !errors.As(err, &me) {
			t.Errorf("5 minutes after the turn: %v", err)
		}
		if s, err := m.Secret(november); err != nil || s != first {
			t.Errorf("Secret: %v", err)
		}
	})
}

func TestOpenIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	m, _, _ := store(t)
	var wg sync.WaitGroup
	got := make([][32]byte, 32)
	for i := range got {
		wg.Go(func() {
			for _, month := range []Month{november, november.Next()} {
				s, err := m.Open(month)
				if err != nil {
					t.Error(err)
				}
				if month == november {
					got[i] = s
				}
				if again, err := m.Secret(month); err != nil || again != s {
					t.Error("another secret", err)
				}
			}
		})
	}
	wg.Wait()
	for _, s := range got {
		if s != got[0] {
			t.Fatal("two goroutines got two secrets of one month")
		}
	}
}

func TestDisposedMonth(t *testing.T) {
	t.Parallel()
	m, dir, master := store(t)
	mustOpen(t, m, november)
	mustOpen(t, m, november.Next())
	if err := os.Rename(filepath.Join(dir, "2026-11.secret"), filepath.Join(dir, "2026-11.disposed")); err != nil {
		t.Fatal(err)
	}
	m = reopen(t, dir, master)
	if _, err := m.Secret(november); !errors.Is(err, ErrDisposed) {
		t.Errorf("Secret: %v", err)
	}
	if err := m.Confirm(november); !errors.Is(err, ErrDisposed) {
		t.Errorf("Confirm: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "2026-11.secret")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a disposed secret came back")
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	rewrite := func(name string, change func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, change(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(i int) func([]byte) []byte {
		return func(b []byte) []byte { b[i] ^= 1; return b }
	}
	other := func(b []byte) []byte { // a whole file, of another store
		return newMaster([32]byte{1}).wrap(uint16(november.Next()), [32]byte{2}, [wrapNonce]byte{})
	}
	cases := map[string]struct {
		damage func(*testing.T, string)
		open   error // of OpenMonths
		secret error // of Secret(november)
	}{
		"service secret":   {rewrite("service.secret", flip(60)), ErrDamaged, nil},
		"service cut":      {rewrite("service.secret", func(b []byte) []byte { return b[:50] }), ErrDamaged, nil},
		"last month":       {rewrite("2026-12.secret", flip(0)), ErrDamaged, nil},
		"last month empty": {rewrite("2026-12.secret", func([]byte) []byte { return nil }), ErrDamaged, nil},
		"other master key": {rewrite("2026-12.secret", other), ErrMasterKey, nil},
		"file last":        {rewrite("last", func([]byte) []byte { return []byte("2026") }), ErrDamaged, nil},
		"master key":       {rewrite("../master.key", func(b []byte) []byte { return b[:40] }), ErrDamaged, nil},
		"another master key": {rewrite("../master.key", func([]byte) []byte {
			return pem.EncodeToMemory(&pem.Block{Type: pemMaster, Bytes: make([]byte, 32)})
		}), ErrMasterKey, nil},
		"master key exposed": {func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, "../master.key"), 0o640); err != nil {
				t.Fatal(err)
			}
		}, ErrExposed, nil},
		"service gone":     {func(t *testing.T, dir string) { remove(t, dir, "service.secret") }, fs.ErrNotExist, nil},
		"last month gone":  {func(t *testing.T, dir string) { remove(t, dir, "2026-12.secret") }, ErrNoSecret, nil},
		"old month":        {rewrite("2026-11.secret", flip(70)), nil, ErrDamaged},
		"old month longer": {rewrite("2026-11.secret", func(b []byte) []byte { return append(b, 0) }), nil, ErrDamaged},
		"old month gone":   {func(t *testing.T, dir string) { remove(t, dir, "2026-11.secret") }, nil, ErrNoSecret},
		"files exchanged": {func(t *testing.T, dir string) {
			if err := os.Link(filepath.Join(dir, "2026-12.secret"), filepath.Join(dir, "x")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "x"), filepath.Join(dir, "2026-11.secret")); err != nil {
				t.Fatal(err)
			}
		}, nil, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, dir, master := store(t)
			mustOpen(t, m, november)
			mustOpen(t, m, november.Next())
			tc.damage(t, dir)
			m, err := OpenMonths(durable.OS, dir, master)
			if !errors.Is(err, tc.open) {
				t.Fatalf("OpenMonths: %v, want %v", err, tc.open)
			}
			if err != nil {
				return
			}
			if name == "files exchanged" {
				tc.secret = ErrDamaged
			}
			if _, err := m.Secret(november); !errors.Is(err, tc.secret) || err == nil {
				t.Errorf("Secret: %v, want %v", err, tc.secret)
			}
			// The rest goes on.
			mustOpen(t, m, november.Next())
			mustOpen(t, m, november+2)
		})
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func TestCreateMonthsRefusesWhatExists(t *testing.T) {
	t.Parallel()
	_, dir, master := store(t)
	before, err := os.ReadFile(master)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateMonths(durable.OS, dir, master); !errors.Is(err, fs.ErrExist) {
		t.Errorf("same folder: %v", err)
	}
	if _, err := CreateMonths(durable.OS, dir+"2", master); !errors.Is(err, fs.ErrExist) {
		t.Errorf("same master key: %v", err)
	}
	if after, err := os.ReadFile(master); err != nil || !bytes.Equal(before, after) {
		t.Error("the master key was replaced")
	}
}

// Whatever happens while months open, also a power cut, a secret that was
// handed out is there afterwards and no month has two.
func TestPowerCutWhileOpening(t *testing.T) {
	t.Parallel()
	scenario := func(fsys durable.FS, dir, master string) (map[Month][32]byte, error) {
		handed := make(map[Month][32]byte)
		m, err := OpenMonths(fsys, dir, master)
		start := november
		if err == nil {
			if last, ok := m.Last(); ok {
				start = last
			}
		}
		for month := start; err == nil && month < november+3; month++ {
			var s [32]byte
			if s, err = m.Open(month); err == nil {
				handed[month] = s
			}
		}
		if err == nil {
			if err = m.Confirm(november + 9); err == nil {
				handed[november+9], err = m.Secret(november + 9)
			}
		}
		return handed, err
	}
	for n := 1; ; n++ {
		_, dir, master := store(t)
		fsys, err := faultfs.New(filepath.Dir(dir), faultfs.CrashAt(n))
		if err != nil {
			t.Fatal(err)
		}
		handed, err := scenario(fsys, dir, master)
		if err == nil {
			if n < 20 {
				t.Fatalf("the scenario changes the disk only %d times", n)
			}
			break
		}
		if err := fsys.PowerLoss(); err != nil {
			t.Fatal(err)
		}
		m := reopen(t, dir, master)
		for month, want := range handed {
			if got, err := m.Secret(month); err != nil || got != want {
				t.Fatalf("crash at call %d: the secret of %s is lost: %v", n, month, err)
			}
		}
		again, err := scenario(durable.OS, dir, master)
		if err != nil {
			t.Fatalf("crash at call %d: %v", n, err)
		}
		for month, want := range handed {
			if got, ok := again[month]; ok && got != want {
				t.Fatalf("crash at call %d: %s has two secrets", n, month)
			}
			if len(again) == 0 {
				t.Fatalf("crash at call %d: nothing opens afterwards", n)
			}
		}
	}
}

// A full disk refuses the month and nothing else; when there is room again it
// opens.
func TestFullDiskWhileOpening(t *testing.T) {
	t.Parallel()
	_, dir, master := store(t)
	full := false
	fsys, err := faultfs.New(filepath.Dir(dir), func(_ int, c faultfs.Call) error {
		if full && c.Op == "write" {
			return syscall.ENOSPC
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := OpenMonths(fsys, dir, master)
	if err != nil {
		t.Fatal(err)
	}
	first := mustOpen(t, m, november)
	full = true
	if _, err := m.Open(november.Next()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full disk: %v", err)
	}
	if mustOpen(t, m, november) != first {
		t.Error("the open month closed")
	}
	if _, err := m.Secret(november.Next()); !errors.Is(err, ErrNoSecret) {
		t.Errorf("a secret that is not on the disk was handed out: %v", err)
	}
	full = false
	mustOpen(t, m, november.Next())
}

func TestDerive(t *testing.T) {
	t.Parallel()
	var secret [32]byte
	for i := range secret {
		secret[i] = byte(i)
	}
	// Computed by Python's hmac: HKDF-SHA-256, empty salt, one block.
	want := map[string]string{
		InfoNonce:   nonceVector,
		InfoSeal:    sealVector,
		InfoIndex:   indexVector,
		InfoReceipt: receiptVector,
	}
	for info, hex := range want {
		if got := hexOf(Derive(secret, info)); got != hex {
			t.Errorf("%s: %s, want %s", info, got, hex)
		}
	}
}

func TestMonth(t *testing.T) {
	t.Parallel()
	rome := time.FixedZone("CET", 3600)
	for text, at := range map[string]time.Time{
		"2026-11": time.Date(2026, 12, 1, 0, 59, 59, 999, rome),
		"2026-12": time.Date(2026, 12, 1, 1, 0, 0, 0, rome),
		"2027-01": time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		"0000-01": time.Date(-5, 6, 1, 0, 0, 0, 0, time.UTC),
		"1970-01": time.Unix(0, 0),
		"5460-12": time.Date(9999, 6, 1, 0, 0, 0, 0, time.UTC),
	} {
		m := MonthOf(at)
		if m.String() != text {
			t.Errorf("%v: %s, want %s", at, m, text)
		}
		if back, err := ParseMonth(text); err != nil || back != m {
			t.Errorf("%s: %v %v", text, back, err)
		}
		if MonthOf(m.Start()) != m || MonthOf(m.Start().Add(-1)) == m && m != 0 {
			t.Errorf("%s starts at %v", text, m.Start())
		}
	}
	if m, _ := ParseMonth("2026-12"); m.Next().String() != "2027-01" || uint16(m) != 2026*12+11 {
		t.Errorf("%d, %s", m, m.Next())
	}
	for _, s := range []string{"", "2026", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "5461-01", " 2026-11", "2026-11\n"} {
		if m, err := ParseMonth(s); err == nil {
			t.Errorf("%q read as %s", s, m)
		}
	}
}

// No file content makes the reader panic or give another secret than was
// written.
func FuzzUnwrap(f *testing.F) {
	k := newMaster([32]byte{7})
	good := k.wrap(uint16(november), [32]byte{1, 2, 3}, [wrapNonce]byte{9})
	f.Add(good)
	f.Add(k.wrap(serviceSlot, [32]byte{}, [wrapNonce]byte{}))
	f.Add(good[:90])
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := k.unwrap(uint16(november), data)
		if err == nil && (!bytes.Equal(data, good) || s != [32]byte{1, 2, 3}) {
			t.Error("a forged secret was taken")
		}
		if err != nil && (s != [32]byte{} || !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrMasterKey)) {
			t.Errorf("error %v with secret %x", err, s)
		}
	})
}
