package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/durable"
	"scripta/merkle/checkpoint"
)

// Log is what is cosigned; merkle.Log is one.
type Log interface {
	Checkpoint() *checkpoint.Signed
	Consistency(ctx context.Context, size1, size2 uint64) ([][32]byte, error)
	Verifier() note.Verifier
}

// GathererOptions are what a gatherer needs.
type GathererOptions struct {
	Log    Log
	Policy *Policy // its members, at their URLs, are asked; its quorum is wanted
	HTTP   *http.Client
	Dir    string // beside the log's checkpoint: CosignedFile and KeptFolder are in it
	FS     durable.FS
	// Interval is the time between two looks at the log, 1 s if 0, and how long
	// slow witnesses are waited for once there is a quorum.
	Interval time.Duration
	Now      func() time.Time
	Logger   *slog.Logger
}

// Gatherer asks the witnesses of a log. Its methods may be called concurrently.
type Gatherer struct {
	opt    GathererOptions
	ctx    context.Context // of what is asked; ended by Close
	cancel context.CancelFunc
	asking sync.WaitGroup

	cosigned atomic.Pointer[checkpoint.Signed] // the latest with a quorum, on the disk; nil if there is none
	lacking  atomic.Pointer[Lack]              // nil while the quorum is reached
	floor    atomic.Uint64                     // size of the latest checkpoint that was shown without a quorum

	// mu guards what follows, and is held while a note is stored: so notes are
	// stored in the order of their sizes.
	mu     sync.Mutex
	peers  []*peer
	round  round
	kept   []uint64 // sizes in KeptFolder, ascending
	keptAt time.Time
}

// peer is one witness that is asked.
type peer struct {
	client    *Client
	busy      bool // it is being asked
	failures  int  // since its last cosignature
	notBefore time.Time
	state     PeerState
}

// PeerState is how the asking of one witness goes.
type PeerState struct {
	Name   string
	Size   uint64    // of the last checkpoint that it cosigned here since the start; 0: none
	At     time.Time // when that was
	Asked  uint64    // requests
	Failed uint64    // those without a cosignature
	Err    error     // of the last one; nil if it cosigned
}

// Lack is why the latest checkpoint has no quorum.
type Lack struct {
	Since time.Time // of the first failure after the last quorum
	Err   error     // of the last one
}

// round is the checkpoint that is being cosigned.
type round struct {
	cp    *checkpoint.Signed
	lines map[*peer][]byte
}

// NewGatherer reads the stored notes. One that can't be verified, with a quorum
// of the policy, counts as none: it is asked for again. Close the gatherer.
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
	if err := opt.Policy.check(); err != nil {
		return nil, err
	}
	if opt.Policy.Quorum == 0 {
		return nil, fmt.Errorf("%w: it asks for no witness", ErrPolicy)
	}
	g := &Gatherer{opt: opt}
	for _, m := range opt.Policy.Members {
		g.peers = append(g.peers, &peer{client: &Client{URL: m.URL, Verifier: m, HTTP: opt.HTTP}, state: PeerState{Name: m.Name()}})
	}
	if err := g.load(); err != nil {
		return nil, err
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g, nil
}

// Close ends what is being asked.
func (g *Gatherer) Close() error {
	g.cancel()
	g.asking.Wait()
	return nil
}

// Cosigned is the latest checkpoint that a quorum cosigned: its note has the
// log's signature first, then the cosignatures. It is nil if there is none.
func (g *Gatherer) Cosigned() *checkpoint.Signed { return g.cosigned.Load() }

// Lacking is nil while the latest checkpoint gets its quorum, and before the first
// try.
func (g *Gatherer) Lacking() *Lack { return g.lacking.Load() }

// Policy is the one that is asked for.
func (g *Gatherer) Policy() *Policy { return g.opt.Policy }

// Peers tells how the asking of each witness goes, in the policy's order.
func (g *Gatherer) Peers() []PeerState {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]PeerState, len(g.peers))
	for i, p := range g.peers {
		all[i] = p.state
	}
	return all
}

// Gather asks every witness about the latest checkpoint, at once, but for those
// that are being asked. As soon as a quorum cosigned it, the note is stored,
// fsynced, and only then given out; later cosignatures are added to it. It
// returns nil if the quorum was reached and no witness says that it saw another
// history (ErrFork) or a later one (ErrAhead).
func (g *Gatherer) Gather(ctx context.Context) error { return g.gather(ctx, true) }

// gather is Gather; without all, witnesses that failed get some time before they
// are asked again.
func (g *Gatherer) gather(ctx context.Context, all bool) error {
	cp, answers, n := g.ask(all)
	if cp == nil {
		return nil
	}
	var enough <-chan time.Time // nil until there is a quorum
	for waiting := true; waiting && n > 0; {
		select {
		case <-answers:
			n--
			if enough == nil && g.has(cp) {
				enough = time.After(g.opt.Interval)
			}
		case <-enough:
			waiting = false
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return g.settle(cp)
}

// has reports whether a checkpoint is the latest that a quorum cosigned.
func (g *Gatherer) has(cp *checkpoint.Signed) bool {
	last := g.cosigned.Load()
	return last != nil && cp != nil && last.Size == cp.Size && last.Root == cp.Root
}

// ask begins to ask about the latest checkpoint. Each of the n witnesses that are
// asked gives one answer.
func (g *Gatherer) ask(all bool) (cp *checkpoint.Signed, answers <-chan struct{}, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	cp = g.opt.Log.Checkpoint()
	if cp == nil || g.ctx.Err() != nil {
		return nil, nil, 0
	}
	if last := g.cosigned.Load(); last != nil && last.Size > cp.Size {
		return cp, nil, 0 // settle says why
	}
	if g.round.cp == nil || g.round.cp.Size != cp.Size || g.round.cp.Root != cp.Root {
		g.round = round{cp, map[*peer][]byte{}}
	}
	ch := make(chan struct{}, len(g.peers))
	now := g.opt.Now()
	for _, p := range g.peers {
		if p.busy || g.round.lines[p] != nil || !all && now.Before(p.notBefore) {
			continue
		}
		p.busy = true
		n++
		g.asking.Go(func() {
			ctx, cancel := context.WithTimeout(g.ctx, askTime)
			defer cancel()
			line, err := p.client.Cosign(ctx, cp, g.opt.Log.Consistency)
			g.answered(p, cp, line, err)
			ch <- struct{}{}
		})
	}
	return cp, ch, n
}

const (
	retryFirst = time.Second // a witness that failed is asked again after so long,
	retryMost  = time.Minute // doubled at each failure up to this
)

// answered takes a witness's answer.
func (g *Gatherer) answered(p *peer, cp *checkpoint.Signed, line []byte, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p.busy = false
	p.state.Asked++
	now := g.opt.Now()
	if err != nil {
		if g.ctx.Err() != nil {
			return // we hung up
		}
		if p.failures == 0 {
			g.opt.Logger.Warn("a witness did not cosign; it is asked again", "witness", p.state.Name, "size", cp.Size, "err", err)
		}
		p.notBefore = now.Add(min(retryFirst<<min(p.failures, 10), retryMost))
		p.failures++
		p.state.Failed++
		p.state.Err = err
		return
	}
	if p.failures > 0 {
		g.opt.Logger.Info("a witness cosigns again", "witness", p.state.Name, "size", cp.Size)
	}
	p.failures, p.notBefore = 0, time.Time{}
	p.state.Err, p.state.Size, p.state.At = nil, cp.Size, now
	if g.round.cp != cp && (g.round.cp.Size != cp.Size || g.round.cp.Root != cp.Root) {
		return // too late: a later checkpoint is being cosigned
	}
	g.round.lines[p] = line
	if len(g.round.lines) < g.opt.Policy.Quorum {
		return
	}
	if err := g.store(now); err != nil {
		g.opt.Logger.Error("couldn't store the cosigned checkpoint", "size", cp.Size, "err", err)
		p.state.Err = err
		delete(g.round.lines, p) // it is asked again, and the note stored then
	}
}

// settle says how it stands with a checkpoint after witnesses were asked.
func (g *Gatherer) settle(cp *checkpoint.Signed) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var refused, contradicted error
	for _, p := range g.peers {
		refused = errors.Join(refused, p.state.Err)
		if Contradiction(p.state.Err) {
			contradicted = errors.Join(contradicted, p.state.Err)
		}
	}
	var lack error
	switch last := g.cosigned.Load(); {
	case last != nil && last.Size > g.opt.Log.Checkpoint().Size:
		lack = fmt.Errorf("%w: %d leaves were cosigned, as %s says; the log has %d", ErrAhead, last.Size, CosignedFile, cp.Size)
	case last == nil || last.Size < cp.Size || last.Size == cp.Size && last.Root != cp.Root:
		lack = fmt.Errorf("%d of %d witnesses cosigned %d leaves, %d must: %w", len(g.round.lines), len(g.peers), cp.Size, g.opt.Policy.Quorum, refused)
	}
	switch was := g.lacking.Load(); {
	case lack == nil && was != nil:
		g.opt.Logger.Info("a quorum of witnesses cosigns again", "size", cp.Size)
		g.lacking.Store(nil)
	case lack != nil && was == nil:
		g.opt.Logger.Error("no quorum of witnesses cosigned the checkpoint; trying again", "size", cp.Size, "err", lack)
		g.lacking.Store(&Lack{g.opt.Now(), lack})
	case lack != nil:
		g.lacking.Store(&Lack{was.Since, lack})
	}
	return errors.Join(lack, contradicted)
}

// Contradiction reports whether an error of a witness says that it saw another
// history of the log, or a later one: what only a fork, a rollback or a stolen key
// explains, unless the witness lies.
func Contradiction(err error) bool { return errors.Is(err, ErrFork) || errors.Is(err, ErrAhead) }

// Run gathers for the checkpoints that are published, each time for the latest,
// until ctx ends.
func (g *Gatherer) Run(ctx context.Context) {
	tick := time.NewTicker(g.opt.Interval)
	defer tick.Stop()
	for {
		if g.due() {
			_ = g.gather(ctx, false) // kept for Lacking and Peers, and logged
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// due reports whether there is somebody to ask: about a new checkpoint, or one
// that it has not cosigned.
func (g *Gatherer) due() bool {
	cp := g.opt.Log.Checkpoint()
	if cp == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.round.cp == nil {
		return !g.has(cp)
	}
	if g.round.cp.Size != cp.Size {
		return true
	}
	now := g.opt.Now()
	return slices.ContainsFunc(g.peers, func(p *peer) bool {
		return g.round.lines[p] == nil && !p.busy && !now.Before(p.notBefore)
	})
}
