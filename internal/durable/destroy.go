package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Overwrite replaces the bytes of the file name where they are, by random ones,
// and returns when those are on the disk. On a file system that writes elsewhere
// what is overwritten, or a disk that does so by itself, the old bytes may still
// be found by whoever takes the disk apart. A file that is not there is no error.
func Overwrite(fsys FS, name string) error {
	st, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("couldn't destroy %s: %w", name, err)
	}
	f, err := fsys.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("couldn't destroy %s: %w", name, err)
	}
	noise := make([]byte, st.Size())
	rand.Read(noise)
	_, err = f.Write(noise)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("couldn't destroy %s: %w", name, err)
	}
	return nil
}

// Destroy overwrites the file name, removes it and returns when both are on the
// disk. A file that is not there is no error.
func Destroy(fsys FS, name string) error {
	if err := Overwrite(fsys, name); err != nil {
		return err
	}
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("couldn't remove %s: %w", name, err)
	}
	return fsys.SyncDir(filepath.Dir(name))
}
