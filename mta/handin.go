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
	if err := p.room(); err != nil {
		return nil, err
	}
	var id spool.ID
	rand.Read(id[:])
	begun, err := p.now() // only its month counts: the octets are sealed under it
	if err != nil {
		return nil, err
	}
	month := keys.MonthOf(begun.Time)
	w, err := p.register.Contents().Create(id, uint16(month))
	if err != nil {
		return nil, err
	}
	original, err := pec.ReadOriginal(io.TeeReader(r, w), pec.DefaultLimits())
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
		s = p.newSubmission(original, month, sender, recipients, actor, peer)
		err = p.checkFacts(s)
	}
	if err == nil {
		s.inspection, err = p.inspect(ctx, w, id, uint16(month))
	}
	if err == nil {
		err = p.enter()
	}
	if err != nil {
		w.Abort()
		return nil, err
	}
	if s.Moment, err = p.now(); err != nil {
		p.leave()
		w.Abort()
		return nil, err
	}
	s.id, s.original = hex.EncodeToString(id[:]), original
	rand.Read(s.Incoming[:])
	if err := p.take(ctx, id, w, s); err != nil {
		p.leave()
		return s, err
	}
	if s.infected() {
		p.sentInfected(ctx, actor, s.id, s.Virus)
	}
	return s, nil
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
		return err
	}
	p.backlog.add(id, about.begun().Time)
	t.placed = true
	select {
	case p.tasks <- t:
	case <-p.ctx.Done(): // stopping: the job is run after the restart
	}
	return nil
}

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
