package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"scripta/internal/durable"
)

// RetentionMonths is how long after its end the secret of a month is kept: DPR
// 68/2005 art. 11 and RFC 6109 §2.3 ask for 30 months.
const RetentionMonths = 30

// Errors of a disposal.
var (
	// ErrRetention says that a month may not be disposed of yet.
	ErrRetention = errors.New("this month must be kept longer")
	// ErrPending says that a disposal has begun and has not reached every copy.
	ErrPending = errors.New("a disposal is under way: finish it first, with scripta keys dispose")
)

const (
	disposingFile = "disposing" // month of the disposal that is under way
	nextSuffix    = ".next"
)

// A Pending is a copy of the key store that a disposal has not reached.
type Pending struct {
	Copy string // its folder
	Err  error  // why
}

// DisposableFrom is when a month may be disposed of: 30 months after its end.
func DisposableFrom(month Month) time.Time { return (month.Next() + RetentionMonths).Start() }

// Disposing returns the month whose disposal has begun and is not done.
func (m *Months) Disposing() (Month, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.disposing, m.isDisposing
}

// Disposed lists the months that were disposed of, or are being.
func (m *Months) Disposed() []Month {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var all []Month
	for month := range m.disposed {
		all = append(all, month)
	}
	return all
}

// CheckDisposal returns why a month may not be disposed of at a time: ErrRetention,
// ErrPending or ErrNoSecret.
func (m *Months) CheckDisposal(month Month, now time.Time) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.checkDisposal(month, now)
}

func (m *Months) checkDisposal(month Month, now time.Time) error {
	_, known := m.secrets[month]
	switch {
	case m.isDisposing && m.disposing != month:
		return fmt.Errorf("%s: %w --month %s", month, ErrPending, m.disposing)
	case m.disposed[month]:
		return nil // done, or to be taken up
	case now.Before(DisposableFrom(month)) || !m.hasLast || month >= m.last:
		return fmt.Errorf("%s: %w: until %s, %d months after its end", month, ErrRetention, DisposableFrom(month).Format(time.DateOnly), RetentionMonths)
	case !known:
		return fmt.Errorf("%s: %w", month, ErrNoSecret)
	}
	return nil
}

// Dispose destroys the secret of a month, here and in copies, folders that
// [Months.CopyTo] made. A copy that cannot be reached is returned as pending: the
// disposal then counts as begun, the month's secret is gone here, and calling
// Dispose again takes the rest up. The order of its steps:
//
//  1. a new master key is made durable beside the old one;
//  2. the file "disposing" names the month: from now on nobody gets its secret;
//  3. every other secret is wrapped anew, by the new master key;
//  4. the month's own file is overwritten and removed, after the file that says
//     so is durable;
//  5. the old master key is overwritten, which makes worthless what is left of old
//     files anywhere, and the new one takes its name;
//  6. the same in each copy;
//  7. "disposing" is removed.
//
// A crash between any two leaves a store that opens and gives every other month's
// secret; the next call goes on.
func (m *Months) Dispose(month Month, now time.Time, copies []string) ([]Pending, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkDisposal(month, now); err != nil {
		return nil, err
	}
	if m.disposed[month] && !m.isDisposing {
		return nil, nil
	}
	if err := m.disposeHere(month); err != nil {
		return nil, fmt.Errorf("couldn't finish the disposal of %s (call it again: what was done stays): %w", month, err)
	}
	var pending []Pending
	for _, c := range copies {
		if err := m.renewCopy(c, month); err != nil {
			pending = append(pending, Pending{c, err})
		}
	}
	if len(pending) > 0 {
		return pending, nil
	}
	err := m.fsys.Remove(m.file(disposingFile))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = m.fsys.SyncDir(m.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't end the disposal of %s: %w", month, err)
	}
	m.isDisposing = false
	return nil, nil
}

func (m *Months) file(name string) string { return filepath.Join(m.dir, name) }

// disposeHere is steps 1 to 5.
func (m *Months) disposeHere(month Month) error {
	next := m.masterFile + nextSuffix
	if !m.isDisposing {
		if err := durable.Destroy(m.fsys, next); err != nil { // of an attempt that never began
			return err
		}
		if _, err := createMaster(m.fsys, next); err != nil {
			return err
		}
		if err := durable.WriteFile(m.fsys, m.file(disposingFile), []byte(month.String()+"\n"), 0o600); err != nil {
			return err
		}
		m.disposing, m.isDisposing, m.disposed[month] = month, true, true
		m.forget(month)
	}
	there, err := exists(m.fsys, next)
	if err != nil {
		return err
	}
	if there {
		k, err := loadMaster(m.fsys, next)
		if err != nil {
			return err
		}
		if m.master.id != k.id {
			m.older, m.master = m.master, k
		}
		if err := m.rewrap(); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(m.fsys, m.file(month.String()+disposedSuffix), nil, 0o600); err != nil {
		return err
	}
	if err := durable.Destroy(m.fsys, m.path(uint16(month))); err != nil {
		return err
	}
	if there {
		if err := durable.Overwrite(m.fsys, m.masterFile); err != nil {
			return err
		}
		if err := m.fsys.Rename(next, m.masterFile); err != nil {
			return err
		}
	}
	m.older = nil
	return m.fsys.SyncDir(filepath.Dir(m.masterFile))
}

// forget drops a month's secret from memory.
func (m *Months) forget(month Month) {
	if s := m.secrets[month]; s != nil {
		clear(s[:])
	}
	delete(m.secrets, month)
}

// rewrap wraps every secret that remains by the new master key.
func (m *Months) rewrap() error {
	entries, err := m.fsys.ReadDir(m.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		slot, ok := slotOf(e.Name())
		if !ok || slot == uint16(m.disposing) {
			continue
		}
		secret, err := m.read(slot)
		if err != nil {
			return err
		}
		if err := m.write(slot, secret); err != nil {
			return err
		}
	}
	return nil
}

// slotOf is what the file of a secret holds.
func slotOf(name string) (slot uint16, ok bool) {
	if name == serviceFile {
		return serviceSlot, true
	}
	if name == holdFile {
		return holdSlot, true
	}
	s, ok := strings.CutSuffix(name, secretSuffix)
	if !ok {
		return 0, false
	}
	month, err := ParseMonth(s)
	return uint16(month), err == nil
}

// resume takes note of a disposal that a crash, or a copy that could not be
// reached, left unfinished: the store then has two master keys, or still one to
// be destroyed elsewhere.
func (m *Months) resume() error {
	data, err := m.readFile(disposingFile)
	if errors.Is(err, fs.ErrNotExist) {
		m.master, err = loadMaster(m.fsys, m.masterFile)
		return err
	} else if err != nil {
		return err
	}
	if m.disposing, err = ParseMonth(strings.TrimSuffix(string(data), "\n")); err != nil {
		return fmt.Errorf("%s: %w", m.file(disposingFile), ErrDamaged)
	}
	m.isDisposing, m.disposed[m.disposing] = true, true
	next, nerr := loadMaster(m.fsys, m.masterFile+nextSuffix)
	k, err := loadMaster(m.fsys, m.masterFile)
	switch {
	case nerr == nil && err == nil:
		m.master, m.older = next, k
	case nerr == nil: // the old one was overwritten
		m.master = next
	default:
		m.master = k
		return err
	}
	return nil
}
