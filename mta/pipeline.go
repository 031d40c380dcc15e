package mta

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"scripta/internal/cms"
	"scripta/mta/mailbox"
	"scripta/mta/pec"
	"scripta/mta/providers"
	"scripta/mta/rates"
	"scripta/mta/spool"
	"scripta/register"
	"scripta/register/record"
	"scripta/tsa/clock"
)

// Clock reads the measured time (tsa/clock).
type Clock interface {
	Now() (clock.Reading, error)
}

// Limits of what is accepted.
type Limits struct {
	Recipients           int   // of a message
	BytesTimesRecipients int64 // size of a message times its recipients
	MinFreeBytes         int64 // no message is taken when the disk has less left
}

// Options say what a pipeline is made of.
type Options struct {
	Register      *register.Register
	Spool         *spool.Spool
	Jobs          []*spool.Job // unfinished, as spool.Open returned them
	Boxes         *mailbox.Store
	Closed        func(address string) bool // mailboxes that take no envelope any more; nil: none
	Index         func() *providers.Index   // the current one, asked for each decision
	Composer      *pec.Composer
	Roots         *x509.CertPool // of the providers' signing certificates
	Clock         Clock
	Limits        Limits
	KeepOriginals bool
	FreeBytes     func() (int64, error) // left on the disk that everything lies on
	Hold          func() error          // why no new message is taken at the moment; nil: never
	Rates         *rates.Limiter        // what is done in a time; nil: no limits
	// SuspendSending keeps an account from sending until a person lifts it, for a
	// reason, and reports whether it could send until then. What it sent before goes
	// on. nil: nothing is done.
	SuspendSending func(ctx context.Context, account, reason string) (done bool, err error)
	// Scanner looks for viruses; nil: nobody does. PassUnscanned lets messages in
	// that it could not scan, which are put off otherwise.
	Scanner       VirusScanner
	PassUnscanned bool
	Relay         Relay         // takes what is for elsewhere; nil: it waits
	RelayFor      time.Duration // how long other servers are tried; 0: 24 hours (RFC 6109 §2.2.2)
	Ordinary      bool          // messages for ordinary recipients are taken
	Incoming      Incoming
	Workers       int
	Logger        *slog.Logger
}

// Pipeline runs the jobs of the three points. Its methods may be called
// concurrently.
type Pipeline struct {
	register *register.Register
	spool    *spool.Spool
	boxes    *mailbox.Store
	closed   func(address string) bool
	index    func() *providers.Index
	composer *pec.Composer
	roots    *x509.CertPool
	chains   cms.ChainCache
	clock    Clock
	limits   Limits
	keep     bool
	free     func() (int64, error)
	hold     func() error
	rates    *rates.Limiter
	suspend  func(ctx context.Context, account, reason string) (done bool, err error)
	log      *slog.Logger
	metrics  Metrics
	backlog  backlog

	scanner       VirusScanner
	passUnscanned bool

	relay      Relay
	relayFor   time.Duration
	ordinary   bool
	dispatches dispatches
	passages   passages
	restarted  []*passage // found at the start, to go on with it
	incoming   Incoming
	coming     comings
	refusals   refusals

	places   chan struct{} // taken by the messages that enter, until a worker has them
	tasks    chan *task
	ended    chan *task // carried to their end, to be forgotten
	stop     context.CancelFunc
	ctx      context.Context
	workers  sync.WaitGroup
	finisher sync.WaitGroup
}

// tasksWaiting bounds how many accepted messages wait for a worker; beyond it
// the Access Point waits before it takes another. It is what a machine does in
// half a second or less, so that the acceptance follows the 250 within a second.
const tasksWaiting = 64

// Open makes the pipeline and puts every job that a crash left behind in order:
// those whose message was never acknowledged are dropped, the others will be run
// again by Start. Nobody may read the mailboxes before it returns.
func Open(ctx context.Context, o Options) (*Pipeline, error) {
	if o.Closed == nil {
		o.Closed = func(string) bool { return false }
	}
	if o.Hold == nil {
		o.Hold = func() error { return nil }
	}
	if o.Rates == nil {
		o.Rates = rates.New(rates.Limits{})
	}
	if o.SuspendSending == nil {
		o.SuspendSending = func(context.Context, string, string) (bool, error) { return false, nil }
	}
	if o.Incoming.Roots == nil {
		o.Incoming.Roots = o.Roots
	}
	if o.Incoming.SpamLimit == nil {
		o.Incoming.SpamLimit = func(string) (int, bool) { return 0, false }
	}
	if o.Incoming.Ordinary == nil {
		o.Incoming.Ordinary = func(string) bool { return false }
	}
	if o.RelayFor == 0 {
		o.RelayFor = 24 * time.Hour
	}
	p := &Pipeline{incoming: o.Incoming, register: o.Register, spool: o.Spool, boxes: o.Boxes, closed: o.Closed, index: o.Index, composer: o.Composer, roots: o.Roots,
		clock: o.Clock, limits: o.Limits, keep: o.KeepOriginals, free: o.FreeBytes, hold: o.Hold, rates: o.Rates, suspend: o.SuspendSending, scanner: o.Scanner, passUnscanned: o.PassUnscanned, relay: o.Relay, relayFor: o.RelayFor, ordinary: o.Ordinary, log: o.Logger,
		places: make(chan struct{}, tasksWaiting), tasks: make(chan *task, tasksWaiting+len(o.Jobs)), ended: make(chan *task, tasksWaiting)}
	p.ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	live := map[[16]byte]bool{}
	tasks := map[spool.ID]*task{}
	for _, j := range o.Jobs {
		t, err := p.resume(ctx, j)
		if err != nil {
			return nil, err
		}
		if t != nil {
			tasks[j.ID] = t
			for _, id := range t.work.transactions(j.ID) {
				live[id] = true
			}
			p.backlog.add(j.ID, t.work.begun().Time)
			p.tasks <- t
		}
	}
	if err := p.regain(tasks); err != nil {
		return nil, err
	}
	err := o.Boxes.CleanTmp(func(_, name string) bool {
		tx, ok := transactionOf(name)
		return ok && live[tx]
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't clean the mailboxes after a crash: %w", err)
	}
	return p, nil
}

// resume decides about a job that a crash left. Its first record is the point of
// no return: without it the client got no 250 and will try again.
func (p *Pipeline) resume(ctx context.Context, j *spool.Job) (*task, error) {
	kind, err := kindOf(j)
	if err != nil {
		return nil, err
	}
	if kind == kindRelay {
		x, err := decodePassage(j)
		if err == nil {
			p.passages.add(x)
			p.restarted = append(p.restarted, x)
		}
		return nil, err
	}
	w, err := decodeWork(j, kind)
	if err != nil {
		return nil, err
	}
	t := &task{job: j, work: w, rerun: true}
	_, ok, err := p.register.Lookup(ctx, w.first(p, j.ID).ID)
	if err != nil {
		return nil, err
	}
	if ok {
		p.log.Info("job resumed after a restart", "tx", t.id())
		return t, p.prepareTask(t)
	}
	p.log.Info("a message that was never acknowledged is dropped", "tx", t.id())
	if month, ok := w.content(); ok {
		if err := p.register.Contents().Remove(j.ID, month); err != nil {
			return nil, err
		}
	}
	return nil, p.spool.Done(j)
}

// prepareTask has a task followed that waits for other providers.
func (p *Pipeline) prepareTask(t *task) error {
	s, ok := t.work.(*submission)
	if !ok || len(s.Reasons) > 0 || s.infected() {
		return nil
	}
	if len(s.Remote) == 0 {
		var known turn
		if late, err := t.noted(turnNote(0), &known); err != nil || !late {
			return err
		}
	}
	d, err := p.newDispatch(t, s)
	if err != nil {
		return err
	}
	t.dispatch = d
	p.dispatches.add(d)
	return nil
}

// regain decides about the relay jobs that a crash left: those whose parent has not
// noted that it handed them over wait for it to do so, again or for the first time.
func (p *Pipeline) regain(tasks map[spool.ID]*task) error {
	all := p.restarted
	p.restarted = nil
	for _, x := range all {
		t := tasks[x.Parent]
		if t != nil && t.dispatch != nil && len(x.Places) > 0 {
			t.dispatch.letters++
		}
		if t != nil {
			var note placed
			if handed, err := t.noted(x.Stage, &note); err != nil {
				return err
			} else if !handed {
				p.passages.wait(x)
				continue
			}
		}
		p.restarted = append(p.restarted, x)
	}
	return nil
}

// goOn goes on with the relay jobs that a restart found.
func (p *Pipeline) goOn() {
	for _, x := range p.restarted {
		if p.ctx.Err() != nil {
			return
		}
		p.admit(x)
	}
	p.restarted = nil
}

// Start runs the workers.
func (p *Pipeline) Start(workers int) {
	p.finisher.Go(p.forget)
	p.workers.Go(p.watch)
	p.workers.Go(p.goOn) // of very many, each of which the register is asked about
	for range workers {
		p.workers.Go(p.work)
	}
}

// Close stops the workers after their current jobs. Jobs not begun stay in the
// spool. The spool, the mailboxes and the register stay open.
func (p *Pipeline) Close() {
	p.stop()
	p.workers.Wait()
	close(p.ended)
	p.finisher.Wait()
}

func (p *Pipeline) work() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case t := <-p.tasks:
			p.runTask(t)
		}
	}
}

// runTask runs a job and, when it fails, runs it again later: nothing that was
// accepted is ever given up.
func (p *Pipeline) runTask(t *task) {
	log := p.log.With("tx", t.id())
	start := time.Now()
	switch err := p.carrySafely(t, log); {
	case err == nil:
		p.metrics.finished(time.Since(start))
		p.ended <- t
	case errors.Is(err, errWaiting):
		p.rest(t)
	default:
		p.putOff(t, err, log)
	}
}

// carrySafely turns a panic into an error: what one message brings about must not
// end the process, which would run the same job again at its next start, and so
// for ever.
func (p *Pipeline) carrySafely(t *task, log *slog.Logger) (err error) {
	defer func() {
		if r := recover(); r != nil {
			p.metrics.Alarms.Add(1)
			log.Error("a job panicked", "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("mta: panic: %v", r)
		}
	}()
	return p.carry(context.WithoutCancel(p.ctx), t, log)
}

// finishEvery is how long the pipeline collects jobs that came to their end,
// which then share the flush and the entry that forget them. Nobody waits for
// that; a crash runs them again.
const finishEvery = 100 * time.Millisecond

// forget runs until ended is closed.
func (p *Pipeline) forget() {
	for t := range p.ended {
		select {
		case <-time.After(finishEvery):
		case <-p.ctx.Done():
		}
		ts := []*task{t}
		for n := len(p.ended); n > 0; n-- { // nobody else receives
			ts = append(ts, <-p.ended)
		}
		if p.finish(ts...) == nil {
			continue
		}
		for _, t := range ts { // one must not hold up the others
			if err := p.finish(t); err != nil {
				p.putOff(t, err, p.log.With("tx", t.id()))
			}
		}
	}
}

// putOff runs a job again later: after 2 seconds, 4, and so on up to 5 minutes.
// The log hears of it as an error once, and again when the reason changes.
func (p *Pipeline) putOff(t *task, err error, log *slog.Logger) {
	tries, again := p.backlog.failed(t.job.ID, err)
	p.metrics.Retries.Add(1)
	delay := min(time.Second<<min(tries, 9), 5*time.Minute)
	level := slog.LevelError
	if again {
		level = slog.LevelInfo
	}
	log.Log(context.Background(), level, "a job failed and will be run again", "err", err, "tries", tries, "in", delay)
	if errors.Is(err, register.ErrStopped) || errors.Is(err, register.ErrConflict) {
		p.metrics.Alarms.Add(1)
	}
	time.AfterFunc(delay, func() {
		select {
		case p.tasks <- t:
		case <-p.ctx.Done():
		}
	})
}

// errUntrustedTime says that the clock's policy forbids to certify now.
var errUntrustedTime = errors.New("mta: the time is not traceable")

// moment is one reading of the clock, as it is kept with a transaction.
type moment struct {
	Time  time.Time   `json:"time"`
	State clock.State `json:"clock"`
}

// now reads the clock once for a transaction, in whole milliseconds.
func (p *Pipeline) now() (moment, error) {
	r, err := p.clock.Now()
	if err != nil {
		return moment{}, fmt.Errorf("%w: %w", errUntrustedTime, err)
	}
	m := moment{Time: r.Time.UTC().Truncate(time.Millisecond), State: r.State}
	if err := p.register.Begin(m.Time); err != nil {
		return moment{}, fmt.Errorf("%w: %w", errUntrustedTime, err)
	}
	return m, nil
}

// detail are a record's details, with the mark of a time that is not traceable.
func (m moment) detail(more ...record.Pair) []record.Pair {
	return record.SortDetail(append(more, register.ClockMarks(m.State)...))
}

// Metrics returns the pipeline's counters.
func (p *Pipeline) Metrics() *Metrics { return &p.metrics }

// Backlog tells of the messages that are accepted and not finished.
func (p *Pipeline) Backlog() Backlog {
	b := p.backlog.now()
	b.Letters = p.passages.len()
	b.Waiting = max(0, p.spool.Waiting()-b.Elsewhere-b.Letters) // one may end between the counts
	return b
}
