package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// desk is a queue with servers and a handler that tests make up, under a clock of its own (synctest).
type desk struct {
	t *testing.T
	*Queue
	cancel context.CancelFunc
	ended  chan struct{}
	drain  time.Duration

	mu      sync.Mutex
	send    func(ctx context.Context, l *Letter) *Result
	handle  func(l *Letter, r *Result) error
	sent    []string           // "destination n" of each attempt, in order
	results map[ID][]Answer    // that were handled
	tries   map[ID][]int       // l.Tries as the handler saw it
	at      map[ID][]time.Time // of attempts
	next    map[ID][]time.Time // l.Next as the handler saw it
	busy    map[string]int     // attempts now, by destination
	most    map[string]int     // at once, by destination
}

// number makes a letter's id; two letters of one number are one.
func number(n int) (id ID) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

func letter(n int, destination string, rcpts ...string) *Letter {
	if rcpts == nil {
		rcpts = []string{fmt.Sprintf("user%d@%s", n, destination)}
	}
	return &Letter{ID: number(n), Destination: destination, Recipients: rcpts, Begun: time.Now(), Until: time.Now().Add(24 * time.Hour), Size: 100}
}

// all answers each recipient alike.
func all(l *Letter, s State) *Result {
	r := new(Result)
	for _, rcpt := range l.Recipients {
		r.Answers = append(r.Answers, Answer{Recipient: rcpt, State: s, Code: map[State]int{Taken: 250, Deferred: 451, Refused: 550}[s], Text: s.String(), Hop: Hop{Host: "mx"}})
	}
	return r
}

func unreachable(l *Letter) *Result {
	r := all(l, Deferred)
	r.Unreachable = true
	return r
}

func newDesk(t *testing.T, o Options) *desk {
	d := &desk{t: t, drain: 10 * time.Second, ended: make(chan struct{}), results: map[ID][]Answer{}, tries: map[ID][]int{}, at: map[ID][]time.Time{}, next: map[ID][]time.Time{}, busy: map[string]int{}, most: map[string]int{}}
	d.send = func(_ context.Context, l *Letter) *Result { return all(l, Taken) }
	o.Send = func(ctx context.Context, l *Letter, _ Opener) *Result {
		d.mu.Lock()
		d.sent = append(d.sent, l.Destination)
		d.at[l.ID] = append(d.at[l.ID], time.Now())
		d.busy[l.Destination]++
		d.most[l.Destination] = max(d.most[l.Destination], d.busy[l.Destination])
		send := d.send
		d.mu.Unlock()
		defer func() { d.mu.Lock(); d.busy[l.Destination]--; d.mu.Unlock() }()
		return send(ctx, l)
	}
	o.Handle = func(_ context.Context, l *Letter, r *Result) error {
		if d.handle != nil {
			if err := d.handle(l, r); err != nil {
				return err
			}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.results[l.ID] = append(d.results[l.ID], r.Answers...)
		d.tries[l.ID] = append(d.tries[l.ID], l.Tries)
		d.next[l.ID] = append(d.next[l.ID], l.Next)
		return nil
	}
	if o.Sessions == 0 {
		o.Sessions, o.PerDestination = 8, 4
	}
	if o.FirstDelay == 0 {
		o.FirstDelay, o.MaxDelay = time.Minute, 30*time.Minute
	}
	o.Logger = slog.New(slog.DiscardHandler)
	d.Queue = NewQueue(o)
	return d
}

func (d *desk) start() {
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	go func() { d.Run(ctx, d.drain); close(d.ended) }()
}

func (d *desk) stop() { d.cancel(); <-d.ended }

// states of a letter's answers so far.
func (d *desk) states(n int) (s []State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.results[number(n)] {
		s = append(s, a.State)
	}
	return s
}

func TestQueueSends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Options{})
		d.Add(letter(1, "a.example"), letter(1, "a.example"))
		d.start()
		d.Add(letter(2, "b.example"))
		synctest.Wait()
		for n := 1; n <= 2; n++ {
			if got := d.states(n); !slices.Equal(got, []State{Taken}) {
				t.Errorf("letter %d: %v", n, got)
			}
		}
		if d.Len() != 0 || len(d.dests) != 0 {
			t.Errorf("%d letters and %d destinations are left", d.Len(), len(d.dests))
		}
		d.stop()
	})
}

// A letter that is put off waits longer each time, up to the longest delay, keeps only the recipients without a final
// answer, and is given up at its limit.
func TestQueueBacksOffAndGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Options{})
		d.send = func(_ context.Context, l *Letter) *Result {
			r := all(l, Deferred)
			for i, rcpt := range l.Recipients {
				if rcpt == "good@a.example" {
					r.Answers[i].State = Taken
				}
			}
			return r
		}
		d.Add(letter(1, "a.example", "good@a.example", "later@a.example"))
		d.start()
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		at := d.at[number(1)]
		for i := 1; i < len(at); i++ {
			want := min(time.Minute<<min(i-1, 10), 30*time.Minute)
			if gap := at[i].Sub(at[i-1]); gap < want*4/5 || gap > want*6/5 {
				t.Errorf("attempt %d came %v after the one before, want about %v", i+1, gap, want)
			}
			if !d.next[number(1)][i-1].Equal(at[i]) {
				t.Errorf("the handler was told of an attempt at %v, it was made at %v", d.next[number(1)][i-1], at[i])
			}
		}
		if len(at) < 45 || len(at) > 70 {
			t.Errorf("%d attempts in 24 hours", len(at))
		}
		for i, n := range d.tries[number(1)][:len(at)] {
			if n != i+1 {
				t.Fatalf("attempt %d has the number %d", i+1, n)
			}
		}
		answers := d.results[number(1)]
		last := answers[len(answers)-1]
		if answers[0].State != Taken || len(answers) != len(at)+2 {
			t.Errorf("%d answers for %d attempts, the first %v", len(answers), len(at), answers[0])
		}
		if last.State != Refused || last.Code != 0 || last.Enhanced != "5.4.7" || last.Recipient != "later@a.example" {
			t.Errorf("the last answer is %+v", last)
		}
		if d.Len() != 0 || d.Metrics().Expired.Load() != 1 {
			t.Errorf("%d letters, %d expired", d.Len(), d.Metrics().Expired.Load())
		}
		d.stop()
	})
}

// A destination that cannot be reached is asked by one attempt at a time, backs off as a whole, and everything goes at
// once when it is back.
func TestQueueProbesADeadDestination(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Options{})
		d.send = func(_ context.Context, l *Letter) *Result {
			time.Sleep(time.Second)
			return unreachable(l)
		}
		for n := range 100 {
			l := letter(n, "dead.example")
			l.Certified = true
			d.Add(l)
		}
		d.start()
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		if g := d.Gauges(); g.Unreachable != 1 || !slices.Equal(g.Providers, []string{"dead.example"}) {
			t.Errorf("gauges: %+v", g)
		}
		if n := len(d.sent); n < 12 || n > 30 {
			t.Errorf("%d attempts in six hours: that is no probing", n)
		}
		if s := d.Overview(10).Destinations[0]; s.Failures < 10 || s.Letters != 100 || s.Last == "" {
			t.Errorf("the overview says %+v", s)
		}
		if d.most["dead.example"] != 4 {
			t.Errorf("%d attempts at once at first", d.most["dead.example"])
		}
		d.mu.Lock()
		d.most = map[string]int{}
		d.send = func(_ context.Context, l *Letter) *Result { time.Sleep(time.Second); return all(l, Taken) }
		d.mu.Unlock()
		time.Sleep(36*time.Minute + 30*time.Second)
		synctest.Wait()
		if d.Len() != 0 {
			t.Errorf("%d letters are left after the destination came back", d.Len())
		}
		d.stop()
	})
}

// However many destinations hang, others get through: those who hang lose their places.
func TestQueueIsNotHeldUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Options{})
		d.send = func(ctx context.Context, l *Letter) *Result {
			if l.Destination[:4] == "slow" {
				time.Sleep(10 * time.Minute)
				return all(l, Deferred)
			}
			return all(l, Taken)
		}
		for n := range 60 {
			d.Add(letter(n, fmt.Sprintf("slow%d.example", n%30)))
		}
		certified := letter(1000, "provider")
		certified.Certified = true
		d.start()
		synctest.Wait()
		d.Add(certified, letter(1001, "quick.example"))
		synctest.Wait()
		if got := d.states(1000); !slices.Equal(got, []State{Taken}) {
			t.Errorf("a certified letter waits behind ordinary domains: %v", got)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if got := d.states(1001); !slices.Equal(got, []State{Taken}) {
			t.Errorf("a letter waits behind domains that hang: %v", got)
		}
		// One slow mailbox does not stop its own destination either.
		d.mu.Lock()
		d.send = func(ctx context.Context, l *Letter) *Result {
			if l.ID == number(2000) {
				time.Sleep(10 * time.Minute)
				return all(l, Deferred)
			}
			return all(l, Taken)
		}
		d.mu.Unlock()
		for n := range 50 {
			d.Add(letter(2000+n, "mixed.example"))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for n := 2001; n < 2050; n++ {
			if got := d.states(n); !slices.Equal(got, []State{Taken}) {
				t.Fatalf("letter %d waits behind another: %v", n, got)
			}
		}
		d.stop()
	})
}

func TestQueueBoundsAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Options{Sessions: 10, PerDestination: 3})
		busy, most := 0, 0
		d.send = func(_ context.Context, l *Letter) *Result {
			d.mu.Lock()
			busy++
			most = max(most, busy)
			d.mu.Unlock()
			time.Sleep(time.Second)
			d.mu.Lock()
			busy--
			d.mu.Unlock()
			return all(l, Taken)
		}
		for n := range 400 {
			l := letter(n, fmt.Sprintf("d%d.example", n%20))
			l.Certified = n%2 == 0
			d.Add(l)
		}
		d.start()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if d.Len() != 0 || most != 10 {
			t.Errorf("%d letters are left; %d attempts at once", d.Len(), most)
		}
		for name, n := range d.most {
			if n > 3 {
				t.Errorf("%s: %d at once", name, n)
			}
		}
		d.stop()
	})
}

// A result that cannot be made durable is handled again, and nothing is sent meanwhile.
func TestQueueHandlesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Options{})
		var seen []*Result
		d.handle = func(l *Letter, r *Result) error {
			if seen = append(seen, r); len(seen) < 4 {
				return errors.New("the disk is full")
			}
			return nil
		}
		d.Add(letter(1, "a.example"))
		d.start()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(d.sent) != 1 || len(seen) != 4 || seen[0] != seen[3] || d.Len() != 0 {
			t.Errorf("sent %d times, handled %d times, %d left", len(d.sent), len(seen), d.Len())
		}
		if d.Metrics().Unhandled.Load() != 3 {
			t.Errorf("counted %d failures", d.Metrics().Unhandled.Load())
		}
		d.stop()
	})
}

// What one letter brings about ends neither the process nor the queue.
func TestQueueSurvivesPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Options{})
		d.send = func(_ context.Context, l *Letter) *Result {
			if l.Tries == 0 && l.ID == number(1) {
				panic("sending")
			}
			return all(l, Taken)
		}
		panicked := false
		d.handle = func(l *Letter, _ *Result) error {
			if l.ID == number(2) && !panicked {
				panicked = true
				panic("handling")
			}
			return nil
		}
		d.Add(letter(1, "a.example"), letter(2, "b.example"))
		d.start()
		synctest.Wait()
		if g := d.Gauges(); g.Unrecorded != 1 || g.Letters != 2 {
			t.Errorf("after the panics: %+v", g)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if !slices.Equal(d.states(1), []State{Deferred, Taken}) || !slices.Equal(d.states(2), []State{Taken}) || !panicked {
			t.Errorf("%v and %v", d.states(1), d.states(2))
		}
		if g := d.Gauges(); g.Letters != 0 || g.Unrecorded != 0 {
			t.Errorf("in the end: %+v", g)
		}
		d.stop()
	})
}

// Stopping lets what is under way finish for the drain time and cuts off the rest, which stays without an answer.
func TestQueueStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Options{})
		d.send = func(ctx context.Context, l *Letter) *Result {
			wait := 5 * time.Second
			if l.ID == number(2) {
				wait = time.Hour
			}
			select {
			case <-time.After(wait):
				return all(l, Taken)
			case <-ctx.Done():
				return new(Result)
			}
		}
		d.Add(letter(1, "a.example"), letter(2, "b.example"))
		d.start()
		synctest.Wait()
		began := time.Now()
		d.stop()
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("stopping took %v", took)
		}
		if got := d.states(1); !slices.Equal(got, []State{Taken}) || len(d.states(2)) != 0 || d.Len() != 1 {
			t.Errorf("finished: %v, cut off: %v, left: %d", got, d.states(2), d.Len())
		}
	})
}

// A handler that fails for ever does not keep the provider from stopping.
func TestQueueStopsWhileTheDiskIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Options{})
		d.handle = func(*Letter, *Result) error { return errors.New("the disk is full") }
		late := letter(2, "b.example")
		late.Until = time.Now().Add(time.Minute)
		late.Next = late.Until.Add(time.Hour)
		d.Add(letter(1, "a.example"), late)
		d.start()
		time.Sleep(time.Hour)
		d.stop()
		if d.Len() != 2 {
			t.Errorf("%d letters are left: what was not recorded was forgotten", d.Len())
		}
	})
}

func TestQueueRemoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Options{})
		d.send = func(_ context.Context, l *Letter) *Result { time.Sleep(time.Minute); return all(l, Taken) }
		later := letter(1, "a.example")
		later.Next = time.Now().Add(time.Hour)
		d.Add(later, letter(2, "b.example"))
		d.start()
		synctest.Wait()
		if !d.Remove(number(1)) || d.Remove(number(1)) || d.Remove(number(2)) {
			t.Error("a waiting letter can be removed once, one that is being sent cannot")
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(d.sent) != 1 || d.Len() != 0 {
			t.Errorf("sent %v", d.sent)
		}
		d.stop()
	})
}

// A clock that is moved is noticed at once after Wake.
func TestQueueFollowsItsClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
		d := newDesk(t, Options{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
		d.send = func(_ context.Context, l *Letter) *Result { return all(l, Deferred) }
		l := letter(1, "a.example")
		l.Begun, l.Until = now, now.Add(24*time.Hour)
		d.Add(l)
		d.start()
		synctest.Wait()
		mu.Lock()
		now = now.Add(24 * time.Hour)
		mu.Unlock()
		d.Wake()
		synctest.Wait()
		if got := d.states(1); !slices.Equal(got, []State{Deferred, Refused}) {
			t.Errorf("after the clock was moved to the limit: %v", got)
		}
		d.stop()
	})
}

// A hundred thousand letters that wait take little memory: their messages are on the disk. Not parallel: others'
// memory would be counted.
func TestQueueOfManyLetters(t *testing.T) {
	const many = 100_000
	q := NewQueue(Options{Sessions: 1, PerDestination: 1, FirstDelay: time.Minute, MaxDelay: time.Minute})
	bytes := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := bytes()
	next := time.Now().Add(time.Hour)
	for n := range many {
		l := letter(n, fmt.Sprintf("d%d.example", n%5000))
		l.Next = next
		q.Add(l)
	}
	each := (int64(bytes()) - int64(before)) / many
	if each > 1500 {
		t.Errorf("%d bytes for each letter", each)
	}
	t.Logf("%d bytes for each letter", each)
	if o := q.Overview(20); o.Letters != many || o.More != 4980 {
		t.Errorf("overview: %d letters, %d more", o.Letters, o.More)
	}
	runtime.KeepAlive(q)
}
