package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"scripta/internal/durable"
	"scripta/register/audit"
)

// scrubResult is what the last whole reading came to, as it is kept.
type scrubResult struct {
	Ended  time.Time    `json:"ended"`
	Report audit.Report `json:"report"`
}

// scrubber reads everything that the provider keeps again and again, slowly, and
// raises the alarm about what is not as it was. It repairs nothing.
type scrubber struct {
	app  *app
	file string // of the result

	mu      sync.Mutex  // guards what follows
	last    scrubResult // zero before the first one
	found   int         // in the reading under way, notes left out
	step    string      // of the reading under way, "" between two
	done    uint64
	of      uint64
	trouble error // why the last reading came to no end
}

// openScrubber reads what the last reading found, so that a restart does not make
// it forgotten.
func openScrubber(a *app) *scrubber {
	s := &scrubber{app: a, file: a.dir.ScrubState() + ".last"}
	b, err := os.ReadFile(s.file)
	if err == nil {
		err = json.Unmarshal(b, &s.last)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Warn("what the last scrub found cannot be read; it begins anew", "file", s.file, "err", err)
		s.last = scrubResult{}
	}
	return s
}

// run reads until ctx ends: one reading each interval, beginning with one that a
// stop interrupted.
func (s *scrubber) run(ctx context.Context) {
	every := s.app.cfg.Scrub.Interval.Duration
	if every == 0 {
		return
	}
	for {
		s.mu.Lock()
		wait := max(0, time.Until(s.last.Ended.Add(every)))
		s.mu.Unlock()
		if _, err := os.Stat(s.app.dir.ScrubState()); err == nil {
			wait = 0 // one was interrupted
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		if err := s.once(ctx); ctx.Err() != nil {
			return
		} else if err != nil {
			s.app.log.Error("the scrub came to no end; it is tried again", "err", err, "in", min(every, time.Hour))
			select {
			case <-time.After(min(every, time.Hour)):
			case <-ctx.Done():
				return
			}
		}
	}
}

// once makes one reading.
func (s *scrubber) once(ctx context.Context) error {
	o := s.app.auditOptions()
	o.StateFile = s.app.dir.ScrubState()
	o.Pace = (&pace{rate: s.app.cfg.Scrub.BytesPerSecond}).wait
	o.Progress = func(step string, done, of uint64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.step, s.done, s.of = step, done, of
	}
	o.Found = func(f audit.Finding) {
		if f.Note { // of a transaction under way, most likely
			s.app.log.Debug("the scrub notes", "step", f.Step, "place", f.Place, "what", f.Text)
			return
		}
		s.app.log.Error("the scrub found damage: nothing was changed; see docs/operating.md", "step", f.Step, "place", f.Place, "what", f.Text)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.found++
	}
	s.mu.Lock()
	s.found = 0
	s.mu.Unlock()
	report, err := audit.Run(ctx, o)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step, s.trouble = "", err
	if err != nil {
		return err
	}
	s.found = 0
	s.last = scrubResult{time.Now().UTC().Truncate(time.Second), *report}
	s.app.log.Info("the scrub read everything", "leaves", report.Leaves, "messages", report.Messages, "contents", report.Contents, "quarantined", report.Quarantined, "findings", report.Wrong())
	b, err := json.MarshalIndent(s.last, "", " ")
	if err == nil {
		err = durable.WriteFile(durable.OS, s.file, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("couldn't keep what the scrub found: %w", err)
	}
	return nil
}

// findings is how many things are wrong, as far as is known; ended is when
// everything was last read, zero for never.
func (s *scrubber) findings() (n int, ended time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.found, s.last.Report.Wrong()), s.last.Ended
}

// role says how the scrub is.
func (s *scrubber) role() (detail string, err error) {
	n, ended := s.findings()
	s.mu.Lock()
	defer s.mu.Unlock()
	detail = "nothing was read yet"
	if !ended.IsZero() {
		detail = "everything was read by " + ended.Format(time.RFC3339)
	}
	switch {
	case s.step != "" && s.of > 0:
		detail += fmt.Sprintf("; reading: %s %d of %d", s.step, s.done, s.of)
	case s.step != "":
		detail += fmt.Sprintf("; reading: %s %d", s.step, s.done)
	}
	switch {
	case n > 0:
		first := ""
		for _, f := range s.last.Report.Findings {
			if !f.Note {
				first = ", such as " + f.String()
				break
			}
		}
		err = fmt.Errorf("%d things are not what was written%s: see the log (\"the scrub found damage\"); stop, bring them back from a copy, and run scripta log verify", n, first)
	case s.trouble != nil:
		err = warn("not everything can be read: %v", s.trouble)
	case s.app.cfg.Scrub.Interval.Duration == 0:
		detail = "off (scrub.interval)"
	}
	return detail, err
}

// pace keeps a reader to a number of bytes a second.
type pace struct {
	rate  int64
	begun time.Time
	read  int64
}

// longestRest is how long pace waits at most at once, and how much it lets a
// reader make up for.
const longestRest = time.Second

func (p *pace) wait(ctx context.Context, n int) error {
	if p.begun.IsZero() || time.Since(p.begun) > time.Minute {
		p.begun, p.read = time.Now(), 0
	}
	p.read += int64(n)
	for {
		due := p.begun.Add(time.Duration(float64(p.read) / float64(p.rate) * float64(time.Second)))
		rest := time.Until(due)
		if rest < time.Millisecond {
			return ctx.Err()
		}
		select {
		case <-time.After(min(rest, longestRest)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
