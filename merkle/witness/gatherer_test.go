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
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/merkle"
	"scripta/merkle/checkpoint"
)

func TestQuorumWithOneDown(t *testing.T) {
	t.Parallel()
	ctx, l, file := context.Background(), newLog(t, t.TempDir()), filepath.Join(t.TempDir(), CosignedFile)
	_, v := logKey(t, 1)
	verifiers, clients := []note.Verifier{v}, []*Client(nil)
	for i := range 3 {
		s := newSigner(t, fmt.Sprintf("w.example/%d", i))
		var h http.Handler = newServer(t, t.TempDir(), nil, s)
		if i == 1 {
			h = http.NotFoundHandler()
		}
		clients = append(clients, newClient(t, h, s))
		verifiers = append(verifiers, s.Verifier())
	}
	now := time.Unix(1_700_000_000, 0)
	opt := GathererOptions{Log: l, Clients: clients, Quorum: 2, File: file, Now: func() time.Time { return now }, Logger: quiet}
	g, err := NewGatherer(opt)
	if err != nil {
		t.Fatal(err)
	}
	h := g.Handler(l.Handler())
	get := func(path string) string {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		return rec.Body.String()
	}
	cp := grow(t, l, "good", 70)
	if get("/checkpoint") != string(cp.Note) {
		t.Error("not the log's own note before anyone cosigned")
	}
	if err := g.Gather(ctx); err != nil {
		t.Fatal(err)
	}
	served := get("/checkpoint")
	n, err := note.Open([]byte(served), note.VerifierList(verifiers...))
	if err != nil || len(n.Sigs) != 3 || n.Sigs[0].Name != origin {
		t.Fatalf("served %q: %v", served, err)
	}
	if stamped, err := checkpoint.Stamped([]byte(served)); err != nil || !bytes.Equal(stamped, cp.Stamped()) {
		t.Errorf("a time stamp would cover %q, %v", stamped, err)
	}
	later := grow(t, l, "good", 7)
	if get("/checkpoint") != string(later.Note) || get("/"+CosignedFile) != served {
		t.Error("the cosignatures of another size are served")
	}
	if again, err := NewGatherer(opt); err != nil || again.Cosigned() == nil || string(again.Cosigned().Note) != served {
		t.Errorf("after a restart: %v", err)
	}
	opt.Quorum = 3
	strict, err := NewGatherer(opt)
	if err != nil {
		t.Fatal(err)
	}
	if strict.Cosigned() != nil {
		t.Error("a note of two counts for a quorum of three")
	}
	if err := strict.Gather(ctx); err == nil {
		t.Error("a quorum of three with one down")
	}
	if _, err := strict.Health(); err != nil {
		t.Errorf("not healthy at once: %v", err)
	}
	now = now.Add(2 * patience)
	if detail, err := strict.Health(); err == nil || !strings.Contains(detail, "no quorum since 2023-11-14T22:13:20Z") {
		t.Errorf("healthy without a quorum: %s", detail)
	}
}

func TestRolledBackLogIsNoticed(t *testing.T) {
	t.Parallel()
	ctx, s := context.Background(), newSigner(t, "w.example/1")
	dir, backup := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "backup")
	c := newClient(t, newServer(t, t.TempDir(), nil, s), s)
	gather := func(l *merkle.Log) (*Gatherer, error) {
		g, err := NewGatherer(GathererOptions{Log: l, Clients: []*Client{c}, File: filepath.Join(t.TempDir(), CosignedFile), Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		return g, g.Gather(ctx)
	}
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
	if _, err := gather(l); err != nil {
		t.Fatal(err)
	}
	l = newLog(t, backup)
	g, err := gather(l)
	if !errors.Is(err, ErrAhead) {
		t.Errorf("rolled back: %v", err)
	}
	if _, err := g.Health(); !errors.Is(err, ErrAhead) {
		t.Errorf("healthy: %v", err)
	}
	grow(t, l, "another", 30)
	if err := g.Gather(ctx); !errors.Is(err, ErrFork) {
		t.Errorf("rolled back and grown: %v", err)
	}
	if g.Cosigned() != nil {
		t.Error("something was stored")
	}
}
