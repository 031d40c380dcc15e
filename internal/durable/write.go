package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// WriteFile replaces the file name by one that holds data, with mode perm
// (before the umask): after a crash at any instant name holds the old contents
// or the new, whole. It writes a temporary file in the same folder, fsyncs it,
// renames it and fsyncs the folder. The temporary name is fixed, so that a
// crash leaves at most one and the next call reuses it: two WriteFile of one
// name must not overlap.
//
// An error before the rename leaves the old contents; an error of the last
// step, the folder's fsync, leaves either.
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) error {
	dir, base := filepath.Split(name)
	tmp := filepath.Join(dir, "."+base+".tmp")
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("couldn't remove a left-over of %s: %w", name, err)
	}
	err := writeSynced(fsys, tmp, data, perm)
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		_ = fsys.Remove(tmp)
		return fmt.Errorf("couldn't write %s: %w", name, err)
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("couldn't sync the folder of %s: %w", name, err)
	}
	return nil
}

func writeSynced(fsys FS, name string, data []byte, perm fs.FileMode) error {
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// syncsAtOnce bounds the flushes that SyncAll has under way. The file system
// merges the commits of concurrent ones.
const syncsAtOnce = 16

// SyncAll makes the contents of files, then the names in dirs durable, and
// returns every error joined. The flushes run side by side, so that ext4 puts
// them into few commits of its journal; a folder named twice is synced once.
// Folders come after the files: a name must not be on the disk before what it
// names.
func SyncAll(fsys FS, files []File, dirs []string) error {
	if err := eachOf(files, File.Sync); err != nil {
		return err
	}
	dirs = slices.Compact(slices.Sorted(slices.Values(dirs)))
	return eachOf(dirs, fsys.SyncDir)
}

func eachOf[T any](all []T, do func(T) error) error {
	if len(all) == 1 {
		return do(all[0])
	}
	errs := make([]error, len(all))
	slots := make(chan struct{}, syncsAtOnce)
	var wg sync.WaitGroup
	for i, one := range all {
		slots <- struct{}{}
		wg.Go(func() {
			errs[i] = do(one)
			<-slots
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
