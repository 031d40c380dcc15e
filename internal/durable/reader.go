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
