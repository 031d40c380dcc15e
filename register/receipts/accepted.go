package receipts

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"scripta/internal/durable"
)

// acceptedFile names the place up to which messages may be stored whose records
// are known to be lost.
const acceptedFile = "accepted-losses"

// AcceptLosses notes, in the store's folder, that messages which are stored now
// may be without their records: a backup was brought back, or a person accepted
// that the log lost some. Nobody may have the store open.
func AcceptLosses(fsys durable.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	last, size := "", int64(0)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".seg") || e.Name() < last {
			continue
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		last, size = e.Name(), st.Size()
	}
	if last == "" {
		return nil
	}
	return durable.WriteFile(fsys, filepath.Join(dir, acceptedFile), fmt.Appendf(nil, "%s %d\n", last, size), 0o600)
}

// LossesAccepted returns whether a message stored at a place in the folder may be
// without its record, by what AcceptLosses noted.
func LossesAccepted(fsys durable.FS, dir string) (accepted func(file string, offset int64) bool, err error) {
	b, err := readFile(fsys, filepath.Join(dir, acceptedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return func(string, int64) bool { return false }, nil
	} else if err != nil {
		return nil, err
	}
	var last string
	var size int64
	if _, err := fmt.Sscanf(string(b), "%s %d\n", &last, &size); err != nil {
		return nil, fmt.Errorf("%s is damaged: remove it if no rollback was ever accepted: %w", filepath.Join(dir, acceptedFile), err)
	}
	return func(file string, offset int64) bool {
		base := filepath.Base(file)
		return base < last || base == last && offset < size
	}, nil
}

// LossesAccepted is [LossesAccepted] of the store's own folder.
func (s *Store) LossesAccepted() (func(file string, offset int64) bool, error) {
	return LossesAccepted(s.fsys, s.dir)
}
