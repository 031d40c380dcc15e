package index

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
)

const origin = "pec.example/scripta/0001"

func openIndex(t testing.TB, fsys durable.FS, dir string) *DB {
	t.Helper()
	db, err := Open(fsys, dir, origin, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func closeIndex(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func add(t testing.TB, db *DB, entries []Entry, next uint64) {
	t.Helper()
	if err := db.Add(entries, next); err != nil {
		t.Fatal(err)
	}
}

func search(t testing.TB, db *DB, q Query) (got []uint64) {
	t.Helper()
	if err := db.Search(q, func(i uint64) bool { got = append(got, i); return true }); err != nil {
		t.Fatal(err)
	}
	return got
}

var day = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// model is an index that is surely right.
type model struct {
	entries []Entry
}

// random makes entries of two months, with tokens from frequent to rare.
func (m *model) grow(r *rand.Rand, n int) (fresh []Entry, next uint64) {
	at := uint64(len(m.entries))
	for range n {
		e := Entry{Index: at, Month: 24320 + uint16(at/20000), Time: day.Add(time.Duration(at) * time.Second)}
		if r.IntN(10) == 0 {
			e.Month-- // a transaction of the month before
		}
		for k := range 6 {
			if r.IntN(k+1) == 0 {
				e.Tokens = append(e.Tokens, Token(r.IntN(1<<(3*k)))<<40|Token(k))
			}
		}
		m.entries = append(m.entries, e)
		at++
	}
	return m.entries[at-uint64(n):], at
}

func (m *model) search(q Query) (want []uint64) {
	for _, e := range m.entries {
		ok := e.Month == q.Month && e.Index >= q.First && (q.From.IsZero() || !e.Time.Before(q.From)) && (q.To.IsZero() || e.Time.Before(q.To))
		for _, t := range q.Tokens {
			ok = ok && slices.Contains(e.Tokens, t)
		}
		if ok {
			want = append(want, e.Index)
		}
	}
	return want
}

// compare asks the index and the model the same questions.
func (m *model) compare(t *testing.T, r *rand.Rand, db *DB) {
	t.Helper()
	found := 0
	for range 200 {
		e := m.entries[r.IntN(len(m.entries))]
		if len(e.Tokens) == 0 {
			continue
		}
		q := Query{Month: e.Month, Tokens: slices.Clone(e.Tokens[r.IntN(len(e.Tokens)):])}
		if r.IntN(2) == 0 {
			q.First = uint64(r.IntN(len(m.entries)))
		}
		if r.IntN(3) == 0 {
			q.From = e.Time.Add(-time.Hour)
			q.To = e.Time.Add(time.Duration(r.IntN(7200)) * time.Second)
		}
		want := m.search(q)
		var got []uint64
		for _, i := range search(t, db, q) {
			if e := m.entries[i]; !q.From.IsZero() && (e.Time.Before(q.From) || !e.Time.Before(q.To)) {
				if off := min(e.Time.Sub(q.From).Abs(), e.Time.Sub(q.To).Abs()); off > 300*time.Second {
					t.Fatalf("%v: record %d lies %v outside the period", q, i, off)
				}
				continue // somewhat outside: whoever searches compares the record
			}
			got = append(got, i)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v: got %d, want %d: %v; %v", q, len(got), len(want), got, want)
		}
		found += len(want)
	}
	if found == 0 {
		t.Fatal("nothing was ever found")
	}
}

// What is found is what a list of all entries gives, from memory, from runs, from
// merged runs, and after opening again.
func TestSearch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	db := openIndex(t, durable.OS, dir)
	var m model
	for i := range 40 {
		fresh, next := m.grow(r, 1+r.IntN(2000))
		add(t, db, fresh, next)
		add(t, db, fresh[len(fresh)/2:], next) // again
		if i%2 == 0 {
			if err := db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if i%10 == 0 {
			m.compare(t, r, db)
		}
	}
	m.compare(t, r, db)
	for more := true; more; {
		var err error
		if more, err = db.mergeOne(); err != nil {
			t.Fatal(err)
		}
	}
	m.compare(t, r, db)
	closeIndex(t, db)
	db = openIndex(t, durable.OS, dir)
	defer closeIndex(t, db)
	if db.Next() != uint64(len(m.entries)) {
		t.Errorf("Next = %d of %d", db.Next(), len(m.entries))
	}
	m.compare(t, r, db)
	for month, runs := range db.runs {
		if len(runs) >= 2*fanIn {
			t.Errorf("%d runs of month %d", len(runs), month)
		}
	}
	// Without the month that was disposed of, the others are the same.
	month := m.entries[0].Month
	if err := db.DropMonth(month); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder(dir, month)); !errors.Is(err, fs.ErrNotExist) || slices.Contains(db.Months(), month) {
		t.Errorf("the month is still there: %v", err)
	}
	for i := range m.entries {
		if m.entries[i].Month == month {
			m.entries[i].Tokens = nil
		}
	}
	m.compare(t, r, db)
}

// A token with more leaves than a block holds, among rare ones.
func TestLongLists(t *testing.T) {
	t.Parallel()
	db := openIndex(t, durable.OS, t.TempDir())
	defer closeIndex(t, db)
	const n = 60_000
	var all []Entry
	for i := range uint64(n) {
		e := Entry{Index: i * 3, Month: 1, Time: day, Tokens: []Token{5, 7, Token(100 + i%3)}}
		if i%1000 == 0 {
			e.Tokens = append(e.Tokens, 6)
		}
		all = append(all, e)
	}
	add(t, db, all, n*3)
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := search(t, db, Query{Month: 1, Tokens: []Token{7}}); len(got) != n || got[n-1] != (n-1)*3 {
		t.Errorf("the frequent one has %d", len(got))
	}
	if got := search(t, db, Query{Month: 1, Tokens: []Token{5, 6, 7}, First: 1}); len(got) != n/1000-1 || got[0] != 3000 {
		t.Errorf("the rare one has %v", got)
	}
	if got := search(t, db, Query{Month: 1, Tokens: []Token{7, 100}, First: n*3 - 10}); !slices.Equal(got, []uint64{n*3 - 9}) {
		t.Errorf("at the end: %v", got)
	}
	count := 0
	if err := db.Search(Query{Month: 1, Tokens: []Token{7}}, func(uint64) bool { count++; return count < 7 }); err != nil || count != 7 {
		t.Errorf("visit was not stopped: %d, %v", count, err)
	}
	if got := search(t, db, Query{Month: 1, Tokens: []Token{8}}); got != nil {
		t.Errorf("nobody's: %v", got)
	}
}

func TestLocations(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := openIndex(t, durable.OS, dir)
	id := [22]byte{1, 2, 3}
	check := func() {
		t.Helper()
		if l, err := db.Locations(id); !slices.Equal(l, []Location{{4, 9}, {3, 4000}}) || err != nil {
			t.Errorf("Locations = %v %v", l, err)
		}
		if l := db.Mark(); l != (Location{4, 5000}) {
			t.Errorf("Mark = %v", l)
		}
		if l, _ := db.Locations([22]byte{9}); l != nil {
			t.Error("found a receipt that was never stored")
		}
	}
	if err := errors.Join(db.PutLocations([]Placed{{id, Location{3, 4000}}}, Location{3, 5000}),
		db.PutLocations([]Placed{{[22]byte{7}, Location{4, 1}}, {id, Location{4, 9}}}, Location{4, 5000})); err != nil {
		t.Fatal(err)
	}
	check()
	closeIndex(t, db)
	db = openIndex(t, durable.OS, dir)
	defer closeIndex(t, db)
	check()
}

func TestTokens(t *testing.T) {
	t.Parallel()
	k := NewKey([32]byte{1})
	all := map[Token]string{}
	for name, tok := range map[string]Token{"mailbox": k.Mailbox("mario@pec.example"), "identifier": k.Identifier("mario@pec.example"),
		"other mailbox": k.Mailbox("lucia@pec.example"), "counterpart": k.Counterpart("mario@pec.example", "x"), "word": k.Word("mario@pec.example", "x"),
		"split": k.Counterpart("mario@pec.exampl", "ex"), "kind": k.Kind("mario@pec.example", 'x'), "other key": NewKey([32]byte{2}).Mailbox("mario@pec.example")} {
		if other, ok := all[tok]; ok {
			t.Errorf("%s and %s have one token", name, other)
		}
		all[tok] = name
	}
	if got := all[NewKey([32]byte{1}).Mailbox("mario@pec.example")]; got != "mailbox" {
		t.Errorf("a token changes: it is that of %q", got)
	}
	for i := range 2 * maxRecent { // remembered, forgotten, or too long to be remembered
		subject := fmt.Sprint("Prova ", i/2)
		if i%1000 == 0 {
			subject += strings.Repeat(" lunga", maxRecentSubject)
		}
		want := []Token{}
		for _, w := range Words(subject) {
			want = append(want, k.Word("mario@pec.example", w))
		}
		if got := k.Words("mario@pec.example", subject); !slices.Equal(got, want) {
			t.Fatalf("%.40q: %v, want %v", subject, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string][]string{
		"":                                    nil,
		"a b c":                               nil,
		"Re: Fattura n. 12/2026 — PERCHÉ no?": {"re", "fattura", "12", "2026", "perche", "no"},
		"Perche\u0301 ﬁne ２３":                 {"perche", "fine", "23"},
		"l'atto L'ATTO":                       {"atto"},
		"\xff\xfeab\xc3":                      {"ab"},
		"ΑΘΗΝΑ Straße":                        {"αθηνα", "straße"},
	} {
		if got := Words(subject); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", subject, got, want)
		}
	}
	var long []byte
	for i := range 100 {
		long = fmt.Appendf(long, "word%d ", i)
	}
	if got := Words(string(long)); len(got) != MaxWords {
		t.Errorf("%d words", len(got))
	}
	if got := Words(string(bytes.Repeat([]byte("x"), 1<<20))); len(got) != 1 || len(got[0]) != maxWord {
		t.Errorf("a word of %d bytes", len(got[0]))
	}
}

// However the disk breaks, opening gives an index that has everything below Next,
// and what is added again after that makes it whole.
func TestCrashAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, power := range []bool{false, true} {
		for n := 1; ; n += 7 {
			root := t.TempDir()
			dir := filepath.Join(root, "register", "index")
			if err := os.Mkdir(filepath.Dir(dir), 0o700); err != nil {
				t.Fatal(err)
			}
			fsys, err := faultfs.New(root, faultfs.CrashAt(n))
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(3, uint64(n)))
			var m model
			fill(&m, r, fsys, dir)
			crashed := fsys.Crashed()
			if power {
				if err := fsys.PowerLoss(); err != nil {
					t.Fatal(err)
				}
			}
			db := openIndex(t, durable.OS, dir)
			if next := db.Next(); next < uint64(len(m.entries)) {
				add(t, db, m.entries[next:], uint64(len(m.entries)))
			} else if next > uint64(len(m.entries)) {
				t.Fatalf("call %d: Next = %d of %d", n, next, len(m.entries))
			}
			m.compare(t, r, db)
			closeIndex(t, db)
			if !crashed {
				break
			}
		}
	}
}

// fill adds, writes and merges, until the disk breaks.
func fill(m *model, r *rand.Rand, fsys durable.FS, dir string) {
	db, err := Open(fsys, dir, origin, slog.New(slog.DiscardHandler))
	for range 12 {
		fresh, next := m.grow(r, 50)
		if err == nil {
			err = db.Add(fresh, next)
		}
		if err == nil {
			err = db.Flush()
		}
	}
	if db != nil {
		_ = db.Close()
	}
}

// On a full disk nothing is lost and nothing stops: what was added is found, and
// is written when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fsys, err := faultfs.New(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	db := openIndex(t, fsys, filepath.Join(root, "index"))
	fsys.SetFault(faultfs.FailOp("write", syscall.ENOSPC))
	var m model
	r := rand.New(rand.NewPCG(4, 4))
	for range 3 {
		fresh, next := m.grow(r, 1000)
		add(t, db, fresh, next)
		if err := db.Flush(); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("written to a full disk: %v", err)
		}
	}
	m.compare(t, r, db)
	// Memory is full, too: adding says so.
	e := []Entry{{Index: 3000, Month: 9, Time: day, Tokens: []Token{1}}}
	if err := db.Add(e, 3000+2*maxLeaves); err != nil {
		t.Fatal(err)
	}
	next := db.Next()
	if err := db.Add([]Entry{{Index: next, Month: 9, Tokens: []Token{2}}}, next+1); !errors.Is(err, syscall.ENOSPC) || db.Next() != next {
		t.Errorf("added to a full memory: %v", err)
	}
	fsys.SetFault(nil)
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	m.compare(t, r, db)
	closeIndex(t, db)
	db = openIndex(t, fsys, filepath.Join(root, "index"))
	defer closeIndex(t, db)
	m.compare(t, r, db)
	if db.Next() != next {
		t.Errorf("Next = %d, want %d", db.Next(), next)
	}
}
