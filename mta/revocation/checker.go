// Package revocation asks certification authorities whether they revoked the
// certificates by which other providers sign (RFC 6109 §2.2.2: "verifying the CRL
// and temporal validity of the certificate").
//
// Each certificate of a chain but the root is looked up in the CRL that it names
// (RFC 5280 §6.3) or, if none can be had, with the OCSP responder that it names
// (RFC 6960). Answers are kept in memory until they are an hour old and are then
// asked for again; when nobody answers, the last one serves until its own
// nextUpdate. A source that failed is left in peace for a minute, so that a dead
// one does not hold up each message.
//
// What follows from [Unknown] is the caller's policy. Callers pass only chains that
// they verified up to a root they trust: a stranger must not choose what is asked.
package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// State is what is known of a chain.
type State int

const (
	// Unknown says that no source gave an answer that counts.
	Unknown State = iota
	// Good says that a valid answer about each certificate denies its revocation.
	Good
	// Revoked says that one of the certificates was revoked, or is on hold.
	Revoked
	// Unstated says that a certificate names no source, so that nobody can be asked.
	Unstated
)

// String returns the state in one word.
func (s State) String() string {
	switch s {
	case Good:
		return "good"
	case Revoked:
		return "revoked"
	case Unstated:
		return "unstated"
	}
	return "unknown"
}

// Status is the answer about a chain: that about the certificate which decided.
type Status struct {
	State  State
	Source string    // URL of the CRL or the responder
	Issued time.Time // thisUpdate of the answer
	Since  time.Time // of the revocation
	Err    error     // why it is Unknown
}

// String describes the status in one line, for a record.
func (s Status) String() string {
	text := s.State.String()
	if s.Source != "" {
		text += " (" + s.Source
		if !s.Issued.IsZero() {
			text += " of " + s.Issued.UTC().Format(time.RFC3339)
		}
		text += ")"
	}
	if !s.Since.IsZero() {
		text += " since " + s.Since.UTC().Format(time.RFC3339)
	}
	return text
}

const (
	refresh = time.Hour        // an older answer is asked for again
	pause   = time.Minute      // after a source failed
	skew    = 5 * time.Minute  // of a source's clock before ours
	most    = 4                // sources of a kind that are tried for one certificate
	keep    = 512              // answers that are kept
	timeout = 10 * time.Second // for one question
)

// Checker asks and remembers. Its methods may be called concurrently; one question
// is asked once at a time.
type Checker struct {
	client *http.Client

	mu      sync.Mutex
	entries map[string]*entry
}

// entry is what one source last said, about everything (a CRL) or about one
// certificate (OCSP).
type entry struct {
	mu     sync.Mutex // held while the source is asked
	answer answer     // nil: none yet
	asked  time.Time  // when answer came
	failed time.Time  // when the source last failed
	err    error      // how
}

// answer is a verified answer of a source.
type answer interface {
	// about tells of a certificate.
	about(cert *x509.Certificate) (state State, since time.Time)
	// validity is from thisUpdate to nextUpdate.
	validity() (from, to time.Time)
}

// New makes a checker. transport carries its questions, nil being the default one.
func New(transport http.RoundTripper) *Checker {
	return &Checker{entries: map[string]*entry{}, client: &http.Client{Transport: transport, Timeout: timeout,
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > 3 {
				return errors.New("too many redirections")
			}
			return nil
		}}}
}

// Check tells of a chain, the leaf first and the root last, at a time. The chain is
// Revoked if one of its certificates is, else as little known as the one of which
// least is known.
func (c *Checker) Check(ctx context.Context, chain []*x509.Certificate, at time.Time) Status {
	if len(chain) < 2 {
		return Status{State: Unstated, Err: errors.New("nobody issued the certificate")}
	}
	rank := func(s State) int { return slices.Index([]State{Good, Unstated, Unknown}, s) }
	var least Status // what is known of the certificate of which least is known
	for i, cert := range chain[:len(chain)-1] {
		s := c.certificate(ctx, cert, chain[i+1], at)
		if s.State == Revoked {
			return s
		}
		if i == 0 || rank(s.State) > rank(least.State) {
			least = s
		}
	}
	return least
}

// certificate asks about one certificate.
func (c *Checker) certificate(ctx context.Context, cert, issuer *x509.Certificate, at time.Time) Status {
	type source struct {
		url, key string
		ask      func(ctx context.Context, url string) (answer, error)
	}
	var all []source
	for _, u := range cert.CRLDistributionPoints[:min(most, len(cert.CRLDistributionPoints))] {
		all = append(all, source{u, "crl " + string(issuer.RawSubjectPublicKeyInfo) + u, func(ctx context.Context, u string) (answer, error) { return c.fetchCRL(ctx, u, issuer) }})
	}
	for _, u := range cert.OCSPServer[:min(most, len(cert.OCSPServer))] {
		all = append(all, source{u, "ocsp " + string(cert.Raw) + u, func(ctx context.Context, u string) (answer, error) { return c.fetchOCSP(ctx, u, cert, issuer, at) }})
	}
	if len(all) == 0 {
		return Status{State: Unstated, Err: fmt.Errorf("certificate %v names neither a CRL nor an OCSP responder", cert.SerialNumber)}
	}
	var errs []error
	for _, s := range all {
		a, err := c.entry(s.key).get(at, func() (answer, error) { return s.ask(ctx, s.url) })
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.url, err))
			continue
		}
		state, since := a.about(cert)
		if state == Unknown {
			errs = append(errs, fmt.Errorf("%s: knows nothing of certificate %v", s.url, cert.SerialNumber))
			continue
		}
		from, _ := a.validity()
		return Status{State: state, Source: s.url, Issued: from, Since: since}
	}
	return Status{State: Unknown, Source: all[0].url, Err: errors.Join(errs...)}
}

func (c *Checker) entry(key string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		if len(c.entries) >= keep {
			clear(c.entries)
		}
		e = &entry{}
		c.entries[key] = e
	}
	return e
}

// get returns a valid answer, asking if there is none, or an old one.
func (e *entry) get(at time.Time, ask func() (answer, error)) (answer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.answer != nil && at.Sub(e.asked) < refresh && covers(e.answer, at) {
		return e.answer, nil
	}
	if e.failed.IsZero() || at.Sub(e.failed) >= pause {
		a, err := ask()
		if err == nil && !covers(a, at) {
			from, to := a.validity()
			err = fmt.Errorf("its answer is valid from %s to %s", from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
		}
		if err == nil {
			e.answer, e.asked, e.failed, e.err = a, at, time.Time{}, nil
			return a, nil
		}
		e.failed, e.err = at, err
	}
	if e.answer != nil && covers(e.answer, at) {
		return e.answer, nil
	}
	return nil, e.err
}

// covers says whether an answer holds at a time.
func covers(a answer, at time.Time) bool {
	from, to := a.validity()
	return !at.Add(skew).Before(from) && at.Before(to)
}
