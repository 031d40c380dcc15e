package durable

import (
	"runtime"
	"sync"
)

// rounds lets many callers share one run of an expensive step. A caller joins
// the round that is being collected; the first to join leads it, waits for the
// round before to end, and runs the step for all. So nobody waits for more than
// the run that starts after his call, there is no goroutine to start or stop,
// and a lone caller pays no switch.
type rounds[B any] struct {
	turn sync.Mutex // held by a leader from closing its round to its end: runs never overlap
	mu   sync.Mutex // guards next and, until it is closed, what next collects
	next *round[B]  // the round that callers join; nil until someone opens it
}

type round[B any] struct {
	batch B
	done  chan struct{} // closed when the run has ended; err and batch are final then
	err   error
}

// do joins a round (join runs under the lock and tells whether the round is
// full, so that the next caller opens another) and returns it when run, called
// once for all who joined, has ended.
func (r *rounds[B]) do(join func(*B) (full bool), run func(*B) error) *round[B] {
	r.mu.Lock()
	me := r.next
	lead := me == nil
	if lead {
		me = &round[B]{done: make(chan struct{})}
		r.next = me
	}
	if join(&me.batch) {
		r.next = nil
	}
	r.mu.Unlock()
	if !lead {
		<-me.done
		return me
	}

	r.turn.Lock()
	// Those whom the last run released are runnable now: let them join this
	// one instead of making them wait for the next.
	runtime.Gosched()
	r.mu.Lock()
	if r.next == me {
		r.next = nil
	}
	r.mu.Unlock()
	me.err = run(&me.batch)
	r.turn.Unlock()
	close(me.done)
	return me
}

// Group lets concurrent callers share one sync. A call waits for the sync that
// is running, if any, and for the one that starts after it; never for more.
// The first error is answered to every later call: after a failed fsync the
// cache may show data that the disk never got.
type Group struct {
	sync func() error
	r    rounds[struct{}]
	err  error // guarded by r.turn: only the leader of a round reads or sets it
}

// NewGroup returns a Group that shares calls of sync. Calls never overlap.
func NewGroup(sync func() error) *Group { return &Group{sync: sync} }

// Sync returns when a call of the group's sync function that began after this
// call has ended, with its error or that of an earlier one.
func (g *Group) Sync() error {
	return g.r.do(
		func(*struct{}) bool { return false },
		func(*struct{}) error {
			if g.err == nil {
				g.err = g.sync()
			}
			return g.err
		}).err
}
