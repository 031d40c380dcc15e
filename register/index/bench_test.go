package index

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"scripta/internal/durable"
)

// month of n records, ten a message as mail makes them: two mailboxes of 500,
// their counterparts and kinds, three identifiers, four words of the subject out
// of a vocabulary with frequent and rare ones.
func month(n int, visit func(e Entry)) {
	k := NewKey([32]byte{1})
	r := rand.New(rand.NewPCG(1, 1))
	zipf := rand.NewZipf(r, 1.1, 10, 50_000)
	var common []Token
	for i := range n {
		if i%10 == 0 {
			from, to := fmt.Sprintf("casella%d@pec.example", r.IntN(500)), fmt.Sprintf("casella%d@pec.example", r.IntN(500))
			common = []Token{k.Mailbox(from), k.Mailbox(to), k.Counterpart(from, to), k.Counterpart(to, from), k.Identifier(fmt.Sprint("opec", i)), k.Identifier(fmt.Sprint("client", i))}
			for range 4 {
				w := fmt.Sprint("parola", zipf.Uint64())
				common = append(common, k.Word(from, w), k.Word(to, w))
			}
		}
		e := Entry{Index: uint64(i), Month: 24322, Time: day.Add(time.Duration(i) * time.Millisecond), Tokens: append([]Token(nil), common...)}
		e.Tokens = append(e.Tokens, Token(r.Uint64())&^0xf|Token(i%10), common[0]+Token(i%10)+1, common[1]+Token(i%10)+1)
		visit(e)
	}
}

// BenchmarkAdd gives what a record costs in the index, merging included: time,
// and bytes on the disk.
func BenchmarkAdd(b *testing.B) {
	dir := b.TempDir()
	db := openIndex(b, durable.OS, dir)
	var entries []Entry
	month(b.N, func(e Entry) { entries = append(entries, e) })
	b.ResetTimer()
	for len(entries) > 0 {
		n := min(len(entries), 64)
		add(b, db, entries[:n], entries[n-1].Index+1)
		entries = entries[n:]
	}
	closeIndex(b, db)
	b.StopTimer()
	db = openIndex(b, durable.OS, dir)
	for more := true; more; {
		more, _ = db.mergeOne()
	}
	closeIndex(b, db)
	var size int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, _ error) error {
		if i, err := d.Info(); err == nil && !d.IsDir() {
			size += i.Size()
		}
		return nil
	})
	b.ReportMetric(float64(size)/float64(b.N), "bytes/record")
}

// BenchmarkSearch asks an index of a million records.
func BenchmarkSearch(b *testing.B) {
	dir := b.TempDir()
	db := openIndex(b, durable.OS, dir)
	defer closeIndex(b, db)
	const n = 1_000_000
	month(n, func(e Entry) { add(b, db, []Entry{e}, e.Index+1) })
	if err := db.Flush(); err != nil {
		b.Fatal(err)
	}
	k := NewKey([32]byte{1})
	box := func(i int) string { return fmt.Sprintf("casella%d@pec.example", i%500) }
	for _, q := range []struct {
		name string
		of   func(i int) []Token
	}{
		{"mailbox", func(i int) []Token { return []Token{k.Mailbox(box(i))} }},
		{"counterpart", func(i int) []Token { return []Token{k.Counterpart(box(i), box(i*7+1))} }},
		{"word", func(i int) []Token { return []Token{k.Word(box(i), "parola40")} }},
		{"two words", func(i int) []Token { return []Token{k.Word(box(i), "parola0"), k.Word(box(i), "parola1")} }},
		{"identifier", func(i int) []Token { return []Token{k.Identifier(fmt.Sprint("opec", i*10%n))} }},
	} {
		b.Run(q.name, func(b *testing.B) {
			found := 0
			for i := range b.N {
				if err := db.Search(Query{Month: 24322, Tokens: q.of(i)}, func(uint64) bool { found++; return true }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(found)/float64(b.N), "found/op")
		})
	}
}

// BenchmarkTokens gives the time of one token and of a subject's words.
func BenchmarkTokens(b *testing.B) {
	k := NewKey([32]byte{1})
	b.Run("token", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			k.Word("mario.rossi@pec.example", "richiesta")
		}
	})
	b.Run("words", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			Words("Richiesta di accesso agli atti, pratica 2026/1234")
		}
	})
}
