package mta

import (
	"context"
	"fmt"
	"time"

	"scripta/register/record"
)

// handOver gives receipts and notices of ours to whom they are for, and records
// that they are there: those for mailboxes of ours are put into them, the others
// become relay jobs, whose answers are recorded when they come. about begins a
// record about what they are about. It may be run again: stage names it. A *heldUp
// says that only mailboxes which fail are still without theirs.
func (p *Pipeline) handOver(ctx context.Context, t *task, stage string, named time.Time, all []notice, about func() *record.Record) error {
	placements := make([]*placement, len(all))
	for i, n := range all {
		placements[i] = n.placement
		n.told = []record.ID{n.id}
	}
	at, err := p.place(t, stage, named, placements, nil)
	if err != nil {
		return err
	}
	held := t.stuck
	b := p.batch(t)
	for _, n := range all {
		b.notification(about(), n, at)
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	if err := held.keep(p.handOverLate(ctx, t, stage, named, all, about)); err != nil {
		return err
	}
	return held.err()
}

// handOverLate gives those notices of a stage whose mailbox failed in it, each in a
// stage of its own.
func (p *Pipeline) handOverLate(ctx context.Context, t *task, stage string, named time.Time, all []notice, about func() *record.Record) error {
	var held waits
	for i, n := range all {
		if !n.late {
			continue
		}
		alone := *n.placement
		alone.late = false
		if err := held.keep(p.handOver(ctx, t, fmt.Sprintf("%s/late/%d", stage, i), named, []notice{{&alone, n.id}}, about)); err != nil {
			return err
		}
	}
	return held.err()
}
