package witness

import (
	"hash/maphash"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// defaultPerAddress is how many requests a second an address may make, and
	// defaultPerLog how many new checkpoints of one log are taken a second, each of
	// which costs a write; logs publish once a second.
	defaultPerAddress = 20
	defaultPerLog     = 5
	// burstSeconds is for how long a burst may make more of them.
	burstSeconds = 5
	// addressBuckets bounds the memory: addresses share them by their hash.
	addressBuckets = 4096
)

// bucket holds tokens that come back with time.
type bucket struct {
	tokens float64
	at     time.Time // of the last take; zero: never
}

// take takes a token if there is one.
func (b *bucket) take(now time.Time, perSecond, most float64) bool {
	if b.at.IsZero() {
		b.tokens = most
	} else if d := now.Sub(b.at); d > 0 {
		b.tokens = min(most, b.tokens+d.Seconds()*perSecond)
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// addresses slows down each address that asks.
type addresses struct {
	perSecond float64
	seed      maphash.Seed

	mu      sync.Mutex // guards buckets
	buckets [addressBuckets]bucket
}

// take says whether a request from an address ("host:port") may be answered. An
// IPv6 address counts as its network of 64 bits, which one customer has.
func (a *addresses) take(remote string, now time.Time) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().Is6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			host = p.String()
		}
	}
	i := maphash.String(a.seed, host) % addressBuckets
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.buckets[i].take(now, a.perSecond, a.perSecond*burstSeconds)
}
