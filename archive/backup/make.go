package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/register/rollback"
)

// Names in a backup.
const (
	infoFile       = "backup.json"
	checkpointFile = "checkpoint"
	leavesDir      = "leaves"
	filesDir       = "files"
	sumsFile       = "SHA256SUMS"
	noteFile       = "SHA256SUMS.note"

	format      = "scripta/backup/v1"
	stagePrefix = ".making-"
	nameLayout  = "20060102T150405Z"
)

// Log is what a backup needs of the log (*merkle.Log).
type Log interface {
	Origin() string
	Verifier() note.Verifier
	Publish(ctx context.Context) (*checkpoint.Signed, error)
	Scan(ctx context.Context, first, end uint64, visit func(index uint64, leaf merkle.Leaf) error) error
}

// Options say what is backed up.
type Options struct {
	Dir    config.Dir
	Config config.Config
	Log    Log
	Signer note.Signer // of the log: signs the backup's list of files
	Now    time.Time
}

// Info is backup.json.
type Info struct {
	Format string    `json:"format"`
	Origin string    `json:"origin"`
	Size   uint64    `json:"size"` // of the log
	Begun  time.Time `json:"begun"`
}

// ErrInside says that a backup would lie within what it is of.
var ErrInside = errors.New("a backup may not lie in the provider's folder, nor in a copy of the key store: give a folder on another disk")

// Make makes a backup in a folder, beside those that are there, and returns its
// name. Nothing is left of one that fails, but what a kill leaves, which the next
// removes.
func Make(ctx context.Context, folder string, o Options) (string, error) {
	for _, bad := range append([]string{string(o.Dir)}, o.Config.Keys.Copies...) {
		in, err := overlap(folder, bad)
		if err != nil || in {
			return "", errors.Join(err, ErrInside)
		}
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", fmt.Errorf("couldn't make the folder of backups: %w", err)
	}
	unlock, err := durable.Lock(filepath.Join(folder, ".lock"))
	if err != nil {
		return "", fmt.Errorf("another backup is being made there: %w", err)
	}
	defer unlock()
	if err := sweep(folder); err != nil {
		return "", err
	}
	before, err := List(folder)
	if err != nil {
		return "", err
	}
	name := filepath.Join(folder, o.Now.UTC().Format(nameLayout))
	if _, err := os.Lstat(name); err == nil {
		return "", fmt.Errorf("%s is there already: wait a second", name)
	}
	w := &writer{Options: o, stage: filepath.Join(folder, stagePrefix+filepath.Base(name)), sums: map[string]string{}}
	if len(before) > 0 {
		w.before = before[len(before)-1]
		if w.known, err = readSums(w.before); err != nil {
			w.before = "" // a damaged one is no basis
		}
	}
	defer os.RemoveAll(w.stage)
	if err := w.fill(ctx); err != nil {
		return "", fmt.Errorf("couldn't make a backup: %w", err)
	}
	if _, err := Verify(ctx, w.stage, o.Log.Verifier()); err != nil {
		return "", fmt.Errorf("the backup was made and does not verify: %w", err)
	}
	if err := os.Rename(w.stage, name); err != nil {
		return "", err
	}
	return name, durable.OS.SyncDir(folder)
}

// sweep removes what kills left.
func sweep(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), stagePrefix) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(folder, e.Name())))
		}
	}
	return err
}

// List returns the backups in a folder, the oldest first.
func List(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if _, err := time.Parse(nameLayout, e.Name()); err == nil && e.IsDir() {
			all = append(all, filepath.Join(folder, e.Name()))
		}
	}
	slices.Sort(all)
	return all, nil
}

// overlap says whether one of two folders is in the other.
func overlap(a, b string) (bool, error) {
	a, err := filepath.Abs(a)
	if err != nil {
		return false, err
	}
	if b, err = filepath.Abs(b); err != nil {
		return false, err
	}
	in := func(x, y string) bool { return x == y || strings.HasPrefix(x, y+string(filepath.Separator)) }
	return in(a, b) || in(b, a), nil
}

// writer makes one backup.
type writer struct {
	Options
	stage  string
	before string            // the backup before; "": none
	known  map[string]string // its digests
	sums   map[string]string // digests of what is written, by name
}

// fill writes everything. The order is the promise of the package comment.
func (w *writer) fill(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(w.stage, leavesDir), 0o700); err != nil {
		return err
	}
	if err := w.tree(ctx, "spool"); err != nil {
		return err
	}
	cp, err := w.Log.Publish(ctx)
	if err != nil {
		return err
	}
	if err := w.leaves(ctx, cp.Size); err != nil {
		return err
	}
	for _, name := range []string{"receipts", "holds", "timestamps", "extracts", "frozen", "index", "mail", "accounts", "scripta.toml", "public", "keys"} {
		if err := w.tree(ctx, name); err != nil {
			return err
		}
	}
	packages := []string{w.Config.Archive.Dir}
	past, err := rollback.Load(w.Dir)
	if err != nil {
		return err
	}
	for _, p := range past {
		packages = append(packages, p.Archive)
	}
	for _, p := range packages {
		if !filepath.IsLocal(p) {
			continue // on a store of its own, which keeps it
		}
		if err := w.tree(ctx, p); err != nil {
			return err
		}
	}
	info, err := json.MarshalIndent(Info{Format: format, Origin: w.Log.Origin(), Size: cp.Size, Begun: w.Now.UTC().Truncate(time.Second)}, "", " ")
	if err != nil {
		return err
	}
	if err := w.write(infoFile, append(info, '\n')); err != nil {
		return err
	}
	if err := w.write(checkpointFile, cp.Note); err != nil {
		return err
	}
	return w.seal()
}

// seal lists and signs what was written, and flushes everything.
func (w *writer) seal() error {
	var list strings.Builder
	for _, name := range sorted(w.sums) {
		fmt.Fprintf(&list, "%s  %s\n", w.sums[name], name)
	}
	if err := w.write(sumsFile, []byte(list.String())); err != nil {
		return err
	}
	signed, err := note.Sign(&note.Note{Text: signedText(w.Log.Origin(), w.sums[sumsFile])}, w.Signer)
	if err != nil {
		return fmt.Errorf("couldn't sign the list of files: %w", err)
	}
	if err := w.write(noteFile, signed); err != nil {
		return err
	}
	return filepath.WalkDir(w.stage, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = durable.OS.SyncDir(name)
		}
		return err
	})
}

// signedText is what the log signs: no checkpoint, whose first line is an origin.
func signedText(origin, digest string) string { return format + "\n" + origin + "\n" + digest + "\n" }

func sorted(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// write writes a small file.
func (w *writer) write(name string, data []byte) error {
	sum := sha256.Sum256(data)
	w.sums[name] = hex.EncodeToString(sum[:])
	return durable.WriteFile(durable.OS, filepath.Join(w.stage, filepath.FromSlash(name)), data, 0o600)
}

// left out of a backup: what is made again, what belongs to a process, and what
// must never be in one.
func leftOut(name string) bool {
	base := filepath.Base(name)
	switch {
	case strings.HasPrefix(name, "keys/months"), strings.HasPrefix(name, "keys/master.key"), strings.HasPrefix(name, "receipts/index"),
		strings.HasPrefix(name, "receipts/contents/incoming"), strings.HasPrefix(base, ".") && strings.HasSuffix(base, ".tmp"):
		return true
	case strings.HasPrefix(name, "frozen/"):
		parts := strings.Split(name, "/")
		return len(parts) > 2 && parts[2] == "index"
	}
	return false
}

// tree copies a file or a folder of the provider. Files may be appended to,
// renamed and removed meanwhile: what is gone when it is opened was not needed
// any more, and of a folder with mail, tmp is read before new and new before cur.
func (w *writer) tree(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if leftOut(filepath.ToSlash(name)) {
		return nil
	}
	st, err := os.Lstat(w.Dir.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if st.Mode().IsRegular() {
		return w.copy(name)
	}
	if !st.IsDir() {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(w.stage, filesDir, name), st.Mode().Perm()); err != nil {
		return err
	}
	entries, err := os.ReadDir(w.Dir.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	rank := map[string]int{"tmp": 1, "new": 2, "cur": 3}
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int { return rank[a.Name()] - rank[b.Name()] })
	for _, e := range entries {
		if err := w.tree(ctx, filepath.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copy copies a file as far as it goes now, or links it to the backup before if
// it has the size and the time that it had then.
func (w *writer) copy(name string) error {
	in, err := os.Open(w.Dir.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	entry := filesDir + "/" + filepath.ToSlash(name)
	to := filepath.Join(w.stage, filesDir, name)
	if w.link(entry, to, st) {
		return nil
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, st.Mode().Perm())
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), io.LimitReader(in, st.Size()))
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("couldn't copy %s: %w", name, err)
	}
	w.sums[entry] = hex.EncodeToString(h.Sum(nil))
	return os.Chtimes(to, st.ModTime(), st.ModTime())
}

func (w *writer) link(entry, to string, st fs.FileInfo) bool {
	sum, ok := w.known[entry]
	if w.before == "" || !ok {
		return false
	}
	from := filepath.Join(w.before, filepath.FromSlash(entry))
	old, err := os.Stat(from)
	if err != nil || old.Size() != st.Size() || !old.ModTime().Equal(st.ModTime()) || old.Mode().Perm() != st.Mode().Perm() || os.Link(from, to) != nil {
		return false
	}
	w.sums[entry] = sum
	return true
}
