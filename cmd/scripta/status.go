package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"scripta/internal/config"
	"scripta/tsa/clock"
)

const statusUsage = `usage: scripta status --dir DIR

Exits 0 when the daemon serves the folder and every role is healthy; otherwise
says which is not, and exits 1.

`

// status is how a daemon is.
type status struct {
	Domain string `json:"domain"`
	Log    string `json:"log"`
	Roles  []role `json:"roles"`
}

// role is one part of a daemon.
type role struct {
	Name    string `json:"name"`
	Healthy bool   `json:"healthy"`
	Detail  string `json:"detail"`
}

func (s *status) healthy() bool {
	for _, r := range s.Roles {
		if !r.Healthy {
			return false
		}
	}
	return true
}

// status asks every role.
func (d *daemon) status() *status {
	s := &status{Domain: d.cfg.Domain, Log: d.cfg.Origin()}
	add := func(name string, err error, format string, a ...any) {
		detail := fmt.Sprintf(format, a...)
		if err != nil {
			detail = err.Error()
		}
		s.Roles = append(s.Roles, role{name, err == nil, detail})
	}
	size := d.merkle.Size()
	add("register", d.register.Health(), "%d records", size)
	cp := d.merkle.Checkpoint()
	published := uint64(0)
	if cp != nil {
		published = cp.Size
	}
	add("checkpoint", nil, "%d records published", published)

	pipeline := d.pipeline.Metrics()
	var err error
	if n := pipeline.Alarms.Load(); n > 0 {
		err = fmt.Errorf("%d alarms since the start: see the log", n)
	}
	add("pipeline", err, "%d messages under way, %d finished", d.pipeline.Waiting(), pipeline.Finished.Load())

	free, err := d.freeBytes()
	if err == nil && free < d.cfg.Mail.MinFreeBytes {
		err = fmt.Errorf("%d MiB are free, less than mail.min_free_bytes: messages are refused", free>>20)
	}
	add("disk", err, "%d MiB free", free>>20)

	reading, err := d.clock.Now()
	detail := reading.State.String()
	if reading.State != clock.Synced {
		detail += ": " + reading.Reason
		if d.cfg.Clock.Policy == config.ClockMark {
			detail += " (records are marked: time not traceable)"
		}
	}
	add("clock", err, "%s", detail)

	last, ok := d.stamps.Last()
	err = nil
	if failed := d.stamper.Failed.Load(); failed > 0 && d.stamper.Granted.Load() == 0 {
		err = fmt.Errorf("no time stamp was granted in %d tries", failed)
	}
	detail = "none yet"
	if ok {
		detail = fmt.Sprintf("latest over %d records", last)
	}
	if d.authority != nil {
		detail += "; embedded authority, not qualified"
	}
	add("time stamps", err, "%s", detail)
	return s
}

func runStatus(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("status", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, statusUsage); f.PrintDefaults() }
	dir := f.String("dir", "", "folder of the provider")
	wait := f.Duration("wait", 0, "wait so long for the daemon to be healthy")
	if code, ok := parse(f, args, stderr, dir); !ok {
		return code
	}
	if _, err := config.Load(config.Dir(*dir).Config()); err != nil {
		fmt.Fprintf(stderr, "scripta status: %v\n", err)
		return 1
	}
	c := &controlClient{dir: config.Dir(*dir)}
	s, err := c.status(context.Background())
	for end := time.Now().Add(*wait); time.Now().Before(end) && (err != nil || !s.healthy()); s, err = c.status(context.Background()) {
		time.Sleep(100 * time.Millisecond)
	}
	if errors.Is(err, errStopped) {
		fmt.Fprintf(stderr, "scripta status: not running; start it with: scripta serve --dir %s\n", *dir)
		return 1
	} else if err != nil {
		fmt.Fprintf(stderr, "scripta status: %v\n", err)
		return 1
	}
	fmt.Fprintf(stdout, "%s, log %s\n", s.Domain, s.Log)
	for _, r := range s.Roles {
		word := "ok"
		if !r.Healthy {
			word = "FAILED"
		}
		fmt.Fprintf(stdout, "%-6s %-12s %s\n", word, r.Name, r.Detail)
	}
	if !s.healthy() {
		return 1
	}
	return 0
}
