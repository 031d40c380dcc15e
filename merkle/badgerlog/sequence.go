package badgerlog

import (
	"context"
	"fmt"
	"time"

	"github.com/google/trillian"
	tlog "github.com/google/trillian/log"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/util/clock"
)

// Sequence integrates the leaves of a tree's queue by Trillian's
// log.IntegrateBatch, whenever there are some: each batch is what gathered while
// the one before was committed, and a lone leaf is not kept waiting for company.
// Without it nothing is integrated and adders wait. It returns nil when ctx
// ends, or when the database is being closed and the queue is empty; ErrFatal,
// and stops the database, if a batch can't be integrated.
//
// Root timestamps are those of Options.Now but grow always, be it by a
// nanosecond: Trillian refuses to go on otherwise, and clocks step back.
func (s *LogStorage) Sequence(ctx context.Context, tree *trillian.Tree) error {
	if s.db.opt.ReadOnly {
		return ErrReadOnly
	}
	if err := s.db.enter(); err != nil {
		return err
	}
	defer s.db.leave()
	l, err := s.db.log(tree.TreeId)
	if err != nil {
		return err
	}
	tlog.InitMetrics(nil) // only the first call has an effect
	l.setSequencing(true)
	defer l.setSequencing(false)
	ts := rootClock{l}
	for {
		// The context of the caller does not reach the transaction: a batch is
		// finished or fails for a reason of its own.
		n, err := tlog.IntegrateBatch(context.WithoutCancel(ctx), tree, s.db.opt.MaxBatch, 0, 0, ts, s, quota.Noop())
		if err != nil {
			return s.db.fail(fmt.Errorf("couldn't integrate a batch: %w", err))
		}
		if n > 0 && ctx.Err() == nil {
			continue
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return nil
		case <-s.db.stopping:
			if l.drained() {
				return nil
			}
		}
	}
}

func (l *treeLog) setSequencing(on bool) {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	l.sequencing = on
	select {
	case <-l.db.stopping:
		if !on {
			l.giveUpLocked(ErrClosed)
		}
	default:
	}
}

func (l *treeLog) isSequencing() bool {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	return l.sequencing
}

// drained reports whether the queue is empty, and if so lets nothing more in.
func (l *treeLog) drained() bool {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	if len(l.queue) > 0 {
		return false
	}
	l.giveUpLocked(ErrClosed)
	return true
}

// rootClock gives the time of roots: after the last one, whatever the clock.
type rootClock struct{ l *treeLog }

func (c rootClock) Now() time.Time {
	now, last := c.l.db.opt.Now(), c.l.state.Load().time
	if now.UnixNano() <= int64(last) {
		return time.Unix(0, int64(last)+1)
	}
	return now
}

func (rootClock) NewTimer(d time.Duration) clock.Timer { return clock.System.NewTimer(d) }
