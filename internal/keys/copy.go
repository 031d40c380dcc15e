package keys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"scripta/internal/durable"
)

// Names in a copy of the key store.
const (
	copyMaster = "master.key"
	copyMonths = "months"
)

// ErrNoCopy says that a folder holds no copy of the key store: it is another
// folder, or what it was on is not mounted.
var ErrNoCopy = errors.New("there is no copy of the key store")

// CopyTo makes a copy of the store in a folder, or brings one there up to date:
// the master key and every secret, and that months were disposed of. Losing the
// store means losing every record; but each copy must be reachable at each
// disposal. A folder that holds something else is refused.
func (m *Months) CopyTo(folder string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.isDisposing {
		return fmt.Errorf("%w --month %s", ErrPending, m.disposing)
	}
	entries, err := m.fsys.ReadDir(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0:
		if err := durable.MkdirAll(m.fsys, filepath.Join(folder, copyMonths), 0o700); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if err := m.isCopy(folder); err != nil {
			return err
		}
	}
	return m.fill(folder)
}

// isCopy returns ErrNoCopy unless the folder holds a copy, perhaps unfinished.
func (m *Months) isCopy(folder string) error {
	ok, err := exists(m.fsys, filepath.Join(folder, copyMonths))
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", folder, ErrNoCopy)
	}
	return err
}

// renewCopy is step 6 of a disposal in one copy. The copy opens at every moment,
// as the store itself does.
func (m *Months) renewCopy(folder string, month Month) error {
	if err := m.isCopy(folder); err != nil {
		return err
	}
	return m.fill(folder)
}

// fill writes the store's files into a copy. A master key that the store has not
// any more, and secrets of disposed months, are destroyed there.
func (m *Months) fill(folder string) error {
	master, months := filepath.Join(folder, copyMaster), filepath.Join(folder, copyMonths)
	own, err := m.whole(m.masterFile)
	if err != nil {
		return err
	}
	old, err := m.whole(master)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	renewed := string(old) != string(own)
	if renewed {
		if err := durable.WriteFile(m.fsys, master+nextSuffix, own, 0o600); err != nil {
			return err
		}
	}
	entries, err := m.fsys.ReadDir(m.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := m.whole(m.file(e.Name()))
		if err != nil {
			return err
		}
		if e.Name() == disposingFile || e.IsDir() {
			continue
		}
		if err := durable.WriteFile(m.fsys, filepath.Join(months, e.Name()), data, 0o600); err != nil {
			return err
		}
	}
	for month := range m.disposed {
		if err := durable.Destroy(m.fsys, filepath.Join(months, month.String()+secretSuffix)); err != nil {
			return err
		}
	}
	if renewed {
		if err := durable.Overwrite(m.fsys, master); err != nil {
			return err
		}
		if err := m.fsys.Rename(master+nextSuffix, master); err != nil {
			return err
		}
	}
	return errors.Join(m.fsys.SyncDir(months), m.fsys.SyncDir(folder))
}

// whole reads a file of the store.
func (m *Months) whole(name string) ([]byte, error) {
	f, err := m.fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

// RestoreMonths makes a store out of a copy. It refuses what exists.
func RestoreMonths(fsys durable.FS, folder, dir, masterFile string) error {
	from := &Months{fsys: fsys, dir: filepath.Join(folder, copyMonths), masterFile: filepath.Join(folder, copyMaster)}
	if err := from.isCopy(folder); err != nil {
		return err
	}
	for _, name := range []string{dir, masterFile} {
		if there, err := exists(fsys, name); err != nil || there {
			return errors.Join(err, fmt.Errorf("%s is there already: restore into an empty folder", name))
		}
	}
	if err := durable.MkdirAll(fsys, dir, 0o700); err != nil {
		return err
	}
	entries, err := fsys.ReadDir(from.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := from.whole(from.file(e.Name()))
		if err == nil {
			err = durable.WriteFile(fsys, filepath.Join(dir, e.Name()), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	for _, suffix := range []string{"", nextSuffix} { // both, if a disposal was on its way
		data, err := from.whole(from.masterFile + suffix)
		if errors.Is(err, fs.ErrNotExist) && suffix != "" {
			continue
		}
		if err == nil {
			err = durable.WriteFile(fsys, masterFile+suffix, data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	_, err = OpenMonths(fsys, dir, masterFile)
	return err
}
