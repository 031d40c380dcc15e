package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/durable/faultfs"
	"scripta/merkle/checkpoint"
)

// newPeers makes witnesses with these handlers; nil is an honest one.
func newPeers(t *testing.T, quorum int, handlers ...http.Handler) *Policy {
	t.Helper()
	p := &Policy{Quorum: quorum}
	for i, h := range handlers {
		s := newSigner(t, fmt.Sprintf("w.example/%d", i))
		if h == nil {
			h = newServer(t, t.TempDir(), nil, s)
		}
		c := newClient(t, h, s)
		m, err := NewMember(vkeyOf(s), c.URL)
		if err != nil {
			t.Fatal(err)
		}
		p.Members = append(p.Members, m)
	}
	return p
}

func newGatherer(t *testing.T, opt GathererOptions) *Gatherer {
	t.Helper()
	if opt.Dir == "" {
		opt.Dir = t.TempDir()
	}
	opt.Logger = quiet
	g, err := NewGatherer(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g
}

func TestQuorumWithOneDown(t *testing.T) {
	t.Parallel()
	ctx, l := t.Context(), newLog(t, t.TempDir())
	_, v := logKey(t, 1)
	policy := newPeers(t, 2, nil, http.NotFoundHandler(), nil)
	verifiers := note.VerifierList(v, policy.Members[0], policy.Members[1], policy.Members[2])
	var seconds atomic.Int64
	opt := GathererOptions{Log: l, Policy: policy, Dir: t.TempDir(), Now: func() time.Time { return time.Unix(1_700_000_000+seconds.Load(), 0) }}
	g := newGatherer(t, opt)
	shown := func(g *Gatherer) string {
		rec := httptest.NewRecorder()
		g.Handler(l.Handler()).ServeHTTP(rec, httptest.NewRequest("GET", "/checkpoint", nil))
		return rec.Body.String()
	}
	cp := grow(t, l, "good", 70)
	if shown(g) != string(cp.Note) {
		t.Error("not the log's own note before anyone cosigned")
	}
	if err := g.Gather(ctx); err != nil {
		t.Fatal(err)
	}
	served := shown(g)
	n, err := note.Open([]byte(served), verifiers)
	if err != nil || len(n.Sigs) != 3 || n.Sigs[0].Name != origin {
		t.Fatalf("served %q: %v", served, err)
	}
	if stamped, err := checkpoint.Stamped([]byte(served)); err != nil || !bytes.Equal(stamped, cp.Stamped()) {
		t.Errorf("a time stamp would cover %q, %v", stamped, err)
	}
	if p := g.Peers(); p[0].Size != 70 || p[0].Err != nil || !errors.Is(p[1].Err, ErrAnswer) || p[1].Failed != 1 || p[1].Size != 0 {
		t.Errorf("%+v", p)
	}
	later := grow(t, l, "good", 7)
	if shown(g) != served {
		t.Error("a checkpoint is shown before it is cosigned")
	}
	if again := newGatherer(t, opt); again.Cosigned() == nil || string(again.Cosigned().Note) != served || shown(again) != served {
		t.Error("forgotten after a restart")
	}

	strict := opt
	strict.Policy = &Policy{Members: policy.Members, Quorum: 3}
	g = newGatherer(t, strict)
	if g.Cosigned() != nil {
		t.Error("a note of two counts for a quorum of three")
	}
	if err := g.Gather(ctx); err == nil || !strings.Contains(err.Error(), "2 of 3 witnesses cosigned 77 leaves, 3 must") {
		t.Errorf("a quorum of three with one down: %v", err)
	}
	if lack := g.Lacking(); lack == nil || !lack.Since.Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("%+v", lack)
	}
	if g.Covering(ctx, 1) != nil {
		t.Error("a checkpoint without its quorum covers records")
	}
	if shown(g) != string(later.Note) {
		t.Error("without a quorum the log is not readable")
	}
}

// TestShownNeverFalls holds while a quorum comes and goes.
func TestShownNeverFalls(t *testing.T) {
	t.Parallel()
	ctx, l := t.Context(), newLog(t, t.TempDir())
	s := newSigner(t, "w.example/1")
	honest := newServer(t, t.TempDir(), nil, s)
	var down atomic.Bool
	c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		honest.ServeHTTP(w, r)
	}), s)
	m, err := NewMember(vkeyOf(s), c.URL)
	if err != nil {
		t.Fatal(err)
	}
	var seconds atomic.Int64
	g := newGatherer(t, GathererOptions{Log: l, Policy: &Policy{[]Member{m}, 1}, Now: func() time.Time { return time.Unix(1_700_000_000+seconds.Load(), 0) }})
	want := func(what string, size uint64, cosigned bool) {
		t.Helper()
		if cp := g.Shown(); cp.Size != size || g.Policy().Satisfied(cp.Note) != cosigned {
			t.Errorf("%s: %d leaves shown, cosigned %v", what, cp.Size, g.Policy().Satisfied(cp.Note))
		}
	}
	grow(t, l, "good", 10)
	if err := g.Gather(ctx); err != nil {
		t.Fatal(err)
	}
	want("cosigned", 10, true)
	down.Store(true)
	grow(t, l, "good", 10)
	if g.Gather(ctx) == nil {
		t.Fatal("cosigned by a witness that is down")
	}
	want("down for a moment", 10, true)
	seconds.Add(31)
	want("down for long", 20, false)
	grow(t, l, "good", 10)
	want("and growing", 30, false)
	down.Store(false)
	if err := g.Gather(ctx); err != nil {
		t.Fatal(err)
	}
	want("up again", 30, true)
	grow(t, l, "good", 10)
	want("up and growing", 30, true)
	if cp := g.Covering(ctx, 35); cp == nil || cp.Size != 40 {
		t.Errorf("asked for what covers leaf 34: %+v", cp)
	}
	if cp := g.Covering(ctx, 5); cp == nil || cp.Size != 10 {
		t.Errorf("the first one is not kept: %+v", cp)
	}
	if g.Covering(ctx, 41) != nil {
		t.Error("covered what is not in the log")
	}
}

// TestSlowWitness does not keep the others' quorum waiting, and its cosignature
// is added when it comes.
func TestSlowWitness(t *testing.T) {
	t.Parallel()
	ctx, l := t.Context(), newLog(t, t.TempDir())
	s := newSigner(t, "w.example/slow")
	honest := newServer(t, t.TempDir(), nil, s)
	release := make(chan struct{})
	slow := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-release
		honest.ServeHTTP(w, r)
	}), s)
	policy := newPeers(t, 1, nil)
	m, err := NewMember(vkeyOf(s), slow.URL)
	if err != nil {
		t.Fatal(err)
	}
	policy.Members = append(policy.Members, m)
	g := newGatherer(t, GathererOptions{Log: l, Policy: policy, Interval: time.Millisecond})
	cp := grow(t, l, "good", 3)
	if err := g.Gather(ctx); err != nil {
		t.Fatal(err)
	}
	signed := func() int {
		all, err := policy.Cosignatures(g.Cosigned().Note)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	if signed() != 1 {
		t.Errorf("%d cosignatures before the slow witness answered", signed())
	}
	close(release)
	g.asking.Wait()
	if signed() != 2 || g.Cosigned().Size != cp.Size {
		t.Errorf("%d cosignatures after the slow witness answered", signed())
	}
	if kept := g.Covering(ctx, 3); kept == nil || len(noteSignatures(t, kept.Note)) != 3 {
		t.Errorf("kept without the late cosignature")
	}
}

func noteSignatures(t *testing.T, signed []byte) []string {
	t.Helper()
	_, lines, ok := strings.Cut(string(signed), "\n\n")
	if !ok {
		t.Fatalf("no note: %q", signed)
	}
	return strings.Split(strings.TrimSuffix(lines, "\n"), "\n")
}

// TestRunGathers publishes while Run runs.
func TestRunGathers(t *testing.T) {
	t.Parallel()
	l := newLog(t, t.TempDir())
	g := newGatherer(t, GathererOptions{Log: l, Policy: newPeers(t, 2, nil, nil), Interval: time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { g.Run(ctx); close(ended) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 3 {
		cp := grow(t, l, "good", 5)
		for !g.has(cp) { // bounded by the time of all tests
			<-tick.C
		}
	}
	stop()
	<-ended
}

// TestCrashWhileGathering cuts the power at every call: what was given out as
// cosigned is there after it, and whatever is there has its quorum.
func TestCrashWhileGathering(t *testing.T) {
	t.Parallel()
	ctx, l, policy := t.Context(), newLog(t, t.TempDir()), newPeers(t, 2, nil, nil)
	for at := 1; ; at++ {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "log"), 0o700); err != nil {
			t.Fatal(err)
		}
		fsys, err := faultfs.New(dir, faultfs.CrashAt(at))
		if err != nil {
			t.Fatal(err)
		}
		given := uint64(0)
		opt := GathererOptions{Log: l, Policy: policy, Dir: filepath.Join(dir, "log"), FS: fsys, Logger: quiet}
		if g, err := NewGatherer(opt); err == nil {
			for range 2 {
				grow(t, l, "good", 1)
				_ = g.Gather(ctx)
				if cp := g.Cosigned(); cp != nil {
					given = cp.Size
				}
			}
			_ = g.Close()
		}
		crashed := fsys.Crashed()
		if err := fsys.PowerLoss(); err != nil {
			t.Fatal(err)
		}
		opt.FS = nil
		g := newGatherer(t, opt)
		switch cp := g.Cosigned(); {
		case cp == nil && given > 0:
			t.Errorf("crash at call %d: %d leaves were cosigned, and nothing is stored", at, given)
		case cp != nil && (cp.Size < given || !policy.Satisfied(cp.Note)):
			t.Errorf("crash at call %d: %d leaves were cosigned, stored are %d", at, given, cp.Size)
		}
		if err := g.Gather(ctx); err != nil {
			t.Errorf("crash at call %d: afterwards: %v", at, err)
		}
		if !crashed {
			if given != l.Checkpoint().Size {
				t.Errorf("without a crash %d of %d leaves were cosigned", given, l.Checkpoint().Size)
			}
			return
		}
	}
}

// TestRolledBackLogIsNoticed restores all of a log's folder, which the log itself
// cannot notice.
func TestRolledBackLogIsNoticed(t *testing.T) {
	t.Parallel()
	ctx, policy := t.Context(), newPeers(t, 1, nil)
	dir, backup, stored := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "backup"), t.TempDir()
	l := newLog(t, dir)
	grow(t, l, "good", 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	l = newLog(t, dir)
	grow(t, l, "good", 10)
	if err := newGatherer(t, GathererOptions{Log: l, Policy: policy, Dir: stored}).Gather(ctx); err != nil {
		t.Fatal(err)
	}
	l = newLog(t, backup)
	if g := newGatherer(t, GathererOptions{Log: l, Policy: policy, Dir: stored}); !errors.Is(g.Gather(ctx), ErrAhead) || g.Shown().Size != 10 {
		t.Error("the stored note, which outlived the log, is not noticed")
	}
	g := newGatherer(t, GathererOptions{Log: l, Policy: policy})
	if err := g.Gather(ctx); !errors.Is(err, ErrAhead) || !Contradiction(g.Peers()[0].Err) {
		t.Errorf("rolled back: %v", err)
	}
	grow(t, l, "another", 30)
	if err := g.Gather(ctx); !errors.Is(err, ErrFork) {
		t.Errorf("rolled back and grown: %v", err)
	}
	if g.Cosigned() != nil {
		t.Error("something was stored")
	}
}
