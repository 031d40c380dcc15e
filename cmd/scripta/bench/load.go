package bench

import (
	"errors"
	"sync"
	"time"
)

// outcome is what a closed loop of workers did.
type outcome struct {
	count int
	took  time.Duration
	lat   latencies
}

// rate is operations per second.
func (o outcome) rate() float64 { return float64(o.count) / o.took.Seconds() }

// closedLoop lets each worker call do again and again for so long, the next time
// when the last call has returned. prepare makes a worker's do.
func closedLoop(workers int, long time.Duration, prepare func(worker int) (do func() error)) (outcome, error) {
	parts, errs := make([]latencies, workers), make([]error, workers)
	ready := make([]func() error, workers)
	for i := range ready {
		ready[i] = prepare(i)
	}
	var wg sync.WaitGroup
	start := time.Now()
	for i, do := range ready {
		wg.Go(func() {
			for began := time.Now(); began.Sub(start) < long; {
				if errs[i] = do(); errs[i] != nil {
					return
				}
				now := time.Now()
				parts[i] = append(parts[i], now.Sub(began))
				began = now
			}
		})
	}
	wg.Wait()
	o := outcome{took: time.Since(start), lat: sorted(parts...)}
	o.count = len(o.lat)
	return o, errors.Join(errs...)
}
