package rates

import (
	"container/list"
	"time"
)

// parts is in how many parts a window is counted: a limit errs by a twelfth of its
// window, five minutes of an hour.
const parts = 12

// window counts what each key did in the last stretch of time. The Limiter's lock
// guards it.
type window struct {
	limit int64 // 0: none
	part  time.Duration
	most  int // keys
	byKey map[string]*list.Element
	order *list.List // of *counts, the one used last in front
}

// counts are one key's. n[i%len(n)] is what was done in part i of all time, for
// the parts from last-parts to last.
type counts struct {
	key  string
	last int64
	n    [parts + 1]int64
}

func newWindow(limit int64, length time.Duration, most int) *window {
	return &window{limit: limit, part: length / parts, most: most, byKey: map[string]*list.Element{}, order: list.New()}
}

// number is a part's place in all of time since 1970.
func (w *window) number(t time.Time) int64 { return t.UnixNano() / int64(w.part) }

// at returns the key's counts as of now, or nil if it did nothing; make makes them.
// A clock that was set back changes nothing until it has caught up.
func (w *window) at(key string, now time.Time, make bool) *counts {
	if e := w.byKey[key]; e != nil {
		c := e.Value.(*counts)
		c.advance(w.number(now))
		if make {
			w.order.MoveToFront(e)
		}
		return c
	}
	if !make {
		return nil
	}
	c := &counts{key: key, last: w.number(now)}
	w.put(c)
	return c
}

// put adds a key that is not there.
func (w *window) put(c *counts) {
	if len(w.byKey) >= w.most {
		oldest := w.order.Back()
		w.order.Remove(oldest)
		delete(w.byKey, oldest.Value.(*counts).key)
	}
	w.byKey[c.key] = w.order.PushFront(c)
}

func (c *counts) advance(to int64) {
	for i := max(c.last+1, to-parts); i <= to; i++ {
		c.n[i%int64(len(c.n))] = 0
	}
	c.last = max(c.last, to)
}

func (c *counts) sum() (n int64) {
	for _, x := range c.n {
		n += x
	}
	return n
}

// wait is how long until n more fit under the limit; 0 if they do now. More than
// the limit itself never fits, and waits for the whole window.
func (w *window) wait(key string, n int64, now time.Time) time.Duration {
	if w.limit == 0 {
		return 0
	}
	c := w.at(key, now, false)
	if c == nil && n <= w.limit {
		return 0
	}
	if n > w.limit {
		return w.part * parts
	}
	over := c.sum() + n - w.limit
	for i := c.last - parts; over > 0; i++ {
		over -= c.n[i%int64(len(c.n))]
		if over <= 0 { // that part leaves the window when part i+parts+1 begins
			return time.Unix(0, (i+parts+1)*int64(w.part)).Sub(now)
		}
	}
	return 0
}

// add counts n more, or fewer when it is negative; without a limit nothing is
// counted.
func (w *window) add(key string, n int64, now time.Time) {
	if w.limit == 0 {
		return
	}
	c := w.at(key, now, true)
	i := c.last % int64(len(c.n))
	c.n[i] = max(0, c.n[i]+n)
}
