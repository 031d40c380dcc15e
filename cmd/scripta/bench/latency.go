package bench

import (
	"fmt"
	"slices"
	"time"
)

// latencies are durations of one kind of operation.
type latencies []time.Duration

// at returns the quantile q, 0 to 1, by nearest rank; 0 when there are none.
// The durations must be sorted.
func (l latencies) at(q float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[int(q*float64(len(l)-1)+0.5)]
}

// sorted joins the durations that several workers measured.
func sorted(parts ...latencies) latencies {
	all := slices.Concat(parts...)
	slices.Sort(all)
	return all
}

// ms writes a duration in milliseconds, with three significant digits or so.
func ms(d time.Duration) string {
	v := float64(d.Nanoseconds()) / 1e6
	switch {
	case v < 1:
		return fmt.Sprintf("%.3f", v)
	case v < 100:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
