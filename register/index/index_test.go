package index

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	key := &[32]byte{1}
	mario, lucia := Mailbox(key, "mario@pec.example"), Mailbox(key, "lucia@pec.example")
	if mario == lucia || mario == Identifier(key, "mario@pec.example") {
		t.Fatal("tokens collide")
	}
	var entries []Entry
	for i := range uint64(100) {
		e := Entry{Index: i, Month: 24000 + uint16(i/50), Tokens: []Token{mario}}
		if i%10 == 0 {
			e.Tokens = append(e.Tokens, lucia)
		}
		entries = append(entries, e)
	}
	if err := db.Add(entries, 100); err != nil {
		t.Fatal(err)
	}
	if err := db.Add(entries[90:], 100); err != nil { // again
		t.Fatal(err)
	}
	search := func(month uint16, tok Token, from uint64) (got []uint64) {
		if err := db.Search(month, tok, from, func(i uint64) bool { got = append(got, i); return len(got) < 7 }); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := search(24001, lucia, 55); !slices.Equal(got, []uint64{60, 70, 80, 90}) {
		t.Errorf("lucia: %v", got)
	}
	if got := search(24000, mario, 48); !slices.Equal(got, []uint64{48, 49}) {
		t.Errorf("mario: %v", got)
	}
	if got := search(24000, mario, 0); len(got) != 7 {
		t.Errorf("visit was not stopped: %v", got)
	}
	id := [22]byte{1, 2, 3}
	if err := db.PutLocations(map[[22]byte]Location{id: {3, 4000}}, Location{3, 5000}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, err = Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if n, err := db.Next(); n != 100 || err != nil {
		t.Errorf("Next = %d, %v", n, err)
	}
	if l, ok, err := db.Location(id); !ok || l != (Location{3, 4000}) || err != nil {
		t.Errorf("Location = %v %v %v", l, ok, err)
	}
	if l, err := db.Mark(); l != (Location{3, 5000}) || err != nil {
		t.Errorf("Mark = %v, %v", l, err)
	}
	if _, ok, _ := db.Location([22]byte{9}); ok {
		t.Error("found a receipt that was never stored")
	}
}

// No address may be readable in the index's files.
func TestNoAddressOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	key := &[32]byte{1}
	if err := db.Add([]Entry{{Index: 1, Month: 1, Tokens: []Token{Mailbox(key, "visible@pec.example")}}}, 2); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("visible")) {
			t.Errorf("%s shows an address", f)
		}
	}
}
