// Package badgerfile reads the files of a Badger v4 database without Badger, and
// tells where they are damaged. It is asked before Badger opens a database, and
// while Badger has it open; it changes nothing.
//
// Badger checks what it reads by sums of its own, but what it does about damage
// is not what a register needs:
//
//   - a write-ahead log (*.mem) is cut off, without a word, at the first entry
//     whose sum is wrong, however many synced transactions stand behind it;
//   - a MANIFEST whose record seems to reach beyond the end of the file is cut
//     off there, and the tables that it then does not name are deleted;
//   - lengths at the end of a table and of its blocks are in no sum, and a wrong
//     one is an index out of range: a panic, or the end of the process;
//   - iterators end at a block whose sum is wrong as if there were no more, so
//     that a compaction leaves out all that stood behind it.
//
// What it promises: a single changed bit in a table or in the MANIFEST is found
// wherever it is, and so is one in a write-ahead log. More damage than a bit at
// the very end of the newest write-ahead log cannot be told from a write that a
// power cut interrupted, and was perhaps acknowledged; see [CheckWAL].
//
// The formats are those of Badger v4 (table/builder.go, manifest.go, memtable.go,
// structs.go), without encryption; blocks that are compressed with zstd are not
// looked into.
package badgerfile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// DamageError says that a file is not what was written.
type DamageError struct {
	File   string
	Offset int64 // of the first part that is wrong, bytes
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("the file %s is damaged at offset %d: %s", e.File, e.Offset, e.Reason)
}

// Unwrap makes a DamageError an ErrDamaged for errors.Is.
func (e *DamageError) Unwrap() error { return ErrDamaged }

// ErrDamaged is what errors.Is finds in every DamageError.
var ErrDamaged = errors.New("a database file is damaged")

// Options of Check.
type Options struct {
	// Most bounds the bytes of tables that are read whole, the newest first; of
	// the others only the ends are. 0: all are read whole.
	Most int64
	// WAL says that the write-ahead logs were synced at every commit, and are to
	// be checked: one transaction at a time, versions without gaps.
	WAL bool
}

// Check checks the files of a database that nobody has open. A folder without a
// MANIFEST holds no database yet. The error joins every DamageError.
func Check(dir string, opt Options) error {
	tables, err := Tables(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	errs := []error{checkRegistry(dir), checkValueLogs(dir)}
	if opt.WAL {
		errs = append(errs, checkWALs(dir))
	}
	read := int64(0)
	for _, t := range slices.Backward(tables) {
		st, err := os.Stat(t.Name)
		if errors.Is(err, fs.ErrNotExist) {
			err = &DamageError{File: t.Name, Reason: "it is missing: the MANIFEST names it"}
		}
		if err == nil {
			read += st.Size()
			err = t.Check(opt.Most == 0 || read <= opt.Most, nil)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// numbered returns the files DIR/NUMBER.ext, ascending.
func numbered(dir, ext string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+ext))
	if err != nil {
		return nil, err
	}
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), ext), 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	return names, nil
}
