package mailbox

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
)

// Who may not send may log in, over a restart, until it is lifted; the right
// password of a suspended account is told from a wrong one.
func TestSending(t *testing.T) {
	t.Parallel()
	o := AccountsOptions{File: filepath.Join(t.TempDir(), "accounts"), Create: true, Cost: cheap}
	a, err := OpenAccounts(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []string{"mario@pec.it", "lucia@pec.it", "anna@pec.it"} {
		if err := a.Add(t.Context(), x, "segreta", 5); err != nil {
			t.Fatal(err)
		}
	}
	if !a.MaySend("Mario@pec.it") || a.MaySend("nessuno@pec.it") {
		t.Error("who may send may not, or the other way round")
	}
	if err := errors.Join(a.SetSending("mario@pec.it", SendingAbused), a.SetSending("lucia@pec.it", SendingSuspended), a.Disable("anna@pec.it", true)); err != nil {
		t.Fatal(err)
	}
	if err := a.SetSending("mario@pec.it", "perhaps"); err == nil {
		t.Error("any word is a state")
	}
	if a, err = OpenAccounts(o); err != nil {
		t.Fatal(err)
	}
	if a.MaySend("mario@pec.it") || !a.MayLogin("mario@pec.it") || a.MaySend("lucia@pec.it") || a.MaySend("anna@pec.it") {
		t.Error("after a restart, the states are others")
	}
	if ok, err := a.Verify(t.Context(), "mario@pec.it", "segreta"); !ok || err != nil {
		t.Errorf("who may not send does not log in: %v", err)
	}
	for range 2 { // the second time a right password would be remembered
		if ok, err := a.Verify(t.Context(), "anna@pec.it", "segreta"); ok || !errors.Is(err, ErrSuspended) {
			t.Errorf("suspended: %v, %v", ok, err)
		}
	}
	if ok, err := a.Verify(t.Context(), "anna@pec.it", "altra"); ok || err != nil {
		t.Errorf("suspended, with a wrong password: %v, %v", ok, err)
	}
	if n := a.Count(); n.Active != 0 || n.Suspended != 1 || n.NotSending != 2 || !slices.Equal(n.Abused, []string{"mario@pec.it"}) {
		t.Errorf("counts: %+v", n)
	}
	for _, x := range []string{"mario@pec.it", "anna@pec.it"} {
		if err := a.Resume(x); err != nil || !a.MaySend(x) {
			t.Errorf("%s: %v", x, err)
		}
	}
}
