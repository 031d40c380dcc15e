package mta

import (
	"context"
	"time"
)

// abused is told once of each infected message that an account handed in. One that
// hands in too many in a day (limits.infected_per_day) has a stolen password or
// an infected machine: its sending is suspended, which its holder hears at his
// next message and the operator sees in the log, in status and in metrics.
func (p *Pipeline) abused(ctx context.Context, account string) {
	p.metrics.Abused.Add(1)
	if account == "" || !p.rates.Infected(account, time.Now()) {
		return
	}
	switch done, err := p.suspend(ctx, account, "infected messages"); {
	case err != nil:
		p.metrics.Alarms.Add(1)
		p.log.Error("an account that hands in infected messages could not be kept from sending: scripta account suspend does it", "err", err)
	case done:
		p.metrics.Suspended.Add(1)
		p.log.Error("the sending of an account was suspended, because it hands in infected messages: ask its holder, then scripta account resume", "account", account)
	}
}
