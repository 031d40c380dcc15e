// Package bitrot notices that a file's bytes changed although nobody wrote it.
//
// Configuration, keys and accounts are plain files without a checksum of their
// own: whoever edits them would have to keep it right. A program that writes a
// file changes its time; a disk that loses a bit does not. So the SHA-256, the
// size and the time of each file are kept, and a file that has the same size and
// time as before, and another SHA-256, is damaged.
//
// What it cannot see: a file that was damaged before it was first looked at, or
// between its last change and the next look.
package bitrot

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"scripta/internal/durable"
)

// ErrDamaged is what errors.Is finds in every DamageError.
var ErrDamaged = errors.New("a file changed although nobody wrote it")

// DamageError says that a file is not what it was.
type DamageError struct {
	File  string
	Since time.Time // the file's own time
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("the file %s is damaged: its bytes changed although nobody wrote it since %s. Restore it from a copy, and look at the disk; if it is right as it is, save it once more",
		e.File, e.Since.UTC().Format(time.RFC3339))
}

// Unwrap makes a DamageError an ErrDamaged.
func (e *DamageError) Unwrap() error { return ErrDamaged }

const (
	// maxSums bounds the file that the sums are kept in, bytes.
	maxSums = 4 << 20
	// settled is how old a file's time must be for its sum to be kept: in less
	// than the clock's grain it could be written again under the same time.
	settled = 100 * time.Millisecond
)

// sum is what is kept of a file.
type sum struct {
	hash     string // hexadecimal
	size     int64
	modified int64 // nanoseconds since 1970
}

// Check compares files, named relative to dir, with the sums kept in the file
// named sums, and keeps those of files that are new or were written since. The
// error joins a DamageError for each damaged file, whose old sum stays. Files that
// are not there are passed over. fresh says that the sums could not be read, and
// were begun anew.
func Check(fsys durable.FS, sums, dir string, names []string, now time.Time) (fresh bool, err error) {
	kept, err := load(fsys, sums)
	if errors.Is(err, errSums) {
		fresh, err = true, nil
	}
	if err != nil {
		return false, err
	}
	next := map[string]sum{}
	var damaged []error
	for _, name := range names {
		got, err := of(fsys, filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return fresh, fmt.Errorf("couldn't check %s: %w", name, err)
		}
		old, known := kept[name]
		switch {
		case known && old.size == got.size && old.modified == got.modified && old.hash != got.hash:
			damaged = append(damaged, &DamageError{filepath.Join(dir, name), time.Unix(0, got.modified)})
			next[name] = old
		case now.Sub(time.Unix(0, got.modified)) >= settled:
			next[name] = got
		}
	}
	if text := encode(next); text != encode(kept) || fresh {
		if err := durable.WriteFile(fsys, sums, []byte(text), 0o600); err != nil {
			return fresh, fmt.Errorf("couldn't keep the sums of files: %w", err)
		}
	}
	return fresh, errors.Join(damaged...)
}

func of(fsys durable.FS, name string) (s sum, err error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return s, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return s, err
	}
	h := sha256.New()
	if s.size, err = io.Copy(h, f); err != nil {
		return s, err
	}
	s.hash, s.modified = fmt.Sprintf("%x", h.Sum(nil)), st.ModTime().UnixNano()
	return s, nil
}

// errSums says that the file of sums is not one.
var errSums = errors.New("the file of sums is damaged")

func load(fsys durable.FS, name string) (map[string]sum, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]sum{}, nil
	} else if err != nil {
		return nil, fmt.Errorf("couldn't read the sums of files: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSums))
	if err != nil {
		return nil, fmt.Errorf("couldn't read the sums of files: %w", err)
	}
	return parse(string(b))
}

// encode writes a line with the CRC-32 of the rest in hexadecimal, then for each
// file, by name, a line "SHA-256 size nanoseconds name".
func encode(all map[string]sum) string {
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		s := all[name]
		fmt.Fprintf(&b, "%s %d %d %s\n", s.hash, s.size, s.modified, strconv.Quote(name))
	}
	return fmt.Sprintf("%08x\n%s", crc32.ChecksumIEEE([]byte(b.String())), b.String())
}

func parse(text string) (map[string]sum, error) {
	_, rest, ok := strings.Cut(text, "\n")
	all := map[string]sum{}
	if !ok {
		return nil, errSums
	}
	for line := range strings.Lines(rest) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(fields) != 4 {
			return nil, errSums
		}
		size, err1 := strconv.ParseInt(fields[1], 10, 64)
		modified, err2 := strconv.ParseInt(fields[2], 10, 64)
		name, err3 := strconv.Unquote(fields[3])
		if errors.Join(err1, err2, err3) != nil {
			return nil, errSums
		}
		all[name] = sum{fields[0], size, modified}
	}
	if encode(all) != text {
		return nil, errSums
	}
	return all, nil
}
