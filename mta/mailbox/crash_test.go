package mailbox_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/mta/mailbox"
)

// trial is a deliverer with durable notes, as the pipeline is one.
type trial struct {
	dir   string
	fsys  durable.FS
	at    time.Time
	host  string
	boxes [3]string
}

func newTrial(t *testing.T, dir string, fsys durable.FS) *trial {
	t.Helper()
	return &trial{dir: dir, fsys: fsys, at: at, host: host, boxes: [3]string{"a@b.it", "c@d.it", "a@b.it"}}
}

func (r *trial) note() string {
	b, _ := os.ReadFile(filepath.Join(r.dir, "note"))
	return string(b)
}

func text(i int) string { return fmt.Sprintf("Message-ID: <%d@b.it>\r\n\r\n%d\r\n", i, i) }

// run delivers three messages into two mailboxes, from where an earlier run was
// cut off.
func (r *trial) run() error {
	s, err := mailbox.Open(filepath.Join(r.dir, "mail"), mailbox.Options{Host: r.host, FS: r.fsys})
	if err != nil {
		return err
	}
	defer s.Close()
	note := r.note()
	if err := s.CleanTmp(func(_, name string) bool { return note != "published" && strings.HasPrefix(name, "n") }); err != nil {
		return err
	}
	var ps []*mailbox.Prepared
	if note == "" {
		for i, box := range r.boxes {
			d := message(box, fmt.Sprintf("n%d", i), text(i))
			d.Time = r.at
			p, err := s.Prepare(d)
			if err != nil {
				return err
			}
			ps = append(ps, p)
		}
		if err := s.Sync(ps...); err != nil {
			return err
		}
		note = "publishing"
		if err := durable.WriteFile(r.fsys, filepath.Join(r.dir, "note"), []byte(note), 0o600); err != nil {
			return err
		}
	} else {
		for i, box := range r.boxes {
			ps = append(ps, s.Resume(box, fmt.Sprintf("n%d", i), int64(len(text(i))), r.at))
		}
	}
	if note == "publishing" {
		if err := s.Publish(ps...); err != nil {
			return err
		}
		return durable.WriteFile(r.fsys, filepath.Join(r.dir, "note"), []byte("published"), 0o600)
	}
	return nil
}

// take removes what is in new/, as a holder may who reads and deletes, and
// returns it.
func take(t *testing.T, s *mailbox.Store) map[string]int {
	t.Helper()
	taken := map[string]int{}
	for _, box := range []string{"a@b.it", "c@d.it"} {
		for name, text := range files(t, s, box, "new") {
			taken[box+" "+text]++
			dir, _ := s.Path(box)
			if err := os.Remove(filepath.Join(dir, "new", name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return taken
}

// Killed at any call, or without power at any call, then at any call of the
// rerun as well: each message is there exactly once, and what was read and
// deleted meanwhile does not come back.
func TestExactlyOnceAfterCrashes(t *testing.T) {
	t.Parallel()
	template := t.TempDir()
	s := openStore(t, filepath.Join(template, "mail"), mailbox.Options{})
	create(t, s, "a@b.it", 10000)
	create(t, s, "c@d.it", 0)
	for _, mode := range []string{"kill", "power", "reader", "new host"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			calls := crashAt(t, template, mode, 1<<30, 1<<30)
			if calls < 25 {
				t.Fatalf("only %d calls to crash at", calls)
			}
			for first := 1; first <= calls; first++ {
				crashAt(t, template, mode, first, 1<<30)
			}
			for first := 2; first <= calls; first += 3 {
				for second := 1; second <= calls; second += 2 {
					crashAt(t, template, mode, first, second)
				}
			}
		})
	}
}

// crashAt runs a trial that crashes at the first-th call and, run again, at the
// second-th, then to its end. It returns the number of calls of the first run.
func crashAt(t *testing.T, template, mode string, first, second int) (calls int) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
		t.Fatal(err)
	}
	var err error
	for _, d := range []string{"mail", "mail/b.it", "mail/b.it/a", "mail/d.it", "mail/d.it/c"} {
		err = errors.Join(err, os.Chmod(filepath.Join(dir, d), 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	look := openStore(t, filepath.Join(dir, "mail"), mailbox.Options{FlushEach: true})
	taken := map[string]int{}
	for run, n := range []int{first, second, 1 << 30} {
		fsys, err := faultfs.New(dir, faultfs.CrashAt(n))
		if err != nil {
			t.Fatal(err)
		}
		r := newTrial(t, dir, fsys)
		if mode == "new host" && run > 0 {
			r.host = fmt.Sprintf("host%d.example.it", run)
		}
		err = r.run()
		if err != nil && !fsys.Crashed() {
			t.Fatalf("crash at %d, %d, run %d: %v", first, second, run, err)
		}
		if run == 0 {
			calls = len(fsys.Calls())
		}
		if mode == "power" && fsys.Crashed() {
			if err := fsys.PowerLoss(); err != nil {
				t.Fatal(err)
			}
		}
		if mode == "reader" {
			for message, n := range take(t, look) {
				taken[message] += n
			}
		}
	}
	if mode != "reader" && second == 1<<30 {
		usage, err := look.Usage("a@b.it")
		if want := int64(len(text(0)) + len(text(2))); err != nil || usage != (mailbox.Usage{Bytes: want, Messages: 2, Limit: 10000}) {
			t.Fatalf("crash at %d: usage %+v, want %d bytes in 2 messages; %v", first, usage, want, err)
		}
	}
	for message, n := range take(t, look) {
		taken[message] += n
	}
	for i, box := range newTrial(t, dir, nil).boxes {
		if taken[box+" "+text(i)] != 1 {
			t.Fatalf("crash at %d, %d: message %d is in %s %d times: %v", first, second, i, box, taken[box+" "+text(i)], taken)
		}
	}
	if len(taken) != 3 {
		t.Fatalf("crash at %d, %d: %v", first, second, taken)
	}
	// What recovery did not need is gone.
	if err := newTrial(t, dir, durable.OS).run(); err != nil {
		t.Fatal(err)
	}
	for _, box := range []string{"a@b.it", "c@d.it"} {
		for name := range files(t, look, box, "tmp") {
			if !strings.HasPrefix(name, "maildirsize.") { // of a recalculation, reused by the next
				t.Fatalf("crash at %d, %d: %s left in tmp", first, second, name)
			}
		}
	}
	return calls
}
