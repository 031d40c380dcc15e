package archive

import (
	"context"
	"fmt"
	"time"
)

const (
	// look is how often Run reads the clock at least: the clock may be set, and
	// a machine may sleep.
	look = time.Minute
	// retry is how long Run waits after a closing that failed.
	retry = 5 * time.Minute
)

// Run closes the complete days that are not closed yet, then each day a little
// after its end (Options.Delay), until ctx ends. A closing that fails is logged,
// reported by [Closer.Health] and tried again.
func (c *Closer) Run(ctx context.Context) {
	var closed time.Time // everything before is closed
	for {
		wait, err := c.turn(ctx, &closed)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.o.Logger.Error("the days that are over could not be closed; it is tried again", "after", retry, "err", err)
			wait = retry
		}
		c.mu.Lock()
		c.failed = err
		c.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// turn closes what is due and says how long to wait for the next look.
func (c *Closer) turn(ctx context.Context, closed *time.Time) (time.Duration, error) {
	now, err := c.o.Now()
	if err != nil {
		return 0, fmt.Errorf("couldn't read the clock: %w", err)
	}
	due := midnight(now.Add(-c.o.Delay))
	if due.After(*closed) {
		if _, err := c.Close(ctx, due); err != nil {
			return 0, err
		}
		*closed = due
	}
	return min(look, max(nextMidnight(due).Add(c.o.Delay).Sub(now), time.Millisecond)), nil
}

// Health returns why the last automatic closing failed, or nil.
func (c *Closer) Health() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}
