package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Rspamd scores ordinary mail by rspamd (POST /checkv2). It may be used
// concurrently.
type Rspamd struct {
	URL     string        // "http://host:port"
	Timeout time.Duration // for one message
	HTTP    *http.Client  // nil: one that goes through no proxy

	last atomic.Pointer[error] // of the last question; nil before, and when it was answered
}

// Err is why the last question was not answered; nil when it was, or none was
// asked.
func (c *Rspamd) Err() error {
	if err := c.last.Load(); err != nil {
		return *err
	}
	return nil
}

// Mail is what rspamd is told of a message besides its octets.
type Mail struct {
	Body       io.Reader
	Size       int64
	From       string // reverse path; "" is the null one
	Recipients []string
	Peer       string // address and port, or address, of the client
	Helo       string
}

// Spam is rspamd's judgement.
type Spam struct {
	Score    float64  // the more, the more it looks like spam
	Required float64  // at which rspamd itself would reject
	Action   string   // what it would do: "no action", "reject"…
	Symbols  []string // what it goes by, sorted; at most 64
}

// ErrNoScore says that rspamd did not answer, or what it says cannot be
// understood.
var ErrNoScore = errors.New("scan: no answer from rspamd: see that it runs, and where [scan] rspamd says")

const (
	maxSpamReply = 1 << 20 // octets of rspamd's answer
	maxSymbols   = 64
	maxSymbol    = 64 // octets of a symbol's name
)

// Check has a message scored. An error of m.Body is told as [ErrNoScore], too.
func (c *Rspamd) Check(ctx context.Context, m Mail) (*Spam, error) {
	s, err := c.check(ctx, m)
	c.last.Store(nil)
	if err != nil {
		c.last.Store(&err)
	}
	return s, err
}

func (c *Rspamd) check(ctx context.Context, m Mail) (*Spam, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+"/checkv2", io.NopCloser(m.Body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoScore, err)
	}
	req.ContentLength = m.Size
	set := func(name, value string) {
		if value != "" && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			req.Header.Add(name, value)
		}
	}
	set("From", m.From)
	set("Helo", m.Helo)
	if at, err := netip.ParseAddrPort(m.Peer); err == nil {
		set("IP", at.Addr().Unmap().String())
	} else if at, err := netip.ParseAddr(m.Peer); err == nil {
		set("IP", at.Unmap().String())
	}
	for _, r := range m.Recipients {
		set("Rcpt", r)
	}
	client := c.HTTP
	if client == nil {
		client = direct
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoScore, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxSpamReply+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoScore, err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: it answers %s", ErrNoScore, resp.Status)
	case len(b) > maxSpamReply:
		return nil, fmt.Errorf("%w: its answer is longer than %d octets", ErrNoScore, maxSpamReply)
	}
	return parseSpam(b)
}

// direct goes through no proxy: messages are for nobody else.
var direct = &http.Client{Transport: &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute}}

// parseSpam reads rspamd's answer.
func parseSpam(b []byte) (*Spam, error) {
	var a struct {
		Score    *float64            `json:"score"`
		Required float64             `json:"required_score"`
		Action   string              `json:"action"`
		Symbols  map[string]struct{} `json:"symbols"`
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("%w: its answer cannot be read: %w", ErrNoScore, err)
	}
	if a.Score == nil || math.Abs(*a.Score) > 1e6 || math.Abs(a.Required) > 1e6 {
		return nil, fmt.Errorf("%w: it gives no score", ErrNoScore)
	}
	s := &Spam{Score: *a.Score, Required: a.Required, Action: cleanWord(a.Action)}
	for name := range a.Symbols {
		s.Symbols = append(s.Symbols, cleanWord(name))
	}
	slices.Sort(s.Symbols)
	s.Symbols = s.Symbols[:min(len(s.Symbols), maxSymbols)]
	return s, nil
}

// cleanWord makes a name fit for a header and a record.
func cleanWord(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`"<>[](),;:\`, r) {
			return '_'
		}
		return r
	}, s)
	return s[:min(len(s), maxSymbol)]
}
