package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"scripta/internal/durable"
	"scripta/mta/rates"
)

// keepRatesEvery is how often the counts of the limits are written down, and so
// what a crash forgets at most.
const keepRatesEvery = 10 * time.Second

// openRates makes the limiter, with the counts of an earlier process. Without
// them it begins anew: limits protect from abuse, and are no reason not to start.
func (d *daemon) openRates() {
	l := &d.cfg.Limits
	d.rates = rates.New(rates.Limits{MessagesPerHour: l.MessagesPerHour, RecipientsPerDay: l.RecipientsPerDay, InfectedPerDay: l.InfectedPerDay,
		ConnectionsPerMinute: l.ConnectionsPerMinute, TransactionsPerMinute: l.TransactionsPerMinute, Exempt: l.Networks()})
	f, err := os.Open(d.dir.LimitsState())
	if err == nil {
		err = d.rates.Restore(f, time.Now())
		_ = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("the limits begin to count anew", "err", err)
	}
}

// keepRates writes the counts down until ctx ends, and then once more.
func (d *daemon) keepRates(ctx context.Context) {
	tick := time.NewTicker(keepRatesEvery)
	defer tick.Stop()
	for running, behind := true, false; running; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			running = false
		}
		b, changed, err := d.rates.State(time.Now())
		if behind = behind || changed; err == nil && behind {
			err = durable.WriteFile(durable.OS, d.dir.LimitsState(), b, 0o600)
		}
		if behind = behind && err != nil; behind {
			d.log.Warn("the counts of the limits could not be written down", "err", err)
		}
	}
}
