package register

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// long is a patience that no test sees the end of.
const long = time.Hour

func TestAdmissionIsInOrder(t *testing.T) {
	t.Parallel()
	a := newAdmission(long)
	a.maxRecords, a.maxBytes = 10, 100
	ctx := context.Background()
	if err := a.enter(ctx, 4096, 1<<20); err != nil { // larger than all, but alone
		t.Fatal(err)
	}
	inLine := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.line)
	}
	var came [3]chan error
	for i, bytes := range []int{60, 60, 30} {
		came[i] = make(chan error, 1)
		go func() { came[i] <- a.enter(ctx, 1, bytes) }()
		for inLine() != i+1 { // the next one comes when this one stands
			time.Sleep(time.Millisecond)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := a.enter(cancelled, 1, 1); !errors.Is(err, context.Canceled) || inLine() != 3 {
		t.Errorf("with a context that has ended: %v, %d in line", err, inLine())
	}
	a.leave(4096, 1<<20)
	if err := <-came[0]; err != nil {
		t.Error(err)
	}
	if n := inLine(); n != 2 {
		t.Errorf("%d in line: who fits does not pass who stands before", n)
	}
	a.leave(1, 60)
	for _, c := range came[1:] {
		if err := <-c; err != nil {
			t.Error(err)
		}
	}
	a.leave(2, 90)
	if a.records != 0 || a.bytes != 0 {
		t.Errorf("%d records and %d bytes are left", a.records, a.bytes)
	}
}

// fill lets the register look as if so much waited.
func (f *fixture) fill(records, bytes int) {
	f.t.Helper()
	if err := f.room.enter(f.t.Context(), records, bytes); err != nil {
		f.t.Fatal(err)
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.room.patience = time.Nanosecond
	f.append(event(1, start, "mario@pec.example"))
	for what, c := range map[string]struct{ records, bytes int }{"records": {maxWaitingRecords, 1}, "bytes": {1, maxWaitingBytes}} {
		f.fill(c.records, c.bytes)
		_, err := f.Append(t.Context(), event(2, start, "mario@pec.example"))
		if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "try again later") {
			t.Errorf("with too many %s waiting: %v", what, err)
		}
		f.room.leave(c.records, c.bytes)
	}
	if got := f.Metrics().Refused.Load(); got != 2 {
		t.Errorf("%d refusals are counted", got)
	}
	if got := f.append(event(2, start, "mario@pec.example")); got[0].Index != 1 {
		t.Errorf("when there is room again: %v", got)
	}
	if n, bytes := f.Waiting(); n != 0 || bytes != 0 {
		t.Errorf("%d records and %d bytes wait, of nobody", n, bytes)
	}
}

// TestWaitingIsBounded appends from many callers the largest records that there are,
// and one call with many of them: what is sealed and waits stays within its bounds, and all
// of it is appended in the end.
func TestWaitingIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.room.patience = long
	f.room.maxBytes = 4 << 20
	if err := f.Begin(start); err != nil {
		t.Fatal(err)
	}
	subject := strings.Repeat("x", MaxRecord-1000)
	large := func(n int) Entry {
		e := event(n, start, "mario@pec.example")
		e.Record.Subject = subject
		return e
	}
	var most atomic.Int64
	var wg, watch sync.WaitGroup
	done := make(chan struct{})
	watch.Go(func() {
		for {
			_, bytes := f.Waiting()
			most.Store(max(most.Load(), int64(bytes)))
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for i := range 24 {
		wg.Go(func() {
			if _, err := f.Append(t.Context(), large(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		var all []Entry
		for i := range 12 {
			all = append(all, large(100+i))
		}
		got, err := f.Append(t.Context(), all...)
		if err != nil {
			t.Error(err)
		}
		for i := 1; i < len(got); i++ {
			if got[i].Index <= got[i-1].Index {
				t.Errorf("record %d of a call stands at %d, the one before at %d", i, got[i].Index, got[i-1].Index)
			}
		}
	})
	wg.Wait()
	close(done)
	watch.Wait()
	if most.Load() > 4<<20 || most.Load() < MaxRecord {
		t.Errorf("%d bytes waited, %d may", most.Load(), 4<<20)
	}
	if got := f.log.Size(); got != 36 {
		t.Errorf("%d records", got)
	}
	if n, bytes := f.Waiting(); n != 0 || bytes != 0 {
		t.Errorf("%d records and %d bytes wait, of nobody", n, bytes)
	}
}

// TestConflictConcernsOneCaller appends records beside ones whose ids name other
// records: those alone are refused.
func TestConflictConcernsOneCaller(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.append(event(1, start, "mario@pec.example"), event(2, start, "mario@pec.example"))
	const callers = 60
	var wg sync.WaitGroup
	var conflicts atomic.Int64
	for i := range callers {
		wg.Go(func() {
			e := event(10+i, start, "mario@pec.example")
			switch i % 3 {
			case 1: // appended before
				e = event(1+i%2, start, "mario@pec.example")
			case 2: // the id of another record
				e.ID = event(1+i%2, start, "").ID
			}
			got, err := f.Append(t.Context(), e)
			switch i % 3 {
			case 0:
				if err != nil || got[0].Index < 2 {
					t.Errorf("a new record: %v, %v", got, err)
				}
			case 1:
				// Beside a caller with the same id and another record, who may come
				// first, this one is the conflict.
				if err != nil && !errors.Is(err, ErrConflict) || err == nil && got[0] != first[i%2] {
					t.Errorf("a record appended before: %v, %v; want %v", got, err, first[i%2])
				}
			case 2:
				if !errors.Is(err, ErrConflict) {
					t.Errorf("the id of another record: %v, %v", got, err)
				}
				conflicts.Add(1)
			}
		})
	}
	wg.Wait()
	if err := f.Health(); err != nil || conflicts.Load() != callers/3 {
		t.Errorf("%d conflicts, health %v", conflicts.Load(), err)
	}
	if got := f.log.Size(); got != 2+callers/3 {
		t.Errorf("%d records, want %d", got, 2+callers/3)
	}
	if n, bytes := f.Waiting(); n != 0 || bytes != 0 {
		t.Errorf("%d records and %d bytes wait, of nobody", n, bytes)
	}
	// And again after a restart, where nothing is remembered but what is on the disk.
	f.close()
	f.open()
	if got := f.append(event(2, start, "mario@pec.example"), event(1, start, "mario@pec.example")); got[0] != first[1] || got[1] != first[0] {
		t.Errorf("after a restart: %v, want %v", got, first)
	}
	if got := f.search(Query{Mailbox: "mario@pec.example"}); len(got) != 2+callers/3 {
		t.Errorf("%d records are found, want %d", len(got), 2+callers/3)
	}
}

// TestCommitsAreShared holds that concurrent appends share commits and that the
// metrics say so.
func TestCommitsAreShared(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.append(event(0, start, "mario@pec.example"))
	const n = 200
	var wg sync.WaitGroup
	// While the sequencer waits for the answers to be taken, everybody comes.
	f.mu.Lock()
	for i := range n {
		wg.Go(func() {
			if _, err := f.Append(t.Context(), event(1+i, start, "mario@pec.example")); err != nil {
				t.Error(err)
			}
		})
	}
	f.mu.Unlock()
	wg.Wait()
	m := f.Metrics()
	f.close() // the sequencer has counted its last commit
	appends, took, upTo := m.AppendSeconds()
	commits, records, _ := m.CommitRecords()
	if appends != n+1 || took <= 0 || records != n+1 || m.Records.Load() != n+1 {
		t.Errorf("%d appends in %v s, %v records in commits, %d in all", appends, took, records, m.Records.Load())
	}
	if commits >= n/2 {
		t.Errorf("%d commits for %d concurrent appends", commits, n)
	}
	last := uint64(0)
	for _, b := range appendBounds {
		if upTo[b] < last || upTo[b] > appends {
			t.Errorf("bucket %v holds %d of %d", b, upTo[b], appends)
		}
		last = upTo[b]
	}
}
