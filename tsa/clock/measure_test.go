package clock

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestIntersect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		intervals []interval
		quorum    int
		want      interval
		ok        bool
	}{
		{"none", nil, 1, interval{}, false},
		{"one", []interval{{-1, 5}}, 1, interval{-1, 5}, true},
		{"two that touch", []interval{{0, 5}, {5, 9}}, 2, interval{5, 5}, true},
		{"two apart", []interval{{0, 5}, {6, 9}}, 2, interval{}, false},
		{"nested", []interval{{0, 100}, {40, 60}, {50, 55}}, 3, interval{50, 55}, true},
		{"a liar apart", []interval{{0, 10}, {2, 12}, {50, 60}}, 2, interval{2, 10}, true},
		{"a liar that overlaps cannot narrow", []interval{{0, 10}, {0, 10}, {9, 100}}, 2, interval{0, 10}, true},
		{"two possible pairs", []interval{{0, 10}, {0, 2}, {8, 10}}, 2, interval{0, 10}, true},
		{"a point", []interval{{3, 3}, {3, 3}}, 2, interval{3, 3}, true},
	} {
		got, ok := intersect(c.intervals, c.quorum)
		if ok != c.ok || (ok && got != c.want) {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

// Whatever a minority says, the truth that the others hold stays inside.
func TestIntersectHoldsTheTruth(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		n := 1 + r.IntN(7)
		quorum := n/2 + 1
		truth := time.Duration(r.IntN(41) - 20)
		intervals := make([]interval, n)
		for i := range intervals {
			if i < quorum {
				intervals[i] = interval{truth - time.Duration(r.IntN(9)), truth + time.Duration(r.IntN(9))}
			} else {
				lo := time.Duration(r.IntN(81) - 40)
				intervals[i] = interval{lo, lo + time.Duration(r.IntN(20))}
			}
		}
		r.Shuffle(n, func(i, j int) { intervals[i], intervals[j] = intervals[j], intervals[i] })
		got, ok := intersect(intervals, quorum)
		if !ok || truth < got.lo || truth > got.hi {
			t.Fatalf("%v: %v, %v does not hold %v", intervals, got, ok, truth)
		}
		for _, end := range []time.Duration{got.lo, got.hi} { // and it is no wider than it must be
			depth := 0
			for _, i := range intervals {
				if i.lo <= end && end <= i.hi {
					depth++
				}
			}
			if depth < quorum {
				t.Fatalf("%v: %v ends where only %d of %d agree", intervals, got, depth, quorum)
			}
		}
	}
}
