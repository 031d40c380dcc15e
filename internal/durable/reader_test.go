package durable_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"scripta/internal/durable"
)

func TestOpenReadOnly(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "j")
	if _, err := durable.OpenReadOnly(durable.OS, name); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("an absent journal: %v", err)
	}
	_, j := reopen(t, durable.OS, name)
	offs, err := j.Append([]byte("a"), []byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := durable.OpenReadOnly(durable.OS, name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if rec, err := r.ReadAt(offs[1]); err != nil || string(rec) != "b" {
		t.Errorf("read %q, %v", rec, err)
	}
	if _, err := r.Append([]byte("c")); !errors.Is(err, durable.ErrReadOnly) {
		t.Errorf("append: %v", err)
	}
}
