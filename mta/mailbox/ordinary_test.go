package mailbox

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestOrdinary(t *testing.T) {
	t.Parallel()
	a := openAccounts(t, AccountsOptions{})
	add(t, a, login, "secret")
	accepts := func(what string, byDefault, want bool) {
		t.Helper()
		for _, x := range []*Accounts{a, openAccounts(t, AccountsOptions{File: a.name})} { // in memory and on the disk
			if got := x.AcceptsOrdinary(strings.ToUpper(login), byDefault); got != want {
				t.Errorf("%s, default %v: %v", what, byDefault, got)
			}
		}
	}
	accepts("new", true, true)
	accepts("new", false, false)
	for _, x := range []struct {
		set         Ordinary
		onYes, onNo bool
	}{{OrdinaryAccept, true, true}, {OrdinaryRefuse, false, false}, {OrdinaryDefault, true, false}} {
		if err := a.SetOrdinary(login, x.set); err != nil {
			t.Fatal(err)
		}
		accepts(string(x.set), true, x.onYes)
		accepts(string(x.set), false, x.onNo)
		if got, err := a.Get(login); err != nil || got.Ordinary != x.set {
			t.Errorf("%q: Get says %q, %v", x.set, got.Ordinary, err)
		}
	}
	if a.AcceptsOrdinary("nobody@b.it", true) {
		t.Error("an address without an account accepts")
	}
	if err := a.SetOrdinary(login, "maybe"); err == nil {
		t.Error("maybe is accepted")
	}
	if err := a.SetOrdinary("nobody@b.it", OrdinaryAccept); !errors.Is(err, ErrNoAccount) {
		t.Errorf("no account: %v", err)
	}
	if err := a.Close(login, time.Now()); err != nil {
		t.Fatal(err)
	}
	accepts("closed", true, false)
	if err := a.SetOrdinary(login, OrdinaryAccept); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	text, err := os.ReadFile(a.name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "ordinary") {
		t.Errorf("the default is written: %s", text)
	}
}
