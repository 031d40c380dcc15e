package durable

import (
	"runtime"
	"sync"
	"testing"
)

// A caller waits for the run under way and for the next one, never for more.
func TestRoundsWaitForOneRun(t *testing.T) {
	t.Parallel()
	var r rounds[int]
	started, finish := make(chan int), make(chan bool)
	call := func(n int) *sync.WaitGroup {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				r.do(
					func(joined *int) bool { *joined++; return false },
					func(joined *int) error { started <- *joined; <-finish; return nil })
			})
		}
		return &wg
	}
	collected := func(n int) {
		for {
			r.mu.Lock()
			ok := r.next != nil && r.next.batch == n
			r.mu.Unlock()
			if ok {
				return
			}
			runtime.Gosched()
		}
	}
	first := call(1)
	if n := <-started; n != 1 {
		t.Errorf("%d in the first run", n)
	}
	second := call(40) // while the first runs
	collected(40)
	finish <- true
	first.Wait()
	if n := <-started; n != 40 {
		t.Errorf("%d in the second run", n)
	}
	third := call(40) // while the second runs
	collected(40)
	finish <- true
	second.Wait() // although the third has not ended
	if n := <-started; n != 40 {
		t.Errorf("%d in the third run", n)
	}
	finish <- true
	third.Wait()
}

// A full round takes nobody else, and is run nevertheless.
func TestRoundsThatAreFull(t *testing.T) {
	t.Parallel()
	var r rounds[int]
	var mu sync.Mutex
	total, most := 0, 0
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			r.do(
				func(joined *int) bool { *joined++; return *joined == 3 },
				func(joined *int) error {
					mu.Lock()
					defer mu.Unlock()
					total, most = total+*joined, max(most, *joined)
					return nil
				})
		})
	}
	wg.Wait()
	if total != 200 || most > 3 {
		t.Errorf("%d callers served, up to %d at once", total, most)
	}
}

func TestReportsErrors(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]bool{
		"6.1.0-13-amd64": true, "5.8.0": true, "5.10": true, "5.7.19": false, "4.19.0-26": false, "": false, "next": false,
	} {
		if got := reportsErrors(release); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}
