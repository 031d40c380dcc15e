package badgerlog

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/integration"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/testonly"
	"k8s.io/klog/v2"
)

func quietKlog() { klog.SetSlogLogger(slog.New(slog.DiscardHandler)) }

// TestAdminConformance is Trillian's own suite for the storage of trees.
func TestAdminConformance(t *testing.T) {
	t.Parallel()
	tester := testonly.AdminStorageTester{NewAdminStorage: func() storage.AdminStorage {
		return open(t, Options{Dir: t.TempDir()}).AdminStorage()
	}}
	tester.RunAllTests(t)
}

// TestLogConformance is Trillian's own integration test of a log, as it is.
func TestLogConformance(t *testing.T) {
	t.Parallel()
	l := newLog(t, open(t, Options{Dir: t.TempDir(), MaxBatch: 100}), testonly.LogTree)
	par := integration.DefaultTestParameters(l.tree.TreeId)
	par.SequencingPollWait = time.Millisecond
	if err := integration.RunLogIntegration(l.client, par); err != nil {
		t.Fatal(err)
	}
}

// TestPreorderedConformance is the same test on leaves that AddSequencedLeaves
// put there, since QueueLeaf does not apply to such a log.
func TestPreorderedConformance(t *testing.T) {
	t.Parallel()
	l := newPreordered(t, Options{Dir: t.TempDir(), MaxBatch: 100})
	par := integration.DefaultTestParameters(l.tree.TreeId)
	par.QueueLeaves, par.CheckLogEmpty, par.SequencingPollWait = false, false, time.Millisecond
	// The leaves that the test expects to find, in any order.
	ls := make([]*trillian.LogLeaf, par.LeafCount)
	for i := range ls {
		ls[i] = &trillian.LogLeaf{
			LeafIndex: int64(i), LeafValue: fmt.Appendf(nil, "Leaf %d", i), ExtraData: fmt.Appendf(nil, "Extra %d", i),
		}
	}
	for len(ls) > 0 {
		n := min(37, len(ls))
		if _, err := l.add(ls[:n]); err != nil {
			t.Fatal(err)
		}
		ls = ls[n:]
	}
	if err := integration.RunLogIntegration(l.client, par); err != nil {
		t.Fatal(err)
	}
}
