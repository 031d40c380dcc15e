package clock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/beevik/ntp"
)

// Measure is one comparison of the system clock with the servers: what a
// record of it needs.
type Measure struct {
	Before  Reading       // what the clock said of itself when the measure began
	Time    time.Time     // when it ended, by the system clock
	OK      bool          // a quorum agreed, and nothing spoke against it
	Offset  time.Duration // to be added to the system clock to get UTC, as well as it is known
	Bound   time.Duration // |Offset| at worst; 0 unless OK
	State   State         // of the clock after this measure
	Reason  string        // why State is not Synced, or why the measure is not OK
	Agreed  int           // servers whose answer is compatible with Offset and Bound
	Quorum  int           // how many had to be
	Servers []Server      // in the order of the configuration
	Kernel  Kernel        // zero if it could not be read
}

// Server is what one server answered in a measure.
type Server struct {
	Name           string        // as configured
	Err            string        // why it does not count; empty if it does
	Samples        int           // valid answers, of which the one with the least RTT follows
	Offset         time.Duration // server minus system clock
	RTT            time.Duration // network round trip
	RootDelay      time.Duration // from the server to its primary source and back
	RootDispersion time.Duration // the server's own error estimate
	MaxError       time.Duration // Offset is off by at most this
	Stratum        uint8
	Reference      string // the server's source, as NTP names it
	Leap           uint8  // leap indicator: 1 and 2 announce a leap second
	Agrees         bool   // it belongs to the quorum
}

// Measure asks all servers, judges the answers and remembers the result. A
// measure that fails leaves the one before in force, which ages.
func (c *Clock) Measure(ctx context.Context) Measure {
	c.measuring.Lock()
	defer c.measuring.Unlock()
	m := Measure{Before: c.read(), Quorum: c.cfg.Quorum, Servers: make([]Server, len(c.cfg.Servers))}
	select {
	case <-c.wake: // this is the measure it asks for
	default:
	}
	before := c.last.Load()

	kernel, kernelErr := c.cfg.Kernel()
	wall0, mono0 := c.cfg.System()
	var wg sync.WaitGroup
	for i, name := range c.cfg.Servers {
		wg.Go(func() { m.Servers[i] = c.ask(ctx, name) })
	}
	wg.Wait()
	wall, mono := c.cfg.System()
	m.Time, m.Kernel = wall, kernel
	took := mono - mono0
	step := wall.Sub(wall0) - took

	err := m.combine(c.drift(took))
	veto := false
	switch {
	case len(c.cfg.Servers) == 0:
		err = errors.New("no time sources configured")
	case step.Abs() > c.cfg.StepLimit:
		err = fmt.Errorf("the system clock was stepped by %v while it was measured", step)
	case c.cfg.RequireKernel && kernelErr != nil:
		err, veto = fmt.Errorf("the kernel's clock state: %w", kernelErr), true
	case c.cfg.RequireKernel && !kernel.Synchronised:
		err, veto = errors.New("the kernel says that its clock is not synchronised"), true
	}
	st := &status{ok: true, wall: wall, mono: mono, bound: m.Bound, leap: m.leap()}
	if err != nil {
		old := *before
		st = &old
		st.ok, st.reason = old.ok && !veto, err.Error()
	}
	// Only Now can have changed it since: it saw a step, and some of the answers
	// are from before. Now has asked for another measure, too.
	if !c.last.CompareAndSwap(before, st) && err == nil {
		err = errors.New("the system clock was stepped while it was measured")
	}
	if m.OK = err == nil; !m.OK {
		m.Bound = 0
	}
	after := c.read()
	m.State, m.Reason = after.State, after.Reason
	if err != nil {
		m.Reason = err.Error()
	}
	if c.cfg.OnMeasure != nil {
		c.cfg.OnMeasure(m)
	}
	return m
}

// ask samples one server and keeps the answer with the shortest round trip,
// whose offset is the least uncertain.
func (c *Clock) ask(ctx context.Context, name string) Server {
	s := Server{Name: name}
	var best *ntp.Response
	var failures int
	for i := range c.cfg.Samples {
		if i > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(c.cfg.SampleGap):
			}
		}
		if err := ctx.Err(); err != nil {
			s.Err = err.Error()
			break
		}
		r, err := c.cfg.Query(ctx, name)
		if err != nil {
			s.Err = err.Error()
			if failures++; failures > 1 {
				break // one packet may get lost
			}
			continue
		}
		// An unsynchronised server answers without an error: only Validate tells.
		if err := r.Validate(); err != nil {
			s.Err = err.Error()
			return s
		}
		s.Samples++
		if best == nil || r.RTT < best.RTT {
			best = r
		}
	}
	if best == nil {
		return s
	}
	s.Err = ""
	s.Offset, s.RTT, s.RootDelay, s.RootDispersion = best.ClockOffset, best.RTT, best.RootDelay, best.RootDispersion
	s.Stratum, s.Reference, s.Leap = best.Stratum, best.ReferenceString(), uint8(best.Leap)
	// RFC 5905 §11.1, the root distance: half of both round trips, plus dispersion and precision.
	s.MaxError = s.RTT/2 + s.RootDelay/2 + s.RootDispersion + best.Precision
	return s
}

// combine finds the offset on which a quorum of the servers agrees; slack is
// added to each one's error.
func (m *Measure) combine(slack time.Duration) error {
	var intervals []interval
	for _, s := range m.Servers {
		if s.Err == "" {
			intervals = append(intervals, interval{s.Offset - s.MaxError - slack, s.Offset + s.MaxError + slack})
		}
	}
	truth, ok := intersect(intervals, m.Quorum)
	if !ok {
		return fmt.Errorf("%d of %d time sources answered, fewer than %d agree", len(intervals), len(m.Servers), m.Quorum)
	}
	m.Offset = truth.lo + (truth.hi-truth.lo)/2
	m.Bound = max(truth.lo.Abs(), truth.hi.Abs())
	for i := range m.Servers {
		s := &m.Servers[i]
		if s.Err == "" && s.Offset-s.MaxError-slack <= truth.hi && s.Offset+s.MaxError+slack >= truth.lo {
			s.Agrees = true
			m.Agreed++
		}
	}
	return nil
}

// leap reports whether a quorum announces a leap second.
func (m *Measure) leap() bool {
	n := 0
	for _, s := range m.Servers {
		if s.Agrees && (s.Leap == uint8(ntp.LeapAddSecond) || s.Leap == uint8(ntp.LeapDelSecond)) {
			n++
		}
	}
	return n >= m.Quorum
}

// interval holds the offsets that a server's answer leaves possible.
type interval struct{ lo, hi time.Duration }

// intersect returns the smallest interval that holds every point common to at
// least quorum of the intervals (Marzullo's idea as RFC 5905 §11.2.1 has it):
// the true offset is in it as long as no more than the others lie. The point
// common to most would be narrower, but a liar that overlaps could choose it.
func intersect(intervals []interval, quorum int) (interval, bool) {
	type edge struct {
		at    time.Duration
		delta int
	}
	var edges []edge
	for _, i := range intervals {
		edges = append(edges, edge{i.lo, 1}, edge{i.hi, -1})
	}
	// Where one ends and another begins they still have the point in common.
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), b.delta-a.delta) })
	var found interval
	depth, ok := 0, false
	for _, e := range edges {
		if e.delta > 0 {
			if depth++; depth == quorum && !ok {
				found.lo, ok = e.at, true
			}
			continue
		}
		if depth == quorum {
			found.hi = e.at
		}
		depth--
	}
	return found, ok
}
