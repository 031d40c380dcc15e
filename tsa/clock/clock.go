package clock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beevik/ntp"
)

// ErrUntrusted is a time that the policy does not let pass; the text says why.
var ErrUntrusted = errors.New("clock: the time cannot be trusted")

// State is how far the system clock can be trusted. The zero value is Unknown.
type State int

// States, worst last but for Unknown.
const (
	Unknown State = iota // nothing is known
	Synced               // the bound is under Config.Warn
	Warning              // the bound is under Config.Limit, or a leap second is due
	Out                  // the bound is not under Config.Limit
)

// String returns the state's name in lower case.
func (s State) String() string {
	switch s {
	case Synced:
		return "synced"
	case Warning:
		return "warning"
	case Out:
		return "out"
	}
	return "unknown"
}

// Policy is what Now does with a time that is out or unknown.
type Policy int

// Policies. The zero value is the strict one.
const (
	Refuse Policy = iota // return ErrUntrusted
	Mark                 // return the reading, whose state the caller must record
)

// Reading is the system clock's time and what is known of its error.
type Reading struct {
	Time   time.Time     // UTC, without a monotonic part
	State  State         // see State
	Bound  time.Duration // Time is off by at most this; 0 if State is Unknown
	Reason string        // why State is not Synced
}

// Config is how to measure. The zero value of each field but Servers is the
// default that it states.
type Config struct {
	// Servers are NTP servers, "host" or "host:port". Without any the state stays Unknown.
	Servers []string
	// Quorum is how many of Servers must agree, more than half of them; 0 is the
	// smallest such number.
	Quorum int
	// Policy is for times that are out or unknown; default Refuse.
	Policy Policy
	// Warn and Limit are the bounds from which the state is Warning and Out: 250 ms and 1 s.
	Warn, Limit time.Duration
	// Interval is the time between measures: 5 min.
	Interval time.Duration
	// MaxAge is how long a measure counts: 1 h.
	MaxAge time.Duration
	// StepLimit is how far wall and monotonic clock may part before the clock
	// counts as stepped: 50 ms.
	StepLimit time.Duration
	// DriftPPM is how fast the bound grows, in parts per million: 50.
	DriftPPM int
	// Samples is how often a server is asked in one measure; the answer with the
	// shortest round trip counts: 4.
	Samples int
	// SampleGap is the time between two of them: 1 s. Servers limit their clients' rate.
	SampleGap time.Duration
	// RequireKernel makes the state Unknown while the kernel says that nobody
	// disciplines its clock. Containers often cannot tell.
	RequireKernel bool

	// OnMeasure hears of every measure, in order, from the goroutine that made
	// it; it must not call Measure.
	OnMeasure func(Measure)

	// System reads the machine's wall clock, and a monotonic clock in the same
	// instant. Query asks a server once; its answers are validated by the caller.
	// Kernel reads the kernel's opinion of its clock. Nil is the real thing.
	System func() (wall time.Time, mono time.Duration)
	Query  func(ctx context.Context, server string) (*ntp.Response, error)
	Kernel func() (Kernel, error)
}

// retry is the time to the next measure after one that failed.
const retry = time.Minute

// Clock reads and measures the system clock. It is safe for concurrent use;
// Now takes no lock.
type Clock struct {
	cfg  Config
	last atomic.Pointer[status]
	wake chan struct{} // a step was seen: measure at once

	measuring sync.Mutex // one measure at a time, so that OnMeasure hears them in order
}

// status is what the last measures left. It is never changed once it is in Clock.last.
type status struct {
	ok    bool          // the rest was measured
	wall  time.Time     // of the last good measure
	mono  time.Duration // in the same instant
	bound time.Duration // at that instant
	leap  bool          // the servers announce a leap second for the end of the month
	// reason says why ok is false, or why later measures failed.
	reason string
}

// New checks the configuration. The clock measures nothing until Run or Measure
// is called.
func New(cfg Config) (*Clock, error) {
	n := len(cfg.Servers)
	if cfg.Quorum == 0 {
		cfg.Quorum = n/2 + 1
	}
	if n > 0 && (cfg.Quorum > n || cfg.Quorum*2 <= n) {
		return nil, fmt.Errorf("clock: a quorum of %d for %d servers: it must be more than half of them", cfg.Quorum, n)
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&cfg.Warn, 250 * time.Millisecond}, {&cfg.Limit, time.Second}, {&cfg.Interval, 5 * time.Minute},
		{&cfg.MaxAge, time.Hour}, {&cfg.StepLimit, 50 * time.Millisecond}, {&cfg.SampleGap, time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
		if *d.value < 0 {
			return nil, errors.New("clock: a duration is negative")
		}
	}
	if cfg.Warn > cfg.Limit {
		return nil, fmt.Errorf("clock: the warning limit %v is above the limit %v", cfg.Warn, cfg.Limit)
	}
	if cfg.DriftPPM == 0 {
		cfg.DriftPPM = 50
	}
	if cfg.Samples == 0 {
		cfg.Samples = 4
	}
	if cfg.DriftPPM < 0 || cfg.Samples < 0 {
		return nil, errors.New("clock: drift or number of samples is negative")
	}
	if cfg.System == nil {
		start := time.Now()
		cfg.System = func() (time.Time, time.Duration) {
			t := time.Now()
			return t.Round(0).UTC(), t.Sub(start)
		}
	}
	if cfg.Query == nil {
		cfg.Query = query
	}
	if cfg.Kernel == nil {
		cfg.Kernel = readKernel
	}
	c := &Clock{cfg: cfg, wake: make(chan struct{}, 1)}
	first := &status{reason: "not measured yet"}
	if n == 0 {
		first.reason = "no time sources configured"
	}
	c.last.Store(first)
	return c, nil
}

// Now reads the clock. Under the policy Refuse a reading that is Out or Unknown
// comes with [ErrUntrusted]; its Time is then for messages only.
func (c *Clock) Now() (Reading, error) {
	r := c.read()
	if c.cfg.Policy == Refuse && (r.State == Out || r.State == Unknown) {
		return r, fmt.Errorf("%w: %v, %s", ErrUntrusted, r.State, r.Reason)
	}
	return r, nil
}

// read reads the system clock and judges it by the last measure. If it finds
// the clock stepped, what was known is worth nothing from there on, even if the
// clock is stepped back in a moment: the measure is forgotten, another asked for.
func (c *Clock) read() Reading {
	st := c.last.Load()
	wall, mono := c.cfg.System()
	r := Reading{Time: wall, Reason: st.reason}
	if !st.ok {
		return r
	}
	age := mono - st.mono
	step := wall.Sub(st.wall) - age
	if step.Abs() > c.cfg.StepLimit {
		// A machine that stalls between reading its two clocks looks stepped, once.
		wall, mono = c.cfg.System()
		r.Time, age = wall, mono-st.mono
		step = wall.Sub(st.wall) - age
	}
	if step.Abs() > c.cfg.StepLimit {
		r.Reason = fmt.Sprintf("the system clock was stepped by %v", step)
		if c.last.CompareAndSwap(st, &status{reason: r.Reason}) {
			select {
			case c.wake <- struct{}{}:
			default:
			}
		}
		return r
	}
	r.Bound = st.bound + step.Abs() + c.drift(age)
	switch {
	case age > c.cfg.MaxAge:
		r.State = Out
		r.Reason = fmt.Sprintf("last measured %v ago", age.Round(time.Second))
		if st.reason != "" {
			r.Reason += ": " + st.reason
		}
	case r.Bound >= c.cfg.Limit:
		r.State = Out
		r.Reason = fmt.Sprintf("may be off by %v", r.Bound)
	case r.Bound >= c.cfg.Warn:
		r.State = Warning
		r.Reason = fmt.Sprintf("may be off by %v", r.Bound)
	case st.leap && wall.Add(time.Hour).UTC().Month() != wall.UTC().Month():
		r.State = Warning
		r.Reason = "a leap second is due at the end of the month"
	default:
		r.State, r.Reason = Synced, ""
	}
	return r
}

// drift is how much a bound grows in d.
func (c *Clock) drift(d time.Duration) time.Duration {
	return time.Duration(float64(d) * float64(c.cfg.DriftPPM) / 1e6)
}

// Run measures until ctx ends: at once, then every Config.Interval, sooner
// after a failure, and at once again when Now has seen the clock stepped.
func (c *Clock) Run(ctx context.Context) {
	if len(c.cfg.Servers) == 0 {
		return
	}
	for ctx.Err() == nil {
		wait := c.cfg.Interval
		if m := c.Measure(ctx); !m.OK {
			wait = min(wait, retry)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}
