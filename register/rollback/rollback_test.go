package rollback

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/register/stamps"
)

// folder is a provider's folder, as far as a log needs one.
type folder struct {
	config.Dir
	cfg      config.Config
	months   *keys.Months
	signer   note.Signer
	verifier note.Verifier
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	f := &folder{Dir: config.Dir(t.TempDir()), cfg: config.Quickstart("pec.example.it", "Test", "0a1b", 0)}
	for _, d := range []string{f.Keys(), f.Public(), filepath.Join(f.Receipts(), "index"), f.Stamps()} {
		must(t, os.MkdirAll(d, 0o700))
	}
	must(t, config.Write(f.Config(), f.cfg))
	secret, public, err := note.GenerateKey(rand.Reader, f.cfg.Origin())
	must(t, err)
	must(t, os.WriteFile(f.LogKey(), []byte(secret+"\n"), 0o600))
	must(t, os.WriteFile(f.PublicLogKey(), []byte(public+"\n"), 0o644))
	f.months, err = keys.CreateMonths(durable.OS, f.Months(), f.MasterKey())
	must(t, err)
	f.signer, err = note.NewSigner(secret)
	must(t, err)
	f.verifier, err = note.NewVerifier(public)
	must(t, err)
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *folder) log() merkle.Options {
	return merkle.Options{Dir: f.Dir.Log(), Origin: f.cfg.Origin(), Signer: f.signer, Verifier: f.verifier, Logger: slog.New(slog.DiscardHandler), MinFree: 1}
}

func leaves(label string, first, n uint64) []merkle.Leaf {
	all := make([]merkle.Leaf, n)
	for i := range all {
		text := fmt.Sprintf("%s %d", label, first+uint64(i))
		all[i] = merkle.Leaf{Value: []byte(text)}
		copy(all[i].Identity[:], text)
	}
	return all
}

// grow opens the log, adds leaves, and closes it.
func (f *folder) grow(t *testing.T, label string, first, n uint64) *checkpoint.Signed {
	t.Helper()
	l, err := merkle.Open(t.Context(), f.log())
	must(t, err)
	must(t, l.AddSequenced(t.Context(), first, leaves(label, first, n)))
	c, err := l.Publish(t.Context())
	must(t, err)
	must(t, l.Close())
	return c
}

func (f *folder) options(t *testing.T, fsys durable.FS) Options {
	t.Helper()
	o := Options{Dir: f.Dir, FS: fsys, Log: f.log(), Months: f.months, Now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
	var err error
	o.Stamps, err = stamps.Open(durable.OS, f.Stamps(), f.verifier, x509.NewCertPool())
	must(t, err)
	return o
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.RemoveAll(to))
	must(t, os.CopyFS(to, os.DirFS(from)))
}

// behind makes a folder whose database has 10 of the 25 leaves that were
// published.
func behind(t *testing.T) *folder {
	t.Helper()
	f := newFolder(t)
	f.grow(t, "a", 0, 10)
	db := filepath.Join(f.Log(), "db")
	copyDir(t, db, db+".copy")
	f.grow(t, "a", 10, 15)
	copyDir(t, db+".copy", db)
	must(t, os.RemoveAll(db+".copy"))
	return f
}

// copy is the folder in another place.
func (f *folder) copy(t *testing.T) *folder {
	t.Helper()
	to := *f
	to.Dir = config.Dir(filepath.Join(t.TempDir(), "copy"))
	copyDir(t, string(f.Dir), string(to.Dir))
	for _, secret := range []string{to.LogKey(), to.MasterKey()} {
		must(t, os.Chmod(secret, 0o600))
	}
	return &to
}

// A crash at any step leaves a folder in which the old origin cannot be written,
// and a second call ends what the first began.
func TestAcceptIsTakenUpAfterACrash(t *testing.T) {
	t.Parallel()
	calls := 0
	template := behind(t)
	for n := 1; ; n++ {
		f := template.copy(t)
		fsys, err := faultfs.New(string(f.Dir), faultfs.CrashAt(n))
		must(t, err)
		first, err := Accept(t.Context(), f.options(t, fsys))
		if !fsys.Crashed() {
			must(t, err)
			break
		}
		calls++
		if err == nil {
			t.Fatalf("call %d crashed and nobody noticed", n)
		}
		cfg, err := config.Load(f.Config())
		must(t, err)
		if cfg.Log.ID == "0a1b" && Check(f.Dir, cfg.Log.ID) == nil {
			var refused *merkle.CheckpointError
			if _, err := merkle.Open(t.Context(), f.log()); !errors.As(err, &refused) {
				t.Fatalf("call %d: the old log can be opened: %v", n, err)
			}
		}
		o := Options{Dir: f.Dir, FS: durable.OS}
		if Check(f.Dir, cfg.Log.ID) == nil {
			o = f.options(t, durable.OS)
		}
		s, err := Accept(t.Context(), o)
		must(t, err)
		if first != nil && first.Record != s.Record {
			t.Errorf("call %d: decided twice", n)
		}
		f.check(t, s)
	}
	if calls < 20 {
		t.Errorf("only %d calls", calls)
	}
}

// check holds that a folder whose log was given up is whole.
func (f *folder) check(t *testing.T, s *State) {
	t.Helper()
	if s.Gap.Kept != 10 || s.Gap.Known != 25 || s.Gap.Lost() != 15 || s.Gap.Contradicted || s.NextID != "0a1br2" {
		t.Fatalf("decided %+v", s.Gap)
	}
	cfg, err := config.Load(f.Config())
	must(t, err)
	if cfg.Log.ID != "0a1br2" || cfg.Archive.Dir != "archive-r2" {
		t.Errorf("log.id %s, archive.dir %s", cfg.Log.ID, cfg.Archive.Dir)
	}
	signer, err := keys.LoadNoteSigner(f.LogKey())
	must(t, err)
	public, err := os.ReadFile(f.PublicLogKey())
	must(t, err)
	lines := strings.Fields(string(public))
	if signer.Name() != cfg.Origin() || len(lines) != 2 || lines[0] != s.Key || lines[1] != s.NextKey {
		t.Errorf("the signer is %s, public are %q", signer.Name(), lines)
	}
	if _, err := os.Stat(f.NextLogKey()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the next key is left over: %v", err)
	}
	past := f.log()
	past.Dir, past.ReadOnly, past.Signer = FolderOf(f.Dir, s.ID).Log(), true, nil
	l, err := merkle.Open(t.Context(), past)
	must(t, err)
	if l.Size() != 10 || l.Checkpoint().Size != 10 {
		t.Errorf("frozen: %d leaves, %d published", l.Size(), l.Checkpoint().Size)
	}
	must(t, l.Verify(t.Context()))
	must(t, l.Close())
	known, err := os.ReadFile(FolderOf(f.Dir, s.ID).Known())
	must(t, err)
	if c, err := checkpoint.Open(known, f.verifier); err != nil || c.Size != 25 {
		t.Errorf("the last known checkpoint: %v", err)
	}
	all, err := Load(f.Dir)
	if err != nil || len(all) != 1 {
		t.Errorf("%d frozen logs, %v", len(all), err)
	}
	if _, err := s.First(); err != nil {
		t.Error(err)
	}
}

// A disk that was rolled back whole, and went on, is found by a checkpoint that
// somebody else holds.
func TestContradiction(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.grow(t, "a", 0, 10)
	copyDir(t, f.Log(), f.Log()+".copy")
	witness := f.grow(t, "a", 10, 5)
	copyDir(t, f.Log()+".copy", f.Log())
	f.grow(t, "b", 10, 8)
	if _, err := Accept(t.Context(), f.options(t, durable.OS)); !errors.Is(err, merkle.ErrContinues) {
		t.Fatalf("without the witness: %v", err)
	}
	o := f.options(t, durable.OS)
	o.Elsewhere = []*checkpoint.Signed{witness}
	s, err := Accept(t.Context(), o)
	must(t, err)
	if !s.Gap.Contradicted || s.Gap.Kept != 18 || s.Gap.Known != 15 || s.Known != string(witness.Note) {
		t.Errorf("decided %+v", s.Gap)
	}
}

func TestNextID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{"0a1b": "0a1br2", "0a1br2": "0a1br3", "1": "1r2", "r9": "r9r2", "ar99": "ar100"} {
		if got := NextID(id); got != want {
			t.Errorf("after %s comes %s, want %s", id, got, want)
		}
	}
	if got := nextArchive(nextArchive("archive", "0a1br2"), "0a1br3"); got != "archive-r3" {
		t.Errorf("the third archive is %s", got)
	}
}

// FuzzState holds that what lies in a folder cannot bring the program down.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"format":"scripta/rollback/v1","id":"x","record":"00112233445566778899aabbccddeeff","gap":{"kept":1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parse(b, "x")
		if err != nil {
			return
		}
		e, err := s.First()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Record.Fields(); err != nil {
			t.Fatal(err)
		}
	})
}
