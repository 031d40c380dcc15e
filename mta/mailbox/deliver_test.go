package mailbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/mta/mailbox"
)

var at = time.Unix(1764000000, 999).UTC()

const host = "pec.example.it"

func openStore(t *testing.T, dir string, o mailbox.Options) *mailbox.Store {
	t.Helper()
	if o.Host == "" {
		o.Host = host
	}
	s, err := mailbox.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func create(t *testing.T, s *mailbox.Store, box string, quota int64) {
	t.Helper()
	if err := s.Create(box, quota); err != nil {
		t.Fatal(err)
	}
}

func message(box, name, text string) mailbox.Delivery {
	return mailbox.Delivery{Mailbox: box, Name: name, Time: at, Size: int64(len(text)),
		Write: func(w io.Writer) error { _, err := io.WriteString(w, text); return err }}
}

// files returns what a folder of a mailbox holds, by name.
func files(t *testing.T, s *mailbox.Store, box, sub string) map[string]string {
	t.Helper()
	dir, err := s.Path(box)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, sub))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, sub, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(b)
	}
	return all
}

func wantFiles(t *testing.T, s *mailbox.Store, box, sub string, want map[string]string) {
	t.Helper()
	if got := files(t, s, box, sub); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s of %s holds %q, want %q", sub, box, got, want)
	}
}

func TestDeliveryOnDisk(t *testing.T) {
	t.Parallel()
	for _, each := range []bool{false, true} {
		root := filepath.Join(t.TempDir(), "mail")
		s := openStore(t, root, mailbox.Options{FlushEach: each})
		create(t, s, "Anna.Rossi@PEC.example.it", 0)
		const text = "Subject: prova\r\n\r\n\x00\xff.\r\n"
		p, err := s.Prepare(message("anna.rossi@pec.example.it", "a1-b_2", text))
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("1764000000.a1-b_2.%s,S=%d,W=%d", host, len(text), len(text))
		wantFiles(t, s, "anna.rossi@pec.example.it", "tmp", map[string]string{name: text})
		wantFiles(t, s, "anna.rossi@pec.example.it", "new", map[string]string{})
		if err := s.Sync(p); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Publish(p); err != nil {
				t.Fatal(err)
			}
			wantFiles(t, s, "ANNA.rossi@pec.example.it", "tmp", map[string]string{})
			wantFiles(t, s, "ANNA.rossi@pec.example.it", "new", map[string]string{name: text})
		}
		box := filepath.Join(root, "pec.example.it", "anna.rossi")
		for path, mode := range map[string]os.FileMode{
			root: 0o700, filepath.Dir(box): 0o700, box: 0o700, box + "/tmp": 0o700, box + "/new": 0o700,
			box + "/cur": 0o700, box + "/new/" + name: 0o600,
		} {
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
				t.Errorf("%s has mode %v, want %v; %v", path, st.Mode().Perm(), mode, err)
			}
		}
		if err := s.Sync(); err != nil {
			t.Error(err)
		}
		if err := s.Publish(); err != nil {
			t.Error(err)
		}
	}
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openStore(t, root, mailbox.Options{})
	create(t, s, "a@b.it", 100)
	broken := errors.New("broken source")
	tests := []struct {
		name   string
		change func(*mailbox.Delivery)
		want   error // nil: any
	}{
		{"too short", func(d *mailbox.Delivery) { d.Size++ }, nil},
		{"too long", func(d *mailbox.Delivery) { d.Size-- }, nil},
		{"negative size", func(d *mailbox.Delivery) { d.Size = -1 }, nil},
		{"much too long", func(d *mailbox.Delivery) {
			d.Write = func(w io.Writer) error { _, err := w.Write(make([]byte, 1<<20)); return err }
		}, nil},
		{"failing source", func(d *mailbox.Delivery) { d.Write = func(io.Writer) error { return broken } }, broken},
		{"no mailbox", func(d *mailbox.Delivery) { d.Mailbox = "x@b.it" }, mailbox.ErrNoMailbox},
		{"no mailbox, quota bypassed", func(d *mailbox.Delivery) { d.Mailbox = "x@b.it"; d.BypassQuota = true }, mailbox.ErrNoMailbox},
		{"no address", func(d *mailbox.Delivery) { d.Mailbox = "../b@b.it" }, mailbox.ErrAddress},
		{"no name", func(d *mailbox.Delivery) { d.Name = "" }, nil},
		{"name with a folder", func(d *mailbox.Delivery) { d.Name = "../new/x" }, nil},
		{"name with a dot", func(d *mailbox.Delivery) { d.Name = "x.y" }, nil},
		{"name too long", func(d *mailbox.Delivery) { d.Name = strings.Repeat("x", 101) }, nil},
		{"full", func(d *mailbox.Delivery) { d.Size = 101 }, mailbox.ErrMailboxFull},
	}
	for _, tc := range tests {
		d := message("a@b.it", "n", "text")
		tc.change(&d)
		if p, err := s.Prepare(d); err == nil || p != nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	wantFiles(t, s, "a@b.it", "tmp", map[string]string{})
	for _, p := range []*mailbox.Prepared{s.Resume("a", "n", 1, at), s.Resume("a@b.it", "a/b", 1, at)} {
		if err := s.Sync(p); err == nil {
			t.Error("synced what cannot be")
		}
		if err := s.Publish(p); err == nil {
			t.Error("published what cannot be")
		}
	}
}

// A mailbox that is gone is no proof of a publication, and does not hold up the
// others of its batch.
func TestPublishWithoutMailbox(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), mailbox.Options{})
	var ps []*mailbox.Prepared
	for _, box := range []string{"gone@b.it", "there@b.it"} {
		create(t, s, box, 0)
		p, err := s.Prepare(message(box, "n", "text"))
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	if err := s.Sync(ps...); err != nil {
		t.Fatal(err)
	}
	dir, _ := s.Path("gone@b.it")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(ps...); !errors.Is(err, mailbox.ErrNoMailbox) || !strings.Contains(err.Error(), "gone@b.it") {
		t.Errorf("published: %v", err)
	}
	if n := len(files(t, s, "there@b.it", "new")); n != 1 {
		t.Errorf("%d messages in the other mailbox", n)
	}
}

func TestPrepareOnFullDisk(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fsys, err := faultfs.New(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, root, mailbox.Options{FS: fsys})
	create(t, s, "a@b.it", 0)
	for _, op := range []string{"open", "write"} {
		fsys.SetFault(faultfs.FailOp(op, syscall.ENOSPC))
		if _, err := s.Prepare(message("a@b.it", "n", "text")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", op, err)
		}
		wantFiles(t, s, "a@b.it", "tmp", map[string]string{})
	}
	fsys.SetFault(nil)
	p, err := s.Prepare(message("a@b.it", "n", "text"))
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{"sync", "syncdir"} {
		fsys.SetFault(faultfs.FailOp(op, syscall.EIO))
		if err := s.Sync(p); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", op, err)
		}
	}
	fsys.SetFault(faultfs.FailOp("rename", syscall.EIO))
	if err := s.Publish(p); !errors.Is(err, syscall.EIO) {
		t.Errorf("rename: %v", err)
	}
	fsys.SetFault(faultfs.FailOp("syncdir", syscall.EIO))
	if err := s.Publish(p); !errors.Is(err, syscall.EIO) {
		t.Errorf("syncdir: %v", err)
	}
}

// A message is never held in memory, however its source writes it.
func TestPrepareStreams(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), mailbox.Options{})
	create(t, s, "a@b.it", 0)
	const size = 50 << 20
	line := []byte(strings.Repeat("x", 76) + "\r\n")
	d := message("a@b.it", "big", "")
	d.Size = size
	d.Write = func(w io.Writer) error {
		for left := size; left > 0; left -= len(line) {
			if _, err := w.Write(line[:min(len(line), left)]); err != nil {
				return err
			}
		}
		return nil
	}
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := s.Prepare(d); err != nil {
				b.Fatal(err)
			}
			if b.N > 1 {
				break
			}
		}
	}).AllocedBytesPerOp()
	if allocated > 1<<20 {
		t.Errorf("%d bytes allocated for a message of %d", allocated, size)
	}
	for name, text := range files(t, s, "a@b.it", "tmp") {
		if len(text) != size || !bytes.HasPrefix([]byte(text), line) {
			t.Errorf("%s has %d bytes", name, len(text))
		}
	}
}

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

// Each step makes what it made durable before the next may begin.
func TestOrderOfDurableSteps(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fsys, err := faultfs.New(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, root, mailbox.Options{FS: fsys})
	create(t, s, "a@b.it", 0)
	before := len(fsys.Calls())
	p, err := s.Prepare(message("a@b.it", "n", "text"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(p); err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(p); err != nil {
		t.Fatal(err)
	}
	file := "1764000000.n." + host + ",S=4,W=4"
	want := []string{"open tmp/" + file, "write tmp/" + file, "sync tmp/" + file, "syncdir tmp",
		"rename tmp/" + file + " -> b.it/a/new/" + file}
	got := fsys.Calls()[before:]
	if len(got) != len(want)+2 {
		t.Fatalf("calls %v", got)
	}
	for i, w := range want {
		op, name, _ := strings.Cut(w, " ")
		if got[i].String() != op+" b.it/a/"+name {
			t.Errorf("call %d is %v, want %s", i, got[i], w)
		}
	}
	folders := map[string]bool{got[5].String(): true, got[6].String(): true}
	if !folders["syncdir b.it/a/new"] || !folders["syncdir b.it/a/tmp"] {
		t.Errorf("folders synced: %v", folders)
	}
}

func TestCleanTmpLeavesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openStore(t, root, mailbox.Options{})
	create(t, s, "a@b.it", 0)
	for _, name := range []string{"keep", "drop"} {
		if _, err := s.Prepare(message("a@b.it", name, "text")); err != nil {
			t.Fatal(err)
		}
	}
	dir, _ := s.Path("a@b.it")
	dovecot := "1764000000.M12P34.imap"
	for _, name := range []string{filepath.Join(dir, "tmp", dovecot), filepath.Join(root, "stray"), filepath.Join(root, "b.it", "stray")} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "b.it", "half"), 0o700); err != nil {
		t.Fatal(err)
	}
	var asked []string
	err := s.CleanTmp(func(box, name string) bool {
		asked = append(asked, box+" "+name)
		return name == "keep"
	})
	if err != nil || fmt.Sprint(asked) != "[a@b.it drop a@b.it keep]" {
		t.Fatalf("asked about %q; %v", asked, err)
	}
	wantFiles(t, s, "a@b.it", "tmp", map[string]string{dovecot: "", "1764000000.keep." + host + ",S=4,W=4": "text"})
}

func TestConcurrentDeliveries(t *testing.T) {
	t.Parallel()
	for _, each := range []bool{false, true} {
		s := openStore(t, t.TempDir(), mailbox.Options{FlushEach: each})
		const boxes, workers, rounds = 4, 8, 6
		for b := range boxes {
			create(t, s, fmt.Sprintf("box%d@b.it", b), 1<<20)
		}
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for r := range rounds {
					var ps []*mailbox.Prepared
					for b := range boxes {
						p, err := s.Prepare(message(fmt.Sprintf("box%d@b.it", b), fmt.Sprintf("w%d-%d", w, r), text(w)))
						if err != nil {
							t.Error(err)
							return
						}
						ps = append(ps, p)
					}
					if err := errors.Join(s.Sync(ps...), s.Publish(ps...)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		for b := range boxes {
			box := fmt.Sprintf("box%d@b.it", b)
			if n := len(files(t, s, box, "new")); n != workers*rounds {
				t.Errorf("%d messages in %s", n, box)
			}
			u, err := s.Usage(box)
			if err != nil || u.Messages != workers*rounds || u.Bytes != int64(workers*rounds*len(text(0))) {
				t.Errorf("usage of %s: %+v, %v", box, u, err)
			}
		}
	}
}
