package main

import (
	"context"
	"errors"
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

// roleCheck is how one role is asked: what it is doing, or why it is not healthy.
type roleCheck struct {
	name  string
	check func() (detail string, err error)
}

// roles are the daemon's.
func (d *daemon) roles() []roleCheck {
	return []roleCheck{
		{"register", func() (string, error) {
			return fmt.Sprintf("%d records", d.merkle.Size()), d.register.Health()
		}},
		{"checkpoint", func() (string, error) {
			cp := d.merkle.Checkpoint()
			if cp == nil {
				return "none published yet", nil
			}
			return fmt.Sprintf("%d records published", cp.Size), nil
		}},
		{"pipeline", func() (string, error) {
			m := d.pipeline.Metrics()
			if n := m.Alarms.Load(); n > 0 {
				return "", fmt.Errorf("%d alarms since the start: see the log", n)
			}
			return fmt.Sprintf("%d messages under way, %d finished", d.pipeline.Waiting(), m.Finished.Load()), nil
		}},
		{"disk", func() (string, error) {
			free, err := d.freeBytes()
			if err == nil && free < d.cfg.Mail.MinFreeBytes {
				err = fmt.Errorf("%d MiB are free, less than mail.min_free_bytes: messages are refused", free>>20)
			}
			return fmt.Sprintf("%d MiB free", free>>20), err
		}},
		{"clock", func() (string, error) {
			r, err := d.clock.Now()
			detail := r.State.String()
			if r.State != clock.Synced {
				detail += ": " + r.Reason
			}
			if err == nil && !traceable(r) {
				detail += " (records are marked: time not traceable)"
			}
			return detail, err
		}},
		{"time stamps", func() (string, error) {
			if failed := d.stamper.Failed.Load(); failed > 0 && d.stamper.Granted.Load() == 0 {
				return "", fmt.Errorf("no time stamp was granted in %d tries", failed)
			}
			detail := "none yet"
			if last, ok := d.stamps.Last(); ok {
				detail = fmt.Sprintf("latest over %d records", last)
			}
			if d.authority != nil {
				detail += "; embedded authority, not qualified"
			}
			return detail, nil
		}},
		{"archive", func() (string, error) { return "days are closed at UTC midnight", d.closer.Health() }},
	}
}

// status asks every role.
func (d *daemon) status() *status {
	s := &status{Domain: d.cfg.Domain, Log: d.cfg.Origin()}
	for _, r := range d.roles() {
		detail, err := r.check()
		if err != nil {
			detail = err.Error()
		}
		s.Roles = append(s.Roles, role{r.name, err == nil, detail})
	}
	return s
}

func runStatus(args []string, stdout, stderr io.Writer) int {
	f := newFlags("status", statusUsage, stdout, stderr)
	dir := f.folder()
	wait := f.Duration("wait", 0, "wait for `TIME`, such as 30s, until the provider is healthy")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if _, err := config.Load(config.Dir(*dir).Config()); err != nil {
		return f.failed(err)
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
		return f.failed(err)
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
