package register

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// BenchmarkAppend appends records from 64 writers to an embedded log and to one
// on a real cluster on the same machine.
func BenchmarkAppend(b *testing.B) {
	run := func(b *testing.B, r *Register) {
		var n atomic.Uint64
		b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := r.Append(b.Context(), numbered(n.Add(1))); err != nil {
					b.Error(err)
					return
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
	}
	b.Run("embedded", func(b *testing.B) {
		s := newSite(b, 0)
		run(b, s.open("node", false, nil).Register)
	})
	b.Run("trillian", func(b *testing.B) {
		s := newSite(b, 0)
		s.join()
		run(b, s.open("node", false, nil).Register)
	})
}
