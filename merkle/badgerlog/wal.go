package badgerlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"scripta/internal/durable"
)

// walName is the name of Badger's write-ahead log of a number. Badger begins a
// new one whenever a memtable is full, numbers them without gaps and removes
// those whose memtables became tables.
func (db *DB) walName(number int) string {
	return filepath.Join(db.dir, fmt.Sprintf("%05d.mem", number))
}

// dropEmptyFiles removes the write-ahead and value logs in a folder that have no
// bytes, which Badger refuses to open. A power cut leaves one when its name
// became durable and nothing else of it did: no commit to it was ever synced.
func dropEmptyFiles(dir string) error {
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		for _, name := range names {
			var i fs.FileInfo
			if i, err = os.Stat(name); err == nil && i.Size() == 0 {
				err = os.Remove(name)
			}
			if err != nil {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("couldn't look for empty files of the log database: %w", err)
		}
	}
	return nil
}

// beginWAL finds the write-ahead log that Badger writes to after opening, and
// makes the folder's names durable.
func (db *DB) beginWAL() error {
	dir, err := filepath.Abs(db.opt.Dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir) // the name that the kernel knows
	}
	if err != nil {
		return fmt.Errorf("couldn't resolve the log's folder: %w", err)
	}
	db.dir = dir
	if db.opt.ReadOnly {
		return nil
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return fmt.Errorf("couldn't list the write-ahead logs: %w", err)
	}
	for _, name := range names {
		var n int
		if _, err := fmt.Sscanf(filepath.Base(name), "%d.mem", &n); err == nil {
			db.wal = max(db.wal, n)
		}
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := durable.OS.SyncDir(d); err != nil {
			return fmt.Errorf("couldn't sync the folder %s: %w", d, err)
		}
	}
	adviseWAL(dir)
	return nil
}

// followWAL is called after each commit. If the commit went to a new write-ahead
// log, it fsyncs the folder, which Badger omits: a power cut could otherwise take
// the file's name, and with it commits that were synced. Under commitMu.
func (db *DB) followWAL() error {
	newest := db.wal
	for {
		_, err := os.Lstat(db.walName(newest + 1))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return fmt.Errorf("couldn't look for a new write-ahead log: %w", err)
		}
		newest++
	}
	if newest == db.wal {
		return nil
	}
	if err := durable.OS.SyncDir(db.dir); err != nil {
		return fmt.Errorf("couldn't sync the log's folder: %w", err)
	}
	adviseWAL(db.dir)
	db.wal = newest
	return nil
}
