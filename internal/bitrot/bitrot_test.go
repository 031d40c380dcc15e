package bitrot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"scripta/internal/durable"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sums := filepath.Join(dir, "sums")
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	write := func(name, text string, at time.Time) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{"a", "b c", "absent"}
	check := func() error {
		t.Helper()
		fresh, err := Check(durable.OS, sums, dir, names, time.Now())
		if fresh {
			t.Error("begun anew")
		}
		return err
	}
	write("a", "one", old)
	write("b c", "two", old)
	for range 2 {
		if err := check(); err != nil {
			t.Fatal(err)
		}
	}
	write("a", "ONE", old.Add(time.Second)) // written
	if err := check(); err != nil {
		t.Errorf("a written file: %v", err)
	}
	for range 2 { // it stays damaged
		write("a", "OnE", old.Add(time.Second))
		var damage *DamageError
		if err := check(); !errors.As(err, &damage) || damage.File != filepath.Join(dir, "a") || !errors.Is(err, ErrDamaged) {
			t.Fatalf("%v", err)
		}
	}
	write("a", "ONE", old.Add(time.Second)) // restored
	if err := check(); err != nil {
		t.Error(err)
	}
	write("b c", "now", time.Now()) // may be written again under this time
	if err := check(); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := parse(string(b)); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	for i := range b {
		c := append([]byte(nil), b...)
		c[i] ^= 1
		if _, err := parse(string(c)); err == nil {
			t.Fatalf("byte %d of the sums changed: read", i)
		}
	}
	if err := os.WriteFile(sums, b[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	if fresh, err := Check(durable.OS, sums, dir, names, time.Now()); !fresh || err != nil {
		t.Errorf("%t, %v", fresh, err)
	}
	if err := check(); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(encode(map[string]sum{"a b": {"00", 1, 2}, "c\n": {"11", 3, 4}}))
	f.Fuzz(func(t *testing.T, text string) {
		if all, err := parse(text); err == nil && encode(all) != text {
			t.Errorf("%q is written as %q", text, encode(all))
		}
	})
}
