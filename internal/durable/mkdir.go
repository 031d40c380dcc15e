package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// MkdirAll makes a folder and those above it that are missing, and makes their
// names durable: what is synced in the folder later is not lost with it.
func MkdirAll(fsys FS, dir string, perm fs.FileMode) error {
	if _, err := fsys.Stat(dir); err == nil {
		// Made by this process or an earlier one, which may have died before
		// its sync.
		return fsys.SyncDir(filepath.Dir(dir))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("couldn't make folder %s: %w", dir, err)
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(fsys, parent, perm); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, perm); err != nil {
		return fmt.Errorf("couldn't make folder %s: %w", dir, err)
	}
	return fsys.SyncDir(parent)
}
