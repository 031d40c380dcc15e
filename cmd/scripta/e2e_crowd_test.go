package main

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// attempt is one time that a client tried to hand in a message. Its Message-ID
// is its own.
type attempt struct {
	letter
	rcpt  []string
	acked bool // 250 was read
}

// crowd is clients that hand in messages to providers which may be down, each
// until it got 250.
type crowd struct {
	write func(n, try int) *attempt      // the n-th message
	home  func(address string) *provider // of an author

	acked atomic.Int64

	mu       sync.Mutex // guards attempts
	attempts []*attempt
}

// reach waits until so many messages were answered 250.
func (s *crowd) reach(t *testing.T, n int64, finished <-chan struct{}) {
	eventually(t, 3*time.Minute, fmt.Sprintf("%d messages accepted", n), func() bool {
		select {
		case <-finished:
			return true
		default:
			return s.acked.Load() >= n
		}
	})
}

// client hands in messages until there are none left, each until it got 250.
func (s *crowd) client(t *testing.T, work <-chan int, stop <-chan struct{}) {
	var c *client
	hangUp := func() {
		if c != nil {
			_ = c.Close()
		}
		c = nil
	}
	defer hangUp()
	for n := range work {
		giveUp := time.After(3 * time.Minute)
		for try := 0; ; try++ {
			a := s.write(n, try)
			if c != nil && c.user != a.from {
				hangUp()
			}
			err := s.try(&c, a)
			if err == nil {
				break
			}
			hangUp()
			if strings.HasPrefix(refusal(err), "5") {
				t.Errorf("message %d: %v", n, err)
				return
			}
			select {
			case <-time.After(10 * time.Millisecond): // the daemon may be down
			case <-giveUp:
				t.Errorf("message %d: not accepted for three minutes, last because of %v", n, err)
				return
			case <-stop:
				return
			}
		}
	}
}

// try hands a message in, once. An attempt that got as far as a connection is
// remembered.
func (s *crowd) try(c **client, a *attempt) (err error) {
	if *c == nil {
		local, _, _ := strings.Cut(a.from, "@")
		if *c, err = s.home(a.from).login(local); err != nil {
			return err
		}
	}
	err = (*c).submit(a.from, a.rcpt, a.String())
	a.acked = err == nil
	s.mu.Lock()
	s.attempts = append(s.attempts, a)
	s.mu.Unlock()
	if err == nil {
		s.acked.Add(1)
	}
	return err
}
