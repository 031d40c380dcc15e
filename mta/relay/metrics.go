package relay

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// Metrics counts what a queue did since it was made. Fields may be read at any time.
type Metrics struct {
	Sending   atomic.Int64  // attempts under way
	Attempts  atomic.Uint64 // that have ended
	Taken     atomic.Uint64 // recipients
	Deferred  atomic.Uint64 // recipients, once for each attempt
	Refused   atomic.Uint64 // recipients
	Failed    atomic.Uint64 // attempts that reached no server
	Expired   atomic.Uint64 // letters given up at their limit
	Unhandled atomic.Uint64 // times that a result could not be made durable

	mu    sync.Mutex
	dests map[string]*Traffic
}

// Traffic is what went to a destination, or to all those that are not counted one by one.
type Traffic struct {
	Destination string // a provider's name, OrdinaryDomains or OtherProviders
	Certified   bool
	Taken       uint64 // recipients; so are the others
	Deferred    uint64
	Refused     uint64
}

// Destinations are counted one by one if they are providers, of which there are some twenty; a stranger can make up any
// number of domains.
const (
	OrdinaryDomains = "ordinary domains"
	OtherProviders  = "other providers"
	maxTraffic      = 100
)

func (m *Metrics) count(l *Letter, r *Result) {
	var t Traffic
	for i := range r.Answers {
		switch r.Answers[i].State {
		case Taken:
			t.Taken++
		case Refused:
			t.Refused++
		default:
			t.Deferred++
		}
	}
	m.Attempts.Add(1)
	m.Taken.Add(t.Taken)
	m.Deferred.Add(t.Deferred)
	m.Refused.Add(t.Refused)
	if r.Unreachable {
		m.Failed.Add(1)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	name := OrdinaryDomains
	if l.Certified {
		if name = l.Destination; m.dests[name] == nil && len(m.dests) >= maxTraffic {
			name = OtherProviders
		}
	}
	d := m.dests[name]
	if d == nil {
		if m.dests == nil {
			m.dests = map[string]*Traffic{}
		}
		d = &Traffic{Destination: name, Certified: l.Certified}
		m.dests[name] = d
	}
	d.Taken += t.Taken
	d.Deferred += t.Deferred
	d.Refused += t.Refused
}

// Traffic returns what went where, sorted by name; at most some hundred.
func (m *Metrics) Traffic() []Traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []Traffic
	for _, d := range m.dests {
		list = append(list, *d)
	}
	slices.SortFunc(list, func(a, b Traffic) int { return cmp.Compare(a.Destination, b.Destination) })
	return list
}

// Metrics returns the queue's counters.
func (q *Queue) Metrics() *Metrics { return &q.metrics }
