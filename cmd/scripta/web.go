package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"scripta/api"
	"scripta/internal/durable"
	"scripta/register"
	"scripta/register/calendar"
	"scripta/register/extract"
	"scripta/register/record"
	"scripta/tsa/clock"
)

// web is what the daemon says over HTTP.
type web struct {
	public   http.Handler // API, published log, time stamps
	metrics  http.Handler
	requests *extract.Requests
}

// openWeb puts the API together.
func (d *daemon) openWeb() error {
	days, err := calendar.New(d.cfg.Calendar.PatronDay, d.cfg.Calendar.SaturdayIsWorking)
	if err != nil {
		return err
	}
	requests, err := extract.OpenRequests(extract.RequestOptions{Dir: d.dir.Extracts(), FS: durable.OS, Months: d.months, Register: d.register,
		Calendar: days, Write: d.extractor.Write, Now: d.reading, FreeBytes: d.freeBytes, MinFreeBytes: d.cfg.Mail.MinFreeBytes, Logger: d.log})
	if err != nil {
		return err
	}
	vkey, err := os.ReadFile(d.dir.PublicLogKey())
	if err != nil {
		return fmt.Errorf("couldn't read the log's public key: %w", err)
	}
	var signatures func() (time.Duration, bool, bool)
	if d.scanner != nil {
		signatures = func() (time.Duration, bool, bool) {
			age, known := d.scanner.Age()
			return age, known, d.scanner.State().Err == nil
		}
	}
	metrics := api.NewMetrics(api.Sources{
		Signatures: signatures,
		Register:   d.register.Metrics(), Waiting: d.register.Waiting, MTA: d.pipeline.Metrics(), LogSize: d.merkle.Size, Checkpoint: d.merkle.Checkpoint,
		Published: d.checkpointTime,
		Stamps:    func() (uint64, uint64) { return d.stamper.Granted.Load(), d.stamper.Failed.Load() },
		StampedTo: d.stamps.Last,
		Clock: func() (time.Duration, bool) {
			r, err := d.clock.Now()
			return r.Bound, err == nil && traceable(r)
		},
		Backlog:  d.pipeline.Backlog,
		Relay:    d.queue,
		Limited:  d.rates.Hits,
		Accounts: d.accounts.Count,
		Extracts: func() (int, int, uint64) {
			open, late := requests.Waiting(time.Now())
			return open, late, requests.Failures.Load()
		},
		FreeBytes: d.freeBytes,
		Witnesses: d.witnessStates,
		Cosigned:  d.lastCosigned,
		Scrub:     d.scrub.findings,
		Providers: d.mirror.Status,
	})
	published, shown := d.merkle.Handler(), d.merkle.Checkpoint
	if d.witnesses != nil {
		published, shown = d.witnesses.Handler(published), d.witnesses.Shown
	}
	a, err := api.New(api.Options{Domain: d.cfg.Domain, Provider: d.cfg.Provider, Trial: d.authority != nil && d.cfg.TSA.URL == "", LogKey: strings.TrimSpace(string(vkey)), Register: d.register,
		Requests: requests, Stamps: d.stamps, Log: published, Past: d.publishedPast(), Checkpoint: shown, Auth: d.accounts, Logins: d.logins, Now: d.reading, Roles: d.publicRoles(), Metrics: metrics, Logger: d.log})
	if err != nil {
		return err
	}
	d.web = &web{public: d.publishOwn(a.Handler()), metrics: metrics.Handler(), requests: requests}
	return nil
}

// publicRoles are what anybody may ask the health of: names and reasons, no figures.
func (d *daemon) publicRoles() []api.Role {
	var roles []api.Role
	for _, r := range d.roles() {
		roles = append(roles, api.Role{Name: r.name, Check: func() error {
			if _, err := r.check(); !isWarning(err) {
				return err
			}
			return nil
		}})
	}
	return roles
}

// checkpointTime is when the last checkpoint was published: its file's time.
func (d *daemon) checkpointTime() time.Time {
	st, err := os.Stat(filepath.Join(d.dir.Log(), "checkpoint"))
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

func traceable(r clock.Reading) bool { return register.ClockMarks(r.State) == nil }

// reading reads the clock once, for one record, with the mark that a time that
// is not traceable puts into it.
func (a *app) reading() (time.Time, []record.Pair, error) {
	r, err := a.clock.Now()
	if err != nil {
		return time.Time{}, nil, err
	}
	at := r.Time.UTC().Truncate(time.Millisecond)
	if err := a.register.Begin(at); err != nil {
		return time.Time{}, nil, err
	}
	return at, register.ClockMarks(r.State), nil
}
