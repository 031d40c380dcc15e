package index

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unicode/utf8"

	"scripta/internal/durable"
)

// Whatever stands in a run that the manifest names, reading it ends with what was
// written, or with ErrDamaged.
func FuzzRun(f *testing.F) {
	dir := f.TempDir()
	db := openIndex(f, durable.OS, dir)
	var entries []Entry
	for i := range uint64(300) {
		entries = append(entries, Entry{Index: i, Month: 1, Time: day, Tokens: []Token{7, Token(i % 5), Token(i) << 40}})
	}
	add(f, db, entries, 300)
	closeIndex(f, db)
	good, err := readManifest(durable.OS, dir)
	if err != nil {
		f.Fatal(err)
	}
	info := good.Runs[0]
	whole, err := os.ReadFile(info.name(dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, true)
	f.Add(whole, false)
	f.Add(whole[:len(whole)-1], true)
	f.Fuzz(func(t *testing.T, b []byte, named bool) {
		info := info
		if !named { // as if the manifest had been made for these bytes
			info.Size = int64(len(b))
		}
		name := filepath.Join(t.TempDir(), "run")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := openRun(durable.OS, name, info)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		defer r.release()
		n := uint64(0)
		x := reader{run: r}
		for {
			ok, err := x.next()
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Fatal(err)
				}
				return
			} else if !ok {
				break
			}
			n += uint64(len(x.leaves))
		}
		if n != info.Postings {
			t.Fatalf("%d postings, %d were written", n, info.Postings)
		}
	})
}

// What an entry says is taken apart within its bytes.
func FuzzEntries(f *testing.F) {
	f.Add([]byte{0, 2, 5, 1, 9, 1, 200, 1})
	f.Add([]byte{0, 255, 255, 255, 255, 15, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		e := entries{b: b}
		var leaves []uint64
		for range len(b) + 1 {
			ok, err := e.next()
			if err != nil || !ok {
				return
			}
			if leaves, err = e.leaves(leaves[:0]); err != nil {
				return
			}
			if len(leaves) == 0 || len(leaves) > len(b) {
				t.Fatalf("%d leaves out of %d bytes", len(leaves), len(b))
			}
		}
		t.Fatal("no end")
	})
}

func FuzzManifest(f *testing.F) {
	b, err := (&manifest{Format: manifestFormat, Origin: origin, Runs: []runInfo{{Month: 24322, Number: 7}}}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}\n00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if (m == nil) != (err != nil) || err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("%v, %v", m, err)
		}
	})
}

// The words of a subject are words, and the words of words are the same.
func FuzzWords(f *testing.F) {
	for _, s := range []string{"Re: PERCHÉ no?", "ﬁne ２３", "\xff\xfeab", "İstanbul ŉ ǰ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words := Words(s)
		if len(words) > MaxWords {
			t.Fatalf("%d words", len(words))
		}
		for _, w := range words {
			if len(w) > maxWord || !utf8.ValidString(w) {
				t.Fatalf("%q", w)
			}
			// Lower case may need marks that a second look takes off.
			if again := Words(w); len(again) == 1 && !slices.Equal(Words(again[0]), again) {
				t.Fatalf("%q becomes %q and then %q", w, again, Words(again[0]))
			}
		}
	})
}

// What a crash leaves beside the manifest goes away.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := openIndex(t, durable.OS, dir)
	add(t, db, []Entry{{Index: 0, Month: 24322, Time: day, Tokens: []Token{1}}}, 1)
	closeIndex(t, db)
	for _, name := range []string{"2026-11/00000099.run", "2025-01/00000001.run", ".manifest.tmp", "00001.mem"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db = openIndex(t, durable.OS, dir)
	defer closeIndex(t, db)
	if got := search(t, db, Query{Month: 24322, Tokens: []Token{1}}); !slices.Equal(got, []uint64{0}) || db.Next() != 1 {
		t.Errorf("found %v, next %d", got, db.Next())
	}
	var left []string
	for _, pattern := range []string{"*", "*/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if rel, _ := filepath.Rel(dir, n); rel != "manifest" {
				left = append(left, rel)
			}
		}
	}
	if !slices.Equal(left, []string{"2026-11", "2026-11/00000001.run"}) {
		t.Errorf("left are %q", left)
	}
}

// Another log's index, and one of an earlier release, are begun anew.
func TestForeignIndex(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := openIndex(t, durable.OS, dir)
	add(t, db, []Entry{{Index: 0, Month: 24322, Time: day, Tokens: []Token{1}}}, 1)
	closeIndex(t, db)
	other, err := Open(durable.OS, dir, "other.example/scripta/0001", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if other.Next() != 0 || len(other.Months()) != 0 {
		t.Errorf("another log's postings are used: next %d, months %v", other.Next(), other.Months())
	}
	closeIndex(t, other)
	if err := os.Remove(filepath.Join(dir, manifestName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte("Badger's"), 0o600); err != nil {
		t.Fatal(err)
	}
	db = openIndex(t, durable.OS, dir)
	defer closeIndex(t, db)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 || db.Next() != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
