package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"scripta/internal/config"
	"scripta/internal/keys"
	"scripta/mta/audit"
	"scripta/register"
	"scripta/register/record"
)

const auditUsage = `usage: scripta audit --dir DIR [--settled]
       scripta audit --rules

Checks the rules of certified e-mail over every record of the register: each
message that was accepted has its envelope, each recipient one outcome in time,
each receipt its mailbox or its way to another provider, and all records of a
message agree. Prints each anomaly with the leaf that shows it and the source of
the rule; exit 1 if there is one. Works beside a running provider and by a stopped
one. That all records were read is itself recorded, before the first is.

What may still come is not missing, unless --settled says that nothing is under
way any more.

`

func runAudit(args []string, stdout, stderr io.Writer) int {
	f := newFlags("audit", auditUsage, stdout, stderr)
	dir := f.folder()
	settled := f.Bool("settled", false, "nothing is under way: what is open is missing")
	rules := f.Bool("rules", false, "list the rules and their sources, and check nothing")
	if code, ok := f.parse(args, nil); !ok {
		return code
	}
	switch {
	case *rules:
		for _, r := range audit.Rules() {
			fmt.Fprintf(stdout, "%-12s %s [%s]\n", r.ID, r.Text, r.Source)
		}
		return 0
	case *dir == "":
		return f.wrong("--dir is missing")
	}
	var r *audit.Report
	err := withOperations(config.Dir(*dir), commandLogger(stderr), func(ctx context.Context, o operations) (err error) {
		r, err = o.Audit(ctx, *settled)
		return err
	})
	if err != nil {
		return f.failed(err)
	}
	for _, x := range r.Findings {
		fmt.Fprintln(stdout, x)
	}
	if r.Dropped > 0 {
		fmt.Fprintf(stdout, "and %d more\n", r.Dropped)
	}
	fmt.Fprintf(stdout, "%d records about %d messages, %d of them under way: %d anomalies\n", r.Records, r.Messages, r.Open, uint64(len(r.Findings))+r.Dropped)
	if len(r.Findings) > 0 {
		return 1
	}
	return 0
}

// Audit implements operations.
func (a *app) Audit(ctx context.Context, settled bool) (*audit.Report, error) {
	if err := a.recordReading(ctx, "audit"); err != nil {
		return nil, fmt.Errorf("couldn't record that the records are read, so they are not: %w", err)
	}
	x := audit.New(audit.Options{Now: time.Now(), Settled: settled, ServiceMailbox: a.cfg.ServiceAddress()})
	if err := a.readRecords(ctx, x.Add); err != nil {
		return nil, err
	}
	return x.Finish(), nil
}

// recordReading records that a person reads everybody's records.
func (a *app) recordReading(ctx context.Context, what string) error {
	reading, _ := a.clock.Now()
	at := reading.Time.UTC().Truncate(time.Millisecond)
	if err := a.register.Begin(at); err != nil {
		return err
	}
	detail := append(register.ClockMarks(reading.State), record.Pair{Name: "by", Value: byCommand}, record.Pair{Name: "records", Value: "all"})
	return a.event(ctx, &record.Record{Kind: record.RecordDisclosed, Time: at, Provider: a.cfg.Provider, Outcome: record.Outcome{Code: what}, Detail: record.SortDetail(detail)})
}

// readRecords reads every record, those of the logs before included, and counts
// the leaves through; one that was disposed of is nil.
func (a *app) readRecords(ctx context.Context, each func(leaf uint64, r *record.Record)) error {
	var base uint64 // records of the logs before
	read := func(size uint64, read func(context.Context, uint64) (*register.Found, error)) error {
		for i := range size {
			if err := ctx.Err(); err != nil {
				return err
			}
			var rec *record.Record
			f, err := read(ctx, i)
			switch {
			case err == nil:
				rec = f.Record
			case !errors.Is(err, keys.ErrDisposed):
				return err
			}
			each(base+i, rec)
		}
		base += size
		return nil
	}
	for _, p := range a.register.Past() {
		if err := read(p.Size(), p.Read); err != nil {
			return err
		}
	}
	return read(a.merkle.Size(), a.register.Read)
}

// auditHandler serves Audit to commands.
func (d *daemon) auditHandler(w http.ResponseWriter, r *http.Request) {
	var settled bool
	err := json.NewDecoder(io.LimitReader(r.Body, 1<<10)).Decode(&settled)
	var report *audit.Report
	if err == nil {
		report, err = d.Audit(r.Context(), settled)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	_ = json.NewEncoder(w).Encode(report)
}

// Audit implements operations.
func (c *controlClient) Audit(ctx context.Context, settled bool) (*audit.Report, error) {
	resp, err := c.do(ctx, http.MethodPost, "/audit", settled)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r := new(audit.Report)
	return r, json.NewDecoder(resp.Body).Decode(r)
}
