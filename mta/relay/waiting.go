package relay

import (
	"container/heap"
	"time"
)

// What an entry of the queue is doing.
const (
	waiting = iota
	sending
	handling // its result is being made durable
)

// entry is a letter in the queue. Its fields belong to the queue's lock.
type entry struct {
	letter   *Letter
	dest     *destination
	ready    time.Time // no attempt before, for its own sake; its destination may ask for more
	state    int
	held     bool // by its own id
	placed   bool // its attempt has a place, in one lane or the other
	slow     bool // and it is in the slow lane
	attempts int  // begun in this process
	failing  bool // its result could not be made durable so far
	place    int  // in dest.waiting, or -1
	expiry   int  // in Queue.expiry, or -1
}

// destKey names a destination: a provider and a domain may have one name.
type destKey struct {
	name      string
	certified bool
}

// destination is what concurrency and backoff are bounded by. It is there as long as it has letters.
type destination struct {
	name      string
	certified bool
	letters   map[*entry]struct{}
	waiting   byReady // those that may be sent: not held, not being sent
	running   int     // attempts
	slow      int     // of them, in the slow lane
	held      bool
	fails     int       // attempts in a row that reached no server
	failed    time.Time // when the last of them began to count
	next      time.Time // no attempt before, after such a failure
	last      string    // the last answer that put something off
	place     int       // in its schedule, or -1
	start     time.Time // when the next attempt may begin, if place is not -1
}

// byReady is a heap of entries: those that are ready first, then the older.
type byReady []*entry

func (h byReady) Len() int { return len(h) }
func (h byReady) Less(i, j int) bool {
	if !h[i].ready.Equal(h[j].ready) {
		return h[i].ready.Before(h[j].ready)
	}
	return h[i].letter.Begun.Before(h[j].letter.Begun)
}
func (h byReady) Swap(i, j int) { h[i], h[j] = h[j], h[i]; h[i].place, h[j].place = i, j }
func (h *byReady) Push(x any)   { e := x.(*entry); e.place = len(*h); *h = append(*h, e) }
func (h *byReady) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.place = -1
	return e
}

// byExpiry is a heap of entries: those whose time is over first.
type byExpiry []*entry

func (h byExpiry) Len() int           { return len(h) }
func (h byExpiry) Less(i, j int) bool { return h[i].letter.Until.Before(h[j].letter.Until) }
func (h byExpiry) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].expiry, h[j].expiry = i, j }
func (h *byExpiry) Push(x any)        { e := x.(*entry); e.expiry = len(*h); *h = append(*h, e) }
func (h *byExpiry) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.expiry = -1
	return e
}

// byStart is a heap of destinations: those that may begin an attempt first.
type byStart []*destination

func (h byStart) Len() int           { return len(h) }
func (h byStart) Less(i, j int) bool { return h[i].start.Before(h[j].start) }
func (h byStart) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].place, h[j].place = i, j }
func (h *byStart) Push(x any)        { d := x.(*destination); d.place = len(*h); *h = append(*h, d) }
func (h *byStart) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	d.place = -1
	return d
}

// schedule puts a destination where its next attempt belongs, or takes it out when there can be none. atOnce bounds its
// attempts.
func (h *byStart) schedule(d *destination, atOnce int) {
	if d.fails > 0 {
		atOnce = 1 // one attempt finds out whether it is back
	} else if d.slow > 0 {
		atOnce = d.slow + min(2, atOnce) // what hangs does not count, but only a few more are tried
	}
	if d.held || len(d.waiting) == 0 || d.running >= atOnce {
		if d.place >= 0 {
			heap.Remove(h, d.place)
		}
		return
	}
	d.start = d.waiting[0].ready
	if d.next.After(d.start) {
		d.start = d.next
	}
	if d.place < 0 {
		heap.Push(h, d)
		return
	}
	heap.Fix(h, d.place)
}
