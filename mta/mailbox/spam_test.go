package mailbox

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestSpamLimit(t *testing.T) {
	t.Parallel()
	a := openAccounts(t, AccountsOptions{})
	add(t, a, login, "secret")
	limit := func(what string, want int, limited bool) {
		t.Helper()
		for _, x := range []*Accounts{a, openAccounts(t, AccountsOptions{File: a.name})} { // in memory and on the disk
			if got, ok := x.SpamLimit(strings.ToUpper(login), 15); ok != limited || ok && got != want {
				t.Errorf("%s: %d, %v", what, got, ok)
			}
		}
	}
	limit("new", 15, true)
	for _, x := range []struct {
		set     SpamLimit
		want    int
		limited bool
	}{{7, 7, true}, {MaxSpamLimit, 1000, true}, {SpamAccepted, 0, false}, {SpamDefault, 15, true}} {
		if err := a.SetSpamLimit(login, x.set); err != nil {
			t.Fatal(err)
		}
		limit(x.set.String(), x.want, x.limited)
		if got, err := a.Get(login); err != nil || got.Spam != x.set {
			t.Errorf("%v: Get says %v, %v", x.set, got.Spam, err)
		}
	}
	if n, ok := a.SpamLimit("nobody@b.it", 15); n != 15 || !ok {
		t.Errorf("an address without an account: %d, %v", n, ok)
	}
	for _, bad := range []SpamLimit{-2, MaxSpamLimit + 1} {
		if err := a.SetSpamLimit(login, bad); err == nil {
			t.Errorf("%d is taken", bad)
		}
	}
	for _, bad := range []string{"", "0", "-1", "1001", "07", "+7", "7.5", "Never"} {
		if l, err := ParseSpamLimit(bad); err == nil {
			t.Errorf("%q is read as %v", bad, l)
		}
	}
	if err := a.SetSpamLimit("nobody@b.it", 7); !errors.Is(err, ErrNoAccount) {
		t.Errorf("no account: %v", err)
	}
	if err := a.Close(login, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := a.SetSpamLimit(login, 7); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	text, err := os.ReadFile(a.name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "spam") {
		t.Errorf("the default is written: %s", text)
	}
}
