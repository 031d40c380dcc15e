package merkle

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/durable/faultfs"
	"scripta/merkle/checkpoint"
)

func TestPublish(t *testing.T) {
	t.Parallel()
	onEngines(t, testPublish)
}

func testPublish(t *testing.T, opt Options) {
	l := open(t, opt)
	mustAdd(t, l, 0, 100)
	if l.Checkpoint().Size != 0 {
		t.Error("published without being told to")
	}
	first := mustPublish(t, l)
	if again := mustPublish(t, l); again != first || l.Checkpoint() != first {
		t.Error("published twice at one size")
	}
	f := reference(100)
	if first.Size != 100 || first.Root != f.Root() || first.Origin != opt.Origin {
		t.Errorf("published %+v", first)
	}
	file := filepath.Join(opt.Dir, CheckpointFile)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != string(first.Note) {
		t.Error("the file holds another checkpoint")
	}
	mustAdd(t, l, 100, 1)
	closeLog(t, l) // publishes
	b, err = os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	last, err := checkpoint.Open(b, opt.Verifier)
	if err != nil || last.Size != 101 {
		t.Errorf("after closing: %+v, %v", last, err)
	}
	l = open(t, opt)
	if string(l.Checkpoint().Note) != string(b) {
		t.Error("another checkpoint after opening")
	}
	if _, err := l.Publish(context.Background()); err != nil {
		t.Error(err)
	}
}

// randomSigner signs each time another way, as some keys do.
type randomSigner struct {
	note.Signer
	n atomic.Uint32
}

func (s *randomSigner) Sign(msg []byte) ([]byte, error) {
	sig, err := s.Signer.Sign(msg)
	return append(sig, byte(s.n.Add(1))), err
}

// laxVerifier takes what randomSigner makes.
type laxVerifier struct{ note.Verifier }

func (v laxVerifier) Verify(msg, sig []byte) bool {
	return v.Verifier.Verify(msg, sig[:len(sig)-1])
}

// TestFileThatCannotBeWritten holds that nothing is published that is not on the
// disk, and that trying again never makes a second note for a size.
func TestFileThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"open", "write", "sync", "rename", "syncdir"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			opt := options(t, dir)
			opt.Signer, opt.Verifier = &randomSigner{Signer: opt.Signer}, laxVerifier{opt.Verifier}
			broken := new(atomic.Bool)
			faulty, err := faultfs.New(dir, func(_ int, c faultfs.Call) error {
				if broken.Load() && c.Op == op {
					return syscall.ENOSPC
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			opt.FS = faulty
			l := open(t, opt)
			before := l.Checkpoint()
			mustAdd(t, l, 0, 3)
			broken.Store(true)
			for range 2 {
				if c, err := l.Publish(context.Background()); !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("published %v, %v", c, err)
				}
			}
			if l.Checkpoint() != before {
				t.Error("published, and not on the disk")
			}
			made := opt.Signer.(*randomSigner).n.Load()
			broken.Store(false)
			c := mustPublish(t, l)
			if n := opt.Signer.(*randomSigner).n.Load(); n != made || made != 2 { // 0 leaves and 3
				t.Errorf("%d notes were signed, then %d; there were two sizes", made, n)
			}
			closeLog(t, l)
			b, err := os.ReadFile(filepath.Join(dir, CheckpointFile))
			if err != nil || string(b) != string(c.Note) {
				t.Errorf("the file holds %q, %v", b, err)
			}
		})
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	l := open(t, options(t, t.TempDir()))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx, time.Millisecond) }()
	for i := range uint64(3) {
		mustAdd(t, l, i*10, 10)
		for deadline := time.Now().Add(30 * time.Second); l.Checkpoint().Size < (i+1)*10; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not published: %d leaves", l.Checkpoint().Size)
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// A log that can't go on ends it.
	mustAdd(t, l, 30, 1)
	l.engine.(*local).db.Close(context.Background())
	if err := l.Run(context.Background(), time.Millisecond); !errors.Is(err, ErrClosed) {
		t.Errorf("on a closed log: %v", err)
	}
	if err := l.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("closing, without the last checkpoint: %v", err)
	}
	l.closeErr = nil // for the helper
}

// copyDir copies a folder, as a backup does.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestRefusesOtherHistories(t *testing.T) {
	t.Parallel()
	// with makes a log of 20 leaves, published at 10 and 20, and a backup of its
	// folder at 10 leaves.
	with := func(t *testing.T) (opt Options, backup string) {
		t.Helper()
		opt, backup = options(t, filepath.Join(t.TempDir(), "log")), filepath.Join(t.TempDir(), "backup")
		l := open(t, opt)
		mustAdd(t, l, 0, 10)
		closeLog(t, l)
		copyDir(t, opt.Dir, backup)
		l = open(t, opt)
		mustAdd(t, l, 10, 10)
		closeLog(t, l)
		return opt, backup
	}
	for name, c := range map[string]struct {
		happens func(t *testing.T, opt *Options, backup string)
		reason  error
		says    string
	}{
		"the database is restored": {func(t *testing.T, opt *Options, backup string) {
			copyDir(t, filepath.Join(backup, DatabaseDir), filepath.Join(opt.Dir, DatabaseDir))
		}, ErrBehind, "bring the database back from its newest copy"},
		"and grew again": {func(t *testing.T, opt *Options, backup string) {
			o := *opt
			o.Dir = backup
			l := open(t, o)
			leaves := testLeaves(1000, 15)
			if err := l.AddSequenced(context.Background(), 10, leaves); err != nil {
				t.Fatal(err)
			}
			closeLog(t, l)
			copyDir(t, filepath.Join(backup, DatabaseDir), filepath.Join(opt.Dir, DatabaseDir))
		}, ErrInconsistent, "accept-rollback freezes this origin"},
		"the database is gone": {func(t *testing.T, opt *Options, _ string) {
			if err := os.RemoveAll(filepath.Join(opt.Dir, DatabaseDir)); err != nil {
				t.Fatal(err)
			}
		}, ErrBehind, "20 leaves, database: 0"},
		"the file is gone": {func(t *testing.T, opt *Options, _ string) {
			if err := os.Remove(filepath.Join(opt.Dir, CheckpointFile)); err != nil {
				t.Fatal(err)
			}
		}, ErrMissing, "bring the file back"},
		"the file is damaged": {func(t *testing.T, opt *Options, _ string) {
			if err := os.WriteFile(filepath.Join(opt.Dir, CheckpointFile), []byte("?\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, ErrUnreadable, "check log.id in the configuration"},
		"another key": {func(t *testing.T, opt *Options, _ string) {
			opt.Signer, opt.Verifier = testKey(t, testOrigin, 2)
		}, ErrUnreadable, "check log.id in the configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt, backup := with(t)
			c.happens(t, &opt, backup)
			file := filepath.Join(opt.Dir, CheckpointFile)
			before, _ := os.ReadFile(file)
			for range 2 { // refusing changes nothing
				l, err := Open(context.Background(), opt)
				var refused *CheckpointError
				if !errors.As(err, &refused) || !errors.Is(err, c.reason) || refused.File != file || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("opened as %v, %v; want %v and %q", l, err, c.reason, c.says)
				}
			}
			if after, _ := os.ReadFile(file); string(after) != string(before) {
				t.Error("the checkpoint file was changed")
			}
		})
	}
	t.Run("all is restored", func(t *testing.T) {
		t.Parallel()
		opt, backup := with(t)
		opt.Dir = backup
		if l := open(t, opt); l.Size() != 10 { // this only a witness can notice
			t.Errorf("size %d", l.Size())
		}
	})
	t.Run("adopted", func(t *testing.T) {
		t.Parallel()
		opt, _ := with(t)
		if err := os.Remove(filepath.Join(opt.Dir, CheckpointFile)); err != nil {
			t.Fatal(err)
		}
		opt.AdoptWithoutCheckpoint = true
		if l := open(t, opt); l.Checkpoint().Size != 20 {
			t.Errorf("adopted with %+v", l.Checkpoint())
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeLog(t, open(t, options(t, dir)))
	other := options(t, dir)
	other.Origin = "log.example/scripta/2"
	other.Signer, other.Verifier = testKey(t, other.Origin, 1)
	noSigner, otherKey, otherName := options(t, dir), options(t, dir), options(t, dir)
	noSigner.Signer = nil
	otherKey.Signer, _ = testKey(t, testOrigin, 2)
	_, otherName.Verifier = testKey(t, "x.example", 1)
	for name, opt := range map[string]Options{"another origin": other, "no signer": noSigner, "another key": otherKey, "another name": otherName} {
		if l, err := Open(context.Background(), opt); !errors.Is(err, ErrOrigin) {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	onEngines(t, testReadOnly)
}

func testReadOnly(t *testing.T, opt Options) {
	ctx := context.Background()
	l := open(t, opt)
	mustAdd(t, l, 0, 300)
	closeLog(t, l)
	opt.ReadOnly, opt.Signer = true, nil
	l = open(t, opt)
	if l.Size() != 300 || l.Checkpoint().Size != 300 {
		t.Errorf("size %d, checkpoint %+v", l.Size(), l.Checkpoint())
	}
	if err := l.Verify(ctx); err != nil {
		t.Error(err)
	}
	if err := l.AddSequenced(ctx, 300, testLeaves(300, 1)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("adding: %v", err)
	}
	if _, err := l.Publish(ctx); !errors.Is(err, ErrReadOnly) {
		t.Errorf("publishing: %v", err)
	}
	opt.Dir = filepath.Join(opt.Dir, "not there")
	if l, err := Open(ctx, opt); err == nil {
		t.Errorf("a log that is not there: %v", l)
	}
	if _, err := os.Stat(opt.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made a folder: %v", err)
	}
}

func TestUseAfterClose(t *testing.T) {
	t.Parallel()
	onEngines(t, testUseAfterClose)
}

func testUseAfterClose(t *testing.T, opt Options) {
	ctx := context.Background()
	l := open(t, opt)
	mustAdd(t, l, 0, 1)
	closeLog(t, l)
	for what, do := range map[string]func() error{
		"add":     func() error { return l.AddSequenced(ctx, 1, testLeaves(1, 1)) },
		"find":    func() error { _, _, _, err := l.Find(ctx, testLeaf(0).Identity); return err },
		"leaves":  func() error { _, err := l.Leaves(ctx, 0, 1); return err },
		"proof":   func() error { _, err := l.Inclusion(ctx, 0, 1); return err },
		"tile":    func() error { _, err := l.Tile(ctx, 0, 0, 1); return err },
		"publish": func() error { _, err := l.Publish(ctx); return err },
	} {
		if err := do(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}
