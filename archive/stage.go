package archive

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"

	"scripta/internal/durable"
)

// Modes of what a package is made of: its records are sealed, yet about people.
const (
	folderMode = 0o700
	fileMode   = 0o600
)

// stage is a package's folder while it is being made, under a name that is not
// a package's.
type stage struct {
	fsys  durable.FS
	dir   string
	files []FileSum // in the order of writing
	dirs  []string  // below dir
}

// newStage begins a folder. What an earlier attempt left under the name is
// removed first.
func newStage(fsys durable.FS, dir string) (*stage, error) {
	if err := durable.RemoveAll(fsys, dir); err != nil {
		return nil, err
	}
	if err := fsys.MkdirAll(dir, folderMode); err != nil {
		return nil, err
	}
	return &stage{fsys: fsys, dir: dir}, nil
}

// buffer is the size of the buffers that large files pass through, in bytes.
const buffer = 64 << 10

// stagedFile is a file that is hashed while it is written.
type stagedFile struct {
	stage *stage
	name  string
	f     durable.File
	buf   *bufio.Writer
	hash  hash.Hash
	size  int64
}

// create begins a file; name may have one folder in it.
func (s *stage) create(name string) (*stagedFile, error) {
	if sub := filepath.Dir(name); sub != "." {
		dir := filepath.Join(s.dir, sub)
		if len(s.dirs) == 0 || s.dirs[len(s.dirs)-1] != dir {
			if err := s.fsys.MkdirAll(dir, folderMode); err != nil {
				return nil, err
			}
			s.dirs = append(s.dirs, dir)
		}
	}
	f, err := s.fsys.OpenFile(filepath.Join(s.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	return &stagedFile{stage: s, name: name, f: f, buf: bufio.NewWriterSize(f, buffer), hash: sha256.New()}, nil
}

// Write implements [io.Writer].
func (f *stagedFile) Write(p []byte) (int, error) {
	n, err := f.buf.Write(p)
	f.hash.Write(p[:n])
	f.size += int64(n)
	return n, err
}

// finish makes the contents durable and notes the file's sum.
func (f *stagedFile) finish() error {
	err := f.buf.Flush()
	if err == nil {
		err = f.f.Sync()
	}
	if err = errors.Join(err, f.f.Close()); err != nil {
		return fmt.Errorf("couldn't write %s: %w", f.name, err)
	}
	sum := FileSum{Name: f.name, Size: f.size}
	f.hash.Sum(sum.SHA256[:0])
	f.stage.files = append(f.stage.files, sum)
	return nil
}

// abandon closes a file that will not be finished.
func (f *stagedFile) abandon() { _ = f.f.Close() }

// put writes a whole file.
func (s *stage) put(name string, data []byte) error {
	f, err := s.create(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.abandon()
		return fmt.Errorf("couldn't write %s: %w", name, err)
	}
	return f.finish()
}

// publish gives the folder its name. The order of its steps:
//
//  1. The names of all files are made durable, the inner folders' first; their
//     contents are already. A package that has its name is therefore whole.
//  2. The folder is renamed: the one step by which a package comes to be. The
//     caller makes the name durable, before anything may rest on it.
func (s *stage) publish(final string) error {
	for _, dir := range append(s.dirs, s.dir) {
		if err := s.fsys.SyncDir(dir); err != nil {
			return fmt.Errorf("couldn't sync the folder of a package: %w", err)
		}
	}
	if err := s.fsys.Rename(s.dir, final); err != nil {
		return fmt.Errorf("couldn't name a package: %w", err)
	}
	return nil
}
