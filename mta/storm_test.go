package mta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/mta/pec"
	"scripta/mta/relay"
)

// Workers, the relay's queue, receipts that come back, some before it is known that
// the envelope was taken, and the clock of all recipients at once: each message ends
// with what its recipient's provider said, once.
func TestManyElsewhereAtOnce(t *testing.T) {
	t.Parallel()
	const messages = 40
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	var (
		sent    sync.WaitGroup
		attempt atomic.Int64
		failed  atomic.Pointer[error]
	)
	note := func(err error) {
		if err != nil {
			failed.Store(&err)
		}
	}
	send := func(ctx context.Context, l *relay.Letter, open relay.Opener) *relay.Result {
		r, err := open(ctx, l)
		if err != nil {
			note(err)
			return &relay.Result{Time: time.Now()}
		}
		signed, err := pec.ReadSigned(r, pec.DefaultLimits())
		note(err)
		note(r.Close())
		result := &relay.Result{Time: time.Now()}
		n := attempt.Add(1)
		for _, to := range l.Recipients {
			a := relay.Answer{Recipient: to, State: relay.Taken, Code: 250, Text: "ok", Hop: relay.Hop{Peer: relay.Peer{Address: "192.0.2.1:25", TLS: "TLS 1.3"}}}
			if n%5 == 0 {
				a.State, a.Code = relay.Deferred, 451
			}
			result.Answers = append(result.Answers, a)
		}
		if n%5 != 0 {
			to := slices.Clone(l.Recipients) // the letter is the queue's again when this returns
			sent.Go(func() {                 // the other provider's receipts
				for _, kind := range []pec.Kind{pec.TakeCharge, pec.Delivery, pec.Delivery} {
					at, err := p.now()
					note(err)
					note(p.heard(ctx, kind, signed.Certification.EnvelopeID, to, at, "Altro", ""))
				}
			})
		}
		return result
	}
	queue := relay.NewQueue(relay.Options{Send: send, Handle: func(ctx context.Context, l *relay.Letter, r *relay.Result) error { return p.Relayed(ctx, l, r) },
		Open:     func(ctx context.Context, l *relay.Letter) (io.ReadCloser, error) { return p.OpenLetter(ctx, l) },
		Sessions: 16, PerDestination: 8, FirstDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	p.relay = queue
	ctx, stop := context.WithCancel(t.Context())
	running := make(chan struct{})
	go func() { defer close(running); queue.Run(ctx, time.Second) }()
	p.Start(8)
	var all sync.WaitGroup
	for i := range messages {
		all.Go(func() {
			_, err := p.send(fmt.Sprint(i), listed(rossi, "lucia@"+domain), rossi, "lucia@"+domain)
			note(err)
		})
	}
	looking := make(chan struct{})
	go func() {
		defer close(looking)
		for range messages {
			p.look()
		}
	}()
	all.Wait()
	<-looking
	until(t, "every message ends", p.idle)
	stop()
	<-running
	sent.Wait()
	if err := failed.Load(); err != nil {
		t.Error(*err)
	}
	if got := w.mailboxOf("mario"); !maps.Equal(got, map[pec.Kind]int{pec.Acceptance: messages, pec.Delivery: messages}) {
		t.Errorf("mario has %v", got)
	}
	if n := p.metrics.Alarms.Load() + p.metrics.Retries.Load(); n != 0 {
		t.Errorf("%d alarms and retries", n)
	}
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

// An answer that comes while its message is still being carried is told once.
func TestRefusedMeanwhile(t *testing.T) {
	t.Parallel()
	const messages = 10
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	p.Start(4)
	for i := range messages {
		if _, err := p.send(fmt.Sprint(i), listed(rossi, "lucia@"+domain), rossi, "lucia@"+domain); err != nil {
			t.Fatal(err)
		}
		if err := p.answer(w.relay, refused); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "every message ends", func() bool {
		if err := p.answer(w.relay, refused); err != nil {
			t.Fatal(err)
		}
		return p.idle()
	})
	if got := w.mailboxOf("mario"); !maps.Equal(got, map[pec.Kind]int{pec.Acceptance: messages, pec.Delivery: messages, pec.NonDelivery: messages}) {
		t.Errorf("mario has %v", got)
	}
}

// What is told of very many recipients at once goes in stages: their files are not
// open together, nor their notices, each of which names all of them, in memory.
func TestManyNotices(t *testing.T) {
	t.Parallel()
	const recipients = 2*stageSize + 1
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	p.limits.Recipients, p.limits.BytesTimesRecipients = recipients, 1<<40
	var all []string
	for i := range recipients {
		all = append(all, fmt.Sprintf("u%d@altro.example", i))
	}
	if _, err := p.send("one", listed(all...), all...); err != nil {
		t.Fatal(err)
	}
	first := <-p.tasks
	p.tasks <- first
	if err := errors.Join(p.drain(), p.answer(w.relay, refused)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time as if nobody knew of the first
		if err := p.drain(); err != nil {
			t.Fatal(err)
		}
		first.dispatch.told = 0
	}
	if got := w.mailboxOf("mario"); !maps.Equal(got, map[pec.Kind]int{pec.Acceptance: 1, pec.NonDelivery: recipients}) {
		t.Errorf("mario has %v", got)
	}
	for _, stage := range []string{"told/0", fmt.Sprintf("told/0/%d", stageSize), fmt.Sprintf("told/0/%d", 2*stageSize)} {
		if done, err := first.noted(stage, &placed{}); err != nil || !done {
			t.Errorf("no stage %s, %v", stage, err)
		}
	}
}
