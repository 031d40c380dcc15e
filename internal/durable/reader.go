package durable

import (
	"errors"
	"fmt"
	"os"
)

// ErrReadOnly is returned by Append on a journal opened by OpenReadOnly.
var ErrReadOnly = errors.New("journal is open for reading only")

// OpenReadOnly opens a finished journal for ReadAt alone: it neither replays
// nor repairs it, so that opening costs nothing however long it is.
func OpenReadOnly(fsys FS, name string) (*Journal, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the journal: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("couldn't open the journal: %w", err)
	}
	j := &Journal{f: f, name: name, err: fmt.Errorf("journal %s: %w", name, ErrReadOnly)}
	j.size.Store(st.Size())
	return j, nil
}

// Scan calls visit with every record and its offset, in order. Bytes that are no
// record are an error.
func (j *Journal) Scan(visit func(off int64, rec []byte) error) error {
	size := j.size.Load()
	end, err := j.replay(size, visit)
	if err == nil && end != size {
		err = fmt.Errorf("couldn't read journal %s at %d: %w", j.name, end, ErrNoRecord)
	}
	return err
}

// CheckJournal reads every frame of a finished journal, which nobody appends to.
// The error is a *CorruptError, or pace's, which is called before n bytes are read
// and may be nil.
func CheckJournal(fsys FS, name string, pace func(n int) error) error {
	j, err := OpenReadOnly(fsys, name)
	if err != nil {
		return err
	}
	defer j.Close()
	for off := int64(0); off < j.Size(); {
		rec, err := j.ReadAt(off)
		if errors.Is(err, ErrNoRecord) {
			return &CorruptError{Name: name, Offset: off}
		} else if err != nil {
			return err
		}
		size := Overhead + int64(len(rec))
		if pace != nil {
			if err := pace(int(size)); err != nil {
				return err
			}
		}
		off += size
	}
	return nil
}
