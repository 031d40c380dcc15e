package relay

import (
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Options say what a queue is made of.
type Options struct {
	Send           Sender
	Open           Opener
	Handle         Handler
	Holds          *Holds           // what operators hold; nil: nothing is kept beyond the process
	Sessions       int              // attempts at once, in all
	PerDestination int              // attempts at once to one destination
	FirstDelay     time.Duration    // after the first attempt that failed; it doubles with each
	MaxDelay       time.Duration    // the longest time between two attempts
	Now            func() time.Time // nil: time.Now
	Logger         *slog.Logger
}

// Queue schedules letters. Its methods may be called concurrently.
//
// Nobody waits for anybody else's bad luck: a destination has few attempts at once, and one alone while it cannot be
// reached; an attempt that lasts longer than slowAfter leaves its place to another and goes on in a lane of its own;
// and ordinary domains, which anybody can make slow, have three quarters of the places.
type Queue struct {
	o       Options
	metrics Metrics
	wake    chan struct{} // holds one token when the schedule changed

	mu        sync.Mutex // guards what follows, and the fields of entries and destinations
	entries   map[ID]*entry
	dests     map[destKey]*destination
	certified byStart // destinations that may begin an attempt, by when
	ordinary  byStart
	expiry    byExpiry
	fast      int // attempts in places of Options.Sessions
	fastOrd   int // of them, to ordinary domains
	slow      int // attempts that have left them
	expiring  int // letters whose end is being handled

	running  sync.WaitGroup
	stopping chan struct{} // closed when Run is about to end
}

const (
	// slowAfter is how long an attempt may keep a place that others wait for.
	slowAfter = 30 * time.Second
	// slowLanes is how many attempts may be slow, as a multiple of Options.Sessions.
	slowLanes = 4
	// expireAtOnce bounds the letters whose end is handled at once.
	expireAtOnce = 16
	// maxSleep is how long the queue sleeps at most: a clock may be set.
	maxSleep = time.Minute
	// lastText bounds what is kept of an answer in memory, octets.
	lastText = 200
)

// NewQueue makes a queue without letters.
func NewQueue(o Options) *Queue {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Holds == nil {
		o.Holds = new(Holds)
	}
	return &Queue{o: o, wake: make(chan struct{}, 1), entries: map[ID]*entry{}, dests: map[destKey]*destination{}, stopping: make(chan struct{})}
}

// Add adds letters, before or while the queue runs. A letter whose ID is there already is dropped.
func (q *Queue) Add(letters ...*Letter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range letters {
		if q.entries[l.ID] != nil {
			continue
		}
		key := destKey{l.Destination, l.Certified}
		d := q.dests[key]
		if d == nil {
			d = &destination{name: l.Destination, certified: l.Certified, letters: map[*entry]struct{}{}, held: q.o.Holds.destination(l.Destination), place: -1}
			q.dests[key] = d
		}
		e := &entry{letter: l, dest: d, ready: l.Next, held: q.o.Holds.letter(l.ID), place: -1, expiry: -1}
		q.entries[l.ID] = e
		d.letters[e] = struct{}{}
		if !l.Until.IsZero() {
			heap.Push(&q.expiry, e)
		}
		q.wait(e)
	}
	q.Wake()
}

// wait makes an entry wait for its attempt.
func (q *Queue) wait(e *entry) {
	e.state = waiting
	if !e.held {
		heap.Push(&e.dest.waiting, e)
	}
	q.schedule(e.dest)
}

func (q *Queue) schedule(d *destination) {
	if d.certified {
		q.certified.schedule(d, q.o.PerDestination)
	} else {
		q.ordinary.schedule(d, q.o.PerDestination)
	}
}

// Remove takes a letter out of the queue, if it is there and nothing is being done with it.
func (q *Queue) Remove(id ID) (removed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entries[id]
	if e == nil || e.state != waiting {
		return false
	}
	q.forget(e)
	return true
}

// forget takes an entry out of everything.
func (q *Queue) forget(e *entry) {
	d := e.dest
	if e.place >= 0 {
		heap.Remove(&d.waiting, e.place)
	}
	if e.expiry >= 0 {
		heap.Remove(&q.expiry, e.expiry)
	}
	delete(q.entries, e.letter.ID)
	delete(d.letters, e)
	q.schedule(d)
	if len(d.letters) == 0 && d.running == 0 {
		delete(q.dests, destKey{d.name, d.certified})
	}
}

// Wake makes the queue look at the clock: for tests that move it.
func (q *Queue) Wake() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Len is how many letters are in the queue.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries)
}

// Run sends letters until ctx ends, then lets attempts under way finish for the drain time, cuts the others off, and
// returns when nothing is under way any more. A queue runs once.
func (q *Queue) Run(ctx context.Context, drain time.Duration) {
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	for ctx.Err() == nil {
		timer := time.NewTimer(q.dispatch(work))
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	close(q.stopping)
	drained := time.AfterFunc(drain, cut)
	q.running.Wait()
	drained.Stop()
}

// dispatch begins everything that is due and returns for how long nothing else is.
func (q *Queue) dispatch(ctx context.Context) (sleep time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.o.Now()
	sleep = maxSleep
	due := func(at time.Time) bool {
		if d := at.Sub(now); d > 0 {
			sleep = min(sleep, d)
			return false
		}
		return true
	}
	for q.expiring < expireAtOnce && len(q.expiry) > 0 && due(q.expiry[0].letter.Until) {
		e := heap.Pop(&q.expiry).(*entry)
		if e.state != waiting { // looked at again when its attempt has ended
			continue
		}
		if e.place >= 0 {
			heap.Remove(&e.dest.waiting, e.place)
		}
		q.schedule(e.dest)
		e.state = handling
		q.expiring++
		q.running.Go(func() { q.expire(ctx, e) })
	}
	for _, h := range []*byStart{&q.certified, &q.ordinary} {
		for q.fast < q.o.Sessions && len(*h) > 0 && due((*h)[0].start) {
			if h == &q.ordinary && q.fastOrd >= max(1, q.o.Sessions*3/4) {
				break
			}
			d := (*h)[0]
			e := heap.Pop(&d.waiting).(*entry)
			e.state = sending
			e.attempts++
			e.placed = true
			n := e.attempts
			d.running++
			q.fast++
			if !d.certified {
				q.fastOrd++
			}
			q.schedule(d)
			q.running.Go(func() { q.attempt(ctx, e, n) })
		}
	}
	return sleep
}

// attempt sends a letter once, and sees to it that what came of it is handled.
func (q *Queue) attempt(ctx context.Context, e *entry, n int) {
	began := q.o.Now()
	q.metrics.Sending.Add(1)
	slow := time.AfterFunc(slowAfter, func() { q.slowDown(e, n) })
	r := q.sendSafely(ctx, e.letter)
	q.metrics.Sending.Add(-1)
	if r.Time = q.o.Now(); len(r.Answers) > 0 {
		q.metrics.count(e.letter, r)
	}
	q.mu.Lock()
	q.judge(e, r, began)
	q.mu.Unlock()
	done := len(r.Answers) == 0 || q.handle(ctx, e, r)
	slow.Stop()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free(e)
	if done {
		q.settle(e, r)
	}
	q.Wake()
}

// sendSafely turns a panic into an answer: what one message brings about must not end the process, which would send the
// same one again at its next start, and so for ever.
func (q *Queue) sendSafely(ctx context.Context, l *Letter) (r *Result) {
	defer func() {
		if p := recover(); p != nil {
			q.o.Logger.Error("sending a message panicked", "job", l.ID, "panic", p, "stack", string(debug.Stack()))
			r = new(Result)
			for _, rcpt := range l.Recipients {
				r.Answers = append(r.Answers, Answer{Recipient: rcpt, State: Deferred, Enhanced: "4.3.0", Text: "an error of this server: its log tells more"})
			}
		}
	}()
	return q.o.Send(ctx, l, q.o.Open)
}

// handleSafely turns a panic into an error.
func (q *Queue) handleSafely(ctx context.Context, l *Letter, r *Result) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("relay: panic: %v\n%s", p, debug.Stack())
		}
	}()
	return q.o.Handle(ctx, l, r)
}

// slowDown gives the place of an entry's nth attempt, which is slow, to others, unless too many are.
func (q *Queue) slowDown(e *entry, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !e.placed || e.slow || e.attempts != n || q.slow >= slowLanes*q.o.Sessions {
		return
	}
	e.slow = true
	q.slow++
	q.leave(e)
	if e.state == sending {
		e.dest.slow++
		q.schedule(e.dest)
	}
	q.Wake()
}

// leave gives up a place of the fast lane.
func (q *Queue) leave(e *entry) {
	q.fast--
	if !e.letter.Certified {
		q.fastOrd--
	}
}

// free gives up whatever place an attempt has.
func (q *Queue) free(e *entry) {
	e.placed = false
	if !e.slow {
		q.leave(e)
		return
	}
	e.slow = false
	q.slow--
}

// judge takes note of an attempt that has ended: of the destination, and of when the next attempt is.
func (q *Queue) judge(e *entry, r *Result, began time.Time) {
	l, d := e.letter, e.dest
	e.state = handling
	d.running--
	if e.slow {
		d.slow--
	}
	defer q.schedule(d)
	if len(r.Answers) == 0 {
		return
	}
	l.Tries++
	delay := q.delay(l.Tries)
	switch {
	case !r.Unreachable:
		d.fails, d.next = 0, time.Time{}
	case d.fails == 0 || began.After(d.failed): // those that began before the last failure tell nothing new
		d.fails++
		d.failed = r.Time
		d.next = r.Time.Add(q.delay(d.fails))
		fallthrough
	default:
		delay = max(0, d.next.Sub(r.Time))
	}
	l.Next = r.Time.Add(delay)
}

// delay is the time after the nth attempt that failed, give or take a fifth.
func (q *Queue) delay(n int) time.Duration {
	d := q.o.FirstDelay
	for range min(n, 30) - 1 {
		if d *= 2; d >= q.o.MaxDelay {
			break
		}
	}
	d = min(d, q.o.MaxDelay)
	return d - d/5 + time.Duration(rand.Int64N(int64(2*d/5)+1))
}

// handle has a result made durable, again and again until it is; done is false when the provider stops before that.
func (q *Queue) handle(ctx context.Context, e *entry, r *Result) (done bool) {
	for try := 1; ; try++ {
		err := q.handleSafely(context.WithoutCancel(ctx), e.letter, r)
		q.mu.Lock()
		e.failing = err != nil
		q.mu.Unlock()
		if err == nil {
			return true
		}
		q.metrics.Unhandled.Add(1)
		level := slog.LevelError
		if try > 1 {
			level = slog.LevelInfo
		}
		wait := min(time.Second<<min(try, 9), 5*time.Minute)
		q.o.Logger.Log(ctx, level, "what came of sending a message could not be recorded, and will be again", "job", e.letter.ID, "err", err, "tries", try, "in", wait)
		select {
		case <-time.After(wait):
		case <-q.stopping:
			return false
		}
	}
}

// settle takes the recipients out that have a final answer, and the letter when none is left.
func (q *Queue) settle(e *entry, r *Result) {
	l, d := e.letter, e.dest
	final := map[string]bool{}
	for i := range r.Answers {
		switch a := &r.Answers[i]; a.State {
		case Deferred:
			l.Last = printable(a.String(), lastText)
			d.last = l.Last
		default:
			final[a.Recipient] = true
		}
	}
	l.Recipients = slices.DeleteFunc(slices.Clone(l.Recipients), func(rcpt string) bool { return final[rcpt] })
	if len(l.Recipients) == 0 {
		q.forget(e)
		return
	}
	if e.ready = l.Next; r.Unreachable {
		e.ready = r.Time // behind the others; it is the destination that waits, and all go on when it is back
	}
	if e.expiry < 0 && !l.Until.IsZero() {
		heap.Push(&q.expiry, e)
	}
	q.wait(e)
}

// expire ends a letter whose time is over.
func (q *Queue) expire(ctx context.Context, e *entry) {
	l := e.letter
	text := "the time to deliver the message is over"
	if l.Last != "" {
		text += "; the last answer was: " + l.Last
	}
	r := &Result{Time: q.o.Now()}
	for _, rcpt := range l.Recipients {
		r.Answers = append(r.Answers, Answer{Recipient: rcpt, State: Refused, Enhanced: "5.4.7", Text: text})
	}
	done := q.handle(ctx, e, r)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expiring--
	if done {
		q.metrics.Expired.Add(1)
		q.forget(e)
	}
	q.Wake()
}
