// Package faultfs is a file system for tests that breaks on purpose. It lays
// over the real one, counts the calls that change something, and at a chosen
// one returns an error, or crashes: that call and all later ones fail. It also
// knows what a power cut would leave: PowerLoss puts the folder into the state
// in which only what had been synced exists.
//
// The power cut is the strictest one that POSIX allows: contents without their
// own fsync are gone, and so are names (new, renamed, removed) without an fsync
// of their folder.
package faultfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"scripta/internal/durable"
)

// ErrCrashed is what every call returns once the file system has crashed.
var ErrCrashed = errors.New("faultfs: crashed")

// Call is one call that changes something, or makes something durable.
type Call struct {
	Op   string // open (creating or truncating), write, sync, truncate, rename, remove, mkdir, syncdir
	Name string // relative to the root; "old -> new" for rename
}

// String gives the operation and the name.
func (c Call) String() string { return c.Op + " " + c.Name }

// Fault decides about the n-th call, counted from 1. A nil error lets it pass.
// ErrCrashed stops the file system; any other error is returned and the call
// has no effect, except that half of a write happens.
type Fault func(n int, c Call) error

// FailAt lets the n-th call alone fail with err.
func FailAt(n int, err error) Fault {
	return func(i int, _ Call) error {
		if i == n {
			return err
		}
		return nil
	}
}

// CrashAt stops the file system at the n-th call.
func CrashAt(n int) Fault { return FailAt(n, ErrCrashed) }

// FailOp lets every call of the operation op fail with err.
func FailOp(op string, err error) Fault {
	return func(_ int, c Call) error {
		if c.Op == op {
			return err
		}
		return nil
	}
}

// FS is a durable.FS over the folder root. Its methods may be called
// concurrently; one lock is held for the duration of each changing call, which
// guarantees that the record of calls is the order in which they happened.
type FS struct {
	root string

	mu      sync.Mutex // guards everything below
	fault   Fault
	calls   []Call
	crashed bool
	tree    *node // the root
}

// New returns a file system over root, an existing folder. What it holds counts
// as durable.
func New(root string, fault Fault) (*FS, error) {
	tree, err := scan(root)
	return &FS{root: root, fault: fault, tree: tree}, err
}

// SetFault replaces the fault; calls go on being counted.
func (f *FS) SetFault(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// Calls returns the calls so far, failed ones included.
func (f *FS) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Crashed tells whether the file system has stopped.
func (f *FS) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

func (f *FS) rel(name string) string {
	r, err := filepath.Rel(f.root, name)
	if err != nil {
		return name
	}
	return r
}

// enter records a call and asks the fault. The caller holds mu.
func (f *FS) enter(op, name string) error {
	if f.crashed {
		return ErrCrashed
	}
	c := Call{op, name}
	f.calls = append(f.calls, c)
	if f.fault == nil {
		return nil
	}
	err := f.fault(len(f.calls), c)
	f.crashed = errors.Is(err, ErrCrashed)
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// reading returns ErrCrashed after a crash.
func (f *FS) reading() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	return nil
}

// OpenFile implements durable.FS. Opening counts as a call when it may create
// or truncate.
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	rel := f.rel(name)
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		if err := f.enter("open", rel); err != nil {
			return nil, err
		}
	}
	if flag&syscall.O_ACCMODE == os.O_WRONLY {
		flag ^= os.O_WRONLY | os.O_RDWR // Sync reads what it makes durable
	}
	in, err := durable.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	dir := f.find(filepath.Dir(rel))
	n := dir.live[filepath.Base(rel)]
	if n == nil {
		n = &node{mode: perm}
		dir.live[filepath.Base(rel)] = n
	}
	return &file{File: in, fs: f, n: n}, nil
}

// Rename implements durable.FS.
func (f *FS) Rename(oldname, newname string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	from, to := f.rel(oldname), f.rel(newname)
	if err := f.enter("rename", from+" -> "+to); err != nil {
		return err
	}
	if err := durable.OS.Rename(oldname, newname); err != nil {
		return err
	}
	src, dst := f.find(filepath.Dir(from)), f.find(filepath.Dir(to))
	dst.live[filepath.Base(to)] = src.live[filepath.Base(from)]
	delete(src.live, filepath.Base(from))
	return nil
}

// Remove implements durable.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("remove", f.rel(name)); err != nil {
		return err
	}
	if err := durable.OS.Remove(name); err != nil {
		return err
	}
	rel := f.rel(name)
	delete(f.find(filepath.Dir(rel)).live, filepath.Base(rel))
	return nil
}

// MkdirAll implements durable.FS.
func (f *FS) MkdirAll(dir string, perm fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("mkdir", f.rel(dir)); err != nil {
		return err
	}
	if err := durable.OS.MkdirAll(dir, perm); err != nil {
		return err
	}
	f.find(f.rel(dir))
	return nil
}

// ReadDir implements durable.FS.
func (f *FS) ReadDir(dir string) ([]fs.DirEntry, error) {
	if err := f.reading(); err != nil {
		return nil, err
	}
	return durable.OS.ReadDir(dir)
}

// Stat implements durable.FS.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	if err := f.reading(); err != nil {
		return nil, err
	}
	return durable.OS.Stat(name)
}

// SyncDir implements durable.FS without waiting for the disk.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	rel := f.rel(dir)
	if err := f.enter("syncdir", rel); err != nil {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	if rel == ".." { // what the root is in is not ours to break
		return nil
	}
	n := f.find(rel)
	n.safe = maps.Clone(n.live)
	return nil
}

// PowerLoss empties the root and puts back what a power cut at this instant
// would have left. The file system is stopped by it; open another one.
func (f *FS) PowerLoss() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
	top, err := os.ReadDir(f.root)
	if err != nil {
		return err
	}
	for _, e := range top {
		if err := os.RemoveAll(filepath.Join(f.root, e.Name())); err != nil {
			return err
		}
	}
	return f.tree.restore(f.root)
}

// find returns the folder rel, relative to the root. One that was made behind
// the back of this file system is taken up, as not yet durable.
func (f *FS) find(rel string) *node {
	n := f.tree
	for name := range strings.SplitSeq(rel, "/") {
		if name == "." {
			continue
		}
		if n.live[name] == nil {
			n.live[name] = newDir(0o700)
		}
		n = n.live[name]
	}
	return n
}

// file counts the calls of one open file.
type file struct {
	durable.File
	fs *FS
	n  *node
}

func (f *file) Write(b []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.crashed {
		return 0, ErrCrashed
	}
	if err := f.fs.enter("write", f.fs.rel(f.Name())); err != nil {
		n, werr := f.File.Write(b[:len(b)/2])
		return n, errors.Join(err, werr)
	}
	return f.File.Write(b)
}

// Sync takes note of the contents instead of waiting for the disk.
func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.enter("sync", f.fs.rel(f.Name())); err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	content := make([]byte, st.Size())
	if _, err := f.ReadAt(content, 0); err != nil && err != io.EOF {
		return err
	}
	f.n.content = content
	return nil
}

func (f *file) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.enter("truncate", f.fs.rel(f.Name())); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// Close always closes the real file, so that tests leak no descriptors.
func (f *file) Close() error { return f.File.Close() }
