package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/tsa/clock"
)

const statusUsage = `usage: scripta status --dir DIR [--wait TIME]

Says of every role of a running provider how it is: ok, warn (it works, and
somebody should look) or FAILED. Exits 0 when none has failed, else 1.

`

// status is how a daemon is.
type status struct {
	Domain string `json:"domain"`
	Log    string `json:"log"`
	Roles  []role `json:"roles"`
}

// role is one part of a daemon.
type role struct {
	Name   string `json:"name"`
	State  string `json:"state"` // one of the states below
	Detail string `json:"detail"`
}

// States of a role, as people read them.
const (
	stateOK     = "ok"
	stateWarn   = "warn"
	stateFailed = "FAILED"
)

func (s *status) healthy() bool {
	for _, r := range s.Roles {
		if r.State == stateFailed {
			return false
		}
	}
	return true
}

// warning is the error of a role that works, but that somebody should look at.
type warning string

// Error tells what to look at.
func (w warning) Error() string { return string(w) }

func warn(format string, a ...any) error { return warning(fmt.Sprintf(format, a...)) }

// isWarning also holds for nil.
func isWarning(err error) bool {
	var w warning
	return err == nil || errors.As(err, &w)
}

// roleCheck is how one role is asked: what it is doing, or why it is not healthy;
// a warning says that it is, and yet.
type roleCheck struct {
	name  string
	check func() (detail string, err error)
}

// roles are the daemon's.
func (d *daemon) roles() []roleCheck {
	roles := []roleCheck{
		{"register", func() (string, error) {
			if d.lost > 0 {
				return "", fmt.Errorf("the records of %d issued messages are lost: the log lost its newest leaves. See docs/operating.md", d.lost)
			}
			return fmt.Sprintf("%d records", d.merkle.Size()), d.register.Ready(time.Now())
		}},
		{"index", func() (string, error) {
			n, err := d.register.IndexHealth()
			return fmt.Sprintf("%d records can be found", n), err
		}},
		{"checkpoint", func() (string, error) {
			cp := d.merkle.Checkpoint()
			if cp == nil {
				return "none published yet", nil
			}
			return fmt.Sprintf("%d records published", cp.Size), nil
		}},
		{"pipeline", func() (string, error) {
			return d.pipelineStatus(time.Now())
		}},
		{"relay", d.relayRole},
		{"accounts", d.accountsRole},
		{"virus scan", d.scanRole},
		{"providers", d.indexRole},
		{"signing", d.signingRole},
		{"disk", d.diskRole},
		{"clock", d.clockRole},
		{"time stamps", d.stampsRole},
		{"witnesses", d.witnessRole},
		{"month secrets", d.keysRole},
		{"archive", d.archiveRole},
		{"scrub", d.scrub.role},
	}
	if d.rspamd != nil {
		roles = append(roles, roleCheck{"spam", d.spamRole})
	}
	if d.cfg.Log.Engine != config.EngineEmbedded {
		roles = append(roles, roleCheck{"cluster", d.clusterRole})
	}
	return roles
}

func (d *daemon) diskRole() (string, error) {
	free, err := d.freeBytes()
	switch least := d.cfg.Mail.MinFreeBytes; {
	case err != nil:
	case free < least:
		err = fmt.Errorf("%d MiB are free, less than mail.min_free_bytes: messages are refused", free>>20)
	case free < 2*least:
		err = warn("%d MiB are free; below %d (mail.min_free_bytes) messages are refused", free>>20, least>>20)
	}
	return fmt.Sprintf("%d MiB free", free>>20), err
}

func (d *daemon) clockRole() (string, error) {
	r, err := d.clock.Now()
	switch {
	case err != nil:
	case !traceable(r):
		err = warn("%v: %s (records are marked: time not traceable)", r.State, r.Reason)
	case r.State != clock.Synced:
		err = warn("%v: %s", r.State, r.Reason)
	}
	return r.State.String(), err
}

// stampPatience is for how many intervals stamps may fail before it counts as a
// failure: records stay unstamped meanwhile, and nothing else stops.
const stampPatience = 3

func (d *daemon) stampsRole() (string, error) {
	detail := "none yet"
	if last, ok := d.stamps.Last(); ok {
		detail = fmt.Sprintf("latest over %d records", last)
	}
	if d.authority != nil {
		detail += "; embedded authority, not qualified"
	}
	t := d.stamper.Trouble()
	if t == nil {
		return detail, nil
	}
	since := t.Since.UTC().Format(time.RFC3339)
	if time.Since(t.Since) > stampPatience*d.cfg.TSA.Interval.Duration {
		return "", fmt.Errorf("no time stamp since %s: %w", since, t.Err)
	}
	return "", warn("no time stamp since %s, it is tried again: %v", since, t.Err)
}

func (d *daemon) archiveRole() (string, error) {
	if d.cfg.Archive.Automatic {
		return "days are closed at UTC midnight", d.closer.Health()
	}
	return "days are closed by scripta archive close (archive.automatic is false)", d.closer.Health()
}

// stuckAfter is how often a job fails before somebody should look: after that it
// has waited for half a minute.
const stuckAfter = 5

// pipelineStatus tells of the messages that are under way.
func (d *daemon) pipelineStatus(now time.Time) (string, error) {
	m, b := d.pipeline.Metrics(), d.pipeline.Backlog()
	detail := fmt.Sprintf("%d messages under way, %d wait for other providers, %d to be sent, %d finished", b.Waiting, b.Elsewhere, b.Letters, m.Finished.Load())
	if !b.Oldest.IsZero() {
		detail += fmt.Sprintf("; the oldest waits for %v", now.Sub(b.Oldest).Round(time.Second))
	}
	if w := b.Worst; b.Failing > 0 {
		detail += fmt.Sprintf("; %d failed and will be run again, such as %s after %d times: %v", b.Failing, w.Transaction, w.Tries, w.Err)
	}
	switch n := m.Alarms.Load(); {
	case b.Worst.Tries >= stuckAfter:
		return "", errors.New(detail)
	case n > 0:
		return "", fmt.Errorf("%d alarms since the start: see the log; %s", n, detail)
	case b.Failing > 0:
		return "", warn("%s", detail)
	}
	return detail, nil
}

// status asks every role.
func (d *daemon) status() *status {
	s := &status{Domain: d.cfg.Domain, Log: d.cfg.Origin()}
	for _, r := range d.roles() {
		detail, err := r.check()
		state := stateOK
		if err != nil {
			state, detail = stateFailed, err.Error()
			if isWarning(err) {
				state = stateWarn
			}
		}
		s.Roles = append(s.Roles, role{r.name, state, detail})
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
	if _, err := loadFolder(config.Dir(*dir)); err != nil {
		return f.failed(err)
	}
	c := &controlClient{dir: config.Dir(*dir)}
	s, err := c.status(context.Background())
	for end := time.Now().Add(*wait); time.Now().Before(end) && (err != nil || !s.healthy()); s, err = c.status(context.Background()) {
		time.Sleep(100 * time.Millisecond)
	}
	if errors.Is(err, errStopped) {
		if pid := durable.Holder(config.Dir(*dir).Lock()); pid != 0 {
			return f.failed(fmt.Errorf("nobody serves %s, but the scripta process %d has it open: it is starting or stopping, or runs another command", *dir, pid))
		}
		return f.failed(fmt.Errorf("not running; start it with: scripta serve --dir %s", *dir))
	} else if err != nil {
		return f.failed(err)
	}
	fmt.Fprintf(stdout, "%s, log %s\n", s.Domain, s.Log)
	for _, r := range s.Roles {
		fmt.Fprintf(stdout, "%-6s %-12s %s\n", r.State, r.Name, r.Detail)
	}
	if !s.healthy() {
		return 1
	}
	return 0
}
