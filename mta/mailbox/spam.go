package mailbox

import (
	"errors"
	"fmt"
	"strconv"
)

// SpamLimit is the score (rspamd's) from which on ordinary mail for an account is
// refused.
type SpamLimit int

// What an account says of spam besides a score of 1 to MaxSpamLimit.
const (
	SpamDefault  SpamLimit = 0  // nothing: the provider's limit holds
	SpamAccepted SpamLimit = -1 // it gets everything, scored
	MaxSpamLimit SpamLimit = 1000
)

// spamField is ours, in the passwd file, with a score or "never".
const spamField = "scripta_spam="

const spamNever = "never"

func (l SpamLimit) valid() bool { return l >= SpamAccepted && l <= MaxSpamLimit }

// String is what stands in the passwd file.
func (l SpamLimit) String() string {
	if l == SpamAccepted {
		return spamNever
	}
	return strconv.Itoa(int(l))
}

// ParseSpamLimit reads a score from 1 to 1000, or "never".
func ParseSpamLimit(s string) (SpamLimit, error) {
	if s == spamNever {
		return SpamAccepted, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > int(MaxSpamLimit) || strconv.Itoa(n) != s {
		return 0, fmt.Errorf("%.20q is neither a score from 1 to %d nor %q", s, MaxSpamLimit, spamNever)
	}
	return SpamLimit(n), nil
}

// errSpamField quotes no part of the line.
var errSpamField = errors.New("the limit for spam is not " + spamField + "1 to 1000, or never")

// SpamLimit returns the score from which on ordinary mail for an address is
// refused: what its account says, or byDefault; ok is false where none is.
func (a *Accounts) SpamLimit(address string, byDefault int) (limit int, ok bool) {
	x := a.find(address)
	switch {
	case x == nil || x.spam == SpamDefault:
		return byDefault, true
	case x.spam == SpamAccepted:
		return 0, false
	}
	return int(x.spam), true
}

// SetSpamLimit changes from which score on ordinary mail for an account is
// refused.
func (a *Accounts) SetSpamLimit(address string, l SpamLimit) error {
	if !l.valid() {
		return fmt.Errorf("couldn't change the limit for spam of %.100q: %d is no score", address, int(l))
	}
	return a.edit(address, "change the limit for spam of", func(x *account) error {
		x.spam = l
		return x.open()
	})
}
