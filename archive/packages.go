package archive

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"scripta/internal/durable"
)

// Package is a package on the disk.
type Package struct {
	Dir    string // its folder
	Index  *Index
	Digest Digest // SHA-256 of its index.json, by which the next one names it
}

// Name is the package's name.
func (p *Package) Name() string { return p.Index.Package }

// ErrTiling says that the packages of a folder overlap, or leave a gap.
var ErrTiling = errors.New("archive: the packages do not tile")

// maxIndex bounds an index.json that is read, in bytes.
const maxIndex = 8 << 20

// Packages lists the packages in a folder, the oldest first. It reads their
// indices and verifies no more than that they tile: each begins when the one
// before ends ([ErrTiling]). A folder that is not there has none.
func Packages(dir string) ([]*Package, error) {
	intervals, err := list(durable.OS, dir)
	if err == nil {
		err = tile(intervals)
	}
	if err != nil {
		return nil, err
	}
	all := make([]*Package, 0, len(intervals))
	for _, i := range intervals {
		p, err := load(filepath.Join(dir, i.String()))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// list returns the intervals of the packages in a folder, ascending.
func list(fsys durable.FS, dir string) ([]Interval, error) {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("couldn't list the packages: %w", err)
	}
	var all []Interval
	for _, e := range entries {
		if i, err := ParseInterval(e.Name()); err == nil && e.IsDir() {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b Interval) int { return a.Start.Compare(b.Start) })
	return all, nil
}

// tile checks that each interval begins when the one before ends.
func tile(all []Interval) error {
	for n, i := range all {
		if n > 0 && !all[n-1].End.Equal(i.Start) {
			return fmt.Errorf("%w: %v follows %v; bring back what is missing from a copy, or move away what does not belong here", ErrTiling, i, all[n-1])
		}
	}
	return nil
}

// load reads a package's index.
func load(dir string) (*Package, error) {
	b, err := readFile(filepath.Join(dir, nameIndex), maxIndex)
	if err != nil {
		return nil, fmt.Errorf("couldn't read a package: %w", err)
	}
	x, err := ParseIndex(b)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the package %s: %w", dir, err)
	}
	if x.Package != filepath.Base(dir) {
		return nil, fmt.Errorf("couldn't read the package %s: its index is that of %s", dir, x.Package)
	}
	return &Package{Dir: dir, Index: x, Digest: sha256.Sum256(b)}, nil
}

// readFile reads a file of at most limit bytes.
func readFile(name string, limit int64) ([]byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > limit {
		return nil, fmt.Errorf("%s is no file, or has more than %d bytes", name, limit)
	}
	return os.ReadFile(name)
}
