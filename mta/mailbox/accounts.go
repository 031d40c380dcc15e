package mailbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"scripta/internal/durable"
)

var (
	// ErrNoAccount is returned for an account that does not exist.
	ErrNoAccount = errors.New("no such account")
	// ErrAccountExists is returned by Add for an account that exists.
	ErrAccountExists = errors.New("account exists")
	// ErrClosed is returned for what cannot be done to a closed account, and by
	// Add for its address, which is never given to anybody else.
	ErrClosed = errors.New("account closed")
	// ErrReserved is returned by Add for a local part of the provider.
	ErrReserved = errors.New("local part reserved for the provider")
	// ErrPassword is returned for a password that is empty or longer than
	// MaxPassword.
	ErrPassword = errors.New("password empty or too long")
)

// MaxPassword is the length in bytes of the longest password.
const MaxPassword = 1024

// AccountsOptions say where accounts are kept. Only File is required.
type AccountsOptions struct {
	File string
	// Create makes an empty file if there is none. Otherwise its absence is
	// an error: a daemon must not take a lost file for having no users.
	Create bool
	FS     durable.FS       // nil means the real one
	Now    func() time.Time // nil means time.Now
	Cost   Cost             // of new passwords; zero means DefaultCost
}

// Account is what may be told of an account.
type Account struct {
	Address  string // in lower case
	Quota    int64  // bytes; 0 for none
	Disabled bool   // gets mail, cannot log in
	Sending  Sending
	// Closed is since when the account gets no mail and cannot log in, for
	// ever; the zero time while it is open.
	Closed time.Time
	// Ordinary says what is done with ordinary mail that comes for it.
	Ordinary Ordinary
	// Spam says from which score on ordinary mail for it is refused.
	Spam SpamLimit
}

// NewAccount is an account to be made.
type NewAccount struct {
	Address  string
	Password string
	Quota    int64 // bytes; 0 for none
}

// Accounts are the users of the provider, in a file of Dovecot's passwd-file
// format. All methods may be called concurrently.
type Accounts struct {
	name string
	fs   durable.FS
	cost Cost

	// current is replaced whole, only by who holds change, and only after
	// the same contents are durable. Readers take no lock.
	current atomic.Pointer[passwdFile]
	change  sync.Mutex

	verifier
}

// OpenAccounts reads the accounts. A line that cannot be understood is a
// *LineError: to leave it out would silently lock somebody out.
func OpenAccounts(o AccountsOptions) (*Accounts, error) {
	a := &Accounts{name: o.File, fs: o.FS, cost: o.Cost}
	if a.fs == nil {
		a.fs = durable.OS
	}
	if a.cost == (Cost{}) {
		a.cost = DefaultCost
	}
	if !a.cost.valid() {
		return nil, fmt.Errorf("couldn't open the accounts: Argon2id cost %+v out of bounds", a.cost)
	}
	now := o.Now
	if now == nil {
		now = time.Now
	}
	if err := a.verifier.init(now, a.cost); err != nil {
		return nil, fmt.Errorf("couldn't open the accounts: %w", err)
	}
	err := a.Reload()
	if o.Create && errors.Is(err, fs.ErrNotExist) {
		if err = durable.WriteFile(a.fs, a.name, nil, 0o600); err == nil {
			err = a.Reload()
		}
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Reload reads the file again. After an error the accounts are as before.
func (a *Accounts) Reload() error {
	a.change.Lock()
	defer a.change.Unlock()
	f, err := a.fs.OpenFile(a.name, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("couldn't read the accounts: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("couldn't read the accounts: %w", err)
	}
	file, err := parsePasswdFile(a.name, string(text))
	if err != nil {
		return fmt.Errorf("couldn't read the accounts: %w", err)
	}
	a.current.Store(file)
	return nil
}

// find returns the account of an address in any case, or nil.
func (a *Accounts) find(address string) *account {
	return a.current.Load().accounts[lower(address)]
}

// Has tells whether there is an account, even a disabled one, of this address.
func (a *Accounts) Has(address string) bool { return a.find(address) != nil }

// Quota returns the quota in bytes of an account, 0 for none, and whether there
// is such an account. Options.Quota takes it.
func (a *Accounts) Quota(address string) (limit int64, ok bool) {
	if x := a.find(address); x != nil {
		return x.quota, true
	}
	return 0, false
}

// Closed tells whether the account of an address was closed.
func (a *Accounts) Closed(address string) bool {
	x := a.find(address)
	return x != nil && !x.closed.IsZero()
}

// MayLogin tells whether the holder of an account may do anything now: it
// exists, and is neither disabled nor closed. Who logged in before is asked
// again.
func (a *Accounts) MayLogin(address string) bool {
	x := a.find(address)
	return x != nil && x.mayLogin()
}

// Get returns the account of an address, or ErrNoAccount.
func (a *Accounts) Get(address string) (Account, error) {
	if x := a.find(address); x != nil {
		return x.told(), nil
	}
	return Account{}, fmt.Errorf("%.100q: %w", address, ErrNoAccount)
}

// List returns all accounts by address.
func (a *Accounts) List() []Account {
	file := a.current.Load()
	all := make([]Account, 0, len(file.accounts))
	for _, x := range file.accounts {
		all = append(all, x.told())
	}
	slices.SortFunc(all, func(a, b Account) int { return strings.Compare(a.Address, b.Address) })
	return all
}

// Add makes an account durably; its mailbox is Store.Create's matter, and comes
// first. It returns ErrAddress, ErrReserved, ErrPassword, ErrAccountExists,
// ErrClosed, or the context's error if it ended before there was room to compute
// a hash.
func (a *Accounts) Add(ctx context.Context, address, password string, quota int64) error {
	return a.AddAll(ctx, []NewAccount{{address, password, quota}}, nil)
}

// AddAll makes all of the accounts or, with an error, none: the file is written
// once. before, if not nil, is called when only that can still fail; its error
// keeps the accounts from being made. See Add.
func (a *Accounts) AddAll(ctx context.Context, all []NewAccount, before func() error) error {
	if err := a.CheckNew(all); err != nil {
		return err
	}
	made := make([]*account, len(all))
	errs := make([]error, len(all))
	var (
		hashing sync.WaitGroup
		next    atomic.Int64
	)
	for range hashesAtOnce {
		hashing.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(all); i = int(next.Add(1)) - 1 {
				made[i] = &account{address: lower(all[i].Address), quota: all[i].Quota}
				if made[i].hash, errs[i] = a.hash(ctx, all[i].Password); errs[i] != nil {
					return
				}
			}
		})
	}
	hashing.Wait()
	for i, err := range errs {
		if err != nil {
			return failedToAdd(all[i].Address, err)
		}
	}
	a.change.Lock()
	defer a.change.Unlock()
	file := a.current.Load()
	for _, x := range made {
		if err := file.free(x.address); err != nil {
			return failedToAdd(x.address, err)
		}
	}
	if before != nil {
		if err := before(); err != nil {
			return err
		}
	}
	return a.replace(file.plus(made))
}

// CheckNew returns the error that AddAll would return before it computes a hash.
func (a *Accounts) CheckNew(all []NewAccount) error {
	file := a.current.Load()
	seen := make(map[string]bool, len(all))
	for _, n := range all {
		local, domain, err := split(n.Address)
		full := local + "@" + domain
		switch {
		case err != nil:
		case Reserved(local):
			err = ErrReserved
		case n.Quota < 0:
			err = fmt.Errorf("quota of %d bytes", n.Quota)
		case n.Password == "" || len(n.Password) > MaxPassword:
			err = ErrPassword
		case seen[full]:
			err = errors.New("given twice")
		default:
			err = file.free(full)
		}
		if err != nil {
			return failedToAdd(n.Address, err)
		}
		seen[full] = true
	}
	return nil
}

func failedToAdd(address string, err error) error {
	return fmt.Errorf("couldn't add account %.100q: %w", address, err)
}

// SetPassword changes the password of an account; the old one is refused from
// then on. It returns ErrNoAccount, ErrPassword or the context's error.
func (a *Accounts) SetPassword(ctx context.Context, address, password string) error {
	if !a.Has(address) {
		return fmt.Errorf("couldn't change the password of %.100q: %w", address, ErrNoAccount)
	}
	h, err := a.hash(ctx, password)
	if err != nil {
		return fmt.Errorf("couldn't change the password of %s: %w", address, err)
	}
	return a.edit(address, "change the password of", func(x *account) error {
		x.hash = h
		return x.open()
	})
}

// SetQuota changes the quota in bytes of an account, 0 for none.
func (a *Accounts) SetQuota(address string, quota int64) error {
	if quota < 0 {
		return fmt.Errorf("couldn't change the quota of %.100q: quota of %d bytes", address, quota)
	}
	return a.edit(address, "change the quota of", func(x *account) error {
		x.quota = quota
		return nil
	})
}

// Disable keeps the holder of an account from logging in, or lets him again with
// the password he had. The mailbox goes on receiving.
func (a *Accounts) Disable(address string, disabled bool) error {
	return a.edit(address, "disable or enable", func(x *account) error {
		x.disabled = disabled
		return x.open()
	})
}

// Close ends an account for ever at a time, kept in seconds: nobody logs in, no
// mail comes in, and the address is given to nobody else. What is in its mailbox
// stays.
func (a *Accounts) Close(address string, at time.Time) error {
	return a.edit(address, "close", func(x *account) error {
		if err := x.open(); err != nil {
			return err
		}
		x.disabled, x.closed = true, at.UTC().Truncate(time.Second)
		return nil
	})
}

// Remove removes an account. Its mailbox stays.
func (a *Accounts) Remove(address string) error {
	err := a.update(lower(address), func(old *account) (*account, error) {
		if old == nil {
			return nil, ErrNoAccount
		}
		return nil, nil
	})
	if err != nil {
		return fmt.Errorf("couldn't remove account %.100q: %w", address, err)
	}
	return nil
}

func (a *Accounts) edit(address, what string, change func(*account) error) error {
	err := a.update(lower(address), func(old *account) (*account, error) {
		if old == nil {
			return nil, ErrNoAccount
		}
		x := *old
		return &x, change(&x)
	})
	if err != nil {
		return fmt.Errorf("couldn't %s %.100q: %w", what, address, err)
	}
	return nil
}

// update replaces one account, first on the disk, then for readers.
func (a *Accounts) update(address string, change func(old *account) (*account, error)) error {
	a.change.Lock()
	defer a.change.Unlock()
	file := a.current.Load()
	x, err := change(file.accounts[address])
	if err != nil {
		return err
	}
	if err := a.replace(file.with(address, x)); err != nil {
		return err
	}
	a.forget(address)
	return nil
}

// replace makes a file durable and then the current one. The caller holds change.
func (a *Accounts) replace(file *passwdFile) error {
	if err := durable.WriteFile(a.fs, a.name, file.text(), 0o600); err != nil {
		return err
	}
	a.current.Store(file)
	return nil
}

// hash computes the hash of a new password.
func (a *Accounts) hash(ctx context.Context, password string) (hash, error) {
	if password == "" || len(password) > MaxPassword {
		return hash{}, ErrPassword
	}
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return hash{}, err
	}
	var h hash
	err := a.compute(ctx, func() { h = newHash(a.cost, salt, password) })
	return h, err
}
