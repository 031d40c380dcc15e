package rates

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 23, 9, 2, 0, 0, time.UTC)

func excess(t *testing.T, err error, limit string) time.Duration {
	t.Helper()
	var e *Excess
	if !errors.As(err, &e) || e.Limit != limit || e.Wait <= 0 {
		t.Fatalf("%v, want over %s", err, limit)
	}
	return e.Wait
}

// In no stretch of the window's length is there more than the limit, whatever
// comes when; and after the wait that is told there is room.
func TestNeverMoreThanTheLimit(t *testing.T) {
	t.Parallel()
	const limit, length = 20, time.Hour
	w := newWindow(limit, length, 10)
	random := rand.New(rand.NewPCG(1, 2))
	type event struct {
		at time.Time
		n  int64
	}
	var taken []event
	now, refused := start, 0
	for range 20_000 {
		now = now.Add(time.Duration(random.Int64N(int64(3 * time.Minute))))
		n := 1 + random.Int64N(3)
		d := w.wait("a", n, now)
		if d == 0 {
			w.add("a", n, now)
			taken = append(taken, event{now, n})
			continue
		}
		if refused++; d > length+length/parts {
			t.Fatalf("a wait of %v", d)
		}
		if random.IntN(50) == 0 {
			now = now.Add(d)
			if more := w.wait("a", n, now); more != 0 {
				t.Fatalf("after the wait, another of %v", more)
			}
		}
	}
	for i := range taken {
		sum := int64(0)
		for j := i; j < len(taken) && taken[j].at.Sub(taken[i].at) < length; j++ {
			sum += taken[j].n
		}
		if sum > limit {
			t.Fatalf("%d within %v from %v on", sum, length, taken[i].at)
		}
	}
	if refused == 0 || len(taken) < 5000 {
		t.Errorf("%d taken, %d refused", len(taken), refused)
	}
}

func TestWindowIsBounded(t *testing.T) {
	t.Parallel()
	w := newWindow(1, time.Minute, 10)
	for i := range 1000 {
		w.add(fmt.Sprint(i), 1, start)
		if w.wait("0", 1, start) == 0 && i < 9 {
			t.Fatal("forgotten although there is room")
		}
	}
	if len(w.byKey) != 10 || w.order.Len() != 10 {
		t.Errorf("%d keys, %d entries", len(w.byKey), w.order.Len())
	}
	if w.wait("999", 1, start) == 0 || w.wait("0", 1, start) != 0 {
		t.Error("the wrong ones were forgotten")
	}
	if d := w.wait("999", 1, start.Add(-time.Hour)); d < time.Hour { // the clock was set back: as before
		t.Errorf("wait %v", d)
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	l := New(Limits{MessagesPerHour: 3, RecipientsPerDay: 10})
	g, err := l.Message("Mario@pec.example", 4, start)
	if err != nil {
		t.Fatal(err)
	}
	g.Refund(start) // refused in the end: it costs nothing
	for range 3 {
		if _, err := l.Message("mario@PEC.example", 2, start); err != nil {
			t.Fatal(err)
		}
	}
	wait := excess(t, l.Begin("mario@pec.example", start), MessagesPerHour)
	_, err = l.Message("mario@pec.example", 1, start)
	excess(t, err, MessagesPerHour)
	if _, err := l.Message("lucia@pec.example", 9, start); err != nil {
		t.Errorf("another account: %v", err)
	}
	later := start.Add(wait)
	if err := l.Begin("mario@pec.example", later); err != nil {
		t.Error(err)
	}
	_, err = l.Message("mario@pec.example", 5, later) // 6 of 10 are taken
	excess(t, err, RecipientsPerDay)
	if _, err := l.Message("mario@pec.example", 4, later); err != nil {
		t.Error("a message that was put off took something: ", err)
	}
	excess(t, l.Begin("mario@pec.example", later), RecipientsPerDay)
	if n, m := l.Hits(MessagesPerHour), l.Hits(RecipientsPerDay); n != 2 || m != 2 {
		t.Errorf("%d and %d hits", n, m)
	}
	// It could never fit, and is not put off for ever.
	if _, err := l.Message("anna@pec.example", 1000, start); err != nil {
		t.Error(err)
	}
	excess(t, l.Begin("anna@pec.example", start), RecipientsPerDay)
}

func TestNoLimits(t *testing.T) {
	t.Parallel()
	l := New(Limits{})
	for range 1000 {
		if _, err := l.Message("a", 100, start); err != nil {
			t.Fatal(err)
		}
		if l.Begin("a", start) != nil || l.Connection("192.0.2.1:1", start) != nil || l.Transaction("192.0.2.1:1", start) != nil || l.Infected("a", start) {
			t.Fatal("a limit that is not there was met")
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	l := New(Limits{ConnectionsPerMinute: 2, TransactionsPerMinute: 3, Exempt: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	visits := func(remote string) (n int) {
		for n < 10 && l.Connection(remote, start) == nil {
			n++
		}
		return n
	}
	for remote, want := range map[string]int{"192.0.2.1:25": 2, "198.51.100.7:1": 10, "[2001:db8::1]:1": 2, "[::ffff:198.51.100.7]:1": 10} {
		if n := visits(remote); n != want {
			t.Errorf("%s: %d connections, want %d", remote, n, want)
		}
	}
	if l.Connection("[2001:db8::2]:9", start) == nil {
		t.Error("another address of the same host is let in")
	}
	l.Provider("192.0.2.1:99", start)
	if n := visits("192.0.2.1:25"); n != 10 {
		t.Errorf("a provider's address: %d connections", n)
	}
	if err := l.Connection("192.0.2.1:25", start.Add(20*time.Hour)); err != nil {
		t.Error(err)
	}
	late := start.Add(27 * time.Hour)
	for range 2 {
		if err := l.Connection("192.0.2.1:25", late); err != nil {
			t.Error(err)
		}
	}
	excess(t, l.Connection("192.0.2.1:25", late), ConnectionsPerMinute) // known no more
	for range 3 {
		if err := l.Transaction("192.0.2.2:25", start); err != nil {
			t.Error(err)
		}
	}
	excess(t, l.Transaction("192.0.2.2:26", start), TransactionsPerMinute)
}

func TestInfected(t *testing.T) {
	t.Parallel()
	l := New(Limits{InfectedPerDay: 3})
	for i, want := range []bool{false, false, true, true} {
		if got := l.Infected("Mario@pec.example", start.Add(time.Duration(i)*time.Hour)); got != want {
			t.Errorf("infected message %d: suspend %v", i+1, got)
		}
	}
	l.Pardon("mario@pec.example")
	if l.Infected("mario@pec.example", start.Add(5*time.Hour)) {
		t.Error("pardoned, and yet")
	}
	if l.Infected("mario@pec.example", start.Add(40*time.Hour)) || l.Infected("mario@pec.example", start.Add(41*time.Hour)) {
		t.Error("what happened the day before counts")
	}
}

// A restart forgets nothing that matters.
func TestStateOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	limits := Limits{MessagesPerHour: 5, RecipientsPerDay: 20, InfectedPerDay: 2, ConnectionsPerMinute: 1, TransactionsPerMinute: 1}
	l := New(limits)
	for i := range 5 {
		if _, err := l.Message("mario@pec.example", 4, start.Add(time.Duration(i)*10*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	l.Infected("lucia@pec.example", start)
	l.Provider("192.0.2.1:1", start)
	_ = l.Connection("192.0.2.2:1", start)
	now := start.Add(45 * time.Minute)
	before := excess(t, l.Begin("mario@pec.example", now), MessagesPerHour)
	b, changed, err := l.State(now)
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	if _, changed, _ := l.State(now); changed {
		t.Error("nothing happened, and the state changed")
	}
	again := New(limits)
	if err := again.Restore(bytes.NewReader(b), now); err != nil {
		t.Fatal(err)
	}
	if after := excess(t, again.Begin("mario@pec.example", now), MessagesPerHour); after != before {
		t.Errorf("wait %v, before %v", after, before)
	}
	excess(t, again.Begin("mario@pec.example", now.Add(2*time.Hour)), RecipientsPerDay)
	if !again.Infected("lucia@pec.example", now) {
		t.Error("an infected message was forgotten")
	}
	for range 3 {
		if err := again.Connection("192.0.2.1:1", now); err != nil {
			t.Error("a provider's address was forgotten: ", err)
		}
	}
	if bytes.Contains(b, []byte("192.0.2.2")) {
		t.Error("the state has an address that only came")
	}
	if b, _, _ := again.State(now.Add(48 * time.Hour)); string(b) != `{"version":1}` {
		t.Errorf("what counts no longer is kept: %s", b)
	}
}

func TestStateOfNobodyKnowsWhom(t *testing.T) {
	t.Parallel()
	last := newWindow(1, time.Hour, 1).number(start)
	for _, s := range []string{
		"", "{", `[]`, `{"version":2}`, `{"version":1,"messages":{"a":{"last":1,"n":[1]}}}`,
		fmt.Sprintf(`{"version":1,"messages":{"a":{"last":%d,"n":[-1]}}}`, last),
		fmt.Sprintf(`{"version":1,"messages":{"a":{"last":%d,"n":[1,1,1,1,1,1,1,1,1,1,1,1,1,1]}}}`, last),
		fmt.Sprintf(`{"version":1,"messages":{"a":{"last":%d,"n":[1]}}}`, last+1000),
		fmt.Sprintf(`{"version":1,"messages":{"%s":{"last":%d,"n":[1]}}}`, strings.Repeat("a", 1000), last),
	} {
		l := New(Limits{MessagesPerHour: 1})
		if _, err := l.Message("mario", 1, start); err != nil {
			t.Fatal(err)
		}
		if err := l.Restore(strings.NewReader(s), start); err == nil {
			t.Errorf("%s: no error", s)
		}
		if l.Begin("mario", start) == nil {
			t.Errorf("%s: the counts were lost", s)
		}
	}
}

func FuzzRestore(f *testing.F) {
	l := New(Limits{MessagesPerHour: 5, RecipientsPerDay: 20, InfectedPerDay: 2})
	if _, err := l.Message("mario@pec.example", 4, start); err != nil {
		f.Fatal(err)
	}
	l.Infected("mario@pec.example", start)
	b, _, err := l.State(start)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"known":{"x":{"last":9223372036854775807,"n":[1]}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := New(Limits{MessagesPerHour: 5, RecipientsPerDay: 20, InfectedPerDay: 2})
		if l.Restore(bytes.NewReader(b), start) != nil {
			return
		}
		_ = l.Begin("mario@pec.example", start)
		once, _, err := l.State(start)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Restore(bytes.NewReader(once), start); err != nil {
			t.Fatalf("its own state: %v", err)
		}
		if twice, _, _ := l.State(start); !bytes.Equal(once, twice) {
			t.Fatalf("%s, then %s", once, twice)
		}
	})
}
