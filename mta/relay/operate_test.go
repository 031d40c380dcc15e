package relay

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
)

func TestQueueHoldsAndRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "held")
		holds, err := OpenHolds(durable.OS, file)
		if err != nil {
			t.Fatal(err)
		}
		d := newDesk(t, Options{Holds: holds})
		d.send = func(_ context.Context, l *Letter) *Result { return all(l, Deferred) }
		do := func(op func(Selection) (int, error), s Selection, want int) {
			t.Helper()
			if n, err := op(s); err != nil || n != want {
				t.Errorf("%+v: %d letters, %v; want %d", s, n, err, want)
			}
			synctest.Wait()
		}
		one, held := Selection{ID: number(1).String()}, Selection{Destination: "b.example"}
		d.Add(letter(1, "a.example"), letter(2, "a.example"))
		do(d.Hold, held, 0) // before there is anything for it
		do(d.Hold, one, 1)
		d.Add(letter(3, "b.example"))
		d.start()
		time.Sleep(time.Second)
		synctest.Wait()
		if got := d.sent; !slices.Equal(got, []string{"a.example"}) {
			t.Errorf("sent %v while two of three are held", got)
		}
		do(d.Retry, Selection{All: true}, 3)
		do(d.Retry, Selection{ID: number(2).String()}, 1)
		if len(d.at[number(2)]) != 3 || len(d.at[number(1)]) != 0 || len(d.at[number(3)]) != 0 {
			t.Errorf("after two retries: %v", d.at)
		}
		list, err := d.Letters(one, 10)
		if err != nil || len(list) != 1 || list[0].State != "held" {
			t.Errorf("the held letter: %+v, %v", list, err)
		}
		if o := d.Overview(1); o.More != 1 || o.Letters != 3 || o.Destinations[0].HeldOnes != 1 || !slices.Equal(o.Held, []string{"b.example"}) {
			t.Errorf("overview: %+v", o)
		}
		// The next process holds the same.
		again, err := OpenHolds(durable.OS, file)
		if err != nil || !again.letter(number(1)) || again.letter(number(2)) || !again.destination("b.example") {
			t.Errorf("after a restart: %+v, %v", again.is, err)
		}
		do(d.Release, one, 1)
		do(d.Release, held, 1)
		if len(d.at[number(1)]) != 1 || len(d.at[number(3)]) != 1 {
			t.Errorf("after the release: %v", d.at)
		}
		do(d.Hold, Selection{All: true}, 3)
		do(d.Retry, Selection{All: true}, 3)
		if n := len(d.sent); n != 5 {
			t.Errorf("%d attempts while everything is held", n)
		}
		for _, part := range []Selection{one, held} {
			if _, err := d.Release(part); !errors.Is(err, ErrHeldWithMore) {
				t.Errorf("%+v was released while everything is held: %v", part, err)
			}
		}
		do(d.Release, Selection{All: true}, 3)
		do(d.Hold, held, 1)
		if _, err := d.Release(Selection{ID: number(3).String()}); !errors.Is(err, ErrHeldWithMore) {
			t.Errorf("a letter was released while its destination is held: %v", err)
		}
		if list, err := d.Letters(held, 10); err != nil || len(list) != 1 || list[0].State != "held with its destination" {
			t.Errorf("%+v, %v", list, err)
		}
		do(d.Release, held, 1)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := len(d.sent); n < 8 {
			t.Errorf("%d attempts after everything was released", n)
		}
		for _, s := range []Selection{{}, {All: true, Destination: "x"}, {ID: "zz"}, {ID: number(77).String()}} {
			if _, err := d.Hold(s); err == nil {
				t.Errorf("held %+v", s)
			}
			if _, err := d.Letters(s, 1); err == nil {
				t.Errorf("listed %+v", s)
			}
		}
		if _, err := d.Retry(Selection{Destination: "nobody.example"}); !errors.Is(err, ErrUnknown) {
			t.Errorf("retried a destination without letters: %v", err)
		}
		d.stop()
	})
}

// A held letter expires, too.
func TestQueueHeldLetterExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Options{})
		d.Add(letter(1, "a.example"))
		if _, err := d.Hold(Selection{All: true}); err != nil {
			t.Fatal(err)
		}
		d.start()
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if got := d.states(1); !slices.Equal(got, []State{Refused}) || len(d.sent) != 0 || d.Len() != 0 {
			t.Errorf("%v, sent %d times, %d left", got, len(d.sent), d.Len())
		}
		d.stop()
	})
}

// A hold counts only when it is on the disk, and a disk that fails at any step leaves what was held.
func TestHoldsSurviveTheDisk(t *testing.T) {
	t.Parallel()
	for step := 1; ; step++ {
		dir := t.TempDir()
		fsys, err := faultfs.New(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "held")
		holds, err := OpenHolds(fsys, file)
		if err != nil {
			t.Fatal(err)
		}
		q := NewQueue(Options{Sessions: 1, PerDestination: 1, FirstDelay: time.Minute, MaxDelay: time.Minute, Holds: holds})
		if _, err := q.Hold(Selection{Destination: "a.example"}); err != nil {
			t.Fatal(err)
		}
		fsys.SetFault(faultfs.CrashAt(len(fsys.Calls()) + step))
		_, herr := q.Hold(Selection{Destination: "b.example"})
		crashed := fsys.Crashed()
		if crashed {
			if err := fsys.PowerLoss(); err != nil {
				t.Fatal(err)
			}
		}
		again, err := OpenHolds(durable.OS, file)
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if !again.destination("a.example") || herr == nil && !again.destination("b.example") {
			t.Errorf("step %d, %v: on the disk is %v", step, herr, again.list())
		}
		if herr != nil && holds.destination("b.example") {
			t.Errorf("step %d: held, though it is not on the disk", step)
		}
		if !crashed {
			if step < 4 {
				t.Fatalf("only %d steps were tried", step)
			}
			return
		}
	}
}

func TestHoldsRefuseAForeignFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "held")
	for _, content := range []string{"", "{", `{"letters":[]}`, "\x00"} {
		if err := durable.WriteFile(durable.OS, name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenHolds(durable.OS, name); err == nil {
			t.Errorf("%q was read", content)
		}
	}
}
