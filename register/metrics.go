package register

import (
	"sync/atomic"
	"time"
)

// Metrics counts what the register did. Fields may be read at any time.
type Metrics struct {
	Records     atomic.Uint64 // appended
	Batches     atomic.Uint64 // commits
	AppendNanos atomic.Uint64 // spent waiting for appends, summed over callers
}

func (m *Metrics) appended(n int, d time.Duration) {
	m.Records.Add(uint64(n))
	m.AppendNanos.Add(uint64(d))
}

func (m *Metrics) batch(int) { m.Batches.Add(1) }

// Metrics returns the register's counters.
func (r *Register) Metrics() *Metrics { return &r.metrics }
