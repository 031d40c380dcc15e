package receipts

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
)

const testOrigin = "pec.example/scripta/1"

func stores(t *testing.T, fsys durable.FS, dir string) (contents, quarantine *ContentStore, err error) {
	t.Helper()
	if contents, err = OpenContents(fsys, filepath.Join(dir, "contents"), testOrigin, testKeys{}); err == nil {
		quarantine, err = OpenQuarantine(fsys, filepath.Join(dir, "quarantine"), testOrigin, testKeys{})
	}
	return contents, quarantine, err
}

func put(t *testing.T, c *ContentStore, tx [16]byte, month uint16, text string) {
	t.Helper()
	w, err := c.Create(tx, month)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c *ContentStore, tx [16]byte, month uint16) (string, error) {
	t.Helper()
	r, err := c.OpenContent(tx, month)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	return string(b), err
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	contents, quarantine, err := stores(t, durable.OS, dir)
	if err != nil {
		t.Fatal(err)
	}
	tx, other := [16]byte{1}, [16]byte{2}
	put(t, contents, tx, 7, "infetto")
	before, err := contents.OpenContent(tx, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	for range 2 { // a rerun finds it done
		if err := contents.MoveTo(quarantine, tx, 7); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := read(t, quarantine, tx, 7); err != nil || text != "infetto" {
		t.Errorf("in quarantine: %q, %v", text, err)
	}
	if _, err := read(t, contents, tx, 7); !errors.Is(err, ErrNotFound) {
		t.Errorf("still among the contents: %v", err)
	}
	if b, err := io.ReadAll(io.NewSectionReader(before, 0, before.Size())); err != nil || string(b) != "infetto" {
		t.Errorf("who was reading it reads %q, %v", b, err)
	}
	if err := contents.MoveTo(quarantine, other, 7); !errors.Is(err, ErrNotFound) {
		t.Errorf("what is nowhere: %v", err)
	}
	if err := contents.Remove(tx, 7); err != nil { // what a finished job does
		t.Error(err)
	}
	n := 0
	err = quarantine.Each(func(id [16]byte, month uint16) error {
		if n++; id != tx || month != 7 {
			t.Errorf("lists %x of month %d", id, month)
		}
		return nil
	}, func(file string) { t.Errorf("%s is a stranger", file) })
	if err != nil || n != 1 {
		t.Errorf("lists %d, %v", n, err)
	}
}

// Whenever the disk stops or the power goes, the message is in one place at
// least, and a rerun ends with it in quarantine alone.
func TestQuarantineCrashes(t *testing.T) {
	t.Parallel()
	for _, power := range []bool{false, true} {
		for n := 1; ; n++ {
			dir := t.TempDir()
			root := filepath.Join(dir, "root")
			if err := os.Mkdir(root, 0o700); err != nil {
				t.Fatal(err)
			}
			fsys, err := faultfs.New(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			contents, quarantine, err := stores(t, fsys, root)
			if err != nil {
				t.Fatal(err)
			}
			tx := [16]byte{byte(n)}
			put(t, contents, tx, 7, "infetto")
			fsys.SetFault(faultfs.CrashAt(len(fsys.Calls()) + n))
			err = contents.MoveTo(quarantine, tx, 7)
			crashed := fsys.Crashed()
			if (err == nil) == crashed {
				t.Errorf("call %d: crashed %v, %v", n, crashed, err)
			}
			if power {
				if err := fsys.PowerLoss(); err != nil {
					t.Fatal(err)
				}
			}
			if contents, quarantine, err = stores(t, durable.OS, root); err != nil {
				t.Fatal(err)
			}
			if err := contents.MoveTo(quarantine, tx, 7); err != nil {
				t.Errorf("call %d (power %v): rerun: %v", n, power, err)
			}
			if text, err := read(t, quarantine, tx, 7); err != nil || text != "infetto" {
				t.Errorf("call %d (power %v): %q, %v", n, power, text, err)
			}
			if !crashed {
				if n < 4 {
					t.Errorf("only %d calls", n)
				}
				break
			}
		}
	}
}

// What is written can be read before it is durable, and then goes on as ever.
func TestWritten(t *testing.T) {
	t.Parallel()
	contents, _, err := stores(t, durable.OS, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tx := [16]byte{9}
	w, err := contents.Create(tx, 7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "ciao"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r, err := w.Written(tx, 7)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); err != nil || string(b) != "ciao" {
			t.Errorf("reads %q, %v", b, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if text, err := read(t, contents, tx, 7); err != nil || text != "ciao" {
		t.Errorf("kept: %q, %v", text, err)
	}
}
