package register

import (
	"errors"
	"sync"
	"time"

	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register/index"
	"scripta/register/record"
	"scripta/tsa/clock"
)

// monthKeys are the keys derived from one month's secret, or the service's.
type monthKeys struct {
	nonce, seal, receipt [32]byte
	index                *index.Key
}

// keyring derives keys from month secrets and remembers them.
type keyring struct {
	months *keys.Months
	held   *Holds // records that outlive their months' secrets; nil: none

	mu      sync.RWMutex // guards derived
	derived map[uint16]*monthKeys
}

func newKeyring(months *keys.Months, held *Holds) *keyring {
	return &keyring{months: months, held: held, derived: map[uint16]*monthKeys{}}
}

// of returns the keys of a month; 0 is the service. With create, a month that
// was never opened is, if it follows the last one.
func (k *keyring) of(month uint16, create bool) (*monthKeys, error) {
	k.mu.RLock()
	m := k.derived[month]
	k.mu.RUnlock()
	if m != nil {
		return m, nil
	}
	var (
		secret [32]byte
		err    error
	)
	if month == 0 {
		secret = k.months.Service()
	} else if secret, err = k.months.Secret(keys.Month(month)); create && errors.Is(err, keys.ErrNoSecret) {
		secret, err = k.months.Open(keys.Month(month))
	}
	if err != nil {
		return nil, err
	}
	m = &monthKeys{keys.Derive(secret, keys.InfoNonce), keys.Derive(secret, keys.InfoSeal), keys.Derive(secret, keys.InfoReceipt),
		index.NewKey(keys.Derive(secret, keys.InfoIndex))}
	k.mu.Lock()
	k.derived[month] = m
	k.mu.Unlock()
	return m, nil
}

// forgetDisposed drops the keys of months that were disposed of.
func (k *keyring) forgetDisposed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, month := range k.months.Disposed() {
		delete(k.derived, uint16(month))
	}
}

// open opens the sealed record beside a leaf of a log and checks that it gives
// the leaf. The month is known also with keys.ErrDisposed.
func (k *keyring) open(origin string, l merkle.Leaf) (*record.Opened, uint16, error) {
	leaf, err := record.ParseLeaf(l.Value)
	if err != nil {
		return nil, 0, err
	}
	sealed := record.Sealed(l.Extra)
	month, err := sealed.Month()
	if err != nil {
		return nil, 0, err
	}
	m, err := k.of(month, false)
	if errors.Is(err, keys.ErrDisposed) {
		if o, held, herr := k.held.open(origin, leaf); held {
			return o, month, herr
		}
	}
	if err != nil {
		return nil, month, err
	}
	o, err := sealed.Open(&m.seal, origin, leaf)
	return o, month, err
}

// ReceiptKey implements receipts.Keys.
func (k *keyring) ReceiptKey(month uint16) (*[32]byte, error) {
	m, err := k.of(month, true)
	if err != nil {
		return nil, err
	}
	return &m.receipt, nil
}

// Begin admits a fresh reading of the clock: it opens the month of t, which must
// be the last one opened or the one after. Another month is a *keys.MonthError:
// a clock that jumped stops the register until a person confirms the month.
// Records of a transaction whose time was read before need no Begin.
func (r *Register) Begin(t time.Time) error {
	_, err := r.keys.months.Open(keys.MonthOf(t))
	return err
}

// Ready returns why a record of the time t could not be appended, or nil. Unlike
// Begin it opens nothing.
func (r *Register) Ready(t time.Time) error {
	if err := r.Health(); err != nil {
		return err
	}
	return r.keys.months.Check(keys.MonthOf(t))
}

// BlobKeys gives the keys under which what belongs to a month is sealed outside
// the log: receipts, contents, jobs of the spool.
type BlobKeys interface {
	ReceiptKey(month uint16) (*[32]byte, error)
}

// BlobKeys returns the register's.
func (r *Register) BlobKeys() BlobKeys { return r.keys }

// ClockMarks are the details by which a record says that its time is not
// traceable to UTC (DM 2/11/2005 art. 9); none when it is.
func ClockMarks(s clock.State) []record.Pair {
	if s == clock.Synced || s == clock.Warning {
		return nil
	}
	return []record.Pair{{Name: "clock", Value: "time not traceable: " + s.String()}}
}
