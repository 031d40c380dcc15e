package badgerlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/merkle/tiles"
)

// TestLeafFilesSurviveAPowerCut cuts the power at every call that changes
// something while batches go into small leaf files: every batch that was answered is there
// afterwards, in order, and nothing is between.
func TestLeafFilesSurviveAPowerCut(t *testing.T) {
	t.Parallel()
	const batches = 6
	for cut := 1; ; cut++ {
		root := t.TempDir()
		ffs, err := faultfs.New(root, faultfs.CrashAt(cut))
		if err != nil {
			t.Fatal(err)
		}
		answered := 0
		f, err := findLeafFiles(ffs, root)
		if err == nil {
			f.segment = 100 // two batches each
			err = f.replay(0, nil)
		}
		for err == nil && answered < batches {
			if _, _, err = f.append([][]byte{fmt.Appendf(nil, "leaf %020d", answered), fmt.Appendf(nil, "end %020d", answered)}); err == nil {
				answered++
			}
		}
		if !ffs.Crashed() {
			if answered != batches || f.last < 3 {
				t.Fatalf("without a cut %d batches were answered, into %d files: %v", answered, f.last, err)
			}
			_ = f.close()
			break
		}
		_ = f.close()
		if err := ffs.PowerLoss(); err != nil {
			t.Fatal(err)
		}
		again, err := findLeafFiles(durable.OS, root)
		if err != nil {
			t.Fatalf("after a cut at call %d: %v", cut, err)
		}
		found := 0
		err = again.replay(0, func(_ place, rec []byte) error {
			if string(rec) == fmt.Sprintf("end %020d", found) {
				found++
			} else if string(rec) != fmt.Sprintf("leaf %020d", found) {
				return fmt.Errorf("%q after %d batches", rec, found)
			}
			return nil
		})
		if err != nil || found < answered {
			t.Fatalf("after a cut at call %d there are %d batches, %d were answered: %v", cut, found, answered, err)
		}
		if err := again.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskUnderTheLeavesBreaks fails each call of the leaf files in turn, with the
// disk full and with an error of the device: the log stops, and what was answered is
// there when it is opened again.
func TestDiskUnderTheLeavesBreaks(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		for n := 1; ; n++ {
			dir := t.TempDir()
			ffs, err := faultfs.New(dir, faultfs.FailAt(n, cause))
			if err != nil {
				t.Fatal(err)
			}
			l := newPreorderedOn(t, dir, ffs)
			size := int64(0)
			if l != nil {
				for err == nil && size < 6 {
					if _, err = l.add(leaves(size, 2)); err == nil {
						size += 2
					}
				}
				if err != nil && (!errors.Is(err, ErrFatal) || !errors.Is(err, cause)) {
					t.Errorf("call %d: %v", n, err)
				}
				if cerr := l.Close(context.Background()); cerr != nil {
					t.Error(cerr)
				}
				again := use(t, open(t, Options{Dir: dir}), l.tree)
				got := int64(again.root().TreeSize)
				if got < size || got > size+2 {
					t.Errorf("call %d, %v: %d leaves, %d were answered", n, cause, got, size)
				}
				again.sequence()
				again.mustAdd(got, 3)
				again.check(got + 3)
			}
			if size == 6 {
				break
			}
		}
	}
}

// TestCrashBeforeBadgerHasIt copies a log, as a crash leaves it, while Badger has
// nothing of what the leaf files have: opening puts all of it together again.
func TestCrashBeforeBadgerHasIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newPreordered(t, Options{Dir: dir, MaxBatch: 100})
	l.mustAdd(0, 300)
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	l.flushMu.Lock() // Badger stays behind from here on
	size := int64(300)
	for _, n := range []int64{1, 212, 1, 700} {
		l.mustAdd(size, n)
		size += n
	}
	l.check(size) // readers do not mind
	if _, ok, err := l.LogStorage().IndexOf(l.tree.TreeId, tiles.Hash(leaf(400).LeafIdentityHash)); !ok || err != nil {
		t.Errorf("a leaf that Badger has not got is not found: %v", err)
	}
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	l.flushMu.Unlock()

	// A batch whose end did not reach the disk: nobody was answered for it.
	j, err := durable.OpenJournal(durable.OS, filepath.Join(crashed, leavesDir, "00000001.leaves"), nil)
	if err != nil {
		t.Fatal(err)
	}
	orphan := leaf(7000)
	if _, err := j.Append(appendRecord(nil, orphan)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	opt := Options{Dir: crashed}
	if _, err := Open(Options{Dir: crashed, ReadOnly: true}); err == nil {
		t.Error("a crashed log was opened for reading only, without what Badger lacks")
	}
	again := use(t, open(t, opt), l.tree)
	again.sequence()
	again.check(size)
	for _, i := range []int64{0, 299, 300, 301, 513, 600, size - 1} {
		if index, ok, err := again.LogStorage().IndexOf(l.tree.TreeId, tiles.Hash(leaf(i).LeafIdentityHash)); index != uint64(i) || !ok || err != nil {
			t.Errorf("leaf %d is found at %d, %v, %v", i, index, ok, err)
		}
	}
	if _, ok, _ := again.LogStorage().IndexOf(l.tree.TreeId, tiles.Hash(orphan.LeafIdentityHash)); ok {
		t.Error("a leaf of a batch without end is in the log")
	}
	again.mustAdd(size, 300)
	again = again.reopen(opt)
	again.check(size + 300)
}

// TestCommitsWaitForBadger holds that what Badger lacks is bounded: commits wait.
func TestCommitsWaitForBadger(t *testing.T) {
	t.Parallel()
	l := newPreordered(t, Options{Dir: t.TempDir()})
	l.flushMu.Lock()
	size := int64(0)
	for ; size < behindMost; size += behindEnough {
		l.mustAdd(size, behindEnough)
	}
	waitFor(t, l.behind.full)
	done := make(chan struct{})
	go func() { l.mustAdd(size, 10); close(done) }()
	// It is sealed off from the leaf files: their end does not move.
	waitFor(t, func() bool {
		tl := l.treeLog()
		tl.queueMu.Lock()
		defer tl.queueMu.Unlock()
		return len(tl.waiters) == 1
	})
	if got := l.treeLog().state.Load().size; got != uint64(size) {
		t.Errorf("%d leaves are in the log, while only %d may wait for Badger", got, size)
	}
	l.flushMu.Unlock()
	<-done
	l.check(size + 10)
}

// TestManyLeafFiles reads across small files, before and after opening again.
func TestManyLeafFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newPreordered(t, Options{Dir: dir, MaxBatch: 50})
	l.leavesMu.Lock()
	l.leaves.segment = 20_000
	l.leavesMu.Unlock()
	for size := int64(0); size < 2000; size += 100 {
		l.mustAdd(size, 100)
	}
	l.check(2000)
	if l.leaves.last < 5 {
		t.Fatalf("%d leaf files", l.leaves.last)
	}
	l = l.reopen(Options{Dir: dir})
	l.check(2000)
	l.mustAdd(2000, 10)
	l.check(2010)
}
