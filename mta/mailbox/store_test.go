package mailbox_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"scripta/internal/durable/faultfs"
	"scripta/mta/mailbox"
)

func TestNormalize(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64)
	good := map[string]string{
		"Anna.ROSSI@Pec.Example.IT":      "anna.rossi@pec.example.it",
		"posta-certificata@a.it":         "posta-certificata@a.it",
		"o'neil+x=y_z~!$&^{}@xn--a-0.it": "o'neil+x=y_z~!$&^{}@xn--a-0.it",
		long + "@a.it":                   long + "@a.it",
	}
	for in, want := range good {
		if got, err := mailbox.Normalize(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", "@", "a", "a@", "@a.it", "a@@a.it", "a@b@a.it", "a@it", ".a@a.it", "a.@a.it", "a..b@a.it", "..@a.it", "../x@a.it",
		"a/b@a.it", "a\x00@a.it", "a b@a.it", "a\n@a.it", "a:b@a.it", "a%d@a.it", "#a@a.it", "à@a.it", "\"a\"@a.it", "a\\b@a.it",
		long + "x@a.it", "a@.it", "a@a..it", "a@a.it.", "a@-a.it", "a@a-.it", "a@a_b.it", "a@a/b.it", "a@../b.it", "a@à.it", "a@[1.2.3.4]",
		"a@" + long + ".it", "a@" + strings.Repeat("a.", 126) + "it", "\u212aelvin@a.it", // Kelvin sign: its lower case is ASCII
	} {
		if got, err := mailbox.Normalize(in); !errors.Is(err, mailbox.ErrAddress) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestReserved(t *testing.T) {
	t.Parallel()
	for local, want := range map[string]bool{
		"posta-certificata": true, "Postmaster": true, "ABUSE": true, "richiesta-log": true,
		"": false, "posta": false, "abuse2": false, "post-master": false,
	} {
		if mailbox.Reserved(local) != want {
			t.Errorf("%q: %v", local, !want)
		}
	}
}

func TestOpenRefusesHost(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"", "a/b", "a:b", "a b", "a,b.it"} {
		if _, err := mailbox.Open(t.TempDir(), mailbox.Options{Host: host}); err == nil {
			t.Errorf("%q accepted", host)
		}
	}
}

func TestCreateAndExists(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "mail")
	s := openStore(t, root, mailbox.Options{})
	if s.Exists("a@b.it") || s.Exists("nonsense") {
		t.Error("a mailbox before it was created")
	}
	if err := s.Create("a/b@b.it", 0); !errors.Is(err, mailbox.ErrAddress) {
		t.Errorf("%v", err)
	}
	if err := s.Create("a@b.it", -1); err == nil {
		t.Error("negative quota")
	}
	create(t, s, "A@b.it", 0)
	create(t, s, "posta-certificata@b.it", 0)
	if !s.Exists("a@B.it") || s.Exists("b@b.it") {
		t.Error("Exists is wrong")
	}
	dir, err := s.Path("a@b.it")
	if err != nil || dir != filepath.Join(root, "b.it", "a") {
		t.Errorf("path %q, %v", dir, err)
	}
	if err := os.Remove(filepath.Join(dir, "cur")); err != nil {
		t.Fatal(err)
	}
	if s.Exists("a@b.it") {
		t.Error("half a mailbox exists")
	}
	create(t, s, "a@b.it", 0)
	if !s.Exists("a@b.it") {
		t.Error("half a mailbox was not completed")
	}
}

// A disk that fails must not turn into "no such user".
func TestExistsOnFailingDisk(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fsys, err := faultfs.New(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, root, mailbox.Options{FS: fsys})
	if s.Exists("a@b.it") {
		t.Error("a mailbox before it was created")
	}
	if err := fsys.PowerLoss(); err != nil {
		t.Fatal(err)
	}
	if !s.Exists("a@b.it") {
		t.Error("an error was taken for absence")
	}
}

func TestCreateSurvivesPowerLoss(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		dir := t.TempDir()
		root := filepath.Join(dir, "mail")
		fsys, err := faultfs.New(dir, faultfs.CrashAt(n))
		if err != nil {
			t.Fatal(err)
		}
		s, err := mailbox.Open(root, mailbox.Options{Host: host, FS: fsys})
		if err == nil {
			err = s.Create("a@b.it", 1000)
		}
		crashed := fsys.Crashed()
		if (err != nil) != crashed {
			t.Fatalf("call %d: %v", n, err)
		}
		if err := fsys.PowerLoss(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, root, mailbox.Options{FlushEach: true})
		if crashed {
			create(t, s, "a@b.it", 1000)
		}
		if u, err := s.Usage("a@b.it"); !s.Exists("a@b.it") || err != nil || u.Limit != 1000 {
			t.Fatalf("call %d: exists %v, %+v, %v", n, s.Exists("a@b.it"), u, err)
		}
		if !crashed {
			break
		}
	}
}

// quotaCase is a store with one mailbox, whose maildirsize tests look at.
type quotaCase struct {
	*testing.T
	s   *mailbox.Store
	dir string
	now time.Time
}

const box = "a@b.it"

func newQuotaCase(t *testing.T, quota int64, known func(string) (int64, bool)) *quotaCase {
	t.Helper()
	q := &quotaCase{T: t, now: time.Now()}
	q.s = openStore(t, t.TempDir(), mailbox.Options{Now: func() time.Time { return q.now }, Quota: known})
	create(t, q.s, box, quota)
	q.dir, _ = q.s.Path(box)
	return q
}

func (q *quotaCase) deliver(name string, size int, bypass bool) error {
	q.Helper()
	d := message(box, name, strings.Repeat("x", size))
	d.BypassQuota = bypass
	p, err := q.s.Prepare(d)
	if err != nil {
		return err
	}
	return errors.Join(q.s.Sync(p), q.s.Publish(p))
}

func (q *quotaCase) want(text string) {
	q.Helper()
	b, err := os.ReadFile(filepath.Join(q.dir, "maildirsize"))
	if err != nil && text != "" || string(b) != text {
		q.Errorf("maildirsize %q, want %q; %v", b, text, err)
	}
}

func (q *quotaCase) write(text string) {
	q.Helper()
	if err := os.WriteFile(filepath.Join(q.dir, "maildirsize"), []byte(text), 0o600); err != nil {
		q.Fatal(err)
	}
}

func (q *quotaCase) check(size int64, want error) {
	q.Helper()
	if err := q.s.CheckQuota(box, size); !errors.Is(err, want) {
		q.Errorf("%d bytes: %v, want %v", size, err, want)
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	q := newQuotaCase(t, 1000, nil)
	q.want("1000S\n0 0\n")
	q.check(1000, nil)
	q.check(1001, mailbox.ErrMailboxFull)
	if err := q.deliver("one", 600, false); err != nil {
		t.Fatal(err)
	}
	q.want("1000S\n0 0\n600 1\n")
	q.check(400, nil)
	if err := q.deliver("two", 401, false); !errors.Is(err, mailbox.ErrMailboxFull) {
		t.Errorf("delivered beyond the quota: %v", err)
	}
	q.want("1000S\n600 1\n") // recalculated before it was believed
	if err := q.deliver("receipt", 500, true); err != nil {
		t.Errorf("quota not bypassed: %v", err)
	}
	q.want("1000S\n600 1\n500 1\n")
	q.check(0, mailbox.ErrMailboxFull)
	// The server removes a message, and says so or does not.
	if err := os.Remove(filepath.Join(q.dir, "new", "1764000000.one."+host+",S=600,W=600")); err != nil {
		t.Fatal(err)
	}
	q.check(500, mailbox.ErrMailboxFull) // just recalculated
	q.now = q.now.Add(16 * time.Minute)
	q.check(500, nil)
	q.want("1000S\n500 1\n")
	if err := q.s.AddUsage(box, -500, -1); err != nil {
		t.Fatal(err)
	}
	q.want("1000S\n500 1\n-500 -1\n")
	q.check(1000, nil)
	// The administrator changes the quota, and removes it.
	create(t, q.s, box, 100)
	q.want("100S\n500 1\n")
	create(t, q.s, box, 0)
	q.want("")
	q.check(1<<50, nil)
	if u, err := q.s.Usage(box); err != nil || u != (mailbox.Usage{Bytes: 500, Messages: 1}) {
		t.Errorf("usage %+v, %v", u, err)
	}
	if err := q.s.AddUsage(box, 1, 1); err != nil {
		t.Errorf("without quota: %v", err)
	}
	for _, err := range []error{q.s.CheckQuota("x@b.it", 1), q.s.Create("x@b", 1), q.s.AddUsage("x", 1, 1)} {
		if err == nil {
			t.Error("no error for no mailbox")
		}
	}
	if _, err := q.s.Usage("x@b.it"); !errors.Is(err, mailbox.ErrNoMailbox) {
		t.Errorf("usage of no mailbox: %v", err)
	}
}

// What Maildir++ and Dovecot may leave there, and what must be made anew.
func TestMaildirsizeAsFound(t *testing.T) {
	t.Parallel()
	lines := strings.Repeat("1 1\n", 1300)
	tests := []struct {
		name, before string
		size         int64
		want         error
		after        string
	}{
		{"as ours", "1000S\n300 1\n", 700, nil, "1000S\n300 1\n"},
		{"padded, with a message limit", "1000S,5C\n         300           1\n", 700, nil, "1000S,5C\n         300           1\n"},
		{"limits the other way round", "5C,1000S\n300 1\n", 701, mailbox.ErrMailboxFull, "5C,1000S\n300 1\n"},
		{"message limit alone", "2C\n300 1\n", 1 << 40, nil, "2C\n300 1\n"},
		{"message limit reached", "1C\n300 1\n", 1, mailbox.ErrMailboxFull, "1C\n300 1\n"},
		{"removals", "1000S\n900 4\n-300 -1\n-300 -2\n", 700, nil, "1000S\n900 4\n-300 -1\n-300 -2\n"},
		{"wrong and full", "1000S\n900 4\n50 1\n", 700, nil, "1000S\n300 1\n"},
		{"too long", "1000S\n" + lines, 700, nil, "1000S\n300 1\n"},
		{"much too long", "1000S\n" + lines + lines, 701, mailbox.ErrMailboxFull, "1000S\n300 1\n"},
		{"cut line", "1000S\n300 1", 700, nil, "1000S\n300 1\n"},
		{"no lines", "1000S\n", 701, nil, "1000S\n"},
		{"noise", "1000S\nx\n", 701, mailbox.ErrMailboxFull, "1000S\n300 1\n"},
		{"three numbers", "1000S\n1 2 3\n", 700, nil, "1000S\n300 1\n"},
		{"negative", "1000S\n-5 1\n", 700, nil, "1000S\n300 1\n"},
		{"overflow", "1000S\n99999999999999999999 1\n", 700, nil, "1000S\n300 1\n"},
		{"no limit to be read", "1000Q\n300 1\n", 1 << 40, nil, ""},
		{"empty", "", 1 << 40, nil, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			q := newQuotaCase(t, 1000, nil)
			if err := q.deliver("one", 300, false); err != nil {
				t.Fatal(err)
			}
			q.write(tc.before)
			q.check(tc.size, tc.want)
			q.want(tc.after)
		})
	}
}

// The account's quota holds, whatever the file says.
func TestQuotaOfAccount(t *testing.T) {
	t.Parallel()
	limit, known := int64(500), true
	q := newQuotaCase(t, 1000, func(mailbox string) (int64, bool) { return limit, known && mailbox == box })
	q.want("500S\n0 0\n")
	q.check(501, mailbox.ErrMailboxFull)
	limit = 800
	q.check(501, nil)
	q.want("800S\n0 0\n")
	limit = 0
	q.check(1<<50, nil)
	limit = 300
	if err := os.Remove(filepath.Join(q.dir, "maildirsize")); err != nil {
		t.Fatal(err)
	}
	q.check(301, mailbox.ErrMailboxFull)
	q.want("300S\n0 0\n")
	known = false
	q.check(301, mailbox.ErrMailboxFull)
	if err := q.s.CheckQuota("none@b.it", 1); !errors.Is(err, mailbox.ErrNoMailbox) {
		t.Errorf("no mailbox: %v", err)
	}
}

// All folders count; names without a size are measured.
func TestUsageCountsFolders(t *testing.T) {
	t.Parallel()
	q := newQuotaCase(t, 1000, nil)
	for name, size := range map[string]int{
		"cur/1.a.h,S=100,W=105:2,S": 1, "new/1.b.h": 20, "new/1.c.h,S=,W=1": 3, ".Sent/cur/1.d.h,S=400:2,": 0,
		".Sent/new/1.e.h,S=5": 0, "tmp/1.f.h,S=999,W=999": 9, "cur/.hidden": 9, ".Sent/tmp/x": 9, "other/cur/x": 9, ".odd/x": 9,
	} {
		full := filepath.Join(q.dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	create(t, q.s, box, 2000)
	if u, err := q.s.Usage(box); err != nil || u != (mailbox.Usage{Bytes: 528, Messages: 5, Limit: 2000}) {
		t.Errorf("usage %+v, %v", u, err)
	}
}

// A quota file that cannot be written does not undo a delivery.
func TestPublishWithoutMaildirsize(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fsys, err := faultfs.New(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, root, mailbox.Options{FS: fsys})
	create(t, s, box, 1000)
	p, err := s.Prepare(message(box, "n", "text"))
	if err != nil {
		t.Fatal(err)
	}
	fsys.SetFault(faultfs.FailOp("write", syscall.ENOSPC))
	if err := errors.Join(s.Sync(p), s.Publish(p), s.Publish(p)); err != nil {
		t.Error(err)
	}
	if n := len(files(t, s, box, "new")); n != 1 {
		t.Errorf("%d messages", n)
	}
	if err := s.AddUsage(box, 1, 1); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("AddUsage: %v", err)
	}
}

func FuzzMaildirsize(f *testing.F) {
	f.Add("1000S,5C\n300 1\n-5 -1\n")
	f.Add("1000S\n")
	f.Add(",\n1 1\n")
	s, err := mailbox.Open(f.TempDir(), mailbox.Options{Host: host, FlushEach: true})
	if err != nil {
		f.Fatal(err)
	}
	if err := s.Create(box, 0); err != nil {
		f.Fatal(err)
	}
	dir, _ := s.Path(box)
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(filepath.Join(dir, "maildirsize"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		u, err := s.Usage(box)
		if err != nil || u.Bytes < 0 || u.Messages < 0 || u.Limit < 0 {
			t.Fatalf("%+v, %v", u, err)
		}
		if again, err := s.Usage(box); err != nil || again != u {
			t.Fatalf("%+v, then %+v, %v", u, again, err)
		}
	})
}

func ExampleStore() {
	dir, err := os.MkdirTemp("", "mail")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := mailbox.Open(dir, mailbox.Options{Host: "pec.example.it"})
	if err != nil {
		panic(err)
	}
	defer s.Close()
	if err := s.Create("anna@pec.example.it", 1<<30); err != nil {
		panic(err)
	}
	p, err := s.Prepare(mailbox.Delivery{
		Mailbox: "anna@pec.example.it", Name: "0001", Time: time.Unix(1764000000, 0), Size: 17,
		Write: func(w io.Writer) error {
			_, err := io.WriteString(w, "Subject: ciao\r\n\r\n")
			return err
		},
	})
	if err != nil {
		panic(err)
	}
	if err := s.Sync(p); err != nil {
		panic(err)
	}
	// The caller notes durably: "publishing".
	if err := s.Publish(p); err != nil {
		panic(err)
	}
	// The caller notes durably: "published".
	u, err := s.Usage("anna@pec.example.it")
	fmt.Println(u.Messages, u.Bytes, err)
	// Output: 1 17 <nil>
}
