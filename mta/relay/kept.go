package relay

import (
	"context"
	"sync"
	"time"
)

// kept are connections that have just sent a message and may send the next: a TLS handshake costs more than a small
// message. Where a policy asked for a certain certificate they are not kept. The zero value is ready.
type kept struct {
	mu       sync.Mutex // guards sessions, and which of a session's timer and the next attempt has it
	sessions map[keptKey][]*session
	n        int
}

// keptKey names connections that are alike.
type keptKey struct {
	host, address string
	certified     bool
}

const (
	maxKept  = 100 // connections, in all
	maxAlike = 8   // of one key
	maxUses  = 50  // messages over one connection
)

// put keeps a connection for a short time, or takes leave of the server.
func (k *kept) put(key keptKey, s *session) {
	s.stop()
	k.mu.Lock()
	full := k.n >= maxKept || len(k.sessions[key]) >= maxAlike || s.uses >= maxUses
	if !full {
		if k.sessions == nil {
			k.sessions = map[keptKey][]*session{}
		}
		k.sessions[key] = append(k.sessions[key], s)
		k.n++
		s.expiry = time.AfterFunc(s.times.Idle, func() {
			if k.remove(key, s) {
				s.quit()
			}
		})
	}
	k.mu.Unlock()
	if full {
		s.quit()
	}
}

// remove takes a connection out and says whether it was there.
func (k *kept) remove(key keptKey, s *session) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, other := range k.sessions[key] {
		if other == s {
			k.drop(key, i)
			return true
		}
	}
	return false
}

// drop forgets the ith of a key. The caller holds the lock.
func (k *kept) drop(key keptKey, i int) {
	list := k.sessions[key]
	list[i] = list[len(list)-1]
	if k.sessions[key] = list[:len(list)-1]; len(list) == 1 {
		delete(k.sessions, key)
	}
	k.n--
}

// take returns a connection for another attempt, or nil. It may be dead: nobody knows before it is used.
func (k *kept) take(ctx context.Context, key keptKey, over time.Time) *session {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := k.sessions[key]
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	k.drop(key, len(list)-1)
	s.expiry.Stop()
	s.over, s.reusable = over, false
	s.paced.over = over
	s.stop = context.AfterFunc(ctx, func() { _ = s.raw.Close() })
	return s
}
