package rates

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"scripta/internal/logins"
)

// Limits of what is done in a time. Zero means that there is none.
type Limits struct {
	MessagesPerHour       int // of one account
	RecipientsPerDay      int // of one account, in 24 hours; each message counts all of its own
	InfectedPerDay        int // of one account, in 24 hours; see Limiter.Infected
	ConnectionsPerMinute  int // from one address, to port 25
	TransactionsPerMinute int // from one address, on port 25
	// Exempt are networks without the two limits on addresses.
	Exempt []netip.Prefix
}

// Names of the limits, as metrics and the configuration have them.
const (
	MessagesPerHour       = "messages_per_hour"
	RecipientsPerDay      = "recipients_per_day"
	ConnectionsPerMinute  = "connections_per_minute"
	TransactionsPerMinute = "transactions_per_minute"
)

// Names returns the names of the limits that put something off.
func Names() []string {
	return []string{MessagesPerHour, RecipientsPerDay, ConnectionsPerMinute, TransactionsPerMinute}
}

const (
	keysOfAccounts  = 1 << 17
	keysOfAddresses = 1 << 16
	// knownFor is how long an address counts as a provider's after a message
	// that only a provider can have sent came from it.
	knownFor = 24 * time.Hour
)

// Excess is the error of what is over a limit.
type Excess struct {
	Limit string        // which: one of the names
	Wait  time.Duration // until it would fit
}

// Error says which limit, and until when.
func (e *Excess) Error() string {
	return fmt.Sprintf("over limits.%s for another %v", e.Limit, e.Wait.Round(time.Second))
}

// Limiter counts. Its methods may be called concurrently.
type Limiter struct {
	exempt []netip.Prefix
	hits   [4]atomic.Uint64 // in the order of Names

	mu           sync.Mutex // guards the rest
	changed      bool       // what State returns
	messages     *window
	recipients   *window
	infected     *window
	connections  *window
	transactions *window
	known        *window // messages of providers by address; its limit is never asked
}

// New makes a limiter that has seen nothing.
func New(l Limits) *Limiter {
	const day = 24 * time.Hour
	return &Limiter{exempt: l.Exempt,
		messages:     newWindow(int64(l.MessagesPerHour), time.Hour, keysOfAccounts),
		recipients:   newWindow(int64(l.RecipientsPerDay), day, keysOfAccounts),
		infected:     newWindow(int64(l.InfectedPerDay), day, keysOfAccounts),
		connections:  newWindow(int64(l.ConnectionsPerMinute), time.Minute, keysOfAddresses),
		transactions: newWindow(int64(l.TransactionsPerMinute), time.Minute, keysOfAddresses),
		known:        newWindow(1, knownFor, keysOfAddresses),
	}
}

// over counts a hit. The caller holds the lock.
func (l *Limiter) over(limit string, wait time.Duration) *Excess {
	for i, name := range Names() {
		if name == limit {
			l.hits[i].Add(1)
		}
	}
	return &Excess{limit, wait}
}

// Hits is how often a limit put something off.
func (l *Limiter) Hits(limit string) uint64 {
	for i, name := range Names() {
		if name == limit {
			return l.hits[i].Load()
		}
	}
	return 0
}

// Grant is what a message took of its account's limits.
type Grant struct {
	l          *Limiter
	account    string
	recipients int64
}

// Message takes one message to so many recipients, or returns an *Excess and takes
// nothing. A message that could never fit, because it alone has more recipients
// than a day may have, counts as a day's: it is for other limits to refuse it.
func (l *Limiter) Message(account string, recipients int, now time.Time) (*Grant, error) {
	account = strings.ToLower(account)
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int64(recipients)
	if l.recipients.limit > 0 {
		n = min(n, l.recipients.limit)
	}
	if d := l.messages.wait(account, 1, now); d > 0 {
		return nil, l.over(MessagesPerHour, d)
	}
	if d := l.recipients.wait(account, n, now); d > 0 {
		return nil, l.over(RecipientsPerDay, d)
	}
	l.messages.add(account, 1, now)
	l.recipients.add(account, n, now)
	l.changed = true
	return &Grant{l, account, n}, nil
}

// Refund gives back what a message took that was not accepted in the end.
func (g *Grant) Refund(now time.Time) {
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	g.l.messages.add(g.account, -1, now)
	g.l.recipients.add(g.account, -g.recipients, now)
}

// Begin tells, before a message comes, that its account has no more to send for
// now: an *Excess. It takes nothing.
func (l *Limiter) Begin(account string, now time.Time) error {
	account = strings.ToLower(account)
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.messages.wait(account, 1, now); d > 0 {
		return l.over(MessagesPerHour, d)
	}
	if d := l.recipients.wait(account, 1, now); d > 0 {
		return l.over(RecipientsPerDay, d)
	}
	return nil
}

// Infected counts an infected message that an account handed in, and says whether
// it has now reached the number at which its sending should be suspended.
func (l *Limiter) Infected(account string, now time.Time) (suspend bool) {
	account = strings.ToLower(account)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.infected.limit == 0 {
		return false
	}
	l.infected.add(account, 1, now)
	l.changed = true
	return l.infected.at(account, now, true).sum() >= l.infected.limit
}

// Pardon forgets the infected messages of an account whose suspension is lifted.
func (l *Limiter) Pardon(account string) {
	account = strings.ToLower(account)
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.infected.byKey[account]; e != nil {
		l.infected.order.Remove(e)
		delete(l.infected.byKey, account)
		l.changed = true
	}
}

// Connection counts a connection from a remote address and port to port 25, or
// returns an *Excess.
func (l *Limiter) Connection(remote string, now time.Time) error {
	return l.visit(l.connections, ConnectionsPerMinute, remote, now)
}

// Transaction counts a transaction (MAIL FROM) likewise.
func (l *Limiter) Transaction(remote string, now time.Time) error {
	return l.visit(l.transactions, TransactionsPerMinute, remote, now)
}

// Provider notes that a message which only a provider of the index can have sent
// came from an address: for a day the limits on addresses do not bind it. Who comes
// to port 25 shows by nothing else who he is, and only after his message.
func (l *Limiter) Provider(remote string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known.add(logins.Network(remote), 1, now)
	l.changed = true
}

func (l *Limiter) visit(w *window, limit, remote string, now time.Time) error {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		for _, p := range l.exempt {
			if p.Contains(ap.Addr().Unmap().WithZone("")) {
				return nil
			}
		}
	}
	from := logins.Network(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.known.at(from, now, false); c != nil && c.sum() > 0 {
		return nil
	}
	if d := w.wait(from, 1, now); d > 0 {
		return l.over(limit, d)
	}
	w.add(from, 1, now)
	return nil
}
