package relay

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Selection names what an operator means: one letter, a destination, or everything. Exactly one field is set.
type Selection struct {
	ID          string `json:"id,omitempty"`
	Destination string `json:"destination,omitempty"`
	All         bool   `json:"all,omitempty"`
}

// ErrSelection says that a selection names nothing, or too much.
var ErrSelection = errors.New("relay: name one message, one destination or everything")

// ErrUnknown says that what a selection names is not in the queue.
var ErrUnknown = errors.New("relay: it is not in the queue")

// Check says what is wrong with a selection.
func (s Selection) Check() error {
	n := 0
	for _, is := range []bool{s.ID != "", s.Destination != "", s.All} {
		if is {
			n++
		}
	}
	if n != 1 {
		return ErrSelection
	}
	if s.ID != "" {
		_, err := ParseID(s.ID)
		return err
	}
	return nil
}

// selected calls do with the entries that a selection names and returns how many there are. The caller holds the lock.
func (q *Queue) selected(s Selection, do func(*entry)) (n int) {
	if s.ID != "" {
		id, _ := ParseID(s.ID)
		if e := q.entries[id]; e != nil {
			do(e)
			n++
		}
		return n
	}
	for key, d := range q.dests {
		if s.All || key.name == s.Destination {
			for e := range d.letters {
				do(e)
				n++
			}
		}
	}
	return n
}

// Action is what an operator does with letters.
type Action string

// Actions of [Queue.Do].
const (
	HoldLetters    Action = "hold"
	ReleaseLetters Action = "release"
	RetryLetters   Action = "retry"
)

// Do does what the action's name says: [Queue.Hold], [Queue.Release] or [Queue.Retry].
func (q *Queue) Do(a Action, s Selection) (n int, err error) {
	switch a {
	case HoldLetters:
		return q.Hold(s)
	case ReleaseLetters:
		return q.Release(s)
	case RetryLetters:
		return q.Retry(s)
	}
	return 0, fmt.Errorf("there is no action %.100q", string(a))
}

// Hold keeps what is named from being sent until it is released, also after a restart; a destination may be held before
// there are letters for it. What is being sent goes on. The limit of 24 hours is not held: a held letter expires too.
// It returns how many letters are concerned.
func (q *Queue) Hold(s Selection) (n int, err error) { return q.setHeld(s, true) }

// Release lets what was held be sent again. All releases each letter and destination. A letter whose destination is
// held, or a destination while everything is, cannot be released alone: the error is [ErrHeldWithMore].
func (q *Queue) Release(s Selection) (n int, err error) { return q.setHeld(s, false) }

// ErrHeldWithMore says that what was to be released is held with more than that.
var ErrHeldWithMore = errors.New("relay: it is held with more")

// releasable says why a selection cannot be released alone. The caller holds the lock.
func (q *Queue) releasable(s Selection) error {
	switch id, _ := ParseID(s.ID); {
	case s.All:
		return nil
	case q.o.Holds.destination(Everything):
		return fmt.Errorf("%w: everything is; release all", ErrHeldWithMore)
	case s.ID != "" && q.entries[id].dest.held:
		return fmt.Errorf("%w: its destination is; release %s", ErrHeldWithMore, q.entries[id].dest.name)
	}
	return nil
}

func (q *Queue) setHeld(s Selection, on bool) (n int, err error) {
	if err := s.Check(); err != nil {
		return 0, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if id, _ := ParseID(s.ID); s.ID != "" && q.entries[id] == nil {
		return 0, fmt.Errorf("%s: %w", s.ID, ErrUnknown)
	}
	if !on {
		if err := q.releasable(s); err != nil {
			return 0, err
		}
	}
	err = q.o.Holds.change(func(h *held) {
		switch {
		case s.ID != "" && on:
			h.Letters[s.ID] = true
		case s.ID != "":
			delete(h.Letters, s.ID)
		case s.All && on:
			h.Destinations[Everything] = true
		case s.All:
			clear(h.Letters)
			clear(h.Destinations)
		case on:
			h.Destinations[s.Destination] = true
		default:
			delete(h.Destinations, s.Destination)
		}
	}, func(id ID) bool { return q.entries[id] == nil })
	if err != nil {
		return 0, err
	}
	n = q.selected(s, func(e *entry) { q.hold(e, q.o.Holds.letter(e.letter.ID)) })
	for _, d := range q.dests {
		d.held = q.o.Holds.destination(d.name)
		q.schedule(d)
	}
	q.Wake()
	return n, nil
}

// hold sets whether an entry is held by itself.
func (q *Queue) hold(e *entry, on bool) {
	if e.held == on {
		return
	}
	e.held = on
	if e.state != waiting {
		return
	}
	if on {
		heap.Remove(&e.dest.waiting, e.place)
	} else {
		heap.Push(&e.dest.waiting, e)
	}
}

// Retry makes what is named due now, its destination too. What is held stays held. It returns how many letters are
// concerned.
func (q *Queue) Retry(s Selection) (n int, err error) {
	if err := s.Check(); err != nil {
		return 0, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.o.Now()
	touched := map[*destination]bool{}
	n = q.selected(s, func(e *entry) {
		touched[e.dest] = true
		if e.state == waiting {
			e.ready = now
			if e.place >= 0 {
				heap.Fix(&e.dest.waiting, e.place)
			}
		}
	})
	for d := range touched {
		if d.next.After(now) {
			d.next = now
		}
		q.schedule(d)
	}
	q.Wake()
	if n == 0 && !s.All {
		return 0, fmt.Errorf("%s: %w", cmp.Or(s.ID, s.Destination), ErrUnknown)
	}
	return n, nil
}

// DestinationState tells of one destination's letters.
type DestinationState struct {
	Destination string    `json:"destination"`
	Certified   bool      `json:"certified"`
	Letters     int       `json:"letters"`
	Sending     int       `json:"sending"`
	Held        bool      `json:"held"`      // by name, or with everything
	Failures    int       `json:"failures"`  // attempts in a row that reached no server
	Next        time.Time `json:"next"`      // the next attempt; zero: none is planned
	Oldest      time.Time `json:"oldest"`    // when the oldest letter was handed in
	Last        string    `json:"last"`      // the last answer that put a letter off; empty: none did
	Octets      int64     `json:"octets"`    // of all letters
	HeldOnes    int       `json:"held_ones"` // letters that are held by themselves
}

// Overview is what a queue holds.
type Overview struct {
	Destinations []DestinationState `json:"destinations"` // those with most letters first; at most as many as were asked for
	More         int                `json:"more"`         // destinations that are left out
	Letters      int                `json:"letters"`      // in all
	Held         []string           `json:"held"`         // names of destinations that are held; "*" is everything
}

// Overview tells of at most max destinations.
func (q *Queue) Overview(max int) Overview {
	q.mu.Lock()
	defer q.mu.Unlock()
	o := Overview{Letters: len(q.entries), Held: q.o.Holds.list()}
	for _, d := range q.dests {
		s := DestinationState{Destination: d.name, Certified: d.certified, Letters: len(d.letters), Sending: d.running, Held: d.held, Failures: d.fails, Last: d.last}
		if d.place >= 0 {
			s.Next = d.start
		}
		for e := range d.letters {
			s.Octets += e.letter.Size
			if s.Oldest.IsZero() || e.letter.Begun.Before(s.Oldest) {
				s.Oldest = e.letter.Begun
			}
			if e.held {
				s.HeldOnes++
			}
			if s.Last == "" {
				s.Last = e.letter.Last
			}
		}
		o.Destinations = append(o.Destinations, s)
	}
	slices.SortFunc(o.Destinations, func(a, b DestinationState) int {
		return cmp.Or(cmp.Compare(b.Letters, a.Letters), cmp.Compare(a.Destination, b.Destination))
	})
	if len(o.Destinations) > max {
		o.More = len(o.Destinations) - max
		o.Destinations = o.Destinations[:max]
	}
	return o
}

// LetterState tells of one letter.
type LetterState struct {
	ID          string    `json:"id"`
	Destination string    `json:"destination"`
	Certified   bool      `json:"certified"`
	From        string    `json:"from"`
	Recipients  []string  `json:"recipients"`
	Size        int64     `json:"size"`
	Begun       time.Time `json:"begun"`
	Until       time.Time `json:"until"`
	Tries       int       `json:"tries"`
	Next        time.Time `json:"next"`  // zero: not planned, because it is held or under way
	State       string    `json:"state"` // "waiting", "held", "held with its destination", "sending" or "recording"
	Last        string    `json:"last"`
}

// Letters tells of the letters that a selection names, the oldest first, at most max of them.
func (q *Queue) Letters(s Selection, max int) (list []LetterState, err error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	var found []*entry
	q.selected(s, func(e *entry) { found = append(found, e) })
	if len(found) == 0 && !s.All {
		return nil, fmt.Errorf("%s: %w", cmp.Or(s.ID, s.Destination), ErrUnknown)
	}
	slices.SortFunc(found, func(a, b *entry) int {
		return cmp.Or(a.letter.Begun.Compare(b.letter.Begun), slices.Compare(a.letter.ID[:], b.letter.ID[:]))
	})
	for _, e := range found[:min(len(found), max)] {
		l := e.letter
		st := LetterState{ID: l.ID.String(), Destination: l.Destination, Certified: l.Certified, From: l.From, Recipients: slices.Clone(l.Recipients),
			Size: l.Size, Begun: l.Begun, Until: l.Until, Tries: l.Tries, Last: l.Last}
		switch {
		case e.state == sending:
			st.State = "sending"
		case e.state == handling:
			st.State = "recording"
		case e.dest.held:
			st.State = "held with its destination"
		case e.held:
			st.State = "held"
		default:
			st.State = "waiting"
			if st.Next = e.ready; e.dest.next.After(st.Next) {
				st.Next = e.dest.next
			}
		}
		list = append(list, st)
	}
	return list, nil
}

// Gauges are figures of a queue as it is now, for a monitor.
type Gauges struct {
	Letters     int       // that wait, are being sent or recorded
	Held        int       // by themselves or with their destination
	Unreachable int       // destinations whose last attempt reached no server
	Oldest      time.Time // when the oldest letter was handed in; zero: there is none
	Unrecorded  int       // letters whose answers could not be made durable so far
	Providers   []string  // of certified e-mail that several attempts in a row did not reach; sorted
}

// lostAfter is how many attempts in a row must fail for a provider to be told of.
const lostAfter = 3

// Gauges reads them. It takes some milliseconds when very many letters wait.
func (q *Queue) Gauges() (g Gauges) {
	q.mu.Lock()
	defer q.mu.Unlock()
	g.Letters = len(q.entries)
	for _, e := range q.entries {
		if e.held || e.dest.held {
			g.Held++
		}
		if e.failing {
			g.Unrecorded++
		}
		if g.Oldest.IsZero() || e.letter.Begun.Before(g.Oldest) {
			g.Oldest = e.letter.Begun
		}
	}
	for _, d := range q.dests {
		if d.fails > 0 {
			g.Unreachable++
		}
		if d.certified && d.fails >= lostAfter {
			g.Providers = append(g.Providers, d.name)
		}
	}
	slices.Sort(g.Providers)
	return g
}
