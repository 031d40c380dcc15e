package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/mta/pec"
)

// sighting is a message in a mailbox, as its holder sees it: what of it must be
// there exactly once.
type sighting struct {
	box  string // address
	what string // value of X-Ricevuta or X-Trasporto, and what tells its forms apart
	id   string // Message-ID that the author gave
	who  string // recipient, where it is about one
}

func (s sighting) String() string {
	text := fmt.Sprintf("%s: %s about %s", s.box, s.what, s.id)
	if s.who != "" {
		text += " to " + s.who
	}
	return text
}

// ledger counts sightings.
type ledger map[sighting]int

// sighted returns what the holder of a box sees in a message. A take-charge is
// about every recipient that it names: a provider may take them in charge in one
// transaction or in two.
func (m *mail) sighted(box string) []sighting {
	s := sighting{box: box, what: m.Kind.String(), id: m.MessageID}
	c := m.Certification
	if c == nil {
		return []sighting{s}
	}
	s.id, s.who = c.OriginalID, strings.ToLower(c.Recipient)
	switch m.Kind {
	case pec.TakeCharge:
		var all []sighting
		for _, r := range c.Taken {
			s.who = strings.ToLower(r)
			all = append(all, s)
		}
		return all
	case pec.Delivery:
		form := c.ReceiptType
		if m.Original == nil {
			form = pec.Concise
		}
		s.what += " " + form.String()
	case pec.NonDelivery, pec.DelayNotice:
		code, _, _ := strings.Cut(c.Detail, " ")
		s.what += " " + code
	}
	if c.Error == pec.Virus {
		s.what += " virus"
	}
	return []sighting{s}
}

// sightings reads every mailbox of the provider.
func (p *provider) sightings(t *testing.T, into ledger) {
	t.Helper()
	boxes, err := filepath.Glob(filepath.Join(p.dir.Mail(), p.domain, "*", "new"))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range boxes {
		box := p.address(filepath.Base(filepath.Dir(folder)))
		entries, err := os.ReadDir(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			for _, s := range p.mail(t, filepath.Join(folder, e.Name())).sighted(box) {
				into[s]++
			}
		}
	}
}

// missing returns what is seldomer in found than it must be.
func (l ledger) missing(found ledger) (all []string) {
	for s, n := range l {
		if found[s] < n {
			all = append(all, fmt.Sprintf("%v: seen %d times, want %d", s, found[s], n))
		}
	}
	slices.Sort(all)
	return all
}

// beyond returns what is in found more often than it may be.
func (l ledger) beyond(found ledger) (all []string) {
	for s, n := range found {
		if n > l[s] {
			all = append(all, fmt.Sprintf("%v: seen %d times, want %d", s, n, l[s]))
		}
	}
	slices.Sort(all)
	return all
}

// settle waits until every mailbox of both providers holds what it must, and
// checks that none holds more when nothing is under way.
func (l ledger) settle(t *testing.T, long time.Duration, d *duo) {
	t.Helper()
	l.await(t, long, d)
	d.quiet(t, long)
	l.compare(t, "in the mailboxes", d.sightings(t))
}

// compare reports what was found more or less often than it must be.
func (l ledger) compare(t *testing.T, where string, found ledger) {
	t.Helper()
	const most = 40
	wrong := append(l.missing(found), l.beyond(found)...)
	for _, w := range wrong[:min(len(wrong), most)] {
		t.Errorf("%s: %s", where, w)
	}
	if len(wrong) > most {
		t.Errorf("%s: %d more are wrong", where, len(wrong)-most)
	}
}

// await waits until every mailbox of both providers holds what it must.
func (l ledger) await(t *testing.T, long time.Duration, d *duo) {
	t.Helper()
	deadline := time.NewTimer(long)
	defer deadline.Stop()
	for {
		began := time.Now()
		missing := l.missing(d.sightings(t))
		if len(missing) == 0 {
			return
		}
		select {
		case <-time.After(max(10*time.Millisecond, 4*time.Since(began))): // reading a thousand mailboxes is work
		case <-deadline.C:
			const most = 30
			n := len(missing)
			t.Fatalf("waited %v in vain for %d sightings:\n%s", long, n, strings.Join(missing[:min(n, most)], "\n"))
		}
	}
}

// sightings reads every mailbox of both providers.
func (d *duo) sightings(t *testing.T) ledger {
	t.Helper()
	found := ledger{}
	d.a.sightings(t, found)
	d.b.sightings(t, found)
	return found
}

// add puts in what must be seen.
func (l ledger) add(more ...sighting) {
	for _, s := range more {
		l[s]++
	}
}
