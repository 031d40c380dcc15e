package logins

import (
	"fmt"
	"testing"
	"time"
)

func TestLimiterIsBounded(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	b := newBuckets(1, time.Second, 10)
	for i := range 1000 {
		b.at(fmt.Sprint(i), start)
	}
	if len(b.byKey) != 10 || b.order.Len() != 10 {
		t.Errorf("%d keys, %d buckets", len(b.byKey), b.order.Len())
	}
	x := b.at("999", start)
	x.tokens = 0
	if d := b.wait(b.at("999", start.Add(250*time.Millisecond))); d != 750*time.Millisecond {
		t.Errorf("wait %v", d)
	}
	if d := b.wait(b.at("999", start.Add(-time.Hour))); d != 750*time.Millisecond { // the clock was set back
		t.Errorf("wait %v", d)
	}
}
