package mailbox

import "fmt"

// Ordinary is what is done with mail for an account that is no certified mail
// (RFC 6109 §2.2.2): it reaches the mailbox in an anomaly envelope, or is refused.
type Ordinary string

// What an account says of ordinary mail.
const (
	OrdinaryDefault Ordinary = "" // nothing: the provider's default holds
	OrdinaryAccept  Ordinary = "accept"
	OrdinaryRefuse  Ordinary = "refuse"
)

func (o Ordinary) valid() bool {
	return o == OrdinaryDefault || o == OrdinaryAccept || o == OrdinaryRefuse
}

// AcceptsOrdinary tells whether ordinary mail is accepted for an address: what
// its account says, or byDefault. For an address without an account it is not.
func (a *Accounts) AcceptsOrdinary(address string, byDefault bool) bool {
	x := a.find(address)
	switch {
	case x == nil, !x.closed.IsZero():
		return false
	case x.ordinary == OrdinaryDefault:
		return byDefault
	}
	return x.ordinary == OrdinaryAccept
}

// SetOrdinary changes what is done with ordinary mail for an account.
func (a *Accounts) SetOrdinary(address string, o Ordinary) error {
	if !o.valid() {
		return fmt.Errorf("couldn't change what is done with ordinary mail for %.100q: %q is neither accept nor refuse", address, string(o))
	}
	return a.edit(address, "change what is done with ordinary mail for", func(x *account) error {
		x.ordinary = o
		return x.open()
	})
}
