package register

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/internal/keys"
	"scripta/register/index"
	"scripta/register/receipts"
	"scripta/register/record"
)

var subjects = []string{"Richiesta di accesso agli atti", "PERCHÉ la fattura 12/2026?", "Re: fattura 13", "", "a b"}

// live fills a register as mail does, in two months, with receipts, closing it
// now and then.
func live(f *fixture, messages int) (all []*record.Record) {
	f.t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	box := func() string { return fmt.Sprintf("casella%d@pec.example", r.IntN(7)) }
	var (
		entries []Entry
		issued  []*receipts.Issued
	)
	for n := range messages {
		at := start.Add(time.Duration(n) * time.Minute)
		if n > messages*2/3 {
			at = at.AddDate(0, 1, 0)
		}
		from, to := box(), []string{box(), "Fuori@Altrove.example"}
		model := record.Record{Time: at, MessageID: fmt.Sprintf("opec.%d@pec.example", n), OriginalID: fmt.Sprintf("<%d@client>", n/2), Sender: from, Subject: subjects[r.IntN(len(subjects))]}
		for _, a := range to {
			model.Recipients = append(model.Recipients, record.Recipient{Address: a})
		}
		for step, kind := range []record.Kind{record.Submitted, record.AcceptanceIssued, record.Delivered, record.DeliveryIssued, record.Heartbeat} {
			rec := model
			rec.Kind = kind
			switch kind {
			case record.AcceptanceIssued, record.DeliveryIssued:
				rec.Generated = []string{fmt.Sprintf("<ricevuta.%d.%d@pec.example>", n, step)}
				rec.About = to[:1]
			case record.Heartbeat:
				rec = record.Record{Kind: kind, Time: at}
			}
			e := Entry{ID: record.MakeID(sha256sum(n), uint16(step), 0), Record: &rec}
			entries = append(entries, e)
			all = append(all, &rec)
			if kind.Issued() {
				issued = append(issued, &receipts.Issued{ID: e.ID, Month: uint16(keys.MonthOf(at)), MessageID: rec.Generated[0], Prefix: []byte(rec.Generated[0])})
			}
		}
		if n%20 == 19 || n == messages-1 {
			if err := f.Receipts().Put(issued...); err != nil {
				f.t.Fatal(err)
			}
			f.append(entries...)
			issued, entries = nil, nil
		}
		if n%100 == 99 {
			f.close()
			f.open()
		}
	}
	f.close() // places of receipts that are only in memory
	f.open()
	return all
}

func sha256sum(n int) [16]byte {
	s := sha256.Sum256([]byte{byte(n >> 8), byte(n)})
	return [16]byte(s[:16])
}

type posting struct {
	month uint16
	token index.Token
	leaf  uint64
}

// content is everything that an index holds.
func content(t *testing.T, db *index.DB) map[posting]bool {
	t.Helper()
	all := map[posting]bool{}
	if err := db.All(func(month uint16, tok index.Token, leaf uint64) error {
		p := posting{month, tok, leaf}
		if all[p] {
			t.Errorf("%v is there twice", p)
		}
		all[p] = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestReindexGivesAnEqualIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	live(f, 400)
	want := content(t, f.index)
	next, mark := f.index.Next(), f.index.Mark()
	if len(want) < 5000 {
		t.Fatalf("only %d postings", len(want))
	}
	f.close()
	f.openLog()
	var last uint64
	if err := Reindex(t.Context(), f.options, func(done, total uint64) { last = done }); err != nil {
		t.Fatal(err)
	}
	if last != next {
		t.Errorf("progress ended at %d of %d", last, next)
	}
	f.closeLog()
	f.open()
	if got := content(t, f.index); !maps.Equal(got, want) || f.index.Next() != next || f.index.Mark() != mark {
		t.Errorf("made anew: %d postings, was %d; next %d, was %d; mark %v, was %v", len(got), len(want), f.index.Next(), next, f.index.Mark(), mark)
	}
	report, err := f.VerifyIndex(t.Context())
	if err != nil || report.Postings != uint64(len(want)) || report.Records != next {
		t.Errorf("%+v, %v", report, err)
	}
}

// An interrupted reindex goes on where it was; opening in between serves the old
// index, whole.
func TestReindexGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	live(f, 1700)
	want := content(t, f.index)
	f.close()
	f.openLog()
	ctx, cancel := context.WithCancel(t.Context())
	var first []uint64
	err := Reindex(ctx, f.options, func(done, _ uint64) {
		first = append(first, done)
		cancel()
	})
	if !errors.Is(err, context.Canceled) || len(first) != 1 {
		t.Fatalf("%v after %v", err, first)
	}
	var second []uint64
	if err := Reindex(t.Context(), f.options, func(done, _ uint64) { second = append(second, done) }); err != nil {
		t.Fatal(err)
	}
	if len(second) == 0 || slices.Contains(second, first[0]) {
		t.Errorf("began again: %v, then %v", first, second)
	}
	f.closeLog()
	f.open()
	if got := content(t, f.index); !maps.Equal(got, want) {
		t.Errorf("%d postings, was %d", len(got), len(want))
	}
}

// Whatever call of a reindex the disk breaks at, by crash or by power cut, the
// next opening has a whole index.
func TestReindexCrash(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	live(f, 120)
	want := content(t, f.index)
	f.close()
	for n := 1; ; n += 5 {
		f.openLog()
		fsys, err := faultfs.New(filepath.Join(f.dir, "register"), faultfs.CrashAt(n))
		if err != nil {
			t.Fatal(err)
		}
		o := f.options
		o.FS = fsys
		err = Reindex(t.Context(), o, nil)
		if fsys.Crashed() != (err != nil) {
			t.Fatalf("call %d: %v", n, err)
		}
		f.closeLog()
		if err == nil && n > 20 {
			break
		}
		if n%2 == 0 {
			if err := fsys.PowerLoss(); err != nil {
				t.Fatal(err)
			}
		}
		f.open()
		if got := content(t, f.index); !maps.Equal(got, want) {
			t.Fatalf("call %d: %d postings, was %d", n, len(got), len(want))
		}
		f.close()
		left, err := filepath.Glob(filepath.Join(f.dir, "register", "index.*"))
		if err != nil || len(left) > 0 {
			t.Fatalf("call %d: left are %v, %v", n, left, err)
		}
	}
}

// openLog opens the log, and gives options for what needs a closed register.
func (f *fixture) openLog() {
	f.t.Helper()
	f.open()
	if err := f.Register.Close(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) closeLog() {
	f.t.Helper()
	f.Register = nil
	if err := f.log.Close(); err != nil {
		f.t.Fatal(err)
	}
}

// Damage is never served: a search that meets it fails, and the next opening has
// made the index again.
func TestDamagedIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	live(f, 150)
	f.close()
	f.openLog() // the files are as they will be
	f.closeLog()
	dir := filepath.Join(f.dir, "register", "index")
	var files []string
	if err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, name)
		}
		return err
	}); err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 25 {
		name := files[i%len(files)]
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) { // made again under another name
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		switch bad := bytes.Clone(b); i % 5 {
		case 4:
			err = os.Remove(name)
		case 3:
			err = os.Truncate(name, int64(r.IntN(len(b))))
		default:
			bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
			err = os.WriteFile(name, bad, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.open()
		want := 0
		for box := range 7 {
			if want += f.count(fmt.Sprintf("casella%d@pec.example", box)); want < 0 {
				break
			}
		}
		if want < 0 { // damage was met: then opening again mends it
			f.close()
			f.open()
		}
		if _, err := f.VerifyIndex(t.Context()); err != nil && !errors.Is(err, index.ErrDamaged) {
			t.Errorf("%s: the index was wrong: %v", name, err)
		} else if err != nil { // damage that the searches did not meet
			f.close()
			f.open()
			if _, err := f.VerifyIndex(t.Context()); err != nil {
				t.Errorf("%s: after opening again: %v", name, err)
			}
		}
		f.close()
	}
}

// count is how many records a mailbox has, or a very negative number when the
// search fails as it should.
func (f *fixture) count(mailbox string) (n int) {
	err := f.Search(f.t.Context(), Query{Mailbox: mailbox}, start.AddDate(0, 3, 0), func(*Found) bool { n++; return true })
	if errors.Is(err, index.ErrDamaged) {
		return -1 << 30
	} else if err != nil {
		f.t.Errorf("a search: %v", err)
	}
	return n
}

// An index that lacks postings, or has some too many, without any damage to its
// files, does not pass.
func TestVerifyIndexSeesWhatIsMissing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	live(f, 50)
	f.close()
	dir := filepath.Join(f.dir, "register", "index")
	change := func(do func(db *index.DB) error) {
		t.Helper()
		db, err := index.Open(durable.OS, dir, origin, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(do(db), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	month := uint16(keys.MonthOf(start))
	for name, do := range map[string]func(db *index.DB) error{
		"a month less": func(db *index.DB) error { return db.DropMonth(month) },
		"one more": func(db *index.DB) error {
			return db.Add([]index.Entry{{Index: db.Next(), Month: month, Tokens: []index.Token{7}}}, db.Next())
		},
		"a receipt more": func(db *index.DB) error {
			m := db.Mark()
			return db.PutLocations([]index.Placed{{ID: [22]byte{1}, At: m}}, m)
		},
	} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		f.open()
		if _, err := f.VerifyIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.close()
		change(do)
		f.open()
		if _, err := f.VerifyIndex(t.Context()); !errors.Is(err, ErrIndex) {
			t.Errorf("%s: %v", name, err)
		}
		f.close()
	}
}

// Every combination of filters finds what going through all records finds.
func TestSearchCombinations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	all := live(f, 300)
	r := rand.New(rand.NewPCG(7, 8))
	found := 0
	for range 300 {
		rec := all[r.IntN(len(all))]
		if len(rec.Mailboxes()) == 0 {
			continue
		}
		var q Query
		pick := func() bool { return r.IntN(3) == 0 }
		if boxes := rec.Mailboxes(); !pick() {
			q.Mailbox = strings.ToUpper(boxes[r.IntN(len(boxes))])
			if others := rec.Counterparts(strings.ToLower(q.Mailbox)); pick() && len(others) > 0 {
				q.Counterpart = strings.ToUpper(others[r.IntN(len(others))])
			}
			if pick() {
				q.Kinds = []record.Kind{rec.Kind, record.Delivered}[:1+r.IntN(2)]
			}
			if words := index.Words(rec.Subject); pick() && len(words) > 0 {
				q.Subject = strings.ToUpper(words[r.IntN(len(words))] + " " + words[0])
			}
		}
		if pick() || q.Mailbox == "" {
			q.Identifier = []string{rec.OriginalID, rec.MessageID}[r.IntN(2)]
		}
		if pick() && len(rec.Generated) > 0 {
			q.Generated = rec.Generated[0]
		}
		if pick() {
			q.From = rec.Time.Add(-time.Duration(r.IntN(600)) * time.Minute)
		}
		if pick() {
			q.To = rec.Time.Add(time.Duration(r.IntN(600)-60) * time.Minute)
		}
		m, err := NewMatcher(q)
		if err != nil {
			t.Fatal(err)
		}
		var got, want []uint64
		for i, rec := range all {
			if m.Match(rec) {
				want = append(want, uint64(i))
			}
		}
		if err := f.Search(t.Context(), q, start.AddDate(0, 2, 0), func(x *Found) bool { got = append(got, x.Index); return true }); err != nil {
			t.Fatal(err)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%+v: got %v, want %v", q, got, want)
		}
		found += len(want)
	}
	if found < 1000 {
		t.Errorf("only %d records were found", found)
	}
	for want, q := range map[error]Query{ErrNoQuery: {Subject: "fattura"}, ErrNoMailbox: {Identifier: "x", Subject: "fattura"}, ErrNoWord: {Mailbox: "a@b", Subject: "a b"}} {
		if err := f.Search(t.Context(), q, start, nil); !errors.Is(err, want) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// Nothing of what is searched for can be read in the index's files.
func TestIndexShowsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	live(f, 30)
	f.close()
	n := 0
	if err := filepath.WalkDir(filepath.Join(f.dir, "register", "index"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		b = bytes.ToLower(b)
		for _, s := range []string{"casella", "altrove", "fattura", "richiesta", "ricevuta", "opec.", "client"} {
			if bytes.Contains(b, []byte(s)) {
				t.Errorf("%s shows %q", name, s)
			}
		}
		n++
		return err
	}); err != nil || n < 4 {
		t.Fatalf("%d files, %v", n, err)
	}
}
