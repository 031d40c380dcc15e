package api

import "sync"

// inFlight bounds what is being done at once for each key.
type inFlight struct {
	most int

	mu sync.Mutex // guards n
	n  map[string]int
}

func newInFlight(most int) *inFlight { return &inFlight{most: most, n: map[string]int{}} }

func (f *inFlight) enter(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n[key] >= f.most {
		return false
	}
	f.n[key]++
	return true
}

func (f *inFlight) leave(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n[key]--; f.n[key] == 0 {
		delete(f.n, key)
	}
}
