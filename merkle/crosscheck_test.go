package merkle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/merkle/cluster/clustertest"
)

// checkedOptions are those of a log that is copied to the shared cluster.
func checkedOptions(t *testing.T) Options {
	t.Helper()
	opt := clusterOptions(t, shared.cluster(t), t.TempDir())
	opt.Cluster.CrossCheck = true
	return opt
}

// awaitCopied waits until the cluster has as many leaves as the log.
func awaitCopied(t *testing.T, l *Log) {
	t.Helper()
	await(t, "the copy", func() bool {
		s, ok := l.ClusterState()
		if !ok {
			t.Fatal("the log is not copied")
		}
		return s.Copied == l.Size()
	})
}

// await polls for a condition that comes without being asked for.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

func TestCrossCheck(t *testing.T) {
	t.Parallel()
	opt := checkedOptions(t)
	l := open(t, opt)
	mustAdd(t, l, 0, 3000)
	mustAdd(t, l, 3000, 1)
	closeLog(t, l) // copies what is left
	if s, _ := l.ClusterState(); s.Copied != 3001 {
		t.Errorf("closed with %+v", s)
	}
	// Without the cluster the log goes on.
	proxy := clustertest.NewProxy(t, opt.Cluster.Address)
	c := *opt.Cluster
	c.Address = proxy.Address()
	opt.Cluster = &c
	l = open(t, opt)
	awaitCopied(t, l)
	proxy.Cut()
	mustAdd(t, l, 3001, 500)
	mustPublish(t, l)
	proxy.Heal(true)
	awaitCopied(t, l)
	// The cluster's own log, by the remote engine, has the same root.
	size, root := l.Size(), mustPublish(t, l).Root
	closeLog(t, l)
	opt.Dir, c.CrossCheck = t.TempDir(), false
	opt.AdoptWithoutCheckpoint = true
	r := open(t, opt)
	if r.Size() != size || r.Checkpoint().Root != root {
		t.Errorf("the copy has %d leaves and root %x, the log %d and %x", r.Size(), r.Checkpoint().Root, size, root)
	}
	if err := r.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if s, ok := r.ClusterState(); !ok || s != (ClusterState{}) {
		t.Errorf("the remote log says %+v, %v", s, ok)
	}
}

// TestCrossCheckFindsDifferences holds that each kind stops the log.
func TestCrossCheckFindsDifferences(t *testing.T) {
	t.Parallel()
	stopped := func(t *testing.T, l *Log, err error, says string) {
		t.Helper()
		if err == nil { // found by the copier
			defer l.Close() // fails, because it can't publish
			n := l.Size()
			await(t, "the alarm", func() bool {
				err = l.AddSequenced(t.Context(), n, testLeaves(n, 1))
				n = l.Size()
				return err != nil
			})
			if _, perr := l.Publish(t.Context()); !errors.Is(perr, ErrDiverged) && !errors.Is(perr, ErrFenced) {
				t.Errorf("published after the alarm: %v", perr)
			}
		}
		if !strings.Contains(err.Error(), says) {
			t.Errorf("the alarm is %v, want %q", err, says)
		}
	}
	t.Run("the cluster's root was changed", func(t *testing.T) {
		t.Parallel()
		opt := checkedOptions(t)
		l := open(t, opt)
		mustAdd(t, l, 0, 20)
		awaitCopied(t, l)
		tree := l.engine.(*checked).far.tree
		closeLog(t, l)
		if err := shared.cluster(t).Exec(fmt.Sprintf(`UPDATE TreeHead SET RootHash = decode(repeat('ab', 32), 'hex') WHERE TreeId = %d AND TreeSize = 20`, tree)); err != nil {
			t.Fatal(err)
		}
		l, err := Open(t.Context(), opt)
		stopped(t, l, err, "the root of 20 leaves is")
	})
	t.Run("the disk went back", func(t *testing.T) {
		t.Parallel()
		opt := checkedOptions(t)
		l := open(t, opt)
		mustAdd(t, l, 0, 20)
		closeLog(t, l)
		backup := filepath.Join(t.TempDir(), "backup")
		copyDir(t, opt.Dir, backup)
		l = open(t, opt)
		mustAdd(t, l, 20, 10)
		awaitCopied(t, l)
		closeLog(t, l)
		opt.Dir = backup // checkpoint and all: what a log alone can't notice
		l, err := Open(t.Context(), opt)
		stopped(t, l, err, "its disk went back in time")
		// Nor by a copy that grew again.
		alone := opt
		alone.Cluster = nil
		l = open(t, alone)
		if err := l.AddSequenced(t.Context(), 20, testLeaves(1000, 30)); err != nil {
			t.Fatal(err)
		}
		closeLog(t, l)
		l, err = Open(t.Context(), opt)
		stopped(t, l, err, "the root of 30 leaves is")
	})
	t.Run("another node's leaf", func(t *testing.T) {
		t.Parallel()
		l, err := Open(t.Context(), checkedOptions(t))
		if err != nil {
			t.Fatal(err)
		}
		mustAdd(t, l, 0, 5)
		awaitCopied(t, l)
		e := l.engine.(*checked)
		client := e.far.conn.Log
		if err := storeRaw(t, client, e.far.tree, 5, 77); err != nil {
			t.Fatal(err)
		}
		stopped(t, l, nil, "contradicts")
	})
	t.Run("another node adopts", func(t *testing.T) {
		t.Parallel()
		opt := checkedOptions(t)
		l, err := Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		mustAdd(t, l, 0, 5)
		awaitCopied(t, l)
		second := opt
		c := *opt.Cluster
		c.Lease.Node, c.Lease.Adopt = "b", true
		second.Cluster, second.Dir = &c, filepath.Join(t.TempDir(), "b")
		if err := os.Mkdir(second.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		b, err := Open(t.Context(), second)
		if err == nil {
			b.Close()
			t.Error("opened without the disk")
		}
		stopped(t, l, nil, "another node has taken this log over")
	})
}
