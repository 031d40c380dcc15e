package archive

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Run closes what is over at once, then each day a little after midnight, and
// tries again after a failure. It needs no one to wait: the test's time is not
// the real one.
func TestRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.record(day(20).Add(time.Hour))
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		at := day(22).Add(22 * time.Hour)
		now := func() (time.Time, error) { return at.Add(time.Since(begin)), nil }
		o := r.options()
		o.Now = now
		c, err := New(o)
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			c.Run(ctx)
			close(ended)
		}()
		closed := func() []string {
			synctest.Wait()
			all, err := Packages(r.dir)
			must(t, err)
			return names(all)
		}
		want := []string{"20261120T000000Z_20261121T000000Z", "20261121T000000Z_20261122T000000Z"}
		if got := closed(); !slices.Equal(got, want) {
			t.Fatalf("at the start: %v", got)
		}
		time.Sleep(2*time.Hour + 59*time.Second)
		if got := closed(); !slices.Equal(got, want) {
			t.Fatalf("before the delay: %v", got)
		}
		stopped := errors.New("the log is stopped")
		r.m.halt(stopped)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !errors.Is(c.Health(), stopped) {
			t.Fatalf("health: %v", c.Health())
		}
		r.m.halt(nil)
		time.Sleep(retry)
		want = append(want, "20261122T000000Z_20261123T000000Z")
		if got := closed(); !slices.Equal(got, want) || c.Health() != nil {
			t.Fatalf("after the failure: %v, %v", got, c.Health())
		}
		time.Sleep(24 * time.Hour)
		if got := closed(); len(got) != 4 {
			t.Fatalf("a day later: %v", got)
		}
		cancel()
		<-ended
	})
	r.check(day(20), day(24))
}
