package merkle

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scripta/merkle/cluster"
	"scripta/merkle/cluster/clustertest"
)

// onEngines runs a test of what a log does on every engine.
func onEngines(t *testing.T, f func(t *testing.T, opt Options)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		f(t, options(t, t.TempDir()))
	})
	t.Run("trillian", func(t *testing.T) {
		t.Parallel()
		f(t, clusterOptions(t, shared.cluster(t), t.TempDir()))
	})
}

// shared is one cluster for the tests that do not break it, started by the first
// of them and stopped by TestMain.
var shared sharedCluster

type sharedCluster struct {
	once sync.Once
	c    *clustertest.Cluster
	err  error
}

func (s *sharedCluster) cluster(t testing.TB) *clustertest.Cluster {
	t.Helper()
	s.once.Do(func() {
		s.c, s.err = clustertest.New(func(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) })
	})
	switch {
	case errors.Is(s.err, clustertest.ErrAbsent) && os.Getenv("CI_STRICT") == "":
		t.Skip(s.err)
	case s.err != nil:
		t.Fatal(s.err)
	}
	return s.c
}

func (s *sharedCluster) stop() {
	if s.c != nil {
		s.c.Stop()
	}
}

// origins numbers the logs of the shared cluster.
var origins atomic.Uint32

// clusterOptions are those of a new log on a cluster.
func clusterOptions(t testing.TB, c *clustertest.Cluster, dir string) Options {
	t.Helper()
	return onCluster(t, options(t, dir), c.Address, c.Database, fmt.Sprintf("log.example/scripta/c%d", origins.Add(1)))
}

// onCluster puts a log with an origin of its own on a cluster.
func onCluster(t testing.TB, opt Options, address, database, origin string) Options {
	t.Helper()
	opt.Origin = origin
	opt.Signer, opt.Verifier = testKey(t, origin, 1)
	opt.Cluster = &Cluster{Address: address, Lease: cluster.LeaseOptions{Database: database, Node: "a", TTL: 3 * time.Second}}
	return opt
}
