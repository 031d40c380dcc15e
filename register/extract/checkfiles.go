package extract

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/register/receipts"
)

// CheckFiles reads every request and every evidence file below dir, the
// RequestOptions.Dir of the log's provider, and calls wrong with those that are not
// what was written. It changes nothing, and may run beside open Requests. pace is
// called before n bytes are read, and its error ends the check.
func CheckFiles(fsys durable.FS, dir, origin string, months *keys.Months, pace func(n int) error, wrong func(file, text string)) error {
	f := &requestFiles{fsys: fsys, dir: dir, origin: origin, keys: requestKeys{months}}
	f.evidence = receipts.ReadContents(fsys, f.evidenceDir(), origin, f.keys)
	entries, err := fsys.ReadDir(f.folder())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("couldn't list the requests: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // being written
		}
		if err := pace(maxRequestFile >> 10); err != nil {
			return err
		}
		name := filepath.Join(f.folder(), e.Name())
		id, ok := ParseRequestID(e.Name())
		if !ok {
			wrong(name, "not the name of a request")
			continue
		}
		if _, err := f.load(id); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, keys.ErrDisposed) {
			wrong(name, err.Error())
		}
	}
	err = f.evidence.Each(func(id [16]byte, month uint16) error {
		c, err := f.evidence.OpenContent(id, month)
		if errors.Is(err, receipts.ErrNotFound) || errors.Is(err, keys.ErrDisposed) {
			return nil
		}
		if err == nil {
			if err := pace(int(c.Size())); err != nil {
				return errors.Join(err, c.Close())
			}
			_, err = io.Copy(io.Discard, io.NewSectionReader(c, 0, c.Size()))
			err = errors.Join(err, c.Close())
		}
		if err != nil {
			wrong(f.evidence.Name(id, month), err.Error())
		}
		return nil
	}, func(file string) { wrong(file, "it does not belong here") })
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return err
}
