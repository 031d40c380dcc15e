package clock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beevik/ntp"
)

const ms = time.Millisecond

var start = time.Date(2026, 3, 4, 10, 20, 30, 0, time.UTC)

// machine is a clock that a test moves.
type machine struct {
	mu   sync.Mutex
	wall time.Time
	mono time.Duration
}

func (m *machine) read() (time.Time, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wall, m.mono
}

func (m *machine) pass(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wall, m.mono = m.wall.Add(d), m.mono+d
}

func (m *machine) step(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wall = m.wall.Add(d)
}

// answer is a good server's answer: offset, and an error of 10 ms.
func answer(offset time.Duration) *ntp.Response {
	return &ntp.Response{
		ClockOffset: offset, RTT: 8 * ms, RootDelay: 4 * ms, RootDispersion: 4 * ms,
		Stratum: 1, Version: 4, Time: start, ReferenceTime: start.Add(-time.Minute), ReferenceID: 0x43544400,
	}
}

// servers answers by name: a *ntp.Response, an error, or a func that returns both.
type servers struct {
	mu      sync.Mutex
	answers map[string]any
	asked   map[string]int
}

func (s *servers) set(name string, a any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[name] = a
}

func (s *servers) query(_ context.Context, name string) (*ntp.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		s.asked = map[string]int{}
	}
	s.asked[name]++
	switch a := s.answers[name].(type) {
	case *ntp.Response:
		return a, nil
	case error:
		return nil, a
	case func(int) (*ntp.Response, error):
		return a(s.asked[name])
	}
	return nil, errors.New("no such server")
}

// rig is a clock on a machine of the test's, with servers of the test's.
type rig struct {
	*Clock
	machine *machine
	servers *servers
}

func newRig(t *testing.T, change func(*Config), answers ...any) rig {
	t.Helper()
	r := rig{machine: &machine{wall: start}, servers: &servers{answers: map[string]any{}}}
	cfg := Config{
		Policy: Mark, SampleGap: time.Nanosecond, System: r.machine.read, Query: r.servers.query,
		Kernel: func() (Kernel, error) { return Kernel{Synchronised: true}, nil },
	}
	for i, a := range answers {
		name := fmt.Sprintf("ntp%d", i+1)
		cfg.Servers = append(cfg.Servers, name)
		r.servers.answers[name] = a
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Clock = c
	return r
}

func (r rig) want(t *testing.T, state State, reason string) Reading {
	t.Helper()
	got, _ := r.Now()
	if got.State != state || !strings.Contains(got.Reason, reason) || (state == Synced) != (got.Reason == "") {
		t.Errorf("%v, bound %v, %q; want %v, %q", got.State, got.Bound, got.Reason, state, reason)
	}
	return got
}

func TestStateFollowsTheMeasure(t *testing.T) {
	t.Parallel()
	lost := errors.New("i/o timeout")
	unsynchronised, kiss, stale := answer(0), answer(0), answer(0)
	unsynchronised.Leap = ntp.LeapNotInSync
	kiss.Stratum = 0
	stale.ReferenceTime = start.Add(-72 * time.Hour)
	for _, c := range []struct {
		name    string
		answers []any
		state   State
		bound   time.Duration
		agreed  int
		reason  string
	}{
		{name: "three agree", answers: []any{answer(0), answer(ms), answer(-ms)}, state: Synced, bound: 10 * ms, agreed: 3},
		{name: "one server", answers: []any{answer(0)}, state: Synced, bound: 10 * ms, agreed: 1},
		{name: "one is lost", answers: []any{answer(0), answer(0), lost}, state: Synced, bound: 10 * ms, agreed: 2},
		{name: "one lies", answers: []any{answer(0), answer(2 * ms), answer(5 * time.Second)}, state: Synced, bound: 10 * ms, agreed: 2},
		{name: "one is not synchronised", answers: []any{answer(0), answer(0), unsynchronised}, state: Synced, bound: 10 * ms, agreed: 2},
		{name: "warning", answers: []any{answer(300 * ms), answer(300 * ms)}, state: Warning, bound: 310 * ms, agreed: 2, reason: "may be off by 310ms"},
		{name: "warning, behind", answers: []any{answer(-300 * ms), answer(-300 * ms)}, state: Warning, bound: 310 * ms, agreed: 2, reason: "310ms"},
		{name: "just under the limit", answers: []any{answer(990*ms - 1)}, state: Warning, bound: time.Second - 1, agreed: 1, reason: "may be off"},
		{name: "mean under the limit, bound not", answers: []any{answer(990 * ms)}, state: Out, bound: time.Second, agreed: 1, reason: "may be off by 1s"},
		{name: "out", answers: []any{answer(2500 * ms), answer(2500 * ms), answer(2501 * ms)}, state: Out, bound: 2510 * ms, agreed: 3, reason: "may be off by 2.51"},
		{name: "all lost", answers: []any{lost, lost}, reason: "0 of 2 time sources answered"},
		{name: "half lost", answers: []any{answer(0), lost}, reason: "1 of 2 time sources answered, fewer than 2 agree"},
		{name: "no two agree", answers: []any{answer(0), answer(time.Second), answer(2 * time.Second)}, reason: "3 of 3 time sources answered, fewer than 2 agree"},
		{name: "not synchronised", answers: []any{unsynchronised}, reason: "0 of 1"},
		{name: "kiss of death", answers: []any{kiss}, reason: "0 of 1"},
		{name: "stale", answers: []any{stale}, reason: "0 of 1"},
		{name: "none configured", reason: "no time sources configured"},
	} {
		r := newRig(t, nil, c.answers...)
		m := r.Measure(t.Context())
		got, err := r.Now()
		if err != nil || got.State != c.state || !strings.Contains(got.Reason, c.reason) || got.Bound.Round(ms/100) != c.bound.Round(ms/100) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		if m.OK != (c.state != Unknown) || m.State != c.state || m.Agreed != c.agreed || m.Bound != got.Bound || m.Reason != got.Reason || m.Time != start {
			t.Errorf("%s: measure %+v", c.name, m)
		}
		if got.Time != start {
			t.Errorf("%s: the time was changed to %v", c.name, got.Time)
		}
	}
}

func TestNotMeasuredYet(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, answer(0))
	r.want(t, Unknown, "not measured yet")
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		offset time.Duration
		refuse bool
	}{{0, false}, {300 * ms, false}, {2 * time.Second, true}} {
		for _, policy := range []Policy{Refuse, Mark} {
			r := newRig(t, func(c *Config) { c.Policy = policy }, answer(c.offset))
			if _, err := r.Now(); errors.Is(err, ErrUntrusted) != (policy == Refuse) {
				t.Errorf("policy %v, not measured: %v", policy, err)
			}
			r.Measure(t.Context())
			got, err := r.Now()
			if errors.Is(err, ErrUntrusted) != (c.refuse && policy == Refuse) || got.Time != start {
				t.Errorf("policy %v, offset %v: %+v, %v", policy, c.offset, got, err)
			}
		}
	}
}

func TestStepIsNoticedAtOnceAndForGood(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{51 * ms, -51 * ms, 24 * time.Hour} {
		r := newRig(t, nil, answer(0))
		r.Measure(t.Context())
		r.machine.pass(time.Minute)
		r.want(t, Synced, "")
		r.machine.step(step)
		r.want(t, Unknown, "was stepped by "+step.String())
		if len(r.wake) != 1 {
			t.Error("no new measure was asked for")
		}
		r.machine.step(-step)
		r.want(t, Unknown, "was stepped by")
		m := r.Measure(t.Context())
		if m.Before.State != Unknown || !strings.Contains(m.Before.Reason, "stepped") || len(r.wake) != 0 {
			t.Errorf("%+v", m.Before)
		}
		r.want(t, Synced, "")
	}
}

func TestSmallStepWidensTheBound(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, answer(0))
	r.Measure(t.Context())
	r.machine.step(-40 * ms)
	if got := r.want(t, Synced, ""); got.Bound != 50*ms {
		t.Errorf("bound %v", got.Bound)
	}
}

func TestStepDuringTheMeasureSpoilsIt(t *testing.T) {
	t.Parallel()
	var r rig
	r = newRig(t, nil, func(n int) (*ntp.Response, error) {
		if n == 2 {
			r.machine.step(time.Second)
		}
		return answer(0), nil
	})
	if m := r.Measure(t.Context()); m.OK || !strings.Contains(m.Reason, "stepped by 1s while it was measured") {
		t.Errorf("%+v", m)
	}
	r.want(t, Unknown, "while it was measured")
	if m := r.Measure(t.Context()); !m.OK {
		t.Errorf("the next one: %+v", m)
	}
}

func TestStepThereAndBackDuringTheMeasureSpoilsItIfSeen(t *testing.T) {
	t.Parallel()
	var r rig
	r = newRig(t, nil, func(n int) (*ntp.Response, error) {
		if n == 6 { // in the second measure
			r.machine.step(time.Second)
			_, _ = r.Now()
			r.machine.step(-time.Second)
		}
		return answer(0), nil
	})
	r.Measure(t.Context())
	if m := r.Measure(t.Context()); m.OK || m.State != Unknown || m.Bound != 0 {
		t.Errorf("%+v", m)
	}
	r.want(t, Unknown, "stepped")
}

func TestBoundAges(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, answer(0))
	r.Measure(t.Context())
	r.machine.pass(time.Hour)
	if got := r.want(t, Synced, ""); got.Bound != 10*ms+180*ms {
		t.Errorf("bound %v after an hour at 50 ppm", got.Bound)
	}
	r.servers.set("ntp1", errors.New("network is unreachable"))
	if m := r.Measure(t.Context()); m.OK || m.State != Synced || !strings.Contains(m.Reason, "0 of 1") {
		t.Errorf("%+v", m)
	}
	r.want(t, Synced, "")
	r.machine.pass(time.Second)
	r.want(t, Out, "last measured 1h0m1s ago: 0 of 1 time sources answered")
	r.servers.set("ntp1", answer(0))
	r.Measure(t.Context())
	r.want(t, Synced, "")
}

func TestWarningByAge(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.MaxAge, c.DriftPPM = 24*time.Hour, 100 }, answer(0))
	r.Measure(t.Context())
	r.machine.pass(40 * time.Minute)
	r.want(t, Warning, "may be off by 250ms")
	r.machine.pass(3 * time.Hour)
	r.want(t, Out, "may be off by")
}

func TestShortestRoundTripCounts(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(n int) (*ntp.Response, error) {
		a := answer(time.Duration(n) * ms)
		a.RTT = []time.Duration{40, 30, 2, 50}[n-1] * ms
		return a, nil
	})
	m := r.Measure(t.Context())
	s := m.Servers[0]
	if s.Samples != 4 || s.RTT != 2*ms || s.Offset != 3*ms || s.MaxError != 7*ms || s.Stratum != 1 || s.Reference != ".CTD." || !s.Agrees || m.Offset != 3*ms || m.Bound != 10*ms {
		t.Errorf("%+v", m)
	}
}

func TestDeadServerIsAskedTwiceAndALostPacketForgiven(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Quorum = 2 }, errors.New("refused"), func(n int) (*ntp.Response, error) {
		if n == 1 {
			return nil, errors.New("lost")
		}
		return answer(0), nil
	}, answer(0))
	m := r.Measure(t.Context())
	if r.servers.asked["ntp1"] != 2 || m.Servers[0].Err != "refused" || m.Servers[1].Samples != 3 || m.Servers[1].Err != "" || !m.OK {
		t.Errorf("asked %v: %+v", r.servers.asked, m)
	}
}

func TestKissOfDeathIsObeyed(t *testing.T) {
	t.Parallel()
	kiss := answer(0)
	kiss.Stratum = 0
	r := newRig(t, nil, kiss)
	if m := r.Measure(t.Context()); r.servers.asked["ntp1"] != 1 || m.Servers[0].Err != ntp.ErrKissOfDeath.Error() {
		t.Errorf("asked %v: %+v", r.servers.asked, m)
	}
}

func TestKernelVeto(t *testing.T) {
	t.Parallel()
	for name, kernel := range map[string]func() (Kernel, error){
		"not synchronised": func() (Kernel, error) { return Kernel{}, nil },
		"not readable":     func() (Kernel, error) { return Kernel{}, errors.New("not permitted") },
	} {
		good := true
		r := newRig(t, func(c *Config) {
			c.RequireKernel = true
			c.Kernel = func() (Kernel, error) {
				if good {
					return Kernel{Synchronised: true}, nil
				}
				return kernel()
			}
		}, answer(0))
		r.Measure(t.Context())
		r.want(t, Synced, "")
		good = false
		if m := r.Measure(t.Context()); m.OK || m.Bound != 0 {
			t.Errorf("%s: %+v", name, m)
		}
		r.want(t, Unknown, "kernel")
	}
	r := newRig(t, func(c *Config) { c.Kernel = func() (Kernel, error) { return Kernel{}, nil } }, answer(0))
	r.Measure(t.Context())
	r.want(t, Synced, "")
}

func TestLeapSecondWarns(t *testing.T) {
	t.Parallel()
	leap := answer(0)
	leap.Leap = ntp.LeapAddSecond
	for _, c := range []struct {
		at      time.Time
		answers []any
		state   State
	}{
		{time.Date(2026, 6, 30, 23, 30, 0, 0, time.UTC), []any{leap, leap, answer(0)}, Warning},
		{time.Date(2026, 6, 30, 23, 30, 0, 0, time.UTC), []any{leap, answer(0), answer(0)}, Synced},
		{time.Date(2026, 6, 30, 22, 30, 0, 0, time.UTC), []any{leap, leap, leap}, Synced},
	} {
		r := newRig(t, nil, c.answers...)
		r.machine.wall = c.at
		r.Measure(t.Context())
		if got, _ := r.Now(); got.State != c.state {
			t.Errorf("%v: %+v", c.at, got)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"quorum of half":     {Servers: []string{"a", "b", "c", "d"}, Quorum: 2},
		"quorum above all":   {Servers: []string{"a"}, Quorum: 2},
		"negative interval":  {Interval: -1},
		"warning over limit": {Warn: 2 * time.Second},
		"negative drift":     {DriftPPM: -1},
		"negative samples":   {Samples: -1},
	} {
		if c, err := New(cfg); err == nil || c != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRunMeasuresAgainAfterAStep(t *testing.T) {
	t.Parallel()
	measures := make(chan Measure)
	r := newRig(t, func(c *Config) {
		c.Interval = time.Hour
		c.OnMeasure = func(m Measure) { measures <- m }
	}, answer(0))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	if m := <-measures; !m.OK || m.State != Synced || m.Before.State != Unknown {
		t.Errorf("first: %+v", m)
	}
	r.machine.step(time.Minute)
	r.want(t, Unknown, "stepped")
	if m := <-measures; !m.OK || m.State != Synced || !strings.Contains(m.Before.Reason, "stepped by 1m0s") {
		t.Errorf("after the step: %+v", m)
	}
	cancel()
	<-done
}

func TestRunWithoutServersReturns(t *testing.T) {
	t.Parallel()
	newRig(t, nil).Run(t.Context())
}

func TestNowIsSafeBesideMeasure(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, answer(0), answer(0), answer(0))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				_, _ = r.Now()
				r.machine.pass(ms)
			}
		})
	}
	for range 20 {
		r.Measure(t.Context())
	}
	wg.Wait()
	r.want(t, Synced, "")
}

func BenchmarkNow(b *testing.B) {
	c, err := New(Config{Servers: []string{"ntp1"}, SampleGap: time.Nanosecond,
		Query: func(context.Context, string) (*ntp.Response, error) { return answer(0), nil }})
	if err != nil {
		b.Fatal(err)
	}
	c.Measure(b.Context())
	for b.Loop() {
		if _, err := c.Now(); err != nil {
			b.Fatal(err)
		}
	}
}
