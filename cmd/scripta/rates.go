package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"scripta/internal/durable"
	"scripta/mta/mailbox"
	"scripta/mta/rates"
)

// keepRatesEvery is how often the counts of the limits are written down, and so
// what a crash forgets at most.
const keepRatesEvery = 10 * time.Second

// openRates makes the limiter, with the counts of an earlier process. Without
// them it begins anew: limits protect from abuse, and are no reason not to start.
func (a *app) openRates() {
	l := &a.cfg.Limits
	a.rates = rates.New(rates.Limits{MessagesPerHour: l.MessagesPerHour, RecipientsPerDay: l.RecipientsPerDay, InfectedPerDay: l.InfectedPerDay,
		ConnectionsPerMinute: l.ConnectionsPerMinute, TransactionsPerMinute: l.TransactionsPerMinute, Exempt: l.Networks()})
	f, err := os.Open(a.dir.LimitsState())
	if err == nil {
		err = a.rates.Restore(f, time.Now())
		_ = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Warn("the limits begin to count anew", "err", err)
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
		err := d.writeRates(&behind)
		if behind = behind && err != nil; behind {
			d.log.Warn("the counts of the limits could not be written down", "err", err)
		}
	}
}

// writeRates writes the counts down if they changed, or had; then behind is true.
func (a *app) writeRates(behind *bool) error {
	a.keeping.Lock()
	defer a.keeping.Unlock()
	b, changed, err := a.rates.State(time.Now())
	if *behind = *behind || changed; err == nil && *behind {
		err = durable.WriteFile(durable.OS, a.dir.LimitsState(), b, 0o600)
	}
	return err
}

// pardon forgets the abuse by which an account's sending was suspended, so that
// its next infected message does not suspend it again.
func (a *app) pardon(address string) error {
	a.rates.Pardon(address)
	behind := true
	if err := a.writeRates(&behind); err != nil {
		return fmt.Errorf("%s is not suspended any more, but that its infected messages are forgotten could not be written down: %w", address, err)
	}
	return nil
}

// suspendSending is what the pipeline asks for when an account is abused.
func (d *daemon) suspendSending(ctx context.Context, account, reason string) (done bool, err error) {
	err = d.changeAccountsBy(ctx, accountChange{Action: accountSuspendSending, Accounts: []mailbox.NewAccount{{Address: account}}, Reason: reason}, byProvider)
	if errors.Is(err, errSendingSuspended) || errors.Is(err, mailbox.ErrClosed) {
		return false, nil
	}
	return err == nil, err
}

// abusedListed bounds the accounts that a role names.
const abusedListed = 5

// accountsRole tells how many accounts are suspended, and warns of those that the
// provider itself suspended: somebody has to ask their holders.
func (d *daemon) accountsRole() (string, error) {
	n := d.accounts.Count()
	detail := fmt.Sprintf("%d active, %d suspended, %d may not send", n.Active, n.Suspended, n.NotSending)
	if len(n.Abused) == 0 {
		return detail, nil
	}
	listed := strings.Join(n.Abused[:min(len(n.Abused), abusedListed)], ", ")
	if len(n.Abused) > abusedListed {
		listed += ", …"
	}
	return detail, warn("%s; suspended because of infected messages: %s", detail, listed)
}
