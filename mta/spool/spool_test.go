package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
)

type testKeys struct{}

func (testKeys) ReceiptKey(uint16) (*[32]byte, error) { return &[32]byte{7}, nil }

type body struct{ Sender string }

func open(t *testing.T, dir string) (*Spool, []*Job) {
	t.Helper()
	s, jobs, err := Open(durable.OS, dir, testKeys{})
	if err != nil {
		t.Fatal(err)
	}
	return s, jobs
}

// What was added and noted comes back without Close, as after a crash; what was
// done does not.
func TestReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, jobs := open(t, dir)
	if len(jobs) != 0 {
		t.Fatalf("a new spool has %d jobs", len(jobs))
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			j, err := s.Add(ID{byte(i)}, 24000, body{fmt.Sprintf("user%d@pec.example", i)})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Note(j, "time", i); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				if err := s.Done(j); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s.Waiting() != 25 {
		t.Errorf("Waiting = %d", s.Waiting())
	}
	s2, jobs := open(t, dir)
	if len(jobs) != 25 || s2.Waiting() != 25 {
		t.Fatalf("%d jobs came back, Waiting = %d", len(jobs), s2.Waiting())
	}
	for _, j := range jobs {
		var n int
		if ok, err := j.Noted("time", &n); !ok || err != nil || byte(n) != j.ID[0] || n%2 == 0 {
			t.Errorf("job %x: note %d %v %v", j.ID[:1], n, ok, err)
		}
		if !strings.Contains(string(j.Body), fmt.Sprintf("user%d@", n)) {
			t.Errorf("job %x: body %s", j.ID[:1], j.Body)
		}
		if ok, err := j.Noted("other", &n); ok || err != nil {
			t.Errorf("a note that was never made: %v %v", ok, err)
		}
	}
}

func TestSealedOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := open(t, dir)
	if _, err := s.Add(ID{1}, 24000, body{"visible@pec.example"}); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		if b, err := os.ReadFile(f); err != nil || bytes.Contains(b, []byte("visible")) {
			t.Errorf("%s shows an address (%v)", f, err)
		}
	}
}

// Old files go away when their jobs are done, and not before.
func TestRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := open(t, dir)
	big := body{strings.Repeat("x", 1<<20)}
	first, err := s.Add(ID{1}, 24000, big)
	if err != nil {
		t.Fatal(err)
	}
	var rest []*Job
	for i := range 70 {
		j, err := s.Add(ID{2, byte(i)}, 24000, big)
		if err != nil {
			t.Fatal(err)
		}
		rest = append(rest, j)
	}
	count := func() int { files, _ := filepath.Glob(filepath.Join(dir, "*.jobs")); return len(files) }
	if count() < 3 {
		t.Fatalf("%d files for 71 MiB", count())
	}
	for _, j := range rest {
		if err := s.Done(j); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, jobs := open(t, dir)
	if len(jobs) != 1 || jobs[0].ID != first.ID {
		t.Fatalf("%d jobs came back", len(jobs))
	}
	if err := s.Done(jobs[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, jobs = open(t, dir); len(jobs) != 0 || count() != 1 {
		t.Fatalf("%d jobs and %d files are left", len(jobs), count())
	}
}

// A job that does not end keeps few files, however many others come and go, and
// nothing of it is lost: not by a crash at any call while it is carried over.
func TestCarriedOver(t *testing.T) {
	t.Parallel()
	const files = 30
	for crash := 0; ; crash++ { // 0: none
		root := t.TempDir()
		dir := filepath.Join(root, "spool")
		fsys, err := faultfs.New(root, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, _, err := Open(fsys, dir, testKeys{})
		if err != nil {
			t.Fatal(err)
		}
		s.fileSize = 4 << 10
		stuck, err := s.Add(ID{1}, 24000, body{"stuck@pec.example"})
		if err == nil {
			err = s.Note(stuck, "one", 1)
		}
		if err != nil {
			t.Fatal(err)
		}
		carriedFrom := stuck.file
		if crash > 0 {
			fsys.SetFault(faultfs.CrashAt(len(fsys.Calls()) + crash))
		}
		noted := 1
		for i := 0; err == nil && s.number < files; i++ {
			var j *Job
			if j, err = s.Add(ID{2, byte(i >> 8), byte(i)}, 24000, body{strings.Repeat("x", 1000)}); err == nil {
				err = s.Done(j)
			}
			if err == nil && s.number == files/2 && noted == 1 {
				if err = s.Note(stuck, "two", 2); err == nil {
					noted = 2
				}
			}
		}
		if names, _ := filepath.Glob(filepath.Join(dir, "*.jobs")); len(names) > keepFiles+2 {
			t.Errorf("%d files are kept for one job", len(names))
		}
		if crash == 0 && (err != nil || stuck.file == carriedFrom) {
			t.Fatalf("not carried over: %v", err)
		}
		if crash > 0 && !fsys.Crashed() {
			break
		}
		if err := fsys.PowerLoss(); err != nil {
			t.Fatal(err)
		}
		again, jobs := open(t, dir)
		var found *Job
		for _, j := range jobs {
			if j.ID == stuck.ID {
				if found != nil {
					t.Errorf("crash %d: the job comes back twice", crash)
				}
				found = j
			}
		}
		var one, two int
		if found == nil || !strings.Contains(string(found.Body), "stuck@") {
			t.Fatalf("crash %d: the job is lost: %v", crash, found)
		}
		if _, err := found.Noted("one", &one); err != nil || one != 1 {
			t.Errorf("crash %d: the first note is %d, %v", crash, one, err)
		}
		if _, err := found.Noted("two", &two); err != nil || noted == 2 && two != 2 {
			t.Errorf("crash %d: the second note is %d, %v", crash, two, err)
		}
		if len(jobs) > 2 || again.Waiting() != len(jobs) {
			t.Errorf("crash %d: %d jobs, %d waiting", crash, len(jobs), again.Waiting())
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		crash += 2 // every third
		if testing.Short() {
			crash += 10
		}
	}
}

// A finished job is not carried over behind the entry that says so.
func TestFinishedIsNotCarriedOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := open(t, dir)
	s.fileSize = 1 << 10
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 60 {
				j, err := s.Add(ID{byte(i), byte(k)}, 24000, body{strings.Repeat("x", 100)})
				if err == nil {
					err = s.Note(j, "n", k)
				}
				if err == nil {
					err = s.Done(j)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(s.jobs) != 0 || len(s.live) != 0 {
		t.Errorf("%d jobs, %v", len(s.jobs), s.live)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, jobs := open(t, dir); len(jobs) != 0 {
		t.Errorf("%d finished jobs come back", len(jobs))
	}
}
