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

Checks the rules of certified e-mail over every record of the register: each
message that was accepted has its envelope, each recipient one outcome in time,
each receipt its mailbox, and all records of a message agree. Prints each
anomaly with the leaf that shows it and the source of the rule; exit 1 if there
is one. Works beside a running provider and by a stopped one.

What may still come is not missing, unless --settled says that nothing is under
way any more.

`

func runAudit(args []string, stdout, stderr io.Writer) int {
	f := newFlags("audit", auditUsage, stdout, stderr)
	dir := f.folder()
	settled := f.Bool("settled", false, "nothing is under way: what is open is missing")
	if code, ok := f.parse(args, dir); !ok {
		return code
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
	x := audit.New(audit.Options{Now: time.Now(), Settled: settled, ServiceMailbox: a.cfg.ServiceAddress()})
	var base uint64 // records of the logs before
	add := func(size uint64, read func(context.Context, uint64) (*register.Found, error)) error {
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
			x.Add(base+i, rec)
		}
		base += size
		return nil
	}
	for _, p := range a.register.Past() {
		if err := add(p.Size(), p.Read); err != nil {
			return nil, err
		}
	}
	if err := add(a.merkle.Size(), a.register.Read); err != nil {
		return nil, err
	}
	return x.Finish(), nil
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
