package rates

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// MaxState is the longest state that is read, bytes: of every key that can be kept.
const MaxState = 128 << 20

// state is what outlives the process, as JSON.
type state struct {
	Version    int                `json:"version"`
	Messages   map[string]history `json:"messages,omitempty"`
	Recipients map[string]history `json:"recipients,omitempty"`
	Infected   map[string]history `json:"infected,omitempty"`
	Known      map[string]history `json:"known,omitempty"`
}

// history is one key's counts: of the part Last, of the one before, and so on.
type history struct {
	Last int64   `json:"last"`
	N    []int64 `json:"n"`
}

const stateVersion = 1

// windows are those that outlive the process, with their place in a state.
func (l *Limiter) windows(s *state) map[*window]*map[string]history {
	return map[*window]*map[string]history{l.messages: &s.Messages, l.recipients: &s.Recipients, l.infected: &s.Infected, l.known: &s.Known}
}

// State returns what is to be kept, and whether it changed since the last call.
// What no longer counts is left out.
func (l *Limiter) State(now time.Time) (b []byte, changed bool, err error) {
	l.mu.Lock()
	s := state{Version: stateVersion}
	for w, to := range l.windows(&s) {
		*to = w.histories(now)
	}
	changed, l.changed = l.changed, false
	l.mu.Unlock()
	b, err = json.Marshal(s)
	return b, changed, err
}

// histories is in no order: which key was used last is not kept.
func (w *window) histories(now time.Time) map[string]history {
	all := make(map[string]history, len(w.byKey))
	for key := range w.byKey {
		c := w.at(key, now, false)
		h := history{Last: c.last}
		for i := c.last; i >= c.last-parts; i-- {
			h.N = append(h.N, c.n[i%int64(len(c.n))])
		}
		for len(h.N) > 0 && h.N[len(h.N)-1] == 0 {
			h.N = h.N[:len(h.N)-1]
		}
		if len(h.N) > 0 {
			all[key] = h
		}
	}
	return all
}

// Restore reads a state that State returned, in place of what was counted. With an
// error nothing changes, and whoever calls it may go on with a limiter that has
// seen nothing.
func (l *Limiter) Restore(r io.Reader, now time.Time) error {
	b, err := io.ReadAll(io.LimitReader(r, MaxState+1))
	if err != nil {
		return fmt.Errorf("couldn't read the counts of the limits: %w", err)
	}
	var s state
	switch err := json.Unmarshal(b, &s); {
	case len(b) > MaxState:
		return errors.New("couldn't read the counts of the limits: too long")
	case err != nil:
		return fmt.Errorf("couldn't read the counts of the limits: %w", err)
	case s.Version != stateVersion:
		return fmt.Errorf("couldn't read the counts of the limits: version %d", s.Version)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for w, from := range l.windows(&s) {
		for key, h := range *from {
			if len(h.N) > parts+1 || len(key) > 320 || h.Last < parts || h.Last > w.number(now)+parts {
				return fmt.Errorf("couldn't read the counts of the limits: those of %.100q are impossible", key)
			}
			for _, n := range h.N {
				if n < 0 || n > 1<<40 {
					return fmt.Errorf("couldn't read the counts of the limits: those of %.100q are impossible", key)
				}
			}
		}
	}
	for w, from := range l.windows(&s) {
		w.restore(*from, now)
	}
	return nil
}

func (w *window) restore(all map[string]history, now time.Time) {
	clear(w.byKey)
	w.order.Init()
	for key, h := range all {
		c := &counts{key: key, last: h.Last}
		for i, n := range h.N {
			c.n[(h.Last-int64(i))%int64(len(c.n))] = n
		}
		c.advance(w.number(now))
		w.put(c)
	}
}
