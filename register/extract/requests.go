package extract

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/register"
	"scripta/register/calendar"
	"scripta/register/evidence"
	"scripta/register/receipts"
	"scripta/register/record"
)

// Defaults of [RequestOptions].
const (
	DefaultKeep           = 30 * 24 * time.Hour
	DefaultOpenPerMailbox = 3
	DefaultKeptPerMailbox = 20
	DefaultQueue          = 1000
	DefaultMaxBytes       = 4 << 30
)

// WorkingDays is within how many working days of the request an extract is
// served.
const WorkingDays = 5

// RequestOptions say what [Requests] are made of.
type RequestOptions struct {
	Dir      string // of their own: requests and evidence files lie here, sealed
	FS       durable.FS
	Months   *keys.Months // the register's
	Register *register.Register
	Calendar *calendar.Calendar

	// Write makes an evidence file ([Extractor.Write]).
	Write func(ctx context.Context, w io.Writer, q evidence.Query, now time.Time) (events int, err error)
	// Now reads the clock once, for one step. The pairs are what the step's
	// record says of the clock, such as that it is not traceable; an error
	// refuses the step.
	Now func() (time.Time, []record.Pair, error)
	// FreeBytes is what is left on the disk; production stops when it would leave
	// less than MinFreeBytes. Without FreeBytes nothing is checked.
	FreeBytes    func() (int64, error)
	MinFreeBytes int64

	Keep           time.Duration // how long a request is kept after its answer; 0: DefaultKeep
	OpenPerMailbox int           // unanswered requests of one mailbox; 0: DefaultOpenPerMailbox
	KeptPerMailbox int           // answered requests of one mailbox, the oldest are deleted first; 0: DefaultKeptPerMailbox
	Queue          int           // unanswered requests of all mailboxes; 0: DefaultQueue
	MaxBytes       int64         // of one evidence file; 0: DefaultMaxBytes
	Logger         *slog.Logger
}

var (
	// ErrTooManyOpen says that a mailbox has as many unanswered requests as it may.
	ErrTooManyOpen = errors.New("extract: this mailbox has too many requests that are not answered yet")
	// ErrBusy says that all mailboxes together have too many unanswered requests.
	ErrBusy = errors.New("extract: too many requests are waiting")
	// ErrPeriod says that a period ends before it begins, or begins in the future.
	ErrPeriod = errors.New("extract: the period is empty or in the future")
	// ErrNoRequest says that the mailbox has no such request, or not any more.
	ErrNoRequest = errors.New("extract: no such request")
	// ErrNotReady says that the evidence file is not made yet.
	ErrNotReady = errors.New("extract: not produced yet")
	// ErrRefused says that the request ended without an evidence file.
	ErrRefused = errors.New("extract: the request ended without a file")
)

// Requests are the extracts that holders ask for: a state machine whose steps are
// records of the register.
//
//	asked ──▶ produced ──▶ delivered
//	  └─────▶ refused (no event matches, or too many)
//
// A step is made in this order: 1. the clock is read; 2. the request with the
// step in it is made durable; 3. the step's record is appended. A crash before 2
// leaves the request where it was, and the step is made anew; after 2 the record
// is appended again on opening, under the same id and with the same content, so
// that it is in the log once. The evidence file is whole on the disk before step
// "produced", which holds its digest; one that a crash left without that step is
// made again.
//
// One worker ([Requests.Run]) produces; asking never waits for it. Its methods
// may be called concurrently.
type Requests struct {
	o     RequestOptions
	files *requestFiles

	// Failures counts productions that failed and will be run again. It may be
	// read at any time.
	Failures atomic.Uint64

	// stepMu is held while a step of an existing request is made, and while one
	// is deleted. This guarantees that no step is made twice and that no step
	// brings a deleted request back.
	stepMu sync.Mutex

	mu       sync.Mutex             // guards what follows
	requests map[RequestID]*Request // kept ones, which are never changed, only replaced
	asking   map[string]int         // by mailbox: requests that are being made durable
	queue    []*task
	wake     chan struct{} // holds an element when the queue may have changed
}

// OpenRequests opens the requests kept in o.Dir and puts those that a crash or a
// stop left behind back into the queue. A request whose file is damaged is
// reported to the logger and left out.
func OpenRequests(o RequestOptions) (*Requests, error) {
	o.Keep = cmp.Or(o.Keep, DefaultKeep)
	o.OpenPerMailbox = cmp.Or(o.OpenPerMailbox, DefaultOpenPerMailbox)
	o.KeptPerMailbox = cmp.Or(o.KeptPerMailbox, DefaultKeptPerMailbox)
	o.Queue = cmp.Or(o.Queue, DefaultQueue)
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	files, err := openRequestFiles(o.FS, o.Dir, o.Register.FirstOrigin(), o.Months)
	if err != nil {
		return nil, err
	}
	kept, err := files.loadAll(func(name string, err error) {
		o.Logger.Error("the request of an extract cannot be read; it is in the register, serve it by hand", "request", name, "err", err)
	})
	if err != nil {
		return nil, err
	}
	if err := files.sweep(); err != nil {
		return nil, err
	}
	r := &Requests{o: o, files: files, requests: map[RequestID]*Request{}, asking: map[string]int{}, wake: make(chan struct{}, 1)}
	slices.SortFunc(kept, byAge)
	for _, x := range kept {
		r.requests[x.ID] = x
		r.queue = append(r.queue, &task{id: x.ID})
	}
	return r, nil
}

// byAge sorts requests, the oldest first.
func byAge(a, b *Request) int {
	return cmp.Or(a.Asked.Time.Compare(b.Asked.Time), strings.Compare(string(a.ID[:]), string(b.ID[:])))
}

// Ask is what a holder asks for: all events of his mailbox, or of one message,
// in a period.
type Ask struct {
	Mailbox   string      // full address, whose holder was identified
	MessageID string      // PEC or original identifier; empty: all messages
	From, To  time.Time   // From included, To not; zero: no bound
	Peer      record.Peer // whence it was asked
	// Further filters, as register.Query has them; empty: none.
	ReceiptID, Counterpart, Subject string
	Kinds                           []record.Kind
}

// Ask takes a request and returns when it is durable and recorded; the worker
// answers it later. Errors: [ErrTooManyOpen], [ErrBusy], [ErrPeriod], those of
// the clock, of the disk and of the register. After an error of the register the
// request may exist all the same ([Requests.List] tells).
func (r *Requests) Ask(ctx context.Context, a Ask) (*Request, error) {
	a.Mailbox = strings.ToLower(a.Mailbox)
	if err := r.reserve(a.Mailbox); err != nil {
		return nil, err
	}
	x, err := r.begin(a)
	r.admit(a.Mailbox, x)
	if err != nil {
		return nil, err
	}
	// From here on the request stands: whatever becomes of this call, the worker
	// sees to its record and its answer.
	defer r.enqueue(&task{id: x.ID})
	if err := r.record(context.WithoutCancel(ctx), x); err != nil {
		return nil, err
	}
	return x, nil
}

// begin makes a request durable.
func (r *Requests) begin(a Ask) (*Request, error) {
	step, err := r.step(a.Peer)
	if err != nil {
		return nil, err
	}
	q, err := newQuery(a, step.Time)
	if err != nil {
		return nil, err
	}
	x := &Request{Query: q, Due: r.o.Calendar.Due(step.Time, WorkingDays), Asked: *step}
	rand.Read(x.ID[:])
	if err := r.files.save(x); err != nil {
		return nil, err
	}
	return x, nil
}

// reserve admits one more open request of a mailbox.
func (r *Requests) reserve(mailbox string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, own := r.asking[""], r.asking[mailbox]
	for _, x := range r.requests {
		if x.State() == StateAsked {
			all++
			if x.Query.Mailbox == mailbox {
				own++
			}
		}
	}
	switch {
	case own >= r.o.OpenPerMailbox:
		return ErrTooManyOpen
	case all >= r.o.Queue:
		return ErrBusy
	}
	r.asking[mailbox]++
	r.asking[""]++ // of all mailboxes
	return nil
}

// admit gives a reservation up and, unless x is nil, counts the request instead:
// in one step, so that none counts twice or not at all.
func (r *Requests) admit(mailbox string, x *Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x != nil {
		r.requests[x.ID] = x
	}
	r.asking[""]--
	if r.asking[mailbox]--; r.asking[mailbox] == 0 {
		delete(r.asking, mailbox)
	}
}

// step reads the clock for a step.
func (r *Requests) step(peer record.Peer) (*Step, error) {
	t, marks, err := r.o.Now()
	if err != nil {
		return nil, err
	}
	t = millis(t)
	if err := r.o.Register.Begin(t); err != nil {
		return nil, err
	}
	return &Step{Time: t, Marks: marks, Peer: peer}, nil
}

// record appends the records of all steps that are not in the log yet.
func (r *Requests) record(ctx context.Context, x *Request) error {
	for _, e := range x.entries() {
		if _, found, err := r.o.Register.Lookup(ctx, e.ID); err != nil {
			return err
		} else if found {
			continue
		}
		if _, err := r.o.Register.Append(ctx, e); err != nil {
			return fmt.Errorf("couldn't record request %v: %w", x.ID, err)
		}
	}
	return nil
}

// advance makes the step that change puts into a copy of the request durable,
// and records it. The caller holds stepMu.
func (r *Requests) advance(ctx context.Context, x *Request, change func(*Request)) (*Request, error) {
	next := *x
	change(&next)
	if err := r.files.save(&next); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.requests[next.ID] = &next
	r.mu.Unlock()
	return &next, r.record(ctx, &next)
}

// get returns a kept request, or nil.
func (r *Requests) get(id RequestID) *Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests[id]
}

// Get returns a request of a mailbox, or [ErrNoRequest].
func (r *Requests) Get(mailbox string, id RequestID) (*Request, error) {
	if x := r.get(id); x != nil && x.Query.Mailbox == strings.ToLower(mailbox) {
		return x, nil
	}
	return nil, ErrNoRequest
}

// List returns the kept requests of a mailbox, the newest first.
func (r *Requests) List(mailbox string) []*Request {
	mailbox = strings.ToLower(mailbox)
	r.mu.Lock()
	defer r.mu.Unlock()
	var own []*Request
	for _, x := range r.requests {
		if x.Query.Mailbox == mailbox {
			own = append(own, x)
		}
	}
	slices.SortFunc(own, func(a, b *Request) int { return byAge(b, a) })
	return own
}

// Waiting returns how many requests are unanswered, and how many of them are
// past their due date at now.
func (r *Requests) Waiting(now time.Time) (open, late int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.requests {
		if x.State() == StateAsked {
			open++
			if now.After(x.Due) {
				late++
			}
		}
	}
	return open, late
}

// Deliver opens the evidence file of a request for its holder. The first time is
// a step, recorded before a byte is handed out. Errors: [ErrNoRequest],
// [ErrNotReady], [ErrRefused], those of the clock, the disk and the register.
func (r *Requests) Deliver(ctx context.Context, mailbox string, id RequestID, peer record.Peer) (*Request, receipts.Content, error) {
	x, err := r.Get(mailbox, id)
	if err != nil {
		return nil, nil, err
	}
	switch x.State() {
	case StateAsked:
		return x, nil, ErrNotReady
	case StateRefused:
		return x, nil, fmt.Errorf("%w: %s", ErrRefused, x.Reason)
	}
	file, err := r.files.evidence.OpenContent(x.ID, monthOf(x))
	if errors.Is(err, receipts.ErrNotFound) && r.get(id) == nil {
		return nil, nil, ErrNoRequest // deleted in between
	} else if err != nil {
		return nil, nil, fmt.Errorf("couldn't open the evidence file of request %v: %w", id, err)
	}
	if x, err = r.delivered(context.WithoutCancel(ctx), id, peer); err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return x, file, nil
}

// delivered makes the step "delivered" unless it was made.
func (r *Requests) delivered(ctx context.Context, id RequestID, peer record.Peer) (*Request, error) {
	r.stepMu.Lock()
	defer r.stepMu.Unlock()
	x := r.get(id)
	if x == nil {
		return nil, ErrNoRequest
	}
	if x.Delivered != nil {
		return x, r.record(ctx, x) // an earlier call may have failed to
	}
	step, err := r.step(peer)
	if err != nil {
		return nil, err
	}
	return r.advance(ctx, x, func(x *Request) { x.Delivered = step })
}
