package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/mta/pec"
)

// Killed at any moment and restarted, the provider loses nothing that it has
// answered 250 to and does nothing twice.
func TestKill(t *testing.T) {
	t.Parallel()
	storm := &killStorm{
		t: t, rand: seeded(t), p: newProvider(t, killAccounts, nil),
		messages: size(30, 200, 2000), kills: size(3, 20, 200),
	}
	storm.strike = func() { storm.p.daemon.kill() }
	storm.weather()
}

// weather lets the storm rage and looks at what it left.
func (s *killStorm) weather() {
	s.p.start(s.t)
	s.run()
	s.p.idle(s.t, size(time.Minute, 3*time.Minute, 30*time.Minute))
	s.p.stop(s.t)
	s.check()
	s.p.verifyLog(s.t)
	s.p.noLeftOvers(s.t)
}

var killAccounts = []string{"anna", "bruno", "carla"}

// killStorm is a run of clients against a daemon that is killed all the time.
type killStorm struct {
	t               *testing.T
	rand            *rand.Rand // of the goroutine that kills
	p               *provider
	strike          func() // ends the daemon, and perhaps more than that
	messages, kills int
	crowd
}

// shape makes the n-th message; the try gives the Message-ID.
func (s *killStorm) shape(n, try int) *attempt {
	from, to := killAccounts[n%3], killAccounts[(n+1+n/3%2)%3]
	a := &attempt{letter: letter{id: fmt.Sprintf("<kill-%d-%d@client.example>", n, try), from: address(from), to: []string{address(to)},
		subject: fmt.Sprintf("messaggio %d", n)}}
	switch n % 8 {
	case 4: // two receipts, one of them concise
		a.cc = []string{address(killAccounts[(n+2-n/3%2)%3])}
	case 5: // a delivery and a non-delivery
		a.to = append(a.to, address("nessuno"))
	case 6: // a non-acceptance
		a.more = "Bcc: qualcuno@altrove.example\r\n"
	case 3: // a brief receipt
		a.more = "X-TipoRicevuta: breve\r\nContent-Type: text/plain; name=allegato.txt\r\n"
	case 7: // large enough to be killed while it comes in
		a.more = "X-TipoRicevuta: sintetica\r\n"
		a.body = strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 5000)
	}
	a.rcpt = a.recipients()
	return a
}

const killClients = 6

// run hands in all messages while it kills and restarts the daemon.
func (s *killStorm) run() {
	work := make(chan int, s.messages)
	for n := range s.messages {
		work <- n
	}
	close(work)
	var clients sync.WaitGroup
	stop, finished := make(chan struct{}), make(chan struct{})
	s.write, s.home = s.shape, func(string) *provider { return s.p }
	for range killClients {
		clients.Go(func() { s.client(s.t, work, stop) })
	}
	go func() { clients.Wait(); close(finished) }()
	failed := true
	defer func() {
		if failed {
			close(stop)
		}
		<-finished
	}()
	for k := range s.kills {
		s.reach(s.t, int64((k+1)*s.messages/(s.kills+1)), finished)
		s.pause(40 * time.Millisecond)
		s.strike()
		s.p.spawn(s.t)
		if s.rand.IntN(3) == 0 { // also while it recovers
			s.pause(200 * time.Millisecond)
			s.strike()
			s.p.spawn(s.t)
		}
		select {
		case <-s.p.daemon.ready:
		case <-s.p.daemon.ended:
			s.t.Fatalf("after kill %d the daemon did not start: %v\n%s", k+1, s.p.daemon.err, s.p.logged(s.t))
		}
	}
	failed = false
}

// pause waits for a random time: the moment of a kill.
func (s *killStorm) pause(most time.Duration) {
	<-time.After(time.Duration(s.rand.Int64N(int64(most))))
}

// outcome is one thing that came of an attempt: a message in a mailbox, or a
// record.
type outcome struct{ where, what, id string }

// outcomes are what must come of an attempt that was taken: once each.
func (a *attempt) outcomes() (mails, records map[outcome]int) {
	mails, records = map[outcome]int{}, map[outcome]int{}
	in := func(address string, k pec.Kind) {
		local, _, _ := strings.Cut(address, "@")
		mails[outcome{local, k.String(), a.id}]++
	}
	record := func(kind string, n int) { records[outcome{"", kind, a.id}] += n }
	record("submitted", 1)
	record("notification-delivered", 1)
	if strings.HasPrefix(a.more, "Bcc") {
		in(a.from, pec.NonAcceptance)
		record("non-acceptance-issued", 1)
		return mails, records
	}
	in(a.from, pec.Acceptance)
	in("posta-certificata", pec.TakeCharge)
	for _, kind := range []string{"acceptance-issued", "enveloped", "received", "take-charge-issued", "notification-delivered"} {
		record(kind, 1)
	}
	for _, r := range a.rcpt {
		record("notification-delivered", 1)
		if r == address("nessuno") {
			in(a.from, pec.NonDelivery)
			record("non-delivery-issued", 1)
			continue
		}
		in(r, pec.TransportEnvelope)
		in(a.from, pec.Delivery)
		record("delivered", 1)
		record("delivery-issued", 1)
	}
	return mails, records
}

// check compares what every mailbox and the register hold with what must be.
func (s *killStorm) check() {
	t := s.t
	var records []shownRecord
	issued := map[string]string{} // digest of each message in evidence, by Message-ID
	for _, local := range killAccounts {
		e := s.p.extract(t, "--mailbox", address(local))
		s.p.verify(t, e.path)
		for _, r := range e.records {
			if r.text("sender") != address(local) {
				continue // counted where it was sent from
			}
			records = append(records, r)
			if r.Receipt != "" {
				issued[r.text("generated")] = sha256Hex(e.files[r.Receipt])
			}
		}
	}
	foundRecords := map[outcome]int{}
	for _, r := range records {
		foundRecords[outcome{"", r.text("kind"), r.text("original_id")}]++
	}
	foundMails := map[outcome]int{}
	for _, local := range append([]string{"posta-certificata"}, killAccounts...) {
		for _, m := range s.p.mailbox(t, local) {
			foundMails[outcome{local, m.Kind.String(), m.Certification.OriginalID}]++
			if id := strings.Trim(m.MessageID, "<>"); issued[id] != m.digest() {
				t.Errorf("%s in %s is not the message that the register reproduces", filepath.Base(m.path), local)
			}
		}
	}
	wantMails, wantRecords := map[outcome]int{}, map[outcome]int{}
	acked, repeated, silent := 0, 0, 0
	for _, a := range s.attempts {
		taken := foundRecords[outcome{"", "submitted", a.id}] > 0
		switch {
		case a.acked:
			acked++
		case taken:
			silent++
		default:
			repeated++
			continue
		}
		mails, all := a.outcomes()
		maps.Copy(wantMails, mails)
		maps.Copy(wantRecords, all)
	}
	if acked != s.messages {
		t.Errorf("%d of %d messages got 250", acked, s.messages)
	}
	t.Logf("%d messages accepted; %d attempts cut off before they were taken, %d taken without the client hearing of it", acked, repeated, silent)
	if kept := s.p.contents(t); len(kept) != acked+silent {
		t.Errorf("%d contents are kept of %d messages", len(kept), acked+silent)
	}
	compare(t, "messages in mailboxes", wantMails, foundMails)
	compare(t, "records", wantRecords, foundRecords)
}

// compare reports every outcome that is not there exactly as often as it must.
func compare(t *testing.T, what string, want, found map[outcome]int) {
	t.Helper()
	all := maps.Clone(want)
	maps.Copy(all, found)
	keys := slices.SortedFunc(maps.Keys(all), func(a, b outcome) int {
		return strings.Compare(a.id+a.what+a.where, b.id+b.what+b.where)
	})
	const most = 40
	wrong := 0
	for _, k := range keys {
		if want[k] == found[k] {
			continue
		}
		if wrong++; wrong <= most {
			t.Errorf("%s: %d of %s about %s %s, want %d", what, found[k], k.what, k.id, k.where, want[k])
		}
	}
	if wrong > most {
		t.Errorf("%s: %d more are wrong", what, wrong-most)
	}
}
