package mta

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/mta/spool"
	"scripta/register/record"
)

func TestBacklog(t *testing.T) {
	t.Parallel()
	var b backlog
	if got := b.now(); got != (Backlog{}) {
		t.Errorf("nothing waits, and it says %+v", got)
	}
	old, young := spool.ID{1}, spool.ID{2}
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	b.add(young, at.Add(time.Minute))
	b.add(old, at)
	boom := errors.New("boom")
	if n, again := b.failed(young, boom); n != 1 || again {
		t.Errorf("the first failure: %d, %v", n, again)
	}
	if n, again := b.failed(young, errors.New("boom")); n != 2 || !again {
		t.Errorf("the same again: %d, %v", n, again)
	}
	if n, again := b.failed(young, errors.New("another")); n != 3 || again {
		t.Errorf("another reason: %d, %v", n, again)
	}
	b.failed(old, boom)
	got := b.now()
	if !got.Oldest.Equal(at) || got.Failing != 2 || got.Worst.Tries != 3 || got.Worst.Err.Error() != "another" || !strings.HasPrefix(got.Worst.Transaction, "02") {
		t.Errorf("%+v", got)
	}
	b.remove(old)
	b.remove(young)
	if got := b.now(); got != (Backlog{}) {
		t.Errorf("everything is finished, and it says %+v", got)
	}
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// A message whose job fails holds up no other; it is seen in the backlog and in
// the log, and ends when what was in its way is gone.
func TestFailingJobHoldsUpNobody(t *testing.T) {
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
	var healed atomic.Bool
	fsys.SetFault(func(_ int, c faultfs.Call) error {
		if strings.Contains(c.Name, "/lucia/tmp/") && c.Op == "open" && !healed.Load() {
			return syscall.EIO
		}
		return nil
	})
	log := new(lockedBuffer)
	p.Pipeline.log = slog.New(slog.NewJSONHandler(log, nil))
	p.Start(2)
	if _, err := p.send("bad", "To: lucia@"+domain+"\r\n", "lucia@"+domain); err != nil {
		t.Fatal(err)
	}
	until(t, "the job fails", func() bool { return p.Backlog().Failing == 1 })
	for range 5 {
		if _, err := p.send("good", "To: mario@"+domain+"\r\n", "mario@"+domain); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the other five end", func() bool { return p.metrics.Finished.Load() == 5 && p.Backlog().Waiting == 1 })
	b := p.Backlog()
	if b.Failing != 1 || !errors.Is(b.Worst.Err, syscall.EIO) || b.Oldest.IsZero() || !strings.Contains(log.String(), b.Worst.Transaction) {
		t.Errorf("backlog %+v, log %s", b, log)
	}
	if n := strings.Count(log.String(), `"level":"ERROR"`); n != 1 {
		t.Errorf("%d errors in the log: %s", n, log)
	}
	healed.Store(true)
	until(t, "the job ends", func() bool { return p.Backlog() == Backlog{} })
}

// A panic on one message is an error of its job, and an alarm.
func TestPanicIsAnErrorOfItsJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	if _, err := p.send("one", "To: lucia@"+domain+"\r\n", "lucia@"+domain); err != nil {
		t.Fatal(err)
	}
	first := <-p.tasks
	roots := p.index
	p.index = nil // as a bug on the way
	if err := p.carrySafely(first, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("carried with %v", err)
	}
	if p.metrics.Alarms.Load() != 1 {
		t.Errorf("%d alarms", p.metrics.Alarms.Load())
	}
	p.index = roots
	if err := p.run(t.Context(), first, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("the next run: %v", err)
	}
}

// A message whose first record may be in the log, or may get there yet, is not
// acknowledged, and ends with an outcome nevertheless: once, also when the record
// turns out to be there.
func TestRecordInDoubt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	gone, cancel := context.WithCancel(t.Context())
	cancel() // whoever waits for the append gives up at once
	msg := "From: mario@" + domain + "\r\nTo: lucia@" + domain + "\r\nMessage-ID: <one@client>\r\n\r\nx\r\n"
	_, err = p.handIn(gone, strings.NewReader(msg), "mario@"+domain, []string{"lucia@" + domain}, "mario@"+domain, record.Peer{}, func(err error) error { return err })
	if err == nil {
		t.Fatal("acknowledged")
	}
	if b := p.Backlog(); b.Failing != 1 || b.Waiting != 1 {
		t.Errorf("the backlog is %+v", b)
	}
	p.Start(1)
	until(t, "the message ends", func() bool { return p.Backlog() == Backlog{} })
	if got := p.records(t, "one"); !maps.Equal(got, inRegister) {
		t.Errorf("records %v", got)
	}
	if got := w.mailboxOf("lucia"); !maps.Equal(got, ofRecipient) {
		t.Errorf("lucia has %v", got)
	}
}
