package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/internal/durable/faultfs"
)

// cheap makes tests quick; it is no cost for a real password.
var cheap = Cost{Memory: 16, Passes: 1, Threads: 1}

const login = "anna@b.it"

func openAccounts(t *testing.T, o AccountsOptions) *Accounts {
	t.Helper()
	if o.File == "" {
		o.File, o.Create = filepath.Join(t.TempDir(), "accounts"), true
	}
	o.Cost = cheap
	a, err := OpenAccounts(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func add(t *testing.T, a *Accounts, address, password string) {
	t.Helper()
	if err := a.Add(t.Context(), address, password, 0); err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, a *Accounts, login, password string, want bool) {
	t.Helper()
	if ok, err := a.Verify(t.Context(), login, password); err != nil && !errors.Is(err, ErrSuspended) || ok != want {
		t.Errorf("Verify(%q, %q) = %v, %v", login, password, ok, err)
	}
}

func TestAccountsLife(t *testing.T) {
	t.Parallel()
	a := openAccounts(t, AccountsOptions{})
	ctx := t.Context()
	if err := a.Add(ctx, "Anna@B.it", "secret", 1000); err != nil {
		t.Fatal(err)
	}
	add(t, a, "zoe@b.it", "other")
	verify(t, a, "anna@b.it", "secret", true)
	verify(t, a, "ANNA@b.IT", "secret", true)
	verify(t, a, "anna@b.it", "Secret", false)
	verify(t, a, "anna@b.it", "", false)
	verify(t, a, "anna@b.it", strings.Repeat("x", MaxPassword+1), false)
	verify(t, a, "zoe@b.it", "secret", false)
	verify(t, a, "nobody@b.it", "secret", false)
	verify(t, a, "anna", "secret", false)

	for name, tc := range map[string]struct{ err, want error }{
		"again":           {a.Add(ctx, "ANNA@b.it", "x", 0), ErrAccountExists},
		"reserved":        {a.Add(ctx, "Postmaster@b.it", "x", 0), ErrReserved},
		"no address":      {a.Add(ctx, "a b@b.it", "x", 0), ErrAddress},
		"no password":     {a.Add(ctx, "c@b.it", "", 0), ErrPassword},
		"long password":   {a.Add(ctx, "c@b.it", strings.Repeat("x", MaxPassword+1), 0), ErrPassword},
		"absent password": {a.SetPassword(ctx, "c@b.it", "x"), ErrNoAccount},
		"empty password":  {a.SetPassword(ctx, login, ""), ErrPassword},
		"absent quota":    {a.SetQuota("c@b.it", 1), ErrNoAccount},
		"absent disable":  {a.Disable("c@b.it", true), ErrNoAccount},
		"absent remove":   {a.Remove("c@b.it"), ErrNoAccount},
	} {
		if !errors.Is(tc.err, tc.want) {
			t.Errorf("%s: %v, want %v", name, tc.err, tc.want)
		}
	}
	if a.Add(ctx, "c@b.it", "x", -1) == nil || a.SetQuota(login, -1) == nil {
		t.Error("negative quota")
	}
	if !a.Has("aNNa@b.it") || a.Has("c@b.it") || a.Has("") {
		t.Error("Has is wrong")
	}
	if q, ok := a.Quota("Anna@b.it"); q != 1000 || !ok {
		t.Errorf("quota %d, %v", q, ok)
	}
	if _, ok := a.Quota("c@b.it"); ok {
		t.Error("quota of no account")
	}

	if err := errors.Join(a.SetQuota("Anna@b.it", 2000), a.Disable("Anna@b.it", true)); err != nil {
		t.Fatal(err)
	}
	verify(t, a, login, "secret", false)
	b := openAccounts(t, AccountsOptions{File: a.name})
	verify(t, b, login, "secret", false)
	want := []Account{{Address: login, Quota: 2000, Disabled: true}, {Address: "zoe@b.it"}}
	if got := b.List(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("list %v, want %v", got, want)
	}
	if err := errors.Join(a.Disable(login, false), a.SetPassword(ctx, "Anna@b.it", "changed")); err != nil {
		t.Fatal(err)
	}
	verify(t, a, login, "secret", false)
	verify(t, a, login, "changed", true)
	if err := a.Remove("Anna@b.it"); err != nil {
		t.Fatal(err)
	}
	verify(t, a, login, "changed", false)
	verify(t, b, login, "secret", false)
	if err := b.Reload(); err != nil || b.Has(login) {
		t.Errorf("after Reload: %v, %v", b.Has(login), err)
	}
	if st, err := os.Stat(a.name); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

// A closed account stays closed: it lets nobody in, and its address is given to
// nobody.
func TestClosedAccount(t *testing.T) {
	t.Parallel()
	a := openAccounts(t, AccountsOptions{})
	add(t, a, login, "secret")
	verify(t, a, login, "secret", true)
	at := time.Date(2026, 11, 23, 11, 0, 0, 5e8, time.FixedZone("", 3600))
	if err := a.Close("Anna@B.it", at); err != nil {
		t.Fatal(err)
	}
	for _, a := range []*Accounts{a, openAccounts(t, AccountsOptions{File: a.name})} {
		verify(t, a, login, "secret", false)
		if !a.Closed("ANNA@b.it") || a.MayLogin(login) || a.Closed("zoe@b.it") || a.MayLogin("zoe@b.it") {
			t.Error("not closed, or another one is")
		}
		got, err := a.Get("ANNA@b.it")
		if err != nil || got != (Account{Address: login, Disabled: true, Closed: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}) {
			t.Errorf("%+v, %v", got, err)
		}
		for what, err := range map[string]error{"add": a.Add(t.Context(), login, "x", 0), "password": a.SetPassword(t.Context(), login, "x"),
			"enable": a.Disable(login, false), "close": a.Close(login, at)} {
			if !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "2026-11-23") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if _, err := a.Get("zoe@b.it"); !errors.Is(err, ErrNoAccount) {
		t.Error(err)
	}
}

// Many accounts are one write of the file, or none of them is there.
func TestAddAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fsys, err := faultfs.New(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := openAccounts(t, AccountsOptions{File: filepath.Join(dir, "accounts"), Create: true, FS: fsys})
	all := make([]NewAccount, 500)
	for i := range all {
		all[i] = NewAccount{fmt.Sprintf("User%d@b.it", i), "p", int64(i)}
	}
	before := len(fsys.Calls())
	if err := a.AddAll(t.Context(), all, nil); err != nil {
		t.Fatal(err)
	}
	if n := len(fsys.Calls()) - before; n > 20 {
		t.Errorf("%d calls to the disk for %d accounts", n, len(all))
	}
	b := openAccounts(t, AccountsOptions{File: a.name})
	if n := len(b.List()); n != len(all) {
		t.Errorf("%d accounts", n)
	}
	verify(t, b, "user499@b.it", "p", true)
	for name, more := range map[string][]NewAccount{
		"exists":   {{"new@b.it", "p", 0}, {"user7@b.it", "p", 0}},
		"twice":    {{"new@b.it", "p", 0}, {"NEW@b.it", "p", 0}},
		"password": {{"new@b.it", "p", 0}, {"new2@b.it", "", 0}},
		"reserved": {{"new@b.it", "p", 0}, {"abuse@b.it", "p", 0}},
	} {
		if err := a.AddAll(t.Context(), more, nil); err == nil || a.Has("new@b.it") {
			t.Errorf("%s: %v, some were added: %v", name, err, a.Has("new@b.it"))
		}
	}
	stop := errors.New("stop")
	if err := a.AddAll(t.Context(), []NewAccount{{"new@b.it", "p", 0}}, func() error { return stop }); !errors.Is(err, stop) || a.Has("new@b.it") {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.AddAll(ended, []NewAccount{{"new@b.it", "p", 0}}, nil); !errors.Is(err, context.Canceled) || a.Has("new@b.it") {
		t.Errorf("%v", err)
	}
}

const someHash = "$argon2id$v=19$m=16,t=1,p=1$c2FsdHNhbHQ$AAECAwQFBgcICQoLDA0ODw"

// What others wrote into the file stays there, except the line that changes.
func TestAccountsFileKeepsWhatItHolds(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "accounts")
	text := "# users of example.it\n\n" +
		"Anna@B.it:{ARGON2ID}" + someHash + ":1000:1000:Anna:/home:/bin/false:userdb_mail=maildir:~/m userdb_quota_rule=*:bytes=55 x=y\r\n" +
		"zoe@b.it:!{ARGON2ID}" + someHash + "\n# end"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := openAccounts(t, AccountsOptions{File: name})
	add(t, a, "carla@b.it", "x")
	if err := a.SetQuota("anna@b.it", 77); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	want := []string{"# users of example.it", "",
		"anna@b.it:{ARGON2ID}" + someHash + ":1000:1000:Anna:/home:/bin/false:userdb_mail=maildir:~/m x=y userdb_quota_rule=*:bytes=77",
		"zoe@b.it:!{ARGON2ID}" + someHash + "::::::", "# end"}
	if len(lines) != 7 || fmt.Sprintf("%q", lines[:5]) != fmt.Sprintf("%q", want) || !strings.HasPrefix(lines[5], "carla@b.it:{ARGON2ID}$argon2id$v=19$m=16,t=1,p=1$") ||
		!strings.HasSuffix(lines[5], "::::::") {
		t.Errorf("file is %q", lines)
	}
}

func TestAccountsFileErrors(t *testing.T) {
	t.Parallel()
	good := "a@b.it:{ARGON2ID}" + someHash + "::::::\n"
	for name, line := range map[string]string{
		"no password":       "c@b.it",
		"no domain":         "c:{ARGON2ID}" + someHash,
		"path":              "../c@b.it:{ARGON2ID}" + someHash,
		"other scheme":      "c@b.it:{SHA512-CRYPT}$6$x$y",
		"plain password":    "c@b.it:secret",
		"empty password":    "c@b.it::",
		"Argon2i":           "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "2id", "2i", 1),
		"version":           "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "v=19", "v=16", 1),
		"no version":        "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "v=19$", "", 1),
		"2 GiB":             "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "m=16", "m=2097152", 1),
		"1 GiB, 64 passes":  "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "m=16,t=1", "m=1048576,t=64", 1),
		"no memory":         "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "m=16", "m=7", 1),
		"no pass":           "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "t=1", "t=0", 1),
		"65 passes":         "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "t=1", "t=65", 1),
		"no thread":         "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "p=1", "p=0", 1),
		"257 threads":       "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "p=1", "p=257", 1),
		"signed":            "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "t=1", "t=+1", 1),
		"order":             "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "t=1,p=1", "p=1,t=1", 1),
		"data":              "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "p=1", "p=1,data=x", 1),
		"short salt":        "c@b.it:{ARGON2ID}" + strings.Replace(someHash, "c2FsdHNhbHQ", "c2FsdA", 1),
		"short hash":        "c@b.it:{ARGON2ID}" + someHash[:len(someHash)-4],
		"padded":            "c@b.it:{ARGON2ID}" + someHash + "==",
		"loose last bits":   "c@b.it:{ARGON2ID}" + someHash[:len(someHash)-1] + "x",
		"more":              "c@b.it:{ARGON2ID}" + someHash + "$",
		"quota in units":    strings.TrimSpace(strings.Replace(good, "a@", "c@", 1)) + "userdb_quota_rule=*:storage=1G",
		"quota no number":   strings.TrimSpace(strings.Replace(good, "a@", "c@", 1)) + "userdb_quota_rule=*:bytes=1G",
		"quota negative":    strings.TrimSpace(strings.Replace(good, "a@", "c@", 1)) + "userdb_quota_rule=*:bytes=-1",
		"sends somehow":     strings.TrimSpace(strings.Replace(good, "a@", "c@", 1)) + "scripta_sending=yes",
		"sends as ever":     strings.TrimSpace(strings.Replace(good, "a@", "c@", 1)) + "scripta_sending=",
		"closed some day":   strings.TrimSpace(strings.Replace(good, "a@", "c@", 1)) + "scripta_closed=yesterday",
		"closed elsewhere":  strings.TrimSpace(strings.Replace(good, "a@", "c@", 1)) + "scripta_closed=2026-11-23T10:00:00+01:00",
		"closed never":      strings.TrimSpace(strings.Replace(good, "a@", "c@", 1)) + "scripta_closed=0001-01-01T00:00:00Z",
		"twice":             "A@B.it:{ARGON2ID}" + someHash,
		"leading space":     " c@b.it:{ARGON2ID}" + someHash,
		"comment too late ": "c@b.it # comment",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "accounts")
			if err := os.WriteFile(file, []byte("# comment\n"+good+line+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := OpenAccounts(AccountsOptions{File: file, Cost: cheap})
			var at *LineError
			if !errors.As(err, &at) || at.Line != 3 || at.File != file || !strings.Contains(err.Error(), "accounts:3: ") {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), "AAECAw") || strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells a password or a hash: %v", err)
			}
		})
	}
}

func TestOpenAccountsRefuses(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "accounts")
	if _, err := OpenAccounts(AccountsOptions{File: name}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent file was taken for no users: %v", err)
	}
	if _, err := OpenAccounts(AccountsOptions{File: name, Create: true, Cost: Cost{Memory: 1 << 21, Passes: 1, Threads: 1}}); err == nil {
		t.Error("cost out of bounds")
	}
}

// A file that cannot be written leaves the accounts as they are, in memory too.
func TestAccountsSurviveFailedChanges(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		dir := t.TempDir()
		name := filepath.Join(dir, "accounts")
		a := openAccounts(t, AccountsOptions{File: name, Create: true})
		add(t, a, login, "old")
		fsys, err := faultfs.New(dir, faultfs.CrashAt(n))
		if err != nil {
			t.Fatal(err)
		}
		b := openAccounts(t, AccountsOptions{File: name, FS: fsys})
		err = b.SetPassword(t.Context(), login, "new")
		verify(t, b, login, "old", err != nil)
		verify(t, b, login, "new", err == nil)
		added := b.AddAll(t.Context(), []NewAccount{{"c@b.it", "c", 0}, {"d@b.it", "d", 0}}, nil)
		closed := b.Close("c@b.it", time.Now())
		crashed := fsys.Crashed()
		if err := fsys.PowerLoss(); err != nil {
			t.Fatal(err)
		}
		for _, x := range []*Accounts{b, openAccounts(t, AccountsOptions{File: name})} {
			verify(t, x, login, "old", err != nil)
			verify(t, x, login, "new", err == nil)
			verify(t, x, "d@b.it", "d", added == nil)
			if x.Has("c@b.it") != (added == nil) || x.Has("d@b.it") != (added == nil) || x.Closed("c@b.it") != (closed == nil) {
				t.Errorf("call %d: added %v, closed %v; the file holds %v", n, added, closed, x.List())
			}
		}
		if !crashed {
			if err := errors.Join(err, added, closed); err != nil || n < 15 {
				t.Errorf("%d calls, %v", n, err)
			}
			break
		}
	}
}

// From test.c of the reference implementation of Argon2 (argon2id, v=19, 256 KiB,
// 2 passes, 1 thread).
func TestVerifiesHashOfReferenceImplementation(t *testing.T) {
	t.Parallel()
	h, err := parseHash("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	if err != nil || !h.matches("password") || h.matches("passwore") {
		t.Errorf("%v", err)
	}
}

func TestDefaultCost(t *testing.T) {
	t.Parallel()
	h := newHash(DefaultCost, []byte("0123456789abcdef"), "password")
	back, err := parseHash(h.String())
	if err != nil || back.String() != h.String() || !back.matches("password") {
		t.Errorf("%s: %v", h, err)
	}
}

// fill takes all the room for computations until the returned function is called.
func fill(a *Accounts) (release func()) {
	for range hashesAtOnce {
		a.slots <- struct{}{}
	}
	return func() {
		for range hashesAtOnce {
			<-a.slots
		}
	}
}

// busy tells whether checking a password wants room for a computation.
func busy(t *testing.T, a *Accounts, login, password string) bool {
	t.Helper()
	release := fill(a)
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	ok, err := a.Verify(ctx, login, password)
	if err != nil && (ok || !errors.Is(err, context.DeadlineExceeded)) {
		t.Errorf("Verify: %v, %v", ok, err)
	}
	return err != nil
}

func TestVerifiedPasswordsAreRemembered(t *testing.T) {
	t.Parallel()
	now := time.Unix(1764000000, 0)
	a := openAccounts(t, AccountsOptions{Now: func() time.Time { return now }})
	add(t, a, login, "secret")
	if !busy(t, a, login, "secret") {
		t.Error("never computed")
	}
	verify(t, a, login, "secret", true)
	if busy(t, a, "Anna@B.it", "secret") {
		t.Error("not remembered")
	}
	// Whether an account exists or is disabled costs the same.
	for _, other := range []string{"nobody@b.it", "", "no address"} {
		if !busy(t, a, other, "secret") {
			t.Errorf("%q costs nothing", other)
		}
	}
	for _, password := range []string{"", "wrong", strings.Repeat("x", MaxPassword+1)} {
		if !busy(t, a, login, password) {
			t.Errorf("password %.10q costs nothing", password)
		}
	}
	verify(t, a, login, "wrong", false)
	now = now.Add(rememberFor - time.Second)
	verify(t, a, login, "secret", true)
	if busy(t, a, login, "secret") {
		t.Error("forgotten too early")
	}
	now = now.Add(time.Second)
	if !busy(t, a, login, "secret") {
		t.Error("remembered for longer than it should be")
	}
	verify(t, a, login, "secret", true)
	if err := a.Disable(login, true); err != nil {
		t.Fatal(err)
	}
	verify(t, a, login, "secret", false)
	if !busy(t, a, login, "secret") {
		t.Error("a disabled account costs nothing")
	}
	if err := a.Disable(login, false); err != nil {
		t.Fatal(err)
	}
	if !busy(t, a, login, "secret") {
		t.Error("remembered across a change")
	}
	verify(t, a, login, "secret", true)
	// A file changed by somebody else: the password has another hash.
	if err := openAccounts(t, AccountsOptions{File: a.name}).SetPassword(t.Context(), login, "other"); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	verify(t, a, login, "secret", false)
	for _, r := range a.known {
		if strings.Contains(string(r.tag[:]), "secret") {
			t.Error("a password is kept")
		}
	}
}

func TestHashesWaitForRoom(t *testing.T) {
	t.Parallel()
	a := openAccounts(t, AccountsOptions{})
	add(t, a, login, "secret")
	release := fill(a)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Verify(ctx, login, "secret"); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify: %v", err)
	}
	if err := a.Add(ctx, "c@b.it", "x", 0); !errors.Is(err, context.Canceled) || a.Has("c@b.it") {
		t.Errorf("Add: %v", err)
	}
	if err := a.SetPassword(ctx, login, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("SetPassword: %v", err)
	}
	done := make(chan bool)
	go func() {
		ok, err := a.Verify(t.Context(), login, "secret")
		done <- ok && err == nil
	}()
	release()
	if !<-done {
		t.Error("a login that waited failed")
	}
}

func TestAccountsConcurrently(t *testing.T) {
	t.Parallel()
	a := openAccounts(t, AccountsOptions{})
	add(t, a, login, "secret")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			own := fmt.Sprintf("user%d@b.it", w)
			if err := a.Add(t.Context(), own, "p", 0); err != nil {
				t.Error(err)
			}
			for i := range 5 {
				password := fmt.Sprint("p", i)
				if err := errors.Join(a.SetPassword(t.Context(), own, password), a.SetQuota(own, int64(i))); err != nil {
					t.Error(err)
				}
				for who, password := range map[string]string{own: password, login: "secret"} {
					if ok, err := a.Verify(t.Context(), who, password); err != nil || !ok {
						t.Errorf("%s: %v, %v", who, ok, err)
					}
				}
				_ = a.List()
			}
		})
	}
	wg.Wait()
	if n := len(openAccounts(t, AccountsOptions{File: a.name}).List()); n != 9 {
		t.Errorf("%d accounts in the file", n)
	}
}

// FuzzAccount reads arbitrary lines: what is accepted is written so that it is
// read back the same, and nothing that costs too much is accepted.
func FuzzAccount(f *testing.F) {
	f.Add("a@b.it:{ARGON2ID}" + someHash + "::::::userdb_quota_rule=*:bytes=5 x=y:z")
	f.Add("a@b.it:!{ARGON2ID}" + someHash + ":1:2:3:4:5")
	f.Add("a@b.it:!{ARGON2ID}" + someHash + "::::::scripta_closed=2026-11-23T10:00:00Z scripta_sending=abused userdb_quota_rule=*:bytes=5")
	f.Add("a@b.it:{ARGON2ID}" + someHash + "::::::scripta_ordinary=accept")
	f.Add("a@b.it:{ARGON2ID}" + someHash + "::::::scripta_spam=never scripta_spam=7")
	f.Add("a@b.it:{ARGON2ID}$argon2id$v=19$m=1048576,t=4,p=16$c2FsdHNhbHQ$AAECAwQFBgcICQoLDA0ODw")
	f.Fuzz(func(t *testing.T, line string) {
		a, err := parseAccount(line)
		if err != nil {
			return
		}
		if !a.hash.cost.valid() {
			t.Fatalf("cost %+v", a.hash.cost)
		}
		b, err := parseAccount(a.String())
		if err != nil || b.String() != a.String() || b.disabled != a.disabled || b.quota != a.quota || b.closed != a.closed || b.ordinary != a.ordinary || b.spam != a.spam || b.address != a.address {
			t.Fatalf("%q is read back as %q, %v", a, b, err)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	salt := make([]byte, saltSize)
	for b.Loop() {
		newHash(DefaultCost, salt, "password")
	}
}
