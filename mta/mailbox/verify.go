package mailbox

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

const (
	// hashesAtOnce bounds the Argon2id computations under way, and with them
	// what a flood of logins can take of cores and memory.
	hashesAtOnce = 2
	// rememberFor is how long a verified password needs no Argon2id: mail
	// clients log in for every message and every folder.
	rememberFor = 5 * time.Minute
)

// verifier checks passwords and remembers those that were right. It keeps
// neither passwords nor anything that can be tried offline without the key of
// this process.
type verifier struct {
	now   func() time.Time
	slots chan struct{} // held during each computation
	key   []byte
	// dummy is computed for logins that do not exist, so that the time does
	// not tell which do.
	dummy hash

	mu    sync.Mutex // guards known
	known map[string]remembered
}

// remembered is the last password that was right for a login.
type remembered struct {
	tag   [sha256.Size]byte
	until time.Time
}

func (v *verifier) init(now func() time.Time, cost Cost) error {
	v.now, v.slots, v.known = now, make(chan struct{}, hashesAtOnce), map[string]remembered{}
	v.key = make([]byte, 32)
	if _, err := rand.Read(v.key); err != nil {
		return err
	}
	v.dummy = hash{cost, v.key[:saltSize], v.key}
	return nil
}

// Verify tells whether password is that of the account login, a full address in
// any case. At most two Argon2id computations run at a time; the context ends the
// wait for them, and its error is the only one there is but ErrSuspended. An account
// that does not exist or is disabled or closed costs as much as a wrong password.
func (a *Accounts) Verify(ctx context.Context, login, password string) (bool, error) {
	login = lower(login)
	x := a.find(login)
	h, possible, suspended := a.dummy, false, false
	if x != nil {
		h, possible = x.hash, x.closed.IsZero()
		suspended = possible && x.disabled
	}
	if password == "" || len(password) > MaxPassword {
		password, possible = "", false
	}
	tag := a.tag(login, h, password)
	if possible && !suspended && a.remembers(login, tag) {
		return true, nil
	}
	ok := false
	err := a.compute(ctx, func() {
		// The same client's other connections may have had the same wait.
		ok = possible && !suspended && a.remembers(login, tag) || h.matches(password) && possible
	})
	if err != nil {
		return false, fmt.Errorf("couldn't check a password: %w", err)
	}
	if ok && suspended {
		return false, fmt.Errorf("%s: %w", login, ErrSuspended)
	}
	if ok {
		a.remember(login, tag)
	}
	return ok, nil
}

// compute runs f, which computes a hash, when there is room.
func (v *verifier) compute(ctx context.Context, f func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case v.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-v.slots }()
	f()
	return nil
}

// tag stands for a password of a login as long as the account has the hash h: a
// change of password makes all earlier tags worthless.
func (v *verifier) tag(login string, h hash, password string) (tag [sha256.Size]byte) {
	m := hmac.New(sha256.New, v.key)
	for _, s := range []string{login, string(h.salt), string(h.sum), password} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		m.Write(length[:])
		m.Write([]byte(s))
	}
	m.Sum(tag[:0])
	return tag
}

func (v *verifier) remembers(login string, tag [sha256.Size]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, ok := v.known[login]
	if ok && !v.now().Before(r.until) {
		delete(v.known, login)
		return false
	}
	return ok && hmac.Equal(r.tag[:], tag[:])
}

func (v *verifier) remember(login string, tag [sha256.Size]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r, ok := v.known[login]; ok && r.tag == tag && v.now().Before(r.until) {
		return // a right password is tried with Argon2id every 5 minutes
	}
	v.known[login] = remembered{tag, v.now().Add(rememberFor)}
}

func (v *verifier) forget(login string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.known, login)
}
