package receipts

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"scripta/internal/durable"
)

// OpenQuarantine opens the store of infected messages in dir: a store of contents
// that nothing comes into but by [ContentStore.MoveTo], sealed by month as
// contents are, so that they are gone with their month's secret.
func OpenQuarantine(fsys durable.FS, dir, origin string, keys Keys) (*ContentStore, error) {
	if err := durable.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the quarantine: %w", err)
	}
	return ReadContents(fsys, dir, origin, keys), nil
}

// MoveTo gives the content of a transaction to another store of the same keys and
// origin on the same disk, and returns when it is there for good. It may be run
// again: what is in the other store already stays there. Nobody who reads the
// content meanwhile is disturbed. [ErrNotFound] says that neither store has it.
//
// The new name is flushed before the old one's absence: a power cut between the
// two leaves the content under one name at least, and a rerun ends it.
func (c *ContentStore) MoveTo(other *ContentStore, transaction [16]byte, month uint16) error {
	fail := func(err error) error { return fmt.Errorf("couldn't put a message into quarantine: %w", err) }
	to, err := other.group(month)
	if err != nil {
		return fail(err)
	}
	from, err := c.group(month)
	if err != nil {
		return fail(err)
	}
	target := other.name(transaction, month)
	switch err := c.fsys.Rename(c.name(transaction, month), target); {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := c.fsys.Stat(target); errors.Is(err, fs.ErrNotExist) {
			return fail(fmt.Errorf("%w: %s", ErrNotFound, filepath.Base(target)))
		} else if err != nil {
			return fail(err)
		}
	case err != nil:
		return fail(err)
	}
	// Also when it was there: an earlier process may have died before the flush.
	if err := to.Sync(); err != nil {
		return fail(err)
	}
	if err := from.Sync(); err != nil {
		return fail(err)
	}
	return nil
}

// Written returns what was written so far, for reading: the content is whole, and
// nothing may be written any more. It is durable only after Sync and Commit.
func (w *ContentWriter) Written(transaction [16]byte, month uint16) (Content, error) {
	err := w.w.Close()
	if err == nil {
		err = w.buf.Flush()
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't store a message: %w", err)
	}
	return w.store.openFile(w.f.Name(), transaction, month)
}
