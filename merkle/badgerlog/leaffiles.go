package badgerlog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"scripta/internal/durable"
)

const (
	// leavesDir is the folder of the leaf files, below Badger's.
	leavesDir = "leaves"
	// segmentSize is from which length in bytes on a leaf file is followed by
	// another. Opening reads the last one through.
	segmentSize = 128 << 20
)

// place is where something begins in the leaf files: the file's number in the
// upper 32 bits, the offset in the lower ones. Places grow as the files do; 0
// is before everything.
type place uint64

func placeAt(file uint32, offset int64) place { return place(file)<<32 | place(offset) }
func (p place) file() uint32                  { return uint32(p >> 32) }
func (p place) offset() int64                 { return int64(uint32(p)) }

// leafFiles are the files that hold the leaves, and with them the truth about
// the log: durable.Journals that are numbered from 1 without gaps, of which only
// the last grows. Its methods may be called concurrently, but append only by one
// at a time.
type leafFiles struct {
	fs      durable.FS
	dir     string
	segment int64 // segmentSize, but in tests

	mu   sync.RWMutex                // guards what follows
	last uint32                      // the number of the newest; 0: there is none
	open map[uint32]*durable.Journal // those that were used
}

// findLeafFiles lists the leaf files below Badger's folder.
func findLeafFiles(fsys durable.FS, dir string) (*leafFiles, error) {
	f := &leafFiles{fs: fsys, dir: filepath.Join(dir, leavesDir), segment: segmentSize, open: map[uint32]*durable.Journal{}}
	entries, err := fsys.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("couldn't list the leaf files: %w", err)
	}
	var numbers []uint32
	for _, e := range entries {
		var n uint32
		if _, err := fmt.Sscanf(e.Name(), "%08d.leaves", &n); err == nil && filepath.Join(f.dir, e.Name()) == f.name(n) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != uint32(i)+1 {
			return nil, &CorruptError{Reason: fmt.Sprintf("leaf file %s is missing", f.name(uint32(i)+1))}
		}
		f.last = n
	}
	return f, nil
}

func (f *leafFiles) name(number uint32) string {
	return filepath.Join(f.dir, fmt.Sprintf("%08d.leaves", number))
}

// replay opens the files for appending and calls visit with each record from a
// place on, in order.
func (f *leafFiles) replay(from place, visit func(at place, rec []byte) error) error {
	if from.file() > f.last {
		return &CorruptError{Reason: fmt.Sprintf("the database knows leaf file %s, which is missing", f.name(from.file()))}
	}
	for n := max(1, from.file()); n <= f.last; n++ {
		j, err := durable.OpenJournal(f.fs, f.name(n), func(off int64, rec []byte) error {
			if at := placeAt(n, off); at >= from {
				return visit(at, rec)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("couldn't read the leaves: %w", err)
		}
		f.mu.Lock()
		was := f.open[n]
		f.open[n] = j
		f.mu.Unlock()
		if was != nil {
			if err := was.Close(); err != nil {
				return fmt.Errorf("couldn't close a leaf file: %w", err)
			}
		}
		if n < f.last && j.Torn() > 0 {
			return &CorruptError{Reason: fmt.Sprintf("leaf file %s was not finished, and another follows it", f.name(n))}
		}
		if end := placeAt(n, j.Size()); n == from.file() && end < from {
			return &CorruptError{Reason: fmt.Sprintf("leaf file %s has %d bytes, the database knows %d: it was cut, or is of another time", f.name(n), end.offset(), from.offset())}
		}
	}
	return nil
}

// torn is how many bytes replay cut off the newest file.
func (f *leafFiles) torn() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if j := f.open[f.last]; j != nil {
		return j.Torn()
	}
	return 0
}

// append makes records durable, together, and returns where they begin and where
// the last one ends. An error of the disk being full leaves everything as it was; any
// other is final.
func (f *leafFiles) append(recs [][]byte) ([]place, place, error) {
	f.mu.RLock()
	number, j := f.last, f.open[f.last]
	f.mu.RUnlock()
	if j == nil || j.Size() >= f.segment {
		var err error
		if number, j, err = f.grow(number + 1); err != nil {
			return nil, 0, err
		}
	}
	offs, err := j.Append(recs...)
	if err != nil {
		return nil, 0, err
	}
	at := make([]place, len(offs))
	for i, off := range offs {
		at[i] = placeAt(number, off)
	}
	return at, placeAt(number, j.Size()), nil
}

// grow begins a new file. Its name is durable when OpenJournal returns.
func (f *leafFiles) grow(number uint32) (uint32, *durable.Journal, error) {
	if number == 1 {
		if err := f.fs.MkdirAll(f.dir, 0o700); err != nil {
			return 0, nil, fmt.Errorf("couldn't make the folder of the leaves: %w", err)
		}
		if err := f.fs.SyncDir(filepath.Dir(f.dir)); err != nil {
			return 0, nil, fmt.Errorf("couldn't sync what the folder of the leaves is in: %w", err)
		}
	}
	j, err := durable.OpenJournal(f.fs, f.name(number), nil)
	if err != nil {
		return 0, nil, fmt.Errorf("couldn't begin another leaf file: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.open[number] = number, j
	return number, j, nil
}

// read returns the record that begins at a place.
func (f *leafFiles) read(at place) ([]byte, error) {
	f.mu.RLock()
	j, last := f.open[at.file()], f.last
	f.mu.RUnlock()
	if j == nil {
		if at.file() == 0 || at.file() > last {
			return nil, fmt.Errorf("there is no leaf file %s", f.name(at.file()))
		}
		var err error
		if j, err = f.openOld(at.file()); err != nil {
			return nil, err
		}
	}
	return j.ReadAt(at.offset())
}

// openOld opens a file for reading, unless another call was faster.
func (f *leafFiles) openOld(number uint32) (*durable.Journal, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if j := f.open[number]; j != nil {
		return j, nil
	}
	j, err := durable.OpenReadOnly(f.fs, f.name(number))
	if err != nil {
		return nil, err
	}
	f.open[number] = j
	return j, nil
}

func (f *leafFiles) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for n, j := range f.open {
		errs = append(errs, j.Close())
		delete(f.open, n)
	}
	return errors.Join(errs...)
}

// closedAt returns an error unless the files end at a place: then they were
// closed in an orderly way, and may be read without replay.
func (f *leafFiles) closedAt(mark place) error {
	end := place(0)
	if f.last > 0 {
		j, err := f.openOld(f.last)
		if err != nil {
			return err
		}
		end = placeAt(f.last, j.Size())
	}
	if end != mark {
		return fmt.Errorf("the log in %s was not closed in an orderly way: open it for writing once, which mends it", filepath.Dir(f.dir))
	}
	return nil
}

// frameSize is how long a record is in a file.
func frameSize(rec []byte) int64 { return durable.Overhead + int64(len(rec)) }
