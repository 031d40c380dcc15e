package mailbox

import (
	"errors"
	"fmt"
	"slices"
)

// ErrSuspended is returned by Verify for the right password of a suspended
// account: its holder may know why he is not let in, and nobody else.
var ErrSuspended = errors.New("account suspended")

// Sending says whether the holder of an account may send, who otherwise logs in
// and receives as ever.
type Sending string

// What there is.
const (
	SendingAllowed   Sending = ""
	SendingSuspended Sending = "suspended" // by a person
	SendingAbused    Sending = "abused"    // by the provider itself, which noticed abuse
)

func (s Sending) valid() bool {
	return s == SendingAllowed || s == SendingSuspended || s == SendingAbused
}

// sendingField is ours, in the passwd file, with a [Sending].
const sendingField = "scripta_sending="

// MaySend tells whether the holder of an account may send now: he may log in, and
// his sending is not suspended.
func (a *Accounts) MaySend(address string) bool {
	x := a.find(address)
	return x != nil && x.mayLogin() && x.sending == SendingAllowed
}

// SetSending changes whether the holder of an account may send.
func (a *Accounts) SetSending(address string, s Sending) error {
	if !s.valid() {
		return fmt.Errorf("couldn't change whether %.100q may send: %q is no such state", address, string(s))
	}
	return a.edit(address, "change whether its holder may send:", func(x *account) error {
		x.sending = s
		return x.open()
	})
}

// Resume ends every suspension of an account.
func (a *Accounts) Resume(address string) error {
	return a.edit(address, "end the suspension of", func(x *account) error {
		x.disabled, x.sending = false, SendingAllowed
		return x.open()
	})
}

// Counts are how many accounts are in which state; each is in one.
type Counts struct {
	Active, Suspended, NotSending, Closed int
	Abused                                []string // those whose sending the provider suspended, sorted
}

// Count counts the accounts by state.
func (a *Accounts) Count() (n Counts) {
	for address, x := range a.current.Load().accounts {
		switch {
		case !x.closed.IsZero():
			n.Closed++
			continue
		case x.disabled:
			n.Suspended++
		case x.sending != SendingAllowed:
			n.NotSending++
		default:
			n.Active++
		}
		if x.sending == SendingAbused {
			n.Abused = append(n.Abused, address)
		}
	}
	slices.Sort(n.Abused)
	return n
}
