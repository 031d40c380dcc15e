package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Finding is a virus that was found in a message. It is kept as JSON in jobs.
type Finding struct {
	Virus      string `json:"virus"`      // its name: printable ASCII, at most 128 octets
	Engine     string `json:"engine"`     // what found it, with its version
	Signatures string `json:"signatures"` // version and age of what it was found by
}

// Options of a scanner.
type Options struct {
	Clamd       string        // "host:port", or the path of a local socket
	Timeout     time.Duration // for one message, everything included
	Concurrency int           // scans at once; further ones wait. clamd's MaxThreads bounds them, too
	MaxAge      time.Duration // of the signatures; older ones are warned of
	Largest     int64         // octets of the largest message that there can be; 0: not known
	Now         func() time.Time
	Logger      *slog.Logger
}

// Scanner looks for viruses by clamd. Its methods may be called concurrently.
type Scanner struct {
	o     Options
	clamd clamd
	slots chan struct{} // one for each scan under way

	mu     sync.Mutex // guards state
	state  State
	warned time.Time // of old signatures, the last time; Run's alone, like told
	told   bool      // that it does not answer, before it ever did
}

// State is how the engine is.
type State struct {
	Version Version
	Checked time.Time // when Version was asked for; zero before the first answer
	Err     error     // of the last question or scan, nil when it was answered
	Small   bool      // it does not take the largest message that there can be
}

// New makes a scanner. It does not connect yet.
func New(o Options) *Scanner {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Scanner{o: o, slots: make(chan struct{}, max(1, o.Concurrency))}
	s.clamd.network, s.clamd.address = splitAddress(o.Clamd)
	s.clamd.timeout = o.Timeout
	return s
}

// Scan reads r to its end and returns what was found in it, nil for nothing. An
// error says that the message was not scanned: [ErrUnavailable], [ErrTooLarge],
// or an error of r.
func (s *Scanner) Scan(ctx context.Context, r io.Reader) (*Finding, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-s.slots }()
	reply, err := s.clamd.inStream(ctx, r)
	var virus string
	if err == nil {
		virus, err = parseReply(reply)
	}
	if err != nil || virus == "" {
		s.heard(err)
		return nil, err
	}
	// Asked for now, so that it is what the virus was found by: signatures are
	// loaded anew while clamd runs. The finding stands without it.
	v, err := s.ask(ctx)
	if err != nil {
		v = s.State().Version
		if v.Engine == "" {
			return &Finding{virus, "ClamAV", "unknown"}, nil
		}
	}
	return &Finding{virus, v.Engine, v.Signatures(s.o.Now())}, nil
}

// enter waits for its turn, no longer than a scan may take: behind a clamd that
// hangs, everybody would wait for everybody.
func (s *Scanner) enter(ctx context.Context) error {
	limit := time.NewTimer(s.o.Timeout)
	defer limit.Stop()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-limit.C:
		return fmt.Errorf("%w: %d scans are under way and none ended within %v", ErrUnavailable, cap(s.slots), s.o.Timeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// heard keeps what came of the last scan.
func (s *Scanner) heard(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Err = err
}

// ask asks clamd for its version and keeps the answer.
func (s *Scanner) ask(ctx context.Context) (Version, error) {
	reply, err := s.clamd.command(ctx, "VERSION")
	var v Version
	if err == nil {
		v, err = parseVersion(reply, time.Local)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Err = err; err == nil {
		s.state.Version, s.state.Checked = v, s.o.Now()
	}
	return v, err
}

// State returns how the engine was at the last question.
func (s *Scanner) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Age is how old the signatures are, and whether that is known.
func (s *Scanner) Age() (age time.Duration, known bool) { return s.State().Version.Age(s.o.Now()) }

// Old reports whether the signatures are older than they may be.
func (s *Scanner) Old() bool {
	age, known := s.Age()
	return known && age > s.o.MaxAge
}

const (
	askEvery  = time.Minute
	warnEvery = 24 * time.Hour
)

// Run asks for the version again and again until ctx ends, and warns, once a day,
// of signatures that are too old, and of an engine that stopped answering or
// answers again.
func (s *Scanner) Run(ctx context.Context) {
	every := time.NewTicker(askEvery)
	defer every.Stop()
	down := true // so that its limits are tried at the first answer
	for {
		down = s.Check(ctx, down)
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// tryLargest finds out whether clamd takes the largest message that there can be,
// before one comes: what it takes is configured there, and it tells nobody.
func (s *Scanner) tryLargest(ctx context.Context) {
	if s.o.Largest == 0 {
		return
	}
	reply, err := s.clamd.inStream(ctx, io.LimitReader(zeros{}, s.o.Largest))
	if err == nil {
		_, err = parseReply(reply)
	}
	if err != nil && !errors.Is(err, ErrTooLarge) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Small = err != nil; s.state.Small {
		s.o.Logger.Error("large messages will be put off", "err", err, "octets", s.o.Largest)
	}
}

// zeros has no end.
type zeros struct{}

// Read implements [io.Reader].
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Check asks for the version once; down is what the call before returned, or true
// at first. When clamd answers again it also finds out what clamd takes.
func (s *Scanner) Check(ctx context.Context, down bool) bool {
	v, err := s.ask(ctx)
	now := s.o.Now()
	switch {
	case ctx.Err() != nil:
		return down
	case err != nil && (!down || s.State().Checked.IsZero() && !s.told):
		s.told = true
		s.o.Logger.Error("the virus scanner does not answer", "err", err)
	case err == nil && down:
		s.o.Logger.Info("the virus scanner answers", "engine", v.Engine, "signatures", v.Signatures(now))
		s.tryLargest(ctx)
	}
	if err == nil && s.Old() && now.Sub(s.warned) >= warnEvery {
		s.warned = now
		s.o.Logger.Warn("the virus signatures are old: see that freshclam runs", "signatures", v.Signatures(now), "allowed", s.o.MaxAge)
	}
	return err != nil
}
