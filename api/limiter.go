package api

import (
	"container/list"
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
	addressBurst   = 20
	addressRefill  = 6 * time.Second
	accountBurst   = 50
	accountRefill  = 6 * time.Second
	familiarFor    = 24 * time.Hour
	limiterEntries = 1 << 16 // of each kind
)

// logins slows down those who try passwords, by the address they come from and
// by the account they try. A token is taken before a password is checked and
// given back when it was right, so that many tries at once are bounded too.
//
// Many addresses together may use up an account's tokens. Its holder is not
// locked out by it where he logged in before: an address from which a login to
// the account succeeded within a day is spared the account's limit.
type logins struct {
	mu       sync.Mutex // guards the rest
	address  *buckets
	account  *buckets
	familiar *buckets // by address and account; at is the last success
}

func newLogins() *logins {
	return &logins{address: newBuckets(addressBurst, addressRefill, limiterEntries), account: newBuckets(accountBurst, accountRefill, limiterEntries),
		familiar: newBuckets(1, familiarFor, limiterEntries)}
}

// attempt is one password being checked.
type attempt struct {
	l                *logins
	address, account string
	charged          bool // the account's bucket, too
}

// begin admits an attempt, or says how long to wait.
func (l *logins) begin(address, account string, now time.Time) (*attempt, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.address.at(address, now)
	if d := l.address.wait(from); d > 0 {
		return nil, d
	}
	t := &attempt{l: l, address: address, account: account}
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

func (t *attempt) pair() string { return t.address + " " + t.account }

func (l *logins) knows(t *attempt, now time.Time) bool {
	e := l.familiar.byKey[t.pair()]
	return e != nil && now.Sub(e.Value.(*bucket).at) < familiarFor
}

// forgive gives back what an attempt took that was no wrong guess; success says
// that the password was right.
func (t *attempt) forgive(success bool, now time.Time) {
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

// inFlight bounds what is being done at once for each key.
type inFlight struct {
	most int

	mu sync.Mutex // guards n
	n  map[string]int
}

func newInFlight(most int) *inFlight { return &inFlight{most: most, n: map[string]int{}} }

func (f *inFlight) enter(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n[key] >= f.most {
		return false
	}
	f.n[key]++
	return true
}

func (f *inFlight) leave(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n[key]--; f.n[key] == 0 {
		delete(f.n, key)
	}
}
