package index

import "sort"

// groupBits says how many leaves, as a power of two, share one span of time.
const groupBits = 8

// span is the time of the records of one group of leaves: milliseconds since 1970
// UTC, both included.
type span struct {
	group    uint64 // leaf index >> groupBits
	from, to int64
}

// addTime widens the last group's span, or begins the next one's.
func addTime(spans []span, leaf uint64, t int64) []span {
	return joinSpan(spans, span{leaf >> groupBits, t, t})
}

func joinSpan(spans []span, s span) []span {
	if n := len(spans); n > 0 && spans[n-1].group >= s.group {
		last := &spans[n-1]
		last.from, last.to = min(last.from, s.from), max(last.to, s.to)
		return spans
	}
	return append(spans, s)
}

// period is a period that is searched: from included, to not.
type period struct{ from, to int64 }

// skip returns the first leaf at or after leaf that may be in the period; ok is
// false when there is none.
func (p period) skip(spans []span, leaf uint64) (_ uint64, ok bool) {
	group := leaf >> groupBits
	for i := sort.Search(len(spans), func(i int) bool { return spans[i].group >= group }); i < len(spans); i++ {
		if s := spans[i]; s.to >= p.from && s.from < p.to {
			return max(leaf, s.group<<groupBits), true
		}
	}
	return 0, false
}
