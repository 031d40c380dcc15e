package mta

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/mta/pec"
	"scripta/mta/providers"
	"scripta/mta/relay"
	"scripta/mta/spool"
	"scripta/register"
	"scripta/register/record"
)

// A job that cannot deliver to a mailbox of ours for hours tells the author, as if
// the mailbox were another provider's; and delivers when it can, once.
func TestLateHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fsys, err := faultfs.New(w.fault, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.begin(fsys)
	if err != nil {
		t.Fatal(err)
	}
	broken := true
	fsys.SetFault(func(_ int, c faultfs.Call) error {
		if broken && strings.Contains(c.Name, "/lucia/tmp/") && c.Op == "open" {
			return syscall.EIO
		}
		return nil
	})
	if _, err := p.send("one", listed("lucia@"+domain), "lucia@"+domain); err != nil {
		t.Fatal(err)
	}
	first := <-p.tasks
	again := func(what string, want map[record.Kind]int) {
		t.Helper()
		err := p.run(context.Background(), first, slog.New(slog.DiscardHandler))
		if broken == (err == nil) {
			t.Errorf("%s: carried with %v", what, err)
		}
		if got := p.records(t, "one"); got[record.DelayNoticeIssued] != want[record.DelayNoticeIssued] || got[record.TimeoutNoticeIssued] != want[record.TimeoutNoticeIssued] || got[record.Delivered] != want[record.Delivered] {
			t.Errorf("%s: records %v", what, got)
		}
	}
	again("at once", nil)
	w.clock.advance(11 * time.Hour)
	again("after 11 hours", nil)
	w.clock.advance(time.Hour)
	again("after 12 hours", map[record.Kind]int{record.DelayNoticeIssued: 1})
	again("after 12 hours, again", map[record.Kind]int{record.DelayNoticeIssued: 1})
	if err := p.end(); err != nil { // what it noted is found again
		t.Fatal(err)
	}
	if p, err = w.begin(fsys); err != nil {
		t.Fatal(err)
	}
	first = <-p.tasks
	again("after a restart", map[record.Kind]int{record.DelayNoticeIssued: 1})
	w.clock.advance(11 * time.Hour)
	again("after 23 hours", map[record.Kind]int{record.DelayNoticeIssued: 1, record.TimeoutNoticeIssued: 1})
	broken = false
	again("in the end", map[record.Kind]int{record.DelayNoticeIssued: 1, record.TimeoutNoticeIssued: 1, record.Delivered: 1})
	if got := w.mailboxOf("mario"); !maps.Equal(got, map[pec.Kind]int{pec.Acceptance: 1, pec.DelayNotice: 2, pec.Delivery: 1}) {
		t.Errorf("mario has %v", got)
	}
	if !p.idle() {
		t.Errorf("the backlog is %+v", p.Backlog())
	}
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

// handed is a job whose receipts go to another provider, as a reception's do.
type handed struct {
	*submission
}

func (h *handed) carry(ctx context.Context, p *Pipeline, t *task, _ *slog.Logger) error {
	b := p.batch(t)
	tx := pec.Transaction{ID: t.job.ID, Time: h.Moment.Time}
	rec := h.record(p, record.TakeChargeIssued, h.envelopeID(p, t.job.ID))
	m, err := b.message(record.MakeID(t.job.ID, stepTakeCharge, 0), rec, nil, func() (*pec.Message, error) {
		return p.composer.TakeCharge(tx.Issue(stepTakeCharge, 0), h.facts(h.envelopeID(p, t.job.ID)), "posta-certificata@altro.example", []string{"lucia@" + domain})
	})
	if err != nil {
		return err
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	return p.handOver(ctx, t, "outcome/0", h.Moment.Time, []notice{{&placement{mailbox: "posta-certificata@altro.example", message: m.Issued, bypassQuota: true}, record.MakeID(t.job.ID, stepTakeChargeNotified, 0)}},
		func() *record.Record { return h.record(p, record.NotificationDelivered, h.envelopeID(p, t.job.ID)) })
}

// A receipt for another provider goes from our service address, outlives its job, and
// when it is refused for good that is a record and an alarm, never another receipt.
func TestReceiptRefusedElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.odd = true // a receipt that belongs to nothing
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.send("one", listed("lucia@"+domain), "lucia@"+domain); err != nil {
		t.Fatal(err)
	}
	first := <-p.tasks
	first.work = &handed{submission: first.work.(*submission)}
	if err := p.run(t.Context(), first, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if b := p.Backlog(); b != (Backlog{Letters: 1}) {
		t.Errorf("the backlog is %+v", b)
	}
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	if p, err = w.begin(durable.OS); err != nil {
		t.Fatal(err)
	}
	defer p.end()
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	letters := w.relay.all()
	if len(letters) != 1 || letters[0].From != "posta-certificata@"+domain || !letters[0].Certified || letters[0].Destination != "Altro" {
		t.Fatalf("letters %+v", letters)
	}
	if err := p.answer(w.relay, refused); err != nil {
		t.Fatal(err)
	}
	if !p.idle() || p.metrics.Alarms.Load() != 1 {
		t.Errorf("the backlog is %+v, alarms %d", p.Backlog(), p.metrics.Alarms.Load())
	}
	if got := p.records(t, "one"); got[record.Bounced] != 1 || got[record.NonDeliveryIssued]+got[record.NotificationDelivered]+got[record.NotificationFailed] != 0 {
		t.Errorf("records %v", got)
	}
}

// What an author sent is kept until the last relay job that reads it is finished, and
// no longer, when originals are not kept.
func TestContentOfWhatIsRelayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	p.keep = false
	contents := func() int {
		n := 0
		err := filepath.WalkDir(filepath.Join(w.data, "receipts"), func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() && len(e.Name()) == 32 {
				n++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	s, err := p.send("one", listed(rossi, verdi), rossi, verdi)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if err := p.hear(s, pec.Delivery, "", rossi); err != nil { // before it is known that the other server took it
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if n := contents(); n != 1 {
		t.Fatalf("%d contents while the message is relayed", n)
	}
	for _, l := range w.relay.all() {
		r, err := p.OpenLetter(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := p.answer(w.relay, taken); err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if n := contents(); n != 0 || !p.idle() {
		t.Errorf("%d contents in the end, backlog %+v", n, p.Backlog())
	}
}

// A handler that fails is asked again with the same result: the answer is noted and
// recorded once, with the time of the first call.
func TestAnswerHandledAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	if _, err := p.send("one", listed(rossi, bianchi), rossi, bianchi); err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	l := w.relay.all()[0]
	l.Tries = 1
	r := &relay.Result{}
	for _, to := range l.Recipients {
		a := taken(to)
		a.Recipient = to
		if to == bianchi {
			a.Text = "ok, queued" // another record
		}
		r.Answers = append(r.Answers, a)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Relayed(gone, l, r); !errors.Is(err, register.ErrInDoubt) {
		t.Fatalf("handled with %v", err)
	}
	if err := p.Relayed(t.Context(), l, r); err != nil {
		t.Fatal(err)
	}
	if err := p.Relayed(t.Context(), l, r); err != nil { // the job is gone
		t.Fatal(err)
	}
	var about []string
	err = p.register.Search(t.Context(), register.Query{Identifier: "one@client"}, time.Now().Add(time.Hour), func(f *register.Found) bool {
		if f.Record.Kind == record.Relayed {
			about = append(about, f.Record.About...)
		}
		return true
	})
	slices.Sort(about)
	if err != nil || !slices.Equal(about, []string{bianchi, rossi}) {
		t.Errorf("relayed to %q, %v", about, err)
	}
}

// A relay job whose parent had not noted it when the process died waits for the
// parent: nothing is sent twice, and nothing for a destination that is none any more.
func TestRelayJobsWithoutTheirNote(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.send("one", listed(rossi), rossi); err != nil {
		t.Fatal(err)
	}
	first := <-p.tasks
	stale := &passage{Kind: kindRelay, Parent: first.job.ID, Stage: "accepted", Message: record.MakeID(first.job.ID, stepEnvelope, 0), Destination: "nobody", Certified: true,
		Recipients: []string{rossi}, Places: []int{0}, Begun: w.clock.at}
	if _, err := p.Pipeline.spool.Add(passageID(stale.Message, stale.Destination), first.job.Month, stale); err != nil {
		t.Fatal(err)
	}
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	if p, err = w.begin(durable.OS); err != nil {
		t.Fatal(err)
	}
	defer p.end()
	p.goOn()
	if letters := w.relay.all(); len(letters) != 0 {
		t.Errorf("sent before the parent says so: %+v", letters)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if letters := w.relay.all(); len(letters) != 1 || letters[0].Destination != "Altro" {
		t.Errorf("letters %+v", letters)
	}
	if b := p.Backlog(); b.Letters != 1 || b.Elsewhere != 1 {
		t.Errorf("the backlog is %+v", b)
	}
}

// Relay jobs of a run that did not come to its note are those of an index that may
// have changed since: every recipient is in one of them, and in one only, also when
// the disk refuses for a while to have the old ones forgotten.
func TestRelayJobsOfAnotherIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fsys, err := faultfs.New(w.fault, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.begin(fsys)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	now := p.index()
	us, _ := now.OfAddress("mario@" + domain)
	altro, _ := now.OfAddress(rossi)
	one, two := *altro, *altro // by then a domain has moved
	one.Domains, two.Domains, two.Name = []string{"altro.example"}, []string{"terzo.example"}, "Terzo"
	before := providers.New(us, &one, &two)
	index := before
	p.index = func() *providers.Index { return index }
	if _, err := p.send("one", listed(rossi, bianchi), rossi, bianchi); err != nil {
		t.Fatal(err)
	}
	first := <-p.tasks
	fail := func(from int) { // writes of the spool, counted from the first relay job
		n := 0
		fsys.SetFault(func(_ int, c faultfs.Call) error {
			if !strings.Contains(c.Name, "/spool/") || c.Op != "write" {
				return nil
			}
			if n++; n >= from {
				return syscall.ENOSPC
			}
			return nil
		})
	}
	run := func() error { return p.run(context.Background(), first, slog.New(slog.DiscardHandler)) }
	fail(3) // after both relay jobs, before the note
	if err := run(); err == nil || errors.Is(err, errWaiting) {
		t.Fatalf("the stage was noted: %v", err)
	}
	if n := p.passages.len(); n != 2 {
		t.Fatalf("%d relay jobs", n)
	}
	index = now
	fail(1)
	if err := run(); err == nil || errors.Is(err, errWaiting) {
		t.Fatalf("the stage was noted: %v", err)
	}
	fsys.SetFault(nil)
	if err := run(); !errors.Is(err, errWaiting) {
		t.Fatal(err)
	}
	var to []string
	for _, l := range w.relay.all() {
		to = append(to, l.Recipients...)
	}
	slices.Sort(to)
	if !slices.Equal(to, []string{bianchi, rossi}) {
		t.Errorf("sent to %v", to)
	}
	if n := p.passages.len(); n != len(w.relay.all()) || first.dispatch.letters != n {
		t.Errorf("%d relay jobs, %d letters, %d of the message", n, len(w.relay.all()), first.dispatch.letters)
	}
}

// However many relay jobs a restart finds, the provider is there before it has gone
// on with the last of them.
func TestStartWithRelayJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.send("one", listed(rossi), rossi); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.drain(), p.answer(w.relay, later), p.end()); err != nil {
		t.Fatal(err)
	}
	if p, err = w.begin(durable.OS); err != nil {
		t.Fatal(err)
	}
	defer p.end()
	slow := &slowRelay{goes: make(chan struct{}), added: make(chan struct{})}
	p.relay = slow
	started := make(chan struct{})
	go func() { p.Start(1); close(started) }()
	select {
	case <-started:
	case <-time.After(20 * time.Second):
		t.Error("it waits for the relay jobs")
	}
	close(slow.goes)
	<-slow.added
	<-started
}

// slowRelay takes a letter when the test says so.
type slowRelay struct{ goes, added chan struct{} }

func (r *slowRelay) Add(...*relay.Letter) { <-r.goes; close(r.added) }

// A domain that leaves this provider, or comes to it, while a message is under way
// changes nothing about who gets it where: what is told of as delivered is here.
func TestDomainMovesMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	if _, err := p.send("one", listed("lucia@"+domain, rossi), "lucia@"+domain, rossi); err != nil {
		t.Fatal(err)
	}
	us, _ := p.index().OfAddress("lucia@" + domain)
	moved := *us
	moved.Domains = []string{"altro.example"}
	index := providers.New(&moved)
	p.index = func() *providers.Index { return index }
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if got := w.mailboxOf("lucia"); got[pec.TransportEnvelope] != 1 {
		t.Errorf("lucia has %v", got)
	}
	envelopes := map[string]int{}
	for _, l := range w.relay.all() {
		for _, to := range l.Recipients {
			envelopes[to]++
		}
	}
	if envelopes["lucia@"+domain] != 0 || envelopes[rossi] != 1 {
		t.Errorf("letters for %v", envelopes)
	}
}

// What another server's answer about an envelope means for its author: for a
// certified recipient a refusal is ours to tell, and the end of the queue's patience
// is not; for an ordinary one both are in the report.
func TestMeaningOfAnswers(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name                string
		answer              relay.Answer
		certified, ordinary what
		text                string
		kind                pec.ErrorKind
	}{
		{"taken", relay.Answer{State: relay.Taken, Code: 250}, "", isRelayed, "", ""},
		{"put off", relay.Answer{State: relay.Deferred, Code: 451}, "", "", "", ""},
		{"unknown", relay.Answer{State: relay.Refused, Code: 550, Enhanced: "5.1.1", Text: "who?"}, isRefused, isReturned, "5.1.1 - Altro - who?", pec.UnknownRecipient},
		{"bare reply", relay.Answer{State: relay.Refused, Code: 554, Text: "no"}, isRefused, isReturned, "554 - Altro - no", pec.OtherError},
		{"8BITMIME", relay.Answer{State: relay.Refused, Enhanced: "5.6.3", Text: "no 8BITMIME"}, isRefused, isReturned, "5.6.3 - Esempio - no 8BITMIME", pec.OtherError},
		{"no such domain", relay.Answer{State: relay.Refused, Enhanced: "5.1.2", Text: "no such domain"}, isRefused, isReturned, "5.1.2 - Esempio - no such domain", pec.UnknownDomain},
		{"too late", relay.Answer{State: relay.Refused, Enhanced: "5.4.7", Text: "expired"}, "", isReturned, "", ""},
		{"too late, says the other", relay.Answer{State: relay.Refused, Code: 554, Enhanced: "5.4.7", Text: "expired"}, isRefused, isReturned, "5.4.7 - Altro - expired", pec.OtherError},
	} {
		if got := meaning(&x.answer, true); got != x.certified {
			t.Errorf("%s, certified: %q", x.name, got)
		}
		if got := meaning(&x.answer, false); got != x.ordinary {
			t.Errorf("%s, ordinary: %q", x.name, got)
		}
		p := &Pipeline{composer: &pec.Composer{Provider: pec.Provider{Name: "Esempio"}}}
		if x.text != "" && (p.refusalText(&x.answer, "Altro") != x.text || errorOf(&x.answer) != x.kind) {
			t.Errorf("%s: %q, %q", x.name, p.refusalText(&x.answer, "Altro"), errorOf(&x.answer))
		}
	}
}

// An envelope with octets beyond ASCII says so to the next server.
func TestEightBitEnvelope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	for body, want := range map[string]bool{"Citta\r\n": false, "Citt\xc3\xa0\r\n": true} {
		w.relay.letters = map[relay.ID]*relay.Letter{}
		if _, err := p.handInAs("mario@"+domain, "From: mario@"+domain+"\r\n"+listed(rossi)+"\r\n"+body, rossi); err != nil {
			t.Fatal(err)
		}
		if err := p.drain(); err != nil {
			t.Fatal(err)
		}
		if letters := w.relay.all(); len(letters) != 1 || letters[0].EightBit != want {
			t.Errorf("%q: %+v", body, letters)
		}
	}
}

// However many different answers a server gives, the records of an attempt have ids
// that no other attempt's have.
func TestManyDifferentAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	x := &passage{job: &spool.Job{ID: spool.ID{1}}, Destination: "ordinario.example"}
	seen, told := map[record.ID]bool{}, 0
	for n := uint32(1); n <= 2; n++ {
		x.last = &attempt{N: n}
		for i := range 500 { // a greylisting server that says whom it means
			state := []relay.State{relay.Taken, relay.Refused, relay.Deferred}[min(i%7, 2)]
			to := fmt.Sprintf("u%d@ordinario.example", i)
			x.last.Answers = append(x.last.Answers, relay.Answer{Recipient: to, State: state, Enhanced: "4.2.0", Text: "<" + to + ">: greylisted"})
		}
		entries, _ := x.records(&record.Record{Kind: record.Enveloped})
		for _, e := range entries {
			if seen[e.ID] {
				t.Fatalf("attempt %d has a record with the id of another", n)
			}
			seen[e.ID] = true
			told += len(e.Record.About)
		}
		if len(entries) > maxAnswers {
			t.Errorf("%d records", len(entries))
		}
	}
	if told != 1000 {
		t.Errorf("%d recipients are told of", told)
	}
}
