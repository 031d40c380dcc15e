package index

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"scripta/internal/durable"
)

// Folders beside the index: one that is being made anew, and one that gave way.
func rebuildDir(dir string) string { return filepath.Clean(dir) + ".rebuild" }
func oldDir(dir string) string     { return filepath.Clean(dir) + ".old" }

// OpenRebuild opens the index that is to take the place of the one in dir: an
// empty one, or what an interrupted rebuilding has made so far. Nobody may have
// dir open. When it is filled and closed, call [Swap].
func OpenRebuild(fsys durable.FS, dir, origin string, log *slog.Logger) (*DB, error) {
	if there, err := exists(fsys, dir); err != nil {
		return nil, err
	} else if !there {
		if err := durable.MkdirAll(fsys, dir, 0o700); err != nil { // so that settle does not take what is not finished
			return nil, fmt.Errorf("couldn't make the index: %w", err)
		}
	}
	return open(fsys, rebuildDir(dir), origin, log)
}

// Swap puts the index that [OpenRebuild] began in the place of the one in dir. A
// crash in between leaves the one or the other: [Open] takes the new one when the
// old one has gone.
func Swap(fsys durable.FS, dir string) error {
	parent := filepath.Dir(filepath.Clean(dir))
	err := durable.RemoveAll(fsys, oldDir(dir))
	if err == nil {
		err = fsys.Rename(dir, oldDir(dir))
	}
	if err == nil {
		err = fsys.SyncDir(parent)
	}
	if err == nil {
		err = fsys.Rename(rebuildDir(dir), dir)
	}
	if err == nil {
		err = fsys.SyncDir(parent)
	}
	if err == nil {
		err = durable.RemoveAll(fsys, oldDir(dir))
	}
	if err != nil {
		return fmt.Errorf("couldn't put the new index in the place of the old one: %w", err)
	}
	return nil
}

// settle puts in order what a crash left beside dir.
func settle(fsys durable.FS, dir string) error {
	there, err := exists(fsys, dir)
	if err != nil {
		return err
	}
	if fresh, err := exists(fsys, rebuildDir(dir)); err != nil {
		return err
	} else if fresh && !there { // between the two renames of Swap
		if err := fsys.Rename(rebuildDir(dir), dir); err != nil {
			return err
		}
		if err := fsys.SyncDir(filepath.Dir(filepath.Clean(dir))); err != nil {
			return err
		}
	}
	return errors.Join(durable.RemoveAll(fsys, rebuildDir(dir)), durable.RemoveAll(fsys, oldDir(dir)))
}

func exists(fsys durable.FS, name string) (bool, error) {
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
