package mta

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"scripta/internal/keys"
	"scripta/mta/pec"
	"scripta/mta/spool"
	"scripta/register"
	"scripta/register/receipts"
	"scripta/register/record"
)

// errNoSpace is answered before a disk is so full that the register would stop.
var errNoSpace = fmt.Errorf("mta: less free space than mail.min_free_bytes: %w", syscall.ENOSPC)

// room refuses when the provider says so, or the disk has less left than the
// reserve.
func (p *Pipeline) room() error {
	if err := p.hold(); err != nil {
		return err
	}
	free, err := p.free()
	if err != nil {
		return err
	}
	if free < p.limits.MinFreeBytes {
		return errNoSpace
	}
	return nil
}

// handIn takes a message at the Access Point: it reads it once from r, sealing
// its octets as they come, and returns nil when it is safe. judge sees the
// outcome of reading and says whether the message counts as whole. Nothing of
// what is refused is durable, and nothing that is taken is too large for any of
// its later steps.
func (p *Pipeline) handIn(ctx context.Context, r io.Reader, sender string, recipients []string, actor string, peer record.Peer, judge func(error) error) (*submission, error) {
	a, err := p.arrive()
	if err != nil {
		return nil, err
	}
	original, err := pec.ReadOriginal(io.TeeReader(r, a.content), pec.DefaultLimits())
	if err = judge(err); err == nil {
		switch {
		case original.NUL || original.BareNewline:
			err = replyBareControl
		case original.HeaderLen == 0:
			err = replyEmpty
		}
	}
	var s *submission
	if err == nil {
		s = p.newSubmission(original, a.month, sender, recipients, actor, peer)
		err = p.checkFacts(s)
	}
	if err == nil {
		s.inspection, err = p.inspect(ctx, a.content, a.id, uint16(a.month))
	}
	if err != nil {
		a.refuse()
		return nil, err
	}
	err = a.settle(ctx, func(at moment) work {
		s.Moment, s.id, s.original = at, hex.EncodeToString(a.id[:]), original
		rand.Read(s.Incoming[:])
		return s
	})
	if err == nil && s.infected() {
		p.sentInfected(ctx, actor, s.id, s.Virus)
	}
	return s, err
}

// arrival is a message that is coming in, at either point: its octets are sealed
// as they come, and nothing of it is durable. It ends by refuse or settle.
type arrival struct {
	p       *Pipeline
	id      spool.ID
	at      time.Time  // when it began to come
	month   keys.Month // of at: the octets are sealed under it
	content *receipts.ContentWriter
}

// arrive begins, if there is room for a message.
func (p *Pipeline) arrive() (*arrival, error) {
	if err := p.room(); err != nil {
		return nil, err
	}
	a := &arrival{p: p}
	rand.Read(a.id[:])
	begun, err := p.now()
	if err != nil {
		return nil, err
	}
	a.at, a.month = begun.Time, keys.MonthOf(begun.Time)
	a.content, err = p.register.Contents().Create(a.id, uint16(a.month))
	return a, err
}

// refuse forgets the message.
func (a *arrival) refuse() { a.content.Abort() }

// settle takes the message: it waits for its place, reads the transaction's one
// time, and makes durable the job that fix makes of it. When it returns nil the
// message is safe; what it refuses leaves nothing.
func (a *arrival) settle(ctx context.Context, fix func(at moment) work) error {
	if err := a.p.enter(); err != nil {
		a.refuse()
		return err
	}
	at, err := a.p.now()
	if err != nil {
		a.p.leave()
		a.refuse()
		return err
	}
	if err := a.p.take(ctx, a.id, a.content, fix(at)); err != nil {
		a.p.leave()
		return err
	}
	return nil
}

// errStopping is answered when a message comes while the pipeline stops.
var errStopping = errors.New("mta: the pipeline is stopping")

// enter waits for a place among the accepted messages that wait for a worker.
// Nothing of the message is durable yet, and its time has not been read: under
// a load that is beyond the machine its client waits for the 250, and not,
// after it, its author for the acceptance.
func (p *Pipeline) enter() error {
	select {
	case p.places <- struct{}{}:
		return nil
	case <-p.ctx.Done():
		return errStopping
	}
}

// leave gives the place up.
func (p *Pipeline) leave() { <-p.places }

// take makes a message's job durable and appends its first record, in this
// order: 1. the octets and the job, at the same time; 2. the octets' place, which
// the job tells of; 3. the record, which is the point of no return; 4. the job
// goes to a worker. The caller then answers 250. When take fails before 3, the
// message is forgotten; after 3 the job stays, and the client, which got no 250,
// may send the message again.
func (p *Pipeline) take(ctx context.Context, id spool.ID, w *receipts.ContentWriter, about work) error {
	stored := make(chan error, 1)
	go func() { stored <- w.Sync() }()
	job, err := p.spool.Add(id, uint16(keys.MonthOf(about.begun().Time)), about)
	if err = errors.Join(err, <-stored); err == nil {
		err = w.Commit()
	}
	if err != nil {
		w.Abort()
		p.abandon(id, job, about)
		return err
	}
	t := &task{job: job, work: about}
	switch err := p.recordFirst(ctx, t); {
	case err == nil:
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, register.ErrTooLarge): // refused whole: the record is not in doubt
		p.abandon(id, job, about)
		return err
	case errors.Is(err, register.ErrStopped): // a restart finds out
		return err
	default:
		// The record may be in the log, or get there yet, and then the message
		// must not stay without an outcome.
		t.unrecorded = true
		p.backlog.add(id, about.begun().Time)
		p.putOff(t, err, p.log.With("tx", t.id()))
		return &inDoubt{err}
	}
	p.backlog.add(id, about.begun().Time)
	t.placed = true
	select {
	case p.tasks <- t:
	case <-p.ctx.Done(): // stopping: the job is run after the restart
	}
	return nil
}

// inDoubt is the error of a message whose client gets no 250 although its job stays:
// its first record may be in the log, and will be.
type inDoubt struct{ err error }

// Error gives the cause.
func (d *inDoubt) Error() string { return d.err.Error() }

// Unwrap gives the cause.
func (d *inDoubt) Unwrap() error { return d.err }

// recordFirst appends the transaction's first record.
func (p *Pipeline) recordFirst(ctx context.Context, t *task) error {
	_, err := p.register.Append(ctx, t.work.first(p, t.job.ID))
	return err
}

// abandon forgets a message that was refused on the way; job is nil when there
// is none. A full disk may put it off: until then the message counts as under
// way, and a restart would drop it.
func (p *Pipeline) abandon(id spool.ID, job *spool.Job, about work) {
	var err error
	if month, ok := about.content(); ok {
		err = p.register.Contents().Remove(id, month)
	}
	if err == nil && job != nil {
		err = p.spool.Done(job)
	}
	if err == nil {
		return
	}
	p.log.Error("a refused message could not be forgotten yet", "tx", hex.EncodeToString(id[:]), "err", err)
	time.AfterFunc(time.Second, func() {
		if p.ctx.Err() == nil {
			p.abandon(id, job, about)
		}
	})
}
