package cluster_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"scripta/merkle/cluster"
	"scripta/merkle/cluster/clustertest"
)

func TestLease(t *testing.T) {
	t.Parallel()
	c := clustertest.Start(t)
	ctx := t.Context()
	opt := func(node string) cluster.LeaseOptions {
		return cluster.LeaseOptions{Database: c.Database, Origin: "log.example/scripta/1", Node: node, TTL: time.Hour}
	}
	take := func(o cluster.LeaseOptions) *cluster.Lease {
		t.Helper()
		l, err := cluster.Take(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}

	// The first of all makes the table; many begin at once.
	var wg sync.WaitGroup
	for _, node := range []string{"a", "b", "c", "d", "e"} {
		wg.Go(func() {
			o := opt(node)
			o.Origin += node
			if _, err := cluster.Take(ctx, o); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()

	a := take(opt("a"))
	if a.Epoch != 1 || a.Tree != 0 || a.Adopted != 0 {
		t.Errorf("a new lease: %+v", a)
	}
	if err := a.SetTree(ctx, 77); err != nil {
		t.Fatal(err)
	}
	var held *cluster.LeasedError
	if _, err := cluster.Take(ctx, opt("b")); !errors.As(err, &held) || held.Node != "a" || time.Until(held.Expires) < 50*time.Minute {
		t.Errorf("b took what a has: %v", err)
	}
	// The same node again: its former self is fenced, and nothing is adopted.
	again := take(opt("a"))
	if again.Epoch != 2 || again.Tree != 77 || again.Adopted != 0 {
		t.Errorf("after a restart: %+v", again)
	}
	if err := a.Check(ctx); !errors.Is(err, cluster.ErrFenced) {
		t.Errorf("a's former self: %v", err)
	}
	if err := a.Renew(ctx); !errors.Is(err, cluster.ErrFenced) {
		t.Errorf("a's former self renews: %v", err)
	}
	// Adoption by force.
	adopt := opt("b")
	adopt.Adopt = true
	b := take(adopt)
	if b.Epoch != 3 || b.Tree != 77 || b.Adopted != 3 || b.Previous != "a" {
		t.Errorf("adopted: %+v", b)
	}
	if err := again.SetTree(ctx, 78); !errors.Is(err, cluster.ErrFenced) {
		t.Errorf("a changes the tree: %v", err)
	}
	if err := b.Check(ctx); err != nil {
		t.Error(err)
	}
	// b ends in good order; a need not wait.
	if err := b.Release(ctx); err != nil {
		t.Fatal(err)
	}
	back := take(opt("a"))
	if back.Epoch != 4 || back.Adopted != 4 || back.Previous != "b" {
		t.Errorf("taken back: %+v", back)
	}
	// The connection is made again after the database was away.
	c.KillPostgres()
	for back.Check(ctx) == nil { // its processes end a moment later
	}
	if err := back.Check(ctx); err == nil || errors.Is(err, cluster.ErrFenced) {
		t.Errorf("without the database: %v", err)
	}
	if err := c.StartPostgres(); err != nil {
		t.Fatal(err)
	}
	if err := back.Check(ctx); err != nil {
		t.Errorf("after the database came back: %v", err)
	}
}

// TestKeep holds that a lease that is kept does not expire, and that its keeper
// is told when another node has it.
func TestKeep(t *testing.T) {
	t.Parallel()
	c := clustertest.Start(t)
	opt := cluster.LeaseOptions{Database: c.Database, Origin: "log.example/scripta/1", Node: "a", TTL: 300 * time.Millisecond}
	l, err := cluster.Take(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	kept := make(chan error, 1)
	go func() { kept <- l.Keep(context.WithoutCancel(t.Context())) }()
	opt.Node = "b"
	for begin := time.Now(); time.Since(begin) < 4*opt.TTL; {
		var held *cluster.LeasedError
		if _, err := cluster.Take(t.Context(), opt); !errors.As(err, &held) {
			t.Fatalf("taken from who keeps it: %v", err)
		}
	}
	opt.Adopt = true
	b, err := cluster.Take(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := <-kept; !errors.Is(err, cluster.ErrFenced) {
		t.Errorf("the keeper was told %v", err)
	}
}
