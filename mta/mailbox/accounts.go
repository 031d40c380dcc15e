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

// List returns all accounts by address.
func (a *Accounts) List() []Account {
	file := a.current.Load()
	all := make([]Account, 0, len(file.accounts))
	for _, x := range file.accounts {
		all = append(all, Account{Address: x.address, Quota: x.quota, Disabled: x.disabled})
	}
	slices.SortFunc(all, func(a, b Account) int { return strings.Compare(a.Address, b.Address) })
	return all
}

// Add makes an account durably; its mailbox is Store.Create's matter, and comes
// first. It returns ErrAddress, ErrReserved, ErrPassword, ErrAccountExists, or
// the context's error if it ended before there was room to compute a hash.
func (a *Accounts) Add(ctx context.Context, address, password string, quota int64) error {
	fail := func(err error) error { return fmt.Errorf("couldn't add account %.100q: %w", address, err) }
	local, domain, err := split(address)
	switch {
	case err != nil:
		return fail(err)
	case Reserved(local):
		return fail(ErrReserved)
	case quota < 0:
		return fail(fmt.Errorf("quota of %d bytes", quota))
	case a.Has(address):
		return fail(ErrAccountExists)
	}
	h, err := a.hash(ctx, password)
	if err != nil {
		return fail(err)
	}
	full := local + "@" + domain
	err = a.update(full, func(old *account) (*account, error) {
		if old != nil {
			return nil, ErrAccountExists
		}
		return &account{address: full, hash: h, quota: quota}, nil
	})
	if err != nil {
		return fail(err)
	}
	return nil
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
	return a.edit(address, "change the password of", func(x *account) { x.hash = h })
}

// SetQuota changes the quota in bytes of an account, 0 for none.
func (a *Accounts) SetQuota(address string, quota int64) error {
	if quota < 0 {
		return fmt.Errorf("couldn't change the quota of %.100q: quota of %d bytes", address, quota)
	}
	return a.edit(address, "change the quota of", func(x *account) { x.quota = quota })
}

// Disable keeps the holder of an account from logging in, or lets him again with
// the password he had. The mailbox goes on receiving.
func (a *Accounts) Disable(address string, disabled bool) error {
	return a.edit(address, "disable or enable", func(x *account) { x.disabled = disabled })
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

func (a *Accounts) edit(address, what string, change func(*account)) error {
	err := a.update(lower(address), func(old *account) (*account, error) {
		if old == nil {
			return nil, ErrNoAccount
		}
		x := *old
		change(&x)
		return &x, nil
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
	file = file.with(address, x)
	if err := durable.WriteFile(a.fs, a.name, file.text(), 0o600); err != nil {
		return err
	}
	a.current.Store(file)
	a.forget(address)
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
