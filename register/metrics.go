package register

import (
	"sync/atomic"
	"time"
)

// Metrics counts what the register did. Fields may be read at any time.
type Metrics struct {
	Records atomic.Uint64 // appended
	Refused atomic.Uint64 // appends that ended with ErrBusy
	append  histogram
	commit  histogram
}

// Bounds of the buckets.
var (
	appendBounds = [...]float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5}
	commitBounds = [...]float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096}
)

// histogram counts values by size. It may be used concurrently.
type histogram struct {
	buckets [len(appendBounds) + 1]atomic.Uint64
	sum     atomic.Uint64 // of values, in billionths
}

func (h *histogram) observe(bounds *[len(appendBounds)]float64, v float64) {
	i := 0
	for i < len(bounds) && v > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(uint64(v * 1e9))
}

func (h *histogram) snapshot(bounds *[len(appendBounds)]float64) (count uint64, sum float64, upTo map[float64]uint64) {
	upTo = make(map[float64]uint64, len(bounds))
	for i := range h.buckets {
		count += h.buckets[i].Load()
		if i < len(bounds) {
			upTo[bounds[i]] = count
		}
	}
	return count, float64(h.sum.Load()) / 1e9, upTo
}

// AppendSeconds is the histogram of appends: how many there were, how long they
// took together, and how many took at most so many seconds.
func (m *Metrics) AppendSeconds() (count uint64, sum float64, upTo map[float64]uint64) {
	return m.append.snapshot(&appendBounds)
}

// CommitRecords is the histogram of commits by their number of records.
func (m *Metrics) CommitRecords() (count uint64, sum float64, upTo map[float64]uint64) {
	return m.commit.snapshot(&commitBounds)
}

func (m *Metrics) appended(n int, d time.Duration) {
	m.Records.Add(uint64(n))
	m.append.observe(&appendBounds, d.Seconds())
}

func (m *Metrics) batch(n int) { m.commit.observe(&commitBounds, float64(n)) }

// Metrics returns the register's counters.
func (r *Register) Metrics() *Metrics { return &r.metrics }
