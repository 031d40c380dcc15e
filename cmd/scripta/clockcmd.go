package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"scripta/internal/config"
	"scripta/internal/keys"
	"scripta/register/record"
)

const clockConfirmUsage = `usage: scripta clock confirm --dir DIR --month 2027-05

Confirms that it is this month now, after the register has refused a clock that
jumped by more than a month. It must be the month of this machine's clock. Look
at the clock first: records of a wrong month are disposed of at the wrong time.

`

func clockCommands() []command {
	return []command{{name: "confirm", about: "confirm the month that the clock shows", run: runClockConfirm}}
}

func runClockConfirm(args []string, stdout, stderr io.Writer) int {
	f := newFlags("clock confirm", clockConfirmUsage, stdout, stderr)
	dir := f.folder()
	text := f.String("month", "", "the `MONTH` it is, such as 2027-05")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if *text == "" {
		return f.wrong("--month is missing: look at the clock, and write the month that it is")
	}
	month, err := keys.ParseMonth(*text)
	if err != nil {
		return f.wrong("--month: %v", err)
	}
	err = withOperations(config.Dir(*dir), commandLogger(stderr), func(ctx context.Context, o operations) error {
		return o.ConfirmMonth(ctx, month)
	})
	if err != nil {
		return f.failed(err)
	}
	fmt.Fprintf(stdout, "%s is confirmed\n", month)
	return 0
}

// checkMonth refuses to confirm a month other than the clock's: it would get a
// secret, and records of the month that it is would be refused from then on.
func checkMonth(month keys.Month, now time.Time) error {
	if it := keys.MonthOf(now); month != it {
		return fmt.Errorf("this machine's clock says %s, not %s: set the clock right, or confirm %[1]s; nothing was changed", it, month)
	}
	return nil
}

// ConfirmMonth implements operations. That a person did it is a record.
func (a *app) ConfirmMonth(ctx context.Context, month keys.Month) error {
	if err := checkMonth(month, time.Now()); err != nil {
		return err
	}
	if err := a.months.Confirm(month); err != nil {
		return err
	}
	return a.event(ctx, &record.Record{Kind: record.ConfigurationChanged, Time: time.Now().UTC().Truncate(time.Millisecond),
		Detail: []record.Pair{{Name: "month confirmed", Value: month.String()}}})
}

// ConfirmMonth implements operations.
func (c *controlClient) ConfirmMonth(ctx context.Context, month keys.Month) error {
	resp, err := c.do(ctx, "POST", "/clock/confirm", month)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
