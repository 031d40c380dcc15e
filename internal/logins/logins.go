// Package logins slows down those who guess passwords, by whatever way they come:
// the address they come from and the account they try are counted together for
// all services that share a [Limiter].
package logins

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// buckets are token buckets by key. Memory is bounded: beyond max keys the one
// unused for longest is forgotten. The owner's lock guards it.
type buckets struct {
	burst  float64
	refill time.Duration // of one token
	max    int
	byKey  map[string]*list.Element
	order  *list.List // of *bucket, the one used last in front
}

type bucket struct {
	key    string
	tokens float64
	at     time.Time
}

func newBuckets(burst int, refill time.Duration, max int) *buckets {
	return &buckets{burst: float64(burst), refill: refill, max: max, byKey: map[string]*list.Element{}, order: list.New()}
}

// at returns the key's bucket as it is now.
func (b *buckets) at(key string, now time.Time) *bucket {
	if e := b.byKey[key]; e != nil {
		b.order.MoveToFront(e)
		x := e.Value.(*bucket)
		if d := now.Sub(x.at); d > 0 {
			x.tokens = min(b.burst, x.tokens+float64(d)/float64(b.refill))
		}
		x.at = now
		return x
	}
	if len(b.byKey) >= b.max {
		last := b.order.Back()
		b.order.Remove(last)
		delete(b.byKey, last.Value.(*bucket).key)
	}
	x := &bucket{key: key, tokens: b.burst, at: now}
	b.byKey[key] = b.order.PushFront(x)
	return x
}

// wait is how long until the bucket has a token; 0 if it has one.
func (b *buckets) wait(x *bucket) time.Duration {
	if x.tokens >= 1 {
		return 0
	}
	return time.Duration((1 - x.tokens) * float64(b.refill))
}

// Limits on guessing passwords: failures at once, then one in each refill.
const (
	AddressBurst  = 20
	AddressRefill = 6 * time.Second
	AccountBurst  = 50
	AccountRefill = 6 * time.Second
)

const (
	familiarFor = 24 * time.Hour
	entries     = 1 << 16 // of each kind
)

// Limiter slows down those who try passwords, by the address they come from and
// by the account they try. A token is taken before a password is checked and
// given back when it was right, so that many tries at once are bounded too.
//
// Many addresses together may use up an account's tokens. Its holder is not
// locked out by it where he logged in before: an address from which a login to
// the account succeeded within a day is spared the account's limit.
type Limiter struct {
	mu       sync.Mutex // guards the rest
	address  *buckets
	account  *buckets
	familiar *buckets // by address and account; at is the last success
}

// New makes a limiter that has seen nothing.
func New() *Limiter {
	return &Limiter{address: newBuckets(AddressBurst, AddressRefill, entries), account: newBuckets(AccountBurst, AccountRefill, entries),
		familiar: newBuckets(1, familiarFor, entries)}
}

// Attempt is one password being checked.
type Attempt struct {
	l                *Limiter
	address, account string
	charged          bool // the account's bucket, too
}

// Begin admits an attempt on an account from a remote address and port, or says
// how long to wait. An attempt that is not forgiven counts as a wrong guess.
func (l *Limiter) Begin(remote, account string, now time.Time) (*Attempt, time.Duration) {
	address := Network(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.address.at(address, now)
	if d := l.address.wait(from); d > 0 {
		return nil, d
	}
	t := &Attempt{l: l, address: address, account: account}
	if !l.knows(t, now) {
		to := l.account.at(account, now)
		if d := l.account.wait(to); d > 0 {
			return nil, d
		}
		to.tokens--
		t.charged = true
	}
	from.tokens--
	return t, 0
}

func (t *Attempt) pair() string { return t.address + " " + t.account }

func (l *Limiter) knows(t *Attempt, now time.Time) bool {
	e := l.familiar.byKey[t.pair()]
	return e != nil && now.Sub(e.Value.(*bucket).at) < familiarFor
}

// Forgive gives back what an attempt took that was no wrong guess; success says
// that the password was right.
func (t *Attempt) Forgive(success bool, now time.Time) {
	l := t.l
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.address.at(t.address, now)
	from.tokens = min(l.address.burst, from.tokens+1)
	if t.charged {
		to := l.account.at(t.account, now)
		to.tokens = min(l.account.burst, to.tokens+1)
	}
	if success {
		l.familiar.at(t.pair(), now)
	}
}

// Network is what visitors are counted by: an IPv4 address, or the /64 that an
// IPv6 host has to itself.
func Network(remote string) string {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
