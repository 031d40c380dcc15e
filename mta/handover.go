package mta

import (
	"context"
	"time"

	"scripta/register/record"
)

// handOver gives receipts and notices of ours to whom they are for, and records
// that they are there: those for mailboxes of ours are put into them, the others
// become relay jobs, whose answers are recorded when they come. about begins a
// record about what they are about. It may be run again: stage names it.
func (p *Pipeline) handOver(ctx context.Context, t *task, stage string, named time.Time, all []notice, about func() *record.Record) error {
	placements := make([]*placement, len(all))
	for i, n := range all {
		placements[i] = n.placement
	}
	at, err := p.place(t, stage, named, placements, nil)
	if err != nil {
		return err
	}
	b := p.batch(t)
	for _, n := range all {
		b.notification(about(), n, at)
	}
	return b.commit(ctx)
}
