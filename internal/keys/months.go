package keys

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"scripta/internal/durable"
)

// Errors of [Months].
var (
	// ErrNoSecret: the store never held a secret of the month, or lost it.
	ErrNoSecret = errors.New("there is no secret of this month")
	// ErrDisposed: the month's secret was destroyed on purpose.
	ErrDisposed = errors.New("the secret of this month was disposed of")
	// ErrDamaged: a file is not what was written.
	ErrDamaged = errors.New("the file is damaged")
	// ErrMasterKey: a secret is wrapped by another master key.
	ErrMasterKey = errors.New("the secret is wrapped by another master key; put the master key that belongs to this folder")
)

// A MonthError says that the clock would open a month that is neither the
// last one nor its successor. The register stops until a person has looked at
// the clock and either sets it right or calls [Months.Confirm].
type MonthError struct {
	Month Month // what the clock says
	Last  Month // the month that was open last
}

// Error says what the operator can do.
func (e *MonthError) Error() string {
	return fmt.Sprintf("the clock jumped: it says %s and the register's last month is %s; set the clock right or, if it is right, run scripta clock confirm --month %[1]s --dir DIR", e.Month, e.Last)
}

// turnGrace is how long after the turn of a month a transaction that read the
// clock just before it may still arrive.
const turnGrace = 5 * time.Minute

const (
	lastFile       = "last"
	serviceFile    = "service.secret"
	holdFile       = "hold.secret"
	secretSuffix   = ".secret"
	disposedSuffix = ".disposed"
)

// Months is the store of month secrets, one file for each in a folder of its
// own, wrapped by a master key. It is safe for concurrent use by one process;
// the provider's lock keeps other processes away.
//
//	DIR/keys/months/2026-11.secret    the wrapped secret
//	DIR/keys/months/2026-11.disposed  in its place after disposal
//	DIR/keys/months/service.secret    the service's permanent secret
//	DIR/keys/months/hold.secret       the secret of records that are held longer
//	DIR/keys/months/disposing         the month whose disposal is not done
//	DIR/keys/months/last              the month that is open, "2026-11\n"
type Months struct {
	fsys    durable.FS
	dir     string
	master  *master
	service [32]byte
	// masterFile is the file of the master key; older is the one before, while a
	// disposal is on its way and some secrets are still wrapped by it.
	masterFile string
	older      *master

	// mu is held for the whole of a creation: nobody gets a secret before it
	// is on the disk.
	mu sync.RWMutex
	// secrets holds every month with a file; nil until it was first asked for.
	secrets  map[Month]*[32]byte
	disposed map[Month]bool
	// disposing is the month whose disposal is not done, while isDisposing.
	disposing   Month
	isDisposing bool
	// last is the open month; what may be opened next is measured from it.
	// It is meaningless while hasLast is false: no month was ever opened.
	last    Month
	hasLast bool
	// turned is when this process went on to last from the month before it.
	turned time.Time
}

// CreateMonths makes a new store: the master key file, the folder and the
// service secret. It refuses what exists.
func CreateMonths(fsys durable.FS, dir, masterFile string) (*Months, error) {
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the folder of month secrets: %w", err)
	}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the folder of month secrets: %w", err)
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("couldn't make the month secrets: %s is not empty: %w", dir, fs.ErrExist)
	}
	k, err := createMaster(fsys, masterFile)
	if err != nil {
		return nil, err
	}
	m := &Months{fsys: fsys, dir: dir, master: k, masterFile: masterFile}
	if err := m.write(serviceSlot, newSecret()); err != nil {
		return nil, fmt.Errorf("couldn't make the service secret: %w", err)
	}
	return OpenMonths(fsys, dir, masterFile)
}

// OpenMonths opens the store. It reads the service secret and the last
// month's at once, so that a wrong master key (ErrMasterKey) or a damaged
// file (ErrDamaged) shows before anything is sealed; an older file that is
// damaged shows when it is asked for, and stops nothing else.
func OpenMonths(fsys durable.FS, dir, masterFile string) (*Months, error) {
	m := &Months{fsys: fsys, dir: dir, masterFile: masterFile, secrets: make(map[Month]*[32]byte), disposed: make(map[Month]bool)}
	err := m.resume()
	if err != nil {
		return nil, err
	}
	if m.service, err = m.read(serviceSlot); err != nil {
		return nil, fmt.Errorf("couldn't open the service secret: %w", err)
	}
	if err := m.scan(); err != nil {
		return nil, fmt.Errorf("couldn't open the month secrets: %w", err)
	}
	if m.hasLast {
		if _, err := m.load(m.last); err != nil && !errors.Is(err, ErrDisposed) {
			return nil, err
		}
	}
	return m, nil
}

// scan lists the folder and finds the last month.
func (m *Months) scan() error {
	entries, err := m.fsys.ReadDir(m.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if s, ok := strings.CutSuffix(e.Name(), disposedSuffix); ok {
			if month, err := ParseMonth(s); err == nil {
				m.disposed[month] = true
			}
		} else if s, ok := strings.CutSuffix(e.Name(), secretSuffix); ok {
			if month, err := ParseMonth(s); err == nil {
				m.secrets[month] = nil
				if !m.hasLast || month > m.last {
					m.last, m.hasLast = month, true
				}
			}
		}
	}
	// A crash between the two files of an opening leaves a secret newer than
	// the file "last" says; it was never used, and the next opening finds it.
	data, err := m.readFile(lastFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	last, err := ParseMonth(strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		return fmt.Errorf("%s: %w; write into it the month of the register's newest record, such as 2026-11", filepath.Join(m.dir, lastFile), ErrDamaged)
	}
	m.last, m.hasLast = last, true
	return nil
}

// Service returns the permanent secret of the service's own records, which
// concern nobody and are never disposed of.
func (m *Months) Service() [32]byte { return m.service }

// Hold returns the secret under which records that must outlive their month's
// disposal are kept, and makes it when it is asked for the first time.
func (m *Months) Hold() ([32]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	there, err := exists(m.fsys, m.path(holdSlot))
	if err == nil && !there {
		err = m.write(holdSlot, newSecret())
	}
	if err != nil {
		return [32]byte{}, fmt.Errorf("couldn't make the secret of held records: %w", err)
	}
	return m.read(holdSlot)
}

// Last returns the month that is open; false when none ever was.
func (m *Months) Last() (Month, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.last, m.hasLast
}

// Secret returns the secret of a month that was opened before: to read what
// was sealed, or to go on with a transaction whose time was fixed in that
// month. It never creates one. Errors: ErrNoSecret, ErrDisposed, ErrDamaged,
// ErrMasterKey.
func (m *Months) Secret(month Month) ([32]byte, error) {
	m.mu.RLock()
	s := m.secrets[month]
	m.mu.RUnlock()
	if s != nil {
		return *s, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.load(month)
}

// Open returns the secret of the month that a fresh reading of the clock
// gives. The last month and its successor open, the latter with a new secret
// that is on the disk before Open returns; so does the first month ever, and,
// for 5 minutes after a turn, the month before, which a transaction had read
// the clock in. Any other month is a [*MonthError]. A lost secret is
// ErrNoSecret, never a new secret in its place.
func (m *Months) Open(month Month) ([32]byte, error) {
	m.mu.RLock()
	s := m.secrets[month]
	open := m.hasLast && month == m.last
	m.mu.RUnlock()
	if open && s != nil {
		return *s, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.hasLast && month == m.last:
		return m.load(month)
	case m.hasLast && month == m.last-1 && !m.turned.IsZero() && time.Since(m.turned) < turnGrace:
		return m.load(month)
	case m.hasLast && month != m.last.Next():
		return [32]byte{}, &MonthError{Month: month, Last: m.last}
	}
	turning := m.hasLast
	secret, err := m.goTo(month)
	if err == nil && turning {
		m.turned = time.Now()
	}
	return secret, err
}

// Check returns the error that Open would return, and makes no secret.
func (m *Months) Check(month Month) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.hasLast, month == m.last.Next():
		if m.disposed[month] {
			return fmt.Errorf("%s: %w", month, ErrDisposed)
		}
		return nil
	case month == m.last, month == m.last-1 && !m.turned.IsZero() && time.Since(m.turned) < turnGrace:
		_, err := m.load(month)
		return err
	}
	return &MonthError{Month: month, Last: m.last}
}

// Confirm makes month the last one, whatever the last one was: a person has
// checked the clock. It serves a provider that stood still for months as well
// as one whose clock had run ahead into the next month.
func (m *Months) Confirm(month Month) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hasLast && month == m.last {
		return nil
	}
	_, err := m.goTo(month)
	if err == nil {
		m.turned = time.Time{}
	}
	return err
}

// goTo makes month the last one, with a new secret when it has none. The
// order is the promise: 1 the secret is durable, 2 the file "last" names it,
// 3 anyone may use it.
func (m *Months) goTo(month Month) ([32]byte, error) {
	secret, err := m.load(month)
	if errors.Is(err, ErrNoSecret) {
		secret, err = m.create(month)
	}
	if err != nil {
		return [32]byte{}, err
	}
	if err := durable.WriteFile(m.fsys, filepath.Join(m.dir, lastFile), []byte(month.String()+"\n"), 0o600); err != nil {
		return [32]byte{}, fmt.Errorf("couldn't open the month %s: %w", month, err)
	}
	m.last, m.hasLast = month, true
	m.secrets[month] = &secret
	return secret, nil
}

// create writes the month's secret. A file that a failed attempt left is taken
// instead of replaced; writing "last" syncs its name once more.
func (m *Months) create(month Month) ([32]byte, error) {
	path := m.path(uint16(month))
	there, err := exists(m.fsys, path)
	if err == nil && !there {
		err = m.write(uint16(month), newSecret())
	}
	if err != nil {
		return [32]byte{}, fmt.Errorf("couldn't make the secret of %s: %w", month, err)
	}
	// Read back: what is used is what is on the disk.
	secret, err := m.read(uint16(month))
	if err != nil {
		return [32]byte{}, fmt.Errorf("couldn't read back the secret of %s: %w", month, err)
	}
	return secret, nil
}

// load returns the secret of a month that has a file and remembers it. The
// caller holds mu.
func (m *Months) load(month Month) ([32]byte, error) {
	s, known := m.secrets[month]
	switch {
	case m.disposed[month]:
		return [32]byte{}, fmt.Errorf("%s: %w", month, ErrDisposed)
	case s != nil:
		return *s, nil
	case !known:
		return [32]byte{}, fmt.Errorf("%s: %w", month, ErrNoSecret)
	}
	secret, err := m.read(uint16(month))
	if errors.Is(err, fs.ErrNotExist) {
		return [32]byte{}, fmt.Errorf("%s: %w: its file is gone; restore it from the copy of the keys", month, ErrNoSecret)
	}
	if err != nil {
		return [32]byte{}, fmt.Errorf("couldn't open the secret of %s: %w", month, err)
	}
	m.secrets[month] = &secret
	return secret, nil
}

// Reread reads every secret from the disk again and returns the errors, joined.
func (m *Months) Reread() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, err := m.read(serviceSlot)
	errs := []error{err}
	for month := range m.secrets {
		if !m.disposed[month] {
			_, err := m.read(uint16(month))
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (m *Months) path(slot uint16) string {
	switch slot {
	case serviceSlot:
		return filepath.Join(m.dir, serviceFile)
	case holdSlot:
		return filepath.Join(m.dir, holdFile)
	}
	return filepath.Join(m.dir, Month(slot).String()+secretSuffix)
}

func (m *Months) write(slot uint16, secret [32]byte) error {
	var nonce [wrapNonce]byte
	rand.Read(nonce[:])
	return durable.WriteFile(m.fsys, m.path(slot), m.master.wrap(slot, secret, nonce), 0o600)
}

func (m *Months) read(slot uint16) ([32]byte, error) {
	path := m.path(slot)
	data, err := m.readFile(filepath.Base(path))
	if err != nil {
		return [32]byte{}, err
	}
	secret, err := m.master.unwrap(slot, data)
	if errors.Is(err, ErrMasterKey) && m.older != nil {
		secret, err = m.older.unwrap(slot, data)
	}
	if err != nil {
		return [32]byte{}, fmt.Errorf("%s: %w", path, err)
	}
	return secret, nil
}

// readFile reads a file of the store; none of them has more than 102 bytes.
func (m *Months) readFile(name string) ([]byte, error) {
	f, err := m.fsys.OpenFile(filepath.Join(m.dir, name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(wrapSize)+1))
}

func newSecret() (s [32]byte) {
	rand.Read(s[:])
	return s
}
