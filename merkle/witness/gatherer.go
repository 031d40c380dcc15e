package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/durable"
	"scripta/merkle/checkpoint"
)

const (
	// patience is how long the quorum may be missing before Health says so: a
	// witness that restarts is no fault of the log.
	patience = time.Minute
	// CosignedFile is the name that the stored note has beside the log's
	// checkpoint, and in HTTP.
	CosignedFile = "checkpoint.cosigned"
)

// Log is what is cosigned; merkle.Log is one.
type Log interface {
	Checkpoint() *checkpoint.Signed
	Consistency(ctx context.Context, size1, size2 uint64) ([][32]byte, error)
	Verifier() note.Verifier
}

// GathererOptions are what a gatherer needs.
type GathererOptions struct {
	Log     Log
	Clients []*Client // with distinct keys
	// Quorum is how many of them must cosign a checkpoint; more than half if 0.
	Quorum   int
	File     string // where the latest note with a quorum is kept
	FS       durable.FS
	Interval time.Duration // between two looks at the log; 1 s if 0
	Now      func() time.Time
	Logger   *slog.Logger
}

// Gatherer asks the witnesses of a log.
type Gatherer struct {
	opt      GathererOptions
	cosigned atomic.Pointer[checkpoint.Signed] // the latest with a quorum, on the disk; nil if there is none
	missing  atomic.Pointer[lack]              // nil while the quorum is reached
}

// lack is since when and why the quorum is missing.
type lack struct {
	since time.Time
	err   error
}

// NewGatherer reads the stored note. One that cannot be verified, with a quorum
// of the configured witnesses, counts as none: it is asked for again.
func NewGatherer(opt GathererOptions) (*Gatherer, error) {
	if opt.FS == nil {
		opt.FS = durable.OS
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if opt.Interval <= 0 {
		opt.Interval = time.Second
	}
	if opt.Quorum == 0 {
		opt.Quorum = len(opt.Clients)/2 + 1
	}
	if opt.Quorum < 1 || opt.Quorum > len(opt.Clients) {
		return nil, fmt.Errorf("witness: a quorum of %d of %d witnesses", opt.Quorum, len(opt.Clients))
	}
	g := &Gatherer{opt: opt}
	f, err := opt.FS.OpenFile(opt.File, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return g, nil
	} else if err != nil {
		return nil, fmt.Errorf("couldn't read the cosigned checkpoint: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, checkpoint.MaxNoteSize+1))
	if err != nil {
		return nil, fmt.Errorf("couldn't read the cosigned checkpoint: %w", err)
	}
	cp, err := checkpoint.Open(b, opt.Log.Verifier())
	if err != nil || g.count(cp) < opt.Quorum {
		opt.Logger.Warn("the stored cosigned checkpoint is not of this log, or has no quorum of its witnesses", "file", opt.File, "err", err)
		return g, nil
	}
	g.cosigned.Store(cp)
	return g, nil
}

// count is how many of the witnesses cosigned a note.
func (g *Gatherer) count(cp *checkpoint.Signed) int {
	var all []note.Verifier
	for _, c := range g.opt.Clients {
		all = append(all, c.Verifier)
	}
	n, err := note.Open(cp.Note, note.VerifierList(all...))
	if err != nil {
		return 0
	}
	return len(n.Sigs)
}

// Cosigned is the latest checkpoint that a quorum cosigned: its note has the
// log's signature first, then the cosignatures. It is nil if there is none.
func (g *Gatherer) Cosigned() *checkpoint.Signed { return g.cosigned.Load() }

// Gather asks every witness about the latest checkpoint, at once. As soon as a
// quorum cosigned it, the note is stored, fsynced, and only then given out;
// later cosignatures are added to it. It returns nil if the quorum was reached.
func (g *Gatherer) Gather(ctx context.Context) error {
	cp := g.opt.Log.Checkpoint()
	if cp == nil {
		return nil
	}
	err := g.gather(ctx, cp)
	was := g.missing.Load()
	switch {
	case err == nil:
		g.missing.Store(nil)
		if was != nil {
			g.opt.Logger.Info("a quorum of witnesses cosigns again", "size", cp.Size)
		}
	case was == nil:
		g.missing.Store(&lack{g.opt.Now(), err})
		g.opt.Logger.Error("no quorum of witnesses cosigned the checkpoint; trying again", "size", cp.Size, "err", err)
	default:
		g.missing.Store(&lack{was.since, err})
	}
	return err
}

func (g *Gatherer) gather(ctx context.Context, cp *checkpoint.Signed) error {
	if last := g.cosigned.Load(); last != nil && last.Size > cp.Size {
		return fmt.Errorf("%w: %d leaves were cosigned, as %s says; the log has %d", ErrAhead, last.Size, g.opt.File, cp.Size)
	}
	type result struct {
		line []byte
		err  error
	}
	results := make(chan result)
	for _, c := range g.opt.Clients {
		go func() {
			ctx, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			line, err := c.Cosign(ctx, cp, g.opt.Log.Consistency)
			results <- result{line, err}
		}()
	}
	signed := cp.Stamped()
	var refused, failed error
	n := 0
	for range g.opt.Clients { // all of them: a client is not for concurrent use
		r := <-results
		if r.err != nil {
			refused = errors.Join(refused, r.err)
			if errors.Is(r.err, ErrFork) || errors.Is(r.err, ErrAhead) {
				failed = errors.Join(failed, r.err)
			}
			continue
		}
		signed = append(signed, r.line...)
		if n++; n >= g.opt.Quorum {
			refused = errors.Join(refused, g.store(signed))
		}
	}
	if failed != nil { // one honest witness is enough to show it
		return failed
	}
	if last := g.cosigned.Load(); last != nil && last.Size == cp.Size && last.Root == cp.Root {
		return nil
	}
	return fmt.Errorf("%d of %d witnesses cosigned, %d must: %w", n, len(g.opt.Clients), g.opt.Quorum, refused)
}

func (g *Gatherer) store(signed []byte) error {
	cp, err := checkpoint.Open(signed, g.opt.Log.Verifier())
	if err != nil {
		return err
	}
	if err := durable.WriteFile(g.opt.FS, g.opt.File, cp.Note, 0o644); err != nil {
		return fmt.Errorf("couldn't store the cosigned checkpoint: %w", err)
	}
	g.cosigned.Store(cp)
	return nil
}

// Run gathers for each checkpoint that is published, and again while the quorum
// is missing, until ctx ends.
func (g *Gatherer) Run(ctx context.Context) {
	tick := time.NewTicker(g.opt.Interval)
	defer tick.Stop()
	for {
		cp, last := g.opt.Log.Checkpoint(), g.cosigned.Load()
		if cp != nil && (last == nil || last.Size != cp.Size || last.Root != cp.Root || g.missing.Load() != nil) {
			_ = g.Gather(ctx) // kept for Health, and logged
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Health tells what is cosigned. It is an error if a witness saw another history
// or a later one of this log, or if the quorum is missing for over a minute.
func (g *Gatherer) Health() (detail string, err error) {
	detail = "none cosigned yet"
	if cp := g.cosigned.Load(); cp != nil {
		detail = fmt.Sprintf("%d records cosigned by %d of %d", cp.Size, g.count(cp), len(g.opt.Clients))
	}
	l := g.missing.Load()
	if l == nil {
		return detail, nil
	}
	detail += "; no quorum since " + l.since.UTC().Format(time.RFC3339)
	if errors.Is(l.err, ErrFork) || errors.Is(l.err, ErrAhead) || g.opt.Now().Sub(l.since) > patience {
		return detail, fmt.Errorf("%s: %w", detail, l.err)
	}
	return detail, nil
}

// Handler serves the log's files by next, which is merkle.Log's handler, with
// the cosignatures: /checkpoint has them if a quorum cosigned the latest
// checkpoint, and /checkpoint.cosigned is the latest that a quorum cosigned.
func (g *Gatherer) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		latest, cp := g.opt.Log.Checkpoint(), g.cosigned.Load()
		get := r.Method == http.MethodGet || r.Method == http.MethodHead
		current := cp != nil && latest != nil && cp.Size == latest.Size && cp.Root == latest.Root
		if !get || cp == nil || !(r.URL.Path == "/"+CosignedFile || r.URL.Path == "/checkpoint" && current) {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*") // public for any reader, as all of the log
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "public, max-age=2")
		h.Set("Content-Length", strconv.Itoa(len(cp.Note)))
		_, _ = w.Write(cp.Note) // an error is the reader's
	})
}
