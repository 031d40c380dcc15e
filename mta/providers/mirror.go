package providers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"scripta/internal/durable"
	"scripta/mta/providers/ldif"
)

// Options say what a mirror is made of.
type Options struct {
	Own    []*Provider // this provider's own records, which nothing overrides
	Source Source      // nil: nobody else is known
	Trust  *Trust      // of a source whose files are signed
	Dir    string      // of the last good copy
	FS     durable.FS

	// MaxShrink is how many percent of the providers, or of the domains, may be
	// gone at once without a person's word; 100 = all.
	MaxShrink int
	// WarnAfter is how old the newest check may be before it is a warning.
	WarnAfter time.Duration
	Now       func() (time.Time, error)
	// Record makes a change durable in the log before it is used; nil: nobody does.
	Record func(context.Context, *Update) error
	Logger *slog.Logger
}

// Update tells of one look at the source.
type Update struct {
	At          time.Time
	Changed     bool   // the index is another one now
	Source      string // where it came from
	File        string // SHA-256 of what was fetched, hexadecimal
	Index       string // digest of the directory in it, hexadecimal: [Directory.Digest]
	Signer      string // subject of who signed; empty without a signature
	Certificate string // SHA-256 of the signer's certificate
	SigningTime time.Time
	Providers   int // records
	Domains     int
	Added       []string // names of records that came
	Gone        []string // and of those that went
	Accepted    bool     // a person accepted what would have been refused
	Faults      []string // what was left out, and what is wrong about our own record
}

// RefusedError is a directory that is signed as it must be, and yet looks wrong:
// older than what we have, or with far less in it. The copy that we have stays.
type RefusedError struct {
	Index  string // its digest, by which a person can accept it
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the new directory of providers is refused: %s. If it is right nevertheless: scripta index accept --digest %s", e.Reason, e.Index)
}

// Mirror keeps the current index: our own records, and a copy of everybody's that
// is renewed daily (RFC 6109 §4.5). What cannot be renewed stays as it is.
type Mirror struct {
	o       Options
	current atomic.Pointer[Index]

	// refreshing is held for the whole of a refresh, so that what is stored, what
	// is recorded and what is used are of one copy.
	refreshing sync.Mutex

	mu        sync.Mutex // guards what follows; only a refresh changes it
	copy      *stored    // nil: none yet
	directory *Directory // of the copy
	faults    []string
	trouble   error // of the last refresh; nil if it went well
	failures  uint64
}

// Open makes a mirror and takes up the last good copy. A copy that is damaged, or
// that the present configuration would not trust, is not used, and says so in the
// log and in [Mirror.Health]; the error is that of a disk that cannot be read.
func Open(o Options) (*Mirror, error) {
	m := &Mirror{o: o}
	m.use(nil, nil, nil)
	if o.Source == nil {
		return m, nil
	}
	s, data, err := m.copies().load()
	if errors.Is(err, errDamaged) {
		o.Logger.Error("the last good copy of the directory of providers is not used: it is fetched again", "err", err)
		m.trouble = err
		return m, nil
	} else if err != nil || s == nil {
		return m, err
	}
	d, faults, _, err := m.read(data, s.Signed, s.Taken)
	if err == nil && s.Signed != o.Source.Signed() {
		err = errors.New("it came from a source of another kind than index.source")
	}
	if err != nil {
		o.Logger.Error("the last good copy of the directory of providers is not used", "err", err)
		m.trouble = fmt.Errorf("the last good copy is not used: %w", err)
		return m, nil
	}
	m.use(s, d, faults)
	return m, nil
}

func (m *Mirror) copies() copies { return copies{m.o.FS, m.o.Dir} }

// Index returns the current index. It is never nil.
func (m *Mirror) Index() *Index { return m.current.Load() }

// read verifies what a source gave, and reads it.
func (m *Mirror) read(data []byte, signed bool, at time.Time) (*Directory, []*ldif.Fault, *Signature, error) {
	var signature *Signature
	if signed {
		if m.o.Trust == nil {
			return nil, nil, nil, errors.New("it is signed, and nobody's signature is trusted")
		}
		var err error
		if data, signature, err = m.o.Trust.Open(data, at); err != nil {
			return nil, nil, nil, err
		}
	}
	entries, faults, err := ldif.Parse(data, ldif.DefaultLimits())
	if err != nil {
		return nil, nil, nil, err
	}
	d, more := Read(entries)
	return d, append(faults, more...), signature, nil
}

// use makes a directory the current one. The caller holds refreshing, or nobody
// else has the mirror yet.
func (m *Mirror) use(s *stored, d *Directory, faults []*ldif.Fault) {
	entries, notes := m.merge(d)
	for i, f := range faults {
		if i == maxFaults {
			notes = append(notes, fmt.Sprintf("%d more records or values are wrong", len(faults)-i))
			break
		}
		notes = append(notes, f.Error())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.copy, m.directory, m.faults = s, d, notes
	m.current.Store(New(entries...))
}

// maxFaults is how many faults are told of by name.
const maxFaults = 100

// merge puts our own records before those of the directory, and tells in what the
// directory contradicts them. A record of ours that others hold is theirs to
// believe; for us the configuration counts.
func (m *Mirror) merge(d *Directory) (entries []*Provider, notes []string) {
	entries = slices.Clone(m.o.Own)
	if d == nil {
		return entries, nil
	}
	for _, own := range m.o.Own {
		if !slices.ContainsFunc(d.Providers, func(p *Provider) bool { return same(p, own) }) {
			notes = append(notes, fmt.Sprintf("the directory has no record of %s: other providers do not know us; scripta index export writes it", own))
		}
	}
	for _, p := range d.Providers {
		i := slices.IndexFunc(m.o.Own, func(own *Provider) bool { return same(p, own) })
		if i >= 0 {
			notes = append(notes, contradictions(p, m.o.Own[i])...)
			continue
		}
		for _, own := range m.o.Own {
			for _, x := range own.Domains {
				if slices.Contains(p.Domains, x) {
					notes = append(notes, fmt.Sprintf("%s claims our domain %s in the directory: tell who keeps it", p, x))
				}
			}
		}
		entries = append(entries, p)
	}
	return entries, notes
}

func same(a, b *Provider) bool {
	return strings.EqualFold(a.Name, b.Name) && strings.EqualFold(a.Unit, b.Unit)
}

// contradictions compares the directory's record of us with ours.
func contradictions(theirs, own *Provider) (notes []string) {
	if !strings.EqualFold(theirs.ServiceAddress, own.ServiceAddress) {
		notes = append(notes, fmt.Sprintf("the directory says that our mailReceipt is %s; it is %s", theirs.ServiceAddress, own.ServiceAddress))
	}
	for _, x := range own.Domains {
		if !slices.Contains(theirs.Domains, x) {
			notes = append(notes, fmt.Sprintf("the directory does not say that we manage %s: its mail is ordinary for other providers", x))
		}
	}
	for _, x := range theirs.Domains {
		if !slices.Contains(own.Domains, x) {
			notes = append(notes, fmt.Sprintf("the directory says that we manage %s, which is not ours here", x))
		}
	}
	if len(own.Certificates) > 0 && !theirs.Signs(own.Certificates[0]) {
		notes = append(notes, fmt.Sprintf("the directory does not have the certificate that we sign with (SHA-1 %s): other providers refuse our messages", Hash(own.Certificates[0])))
	}
	return notes
}

// Refresh asks the source once and takes what it has. accept is the digest of a
// directory that a person accepts although it looks wrong; "" accepts none. The
// error is also kept for [Mirror.Health].
//
// The order of its steps: the change is recorded; the copy is stored; it is used.
// A crash between the first two leaves a record of a change that the next refresh
// makes, and records, again.
func (m *Mirror) Refresh(ctx context.Context, accept string) (*Update, error) {
	m.refreshing.Lock()
	defer m.refreshing.Unlock()
	u, err := m.refresh(ctx, strings.ToLower(accept))
	if ctx.Err() != nil && err != nil {
		return nil, err // stopped: says nothing about the source
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble = err
	if err != nil {
		m.failures++
	}
	return u, err
}

// errNoSource says that there is nothing to refresh.
var errNoSource = errors.New("index.source is empty: no other provider is known; see docs/operating.md")

func (m *Mirror) refresh(ctx context.Context, accept string) (*Update, error) {
	if m.o.Source == nil {
		return nil, errNoSource
	}
	last, old := m.copy, m.directory
	var validators Validators
	if last != nil && last.Source == m.o.Source.String() {
		validators = last.Validators
	}
	content, err := m.o.Source.Fetch(ctx, validators)
	now, clockErr := m.o.Now()
	if clockErr != nil {
		return nil, clockErr
	}
	now = now.UTC()
	if errors.Is(err, ErrUnchanged) && last != nil {
		next := *last
		next.Checked = now
		if err := m.copies().save(&next, nil); err != nil {
			return nil, err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.copy = &next
		return m.unchanged(&next, old), nil
	} else if err != nil {
		return nil, err
	}
	signed := m.o.Source.Signed()
	d, faults, signature, err := m.read(content.Data, signed, now)
	if err != nil {
		return nil, err
	}
	if signature != nil {
		if err := m.o.Trust.checkRevocation(ctx, signature, now); err != nil {
			return nil, err
		}
	}
	file, index := sha256.Sum256(content.Data), d.Digest()
	next := &stored{Source: m.o.Source.String(), Signed: signed, File: hex.EncodeToString(file[:]), Size: len(content.Data), Validators: content.Validators,
		Index: hex.EncodeToString(index[:]), Taken: now, Checked: now}
	u := &Update{At: now, Source: next.Source, File: next.File, Index: next.Index, Providers: len(d.Providers), Domains: d.Domains()}
	if signature != nil {
		sum := sha256.Sum256(signature.Certificate.Raw)
		next.SigningTime, next.Signer = signature.Time.UTC(), signature.Certificate.Subject.String()
		u.Signer, u.Certificate, u.SigningTime = next.Signer, hex.EncodeToString(sum[:]), next.SigningTime
	}
	if reason := m.suspicion(last, old, next, d); reason != "" {
		if accept != next.Index {
			return nil, &RefusedError{next.Index, reason}
		}
		u.Accepted = true
	}
	u.Added, u.Gone = differences(old, d)
	u.Changed = last == nil || last.Index != next.Index
	if u.Changed && m.o.Record != nil {
		if err := m.o.Record(ctx, u); err != nil {
			return nil, fmt.Errorf("the new directory of providers could not be recorded: %w", err)
		}
	}
	data := content.Data
	if last != nil && last.File == next.File {
		data = nil
	}
	if err := m.copies().save(next, data); err != nil {
		return nil, err
	}
	m.use(next, d, faults)
	u.Faults = m.Faults()
	return u, nil
}

// unchanged tells of a source that has what it had. The caller holds mu.
func (m *Mirror) unchanged(s *stored, d *Directory) *Update {
	return &Update{At: s.Checked, Source: s.Source, File: s.File, Index: s.Index, Signer: s.Signer, SigningTime: s.SigningTime,
		Providers: len(d.Providers), Domains: d.Domains(), Faults: m.faults}
}

// suspicion says why a directory that is signed as it must be looks wrong, or "".
func (m *Mirror) suspicion(last *stored, old *Directory, next *stored, d *Directory) string {
	if len(d.Providers) == 0 {
		return "no provider's record in it can be read"
	}
	if last == nil {
		return ""
	}
	if last.Signed && next.Signed && next.SigningTime.Before(last.SigningTime) {
		return fmt.Sprintf("it was signed on %s, before the one that we have (%s): somebody gives out an old one", next.SigningTime.Format(time.RFC3339), last.SigningTime.Format(time.RFC3339))
	}
	_, gone := differences(old, d)
	if tooMany(len(gone), len(old.Providers), m.o.MaxShrink) {
		return fmt.Sprintf("%d of %d records are gone, more than index.max_shrink allows (%d %%)", len(gone), len(old.Providers), m.o.MaxShrink)
	}
	have := map[string]bool{}
	for _, p := range d.Providers {
		for _, x := range p.Domains {
			have[x] = true
		}
	}
	lost, all := 0, 0
	for _, p := range old.Providers {
		for _, x := range p.Domains {
			all++
			if !have[x] {
				lost++
			}
		}
	}
	if tooMany(lost, all, m.o.MaxShrink) {
		return fmt.Sprintf("%d of %d domains are gone, more than index.max_shrink allows (%d %%)", lost, all, m.o.MaxShrink)
	}
	return ""
}

func tooMany(gone, of, percent int) bool { return gone*100 > of*percent }

// differences are the names of records that came and went.
func differences(old, d *Directory) (added, gone []string) {
	names := func(d *Directory) map[string]bool {
		all := map[string]bool{}
		if d != nil {
			for _, p := range d.Providers {
				all[p.String()] = true
			}
		}
		return all
	}
	before, after := names(old), names(d)
	for n := range after {
		if !before[n] {
			added = append(added, n)
		}
	}
	for n := range before {
		if !after[n] {
			gone = append(gone, n)
		}
	}
	slices.Sort(added)
	slices.Sort(gone)
	return added, gone
}

// A refresh that failed is tried again after firstRetry, then twice as long, and
// so on up to lastRetry.
const (
	firstRetry = time.Minute
	lastRetry  = time.Hour
)

// Run refreshes now and then every interval, until ctx ends. Providers that were
// started at one time do not ask at one time for ever: up to a tenth of the
// interval is left to chance.
func (m *Mirror) Run(ctx context.Context, interval time.Duration) {
	if m.o.Source == nil {
		return
	}
	retry := min(firstRetry, interval)
	for {
		wait := interval - rand.N(interval/10+1)
		u, err := m.Refresh(ctx, "")
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			m.o.Logger.Warn("the directory of providers was not renewed; the last good copy stays", "source", m.o.Source.String(), "err", err, "again in", retry)
			wait, retry = retry, min(2*retry, lastRetry, interval)
		default:
			retry = min(firstRetry, interval)
			m.o.Logger.Info("the directory of providers was renewed", "changed", u.Changed, "providers", u.Providers, "domains", u.Domains, "faults", len(u.Faults), "index", u.Index)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}
