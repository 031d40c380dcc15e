package mailbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

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

// A message is never held in memory, however its source writes it. Not parallel:
// what the process allocates is counted.
func TestPrepareStreams(t *testing.T) {
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
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := s.Prepare(d); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes allocated for a message of %d", n, size)
	}
	for name, text := range files(t, s, "a@b.it", "tmp") {
		if len(text) != size || !bytes.HasPrefix([]byte(text), line) {
			t.Errorf("%s has %d bytes", name, len(text))
		}
	}
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
		"rename tmp/" + file + " -> b.it/a/new/" + file, "syncdir new", "syncdir tmp"}
	got := fsys.Calls()[before:]
	if len(got) != len(want) {
		t.Fatalf("calls %v", got)
	}
	for i, w := range want {
		op, name, _ := strings.Cut(w, " ")
		if got[i].String() != op+" b.it/a/"+name {
			t.Errorf("call %d is %v, want %s", i, got[i], w)
		}
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

// A mailbox that cannot be read when the others are cleaned gets nothing before it
// was cleaned, and then what a crash left there counts as before.
func TestCleanTmpOfAnUnreadableMailbox(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	before := openStore(t, root, mailbox.Options{})
	for _, box := range []string{"a@b.it", "c@b.it"} {
		create(t, before, box, 0)
		for _, name := range []string{"keep", "drop"} {
			if _, err := before.Prepare(message(box, name, "text")); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := openStore(t, root, mailbox.Options{})
	dir, _ := s.Path("c@b.it")
	tmp, aside := filepath.Join(dir, "tmp"), filepath.Join(dir, "aside")
	if err := errors.Join(os.Rename(tmp, aside), os.WriteFile(tmp, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := s.CleanTmp(func(_, name string) bool { return name == "keep" }); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, s, "a@b.it", "tmp", map[string]string{"1764000000.keep." + host + ",S=4,W=4": "text"})
	kept := message("c@b.it", "keep", "text")
	resumed := s.Resume(kept.Mailbox, kept.Name, kept.Size, kept.Time)
	var broken *mailbox.FileError
	if _, err := s.Prepare(message("c@b.it", "new", "text")); !errors.As(err, &broken) || !broken.Alone() {
		t.Errorf("prepared: %v", err)
	}
	if err := s.Move(resumed); !errors.As(err, &broken) || !broken.Alone() {
		t.Errorf("moved: %v", err)
	}
	if err := errors.Join(os.Remove(tmp), os.Rename(aside, tmp)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			p, err := s.Prepare(message("C@b.it", fmt.Sprint("new", i), "text"))
			if err == nil {
				err = errors.Join(s.Sync(p), s.Publish(p))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := s.Publish(resumed); err != nil {
		t.Error(err)
	}
	wantFiles(t, s, "c@b.it", "tmp", map[string]string{})
	if n := len(files(t, s, "c@b.it", "new")); n != 9 {
		t.Errorf("%d messages", n)
	}
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
