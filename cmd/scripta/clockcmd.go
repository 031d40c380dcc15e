package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"scripta/internal/config"
	"scripta/internal/keys"
	"scripta/register/record"
)

const clockUsage = `usage: scripta clock confirm --dir DIR --month 2027-05

Confirms that it is this month now, after the register has refused a clock that
jumped by more than a month. Look at the clock first: records of a wrong month
are disposed of at the wrong time.

`

func runClock(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] != "confirm" {
		fmt.Fprint(stderr, clockUsage)
		return 2
	}
	f := flag.NewFlagSet("clock confirm", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, clockUsage); f.PrintDefaults() }
	dir := f.String("dir", "", "folder of the provider")
	text := f.String("month", "", "the month it is, year and month")
	if code, ok := parse(f, args[1:], stderr, dir); !ok {
		return code
	}
	month, err := keys.ParseMonth(*text)
	if err != nil {
		fmt.Fprintf(stderr, "scripta clock confirm: --month: %v\n", err)
		return 2
	}
	log, _ := newLogger(stderr, "warn", false)
	err = withOperations(config.Dir(*dir), log, func(ctx context.Context, o operations) error {
		return o.ConfirmMonth(ctx, month)
	})
	if err != nil {
		fmt.Fprintf(stderr, "scripta clock confirm: %v\n", err)
		return 1
	}
	fmt.Fprintf(stdout, "%s is confirmed\n", month)
	return 0
}

// ConfirmMonth implements operations. That a person did it is a record.
func (a *app) ConfirmMonth(ctx context.Context, month keys.Month) error {
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
