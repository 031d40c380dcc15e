package mta

import (
	"context"
	"errors"
	"log/slog"

	"scripta/mta/mailbox"
	"scripta/mta/spool"
)

// run carries a job to its end and forgets it.
func (p *Pipeline) run(ctx context.Context, t *task, log *slog.Logger) error {
	if err := p.carry(ctx, t, log); err != nil {
		return err
	}
	return p.finish(t)
}

// carry carries a job to its end. Every step may be run again.
func (p *Pipeline) carry(ctx context.Context, t *task, log *slog.Logger) (err error) {
	if t.placed {
		p.leave()
		t.placed = false
	}
	if t.unrecorded {
		if err := p.recordFirst(ctx, t); err != nil {
			return err
		}
		t.unrecorded = false
	}
	t.held, t.moved = p.register.Receipts().Hold(p.register.Contents()), nil
	defer func() {
		t.rerun = true // from now on something may be stored
		err = errors.Join(err, t.held.Close())
	}()
	return t.work.carry(ctx, p, t, log)
}

// finish forgets jobs that came to their end, when what they put into mailboxes
// is there for good. Should a crash come before, they are run again, which
// changes nothing.
func (p *Pipeline) finish(ts ...*task) error {
	var (
		moved []*mailbox.Prepared
		jobs  []*spool.Job
	)
	for _, t := range ts {
		moved, jobs = append(moved, t.moved...), append(jobs, t.job)
	}
	if err := p.boxes.Sync(moved...); err != nil {
		return err
	}
	if err := p.spool.Done(jobs...); err != nil {
		return err
	}
	for _, t := range ts {
		p.backlog.remove(t.job.ID)
		if t.dispatch != nil {
			p.dispatches.remove(t.dispatch)
		}
	}
	if p.keep {
		return nil
	}
	for _, t := range ts {
		month, ok := t.work.content()
		if !ok || p.passages.uses(t.job.ID) { // the last of these forgets it
			continue
		}
		if err := p.register.Contents().Remove(t.job.ID, month); err != nil {
			p.log.Warn("the content of a finished message could not be deleted", "tx", t.id(), "err", err)
		}
	}
	return nil
}
