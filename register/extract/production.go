package extract

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"time"

	"scripta/register/record"
)

// task is a request that the worker has to look at: to answer it, or after a
// restart to see that its records are in the log.
type task struct {
	id        RequestID
	tries     int
	notBefore time.Time // of the process's clock; after a failure
}

const (
	retryFirst = time.Second
	retryMost  = 5 * time.Minute
	tidyEvery  = time.Hour
)

func (r *Requests) enqueue(t *task) {
	r.mu.Lock()
	r.queue = append(r.queue, t)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// dequeue takes the first task that is due off the queue; if there is none it
// returns how long to wait at most.
func (r *Requests) dequeue() (*task, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, wait := time.Now(), tidyEvery
	for i, t := range r.queue {
		left := t.notBefore.Sub(now)
		if left <= 0 {
			r.queue = slices.Delete(r.queue, i, i+1)
			return t, 0
		}
		wait = min(wait, left)
	}
	return nil, wait
}

// Run is the worker: it answers requests, one after the other, and deletes those
// that were kept long enough, until ctx ends. What it was doing then is done
// again after the next opening.
func (r *Requests) Run(ctx context.Context) {
	var tidied time.Time
	for ctx.Err() == nil {
		if time.Since(tidied) >= tidyEvery {
			tidied = time.Now()
			r.tidy()
		}
		t, wait := r.dequeue()
		if t == nil {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-r.wake:
			case <-timer.C:
			}
			timer.Stop()
			continue
		}
		answered, err := r.serve(ctx, t)
		switch {
		case err == nil && answered:
			r.tidy()
		case err == nil, ctx.Err() != nil:
		default:
			r.Failures.Add(1)
			t.tries++
			delay := min(retryFirst<<min(t.tries-1, 20), retryMost)
			t.notBefore = time.Now().Add(delay)
			r.o.Logger.Error("a requested extract could not be made and will be tried again", "request", t.id.String(), "err", err, "tries", t.tries, "in", delay)
			r.enqueue(t)
		}
	}
}

// serve sees that the request's records are in the log and answers it if it is
// not answered.
func (r *Requests) serve(ctx context.Context, t *task) (answered bool, err error) {
	if t.tries > 0 {
		if err := r.reread(t.id); err != nil {
			return false, err
		}
	}
	x := r.get(t.id)
	if x == nil {
		return false, nil
	}
	if err := r.record(context.WithoutCancel(ctx), x); err != nil || x.State() != StateAsked {
		return false, err
	}
	if err := r.produce(ctx, x); err != nil {
		return false, err
	}
	return true, nil
}

// reread settles what a failed write left open: whether the step is in the
// request's file. If it is, it counts, once the file was written again; to
// produce anew would destroy the evidence file that it holds the digest of.
func (r *Requests) reread(id RequestID) error {
	r.stepMu.Lock()
	defer r.stepMu.Unlock()
	x := r.get(id)
	if x == nil {
		return nil
	}
	onDisk, err := r.files.load(id)
	if err != nil {
		return err
	}
	if onDisk.State() == x.State() {
		return nil
	}
	if err := r.files.save(onDisk); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests[id] = onDisk
	return nil
}

// produce makes the evidence file: 1. what an interrupted production left is
// deleted; 2. the file is written and made durable; 3. the step "produced" with
// its digest is made.
func (r *Requests) produce(ctx context.Context, x *Request) error {
	step, err := r.step(record.Peer{})
	if err != nil {
		return err
	}
	if err := r.files.evidence.Remove(x.ID, monthOf(x)); err != nil {
		return err
	}
	w, err := r.files.evidence.Create(x.ID, monthOf(x))
	if err != nil {
		return err
	}
	sum := sha256.New()
	out := &bounded{w: io.MultiWriter(w, sum), ctx: ctx, max: r.o.MaxBytes, free: r.free}
	events, err := r.o.Write(ctx, out, x.Query, step.Time)
	if err != nil {
		w.Abort()
		if reason := reasonOf(err); reason != "" {
			return r.answer(ctx, x, func(x *Request) { x.Refused, x.Reason = step, reason })
		}
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	r.o.Logger.Info("an extract was produced", "request", x.ID.String(), "events", events, "size", out.n)
	return r.answer(ctx, x, func(x *Request) {
		x.Produced, x.Events, x.Digest, x.Size = step, events, sum.Sum(nil), out.n
	})
}

func (r *Requests) answer(ctx context.Context, x *Request, change func(*Request)) error {
	r.stepMu.Lock()
	defer r.stepMu.Unlock()
	_, err := r.advance(context.WithoutCancel(ctx), x, change)
	return err
}

// reasonOf says whether production failed for good, and why.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, ErrNothing):
		return ReasonNoEvents
	case errors.Is(err, ErrTooMany):
		return ReasonTooMany
	case errors.Is(err, errTooLarge):
		return ReasonTooLarge
	}
	return ""
}

var (
	errTooLarge = errors.New("extract: the evidence file is larger than allowed")
	errNoSpace  = fmt.Errorf("extract: production would leave too little free space: %w", syscall.ENOSPC)
)

// free fails when the disk has little left.
func (r *Requests) free() error {
	if r.o.FreeBytes == nil {
		return nil
	}
	n, err := r.o.FreeBytes()
	if err == nil && n < r.o.MinFreeBytes {
		err = errNoSpace
	}
	return err
}

// freeEvery is how many bytes are written between two looks at the free space.
const freeEvery = 16 << 20

// bounded ends a production that is cancelled, too large, or fills the disk: a
// full disk would stop the mail.
type bounded struct {
	w       io.Writer
	ctx     context.Context
	max     int64
	free    func() error
	n       int64
	checked int64 // n at the next look at the free space
}

func (b *bounded) Write(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if b.n+int64(len(p)) > b.max {
		return 0, errTooLarge
	}
	if b.n >= b.checked {
		if err := b.free(); err != nil {
			return 0, err
		}
		b.checked = b.n + freeEvery
	}
	n, err := b.w.Write(p)
	b.n += int64(n)
	return n, err
}

// tidy deletes the requests that were answered long enough ago, and the oldest
// answered ones of a mailbox that has too many. Their records stay in the log.
func (r *Requests) tidy() {
	now, _, err := r.o.Now()
	if err != nil {
		return // next time
	}
	r.mu.Lock()
	var old []*Request
	kept := map[string][]*Request{}
	for _, x := range r.requests {
		ended, ok := x.ended()
		switch {
		case !ok:
		case now.Sub(ended) >= r.o.Keep:
			old = append(old, x)
		default:
			kept[x.Query.Mailbox] = append(kept[x.Query.Mailbox], x)
		}
	}
	r.mu.Unlock()
	for _, own := range kept {
		if n := len(own) - r.o.KeptPerMailbox; n > 0 {
			slices.SortFunc(own, byAge)
			old = append(old, own[:n]...)
		}
	}
	for _, x := range old {
		if err := r.delete(x); err != nil {
			r.o.Logger.Error("an answered extract could not be deleted", "request", x.ID.String(), "err", err)
		}
	}
}

func (r *Requests) delete(x *Request) error {
	r.stepMu.Lock()
	defer r.stepMu.Unlock()
	if err := r.record(context.Background(), x); err != nil {
		return err // it is kept until its last step is in the log
	}
	if err := r.files.remove(x); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.requests, x.ID)
	return nil
}
