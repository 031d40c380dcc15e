package index

import (
	"sync"
	"testing"

	"scripta/internal/durable"
)

// Searches that run while postings come, are written and are merged find each
// leaf once, in order, and all that were there when they began.
func TestSearchWhileAdding(t *testing.T) {
	t.Parallel()
	db := openIndex(t, durable.OS, t.TempDir())
	defer closeIndex(t, db)
	const n = 4000
	var wg sync.WaitGroup
	ended := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				least, next := db.Next(), uint64(0)
				err := db.Search(Query{Month: 1, Tokens: []Token{1, 2}}, func(leaf uint64) bool {
					if leaf != next {
						t.Errorf("found %d where %d should be", leaf, next)
						return false
					}
					next = leaf + 1
					return true
				})
				if err != nil || next < least {
					t.Errorf("found %d of %d: %v", next, least, err)
				}
				select {
				case <-ended:
					return
				default:
				}
			}
		})
	}
	for i := uint64(0); i < n; i += 40 {
		var entries []Entry
		for j := i; j < i+40; j++ {
			entries = append(entries, Entry{Index: j, Month: 1, Time: day, Tokens: []Token{1, 2, Token(j) << 32}})
		}
		add(t, db, entries, i+40)
		if err := db.Flush(); err != nil {
			t.Error(err)
		}
	}
	close(ended)
	wg.Wait()
	if err := db.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
