package mailbox

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// account is one line of the passwd file.
type account struct {
	address  string
	hash     hash
	disabled bool
	sending  Sending
	quota    int64     // bytes; 0 for none
	closed   time.Time // in seconds; zero: not closed
	ordinary Ordinary
	spam     SpamLimit
	// middle and extra are what Dovecot may find there and we do not use:
	// uid, gid, gecos, home and shell; extra fields other than the quota.
	middle [5]string
	extra  []string
}

// open returns ErrClosed unless the account is open.
func (a *account) open() error {
	if !a.closed.IsZero() {
		return fmt.Errorf("%w on %s", ErrClosed, a.closed.Format(time.DateOnly))
	}
	return nil
}

func (a *account) mayLogin() bool { return !a.disabled && a.closed.IsZero() }

func (a *account) told() Account {
	return Account{Address: a.address, Quota: a.quota, Disabled: a.disabled, Sending: a.sending, Closed: a.closed, Ordinary: a.ordinary, Spam: a.spam}
}

const (
	scheme     = "{ARGON2ID}"
	quotaField = "userdb_quota_rule="
	quotaRule  = "*:bytes="
	// closedField is ours. Dovecot passes over it, and the "!" before the
	// password keeps it from letting anybody in.
	closedField = "scripta_closed="
	// ordinaryField is ours, too, with an [Ordinary].
	ordinaryField = "scripta_ordinary="
)

// String is the line, without its end:
//
//	user@domain:{ARGON2ID}$argon2id$…::::::userdb_quota_rule=*:bytes=N
//
// A disabled account has a "!" before its password, as passwd -l puts it, which
// no password matches, with Dovecot neither; a closed one also has a field
// "scripta_closed=" with the time. "scripta_sending=" tells of one that may not
// send; "scripta_ordinary=" says what is done with ordinary mail, and
// "scripta_spam=" from which score on it is refused, if the account says it.
func (a *account) String() string {
	var b strings.Builder
	b.WriteString(a.address)
	b.WriteByte(':')
	if a.disabled {
		b.WriteByte('!')
	}
	b.WriteString(scheme)
	b.WriteString(a.hash.String())
	for _, field := range a.middle {
		b.WriteByte(':')
		b.WriteString(field)
	}
	b.WriteByte(':')
	extra := a.extra
	if a.sending != SendingAllowed {
		extra = append(slices.Clone(extra), sendingField+string(a.sending))
	}
	if !a.closed.IsZero() {
		extra = append(slices.Clone(extra), closedField+a.closed.Format(time.RFC3339))
	}
	if a.ordinary != OrdinaryDefault {
		extra = append(slices.Clone(extra), ordinaryField+string(a.ordinary))
	}
	if a.spam != SpamDefault {
		extra = append(slices.Clone(extra), spamField+a.spam.String())
	}
	if a.quota > 0 {
		extra = append(slices.Clone(extra), quotaField+quotaRule+strconv.FormatInt(a.quota, 10))
	}
	b.WriteString(strings.Join(extra, " "))
	return b.String()
}

// parseAccount reads one line. Errors quote no part of it, for there are hashes
// in it.
func parseAccount(line string) (*account, error) {
	fields := strings.SplitN(line, ":", 8)
	if len(fields) < 2 {
		return nil, errors.New("no password field")
	}
	var a account
	var err error
	if a.address, err = Normalize(fields[0]); err != nil {
		return nil, errors.New("the login is no full address")
	}
	password, disabled := strings.CutPrefix(fields[1], "!")
	a.disabled = disabled
	phc, ok := strings.CutPrefix(password, scheme)
	if !ok {
		return nil, errors.New("the password's scheme is not " + scheme)
	}
	if a.hash, err = parseHash(phc); err != nil {
		return nil, err
	}
	copy(a.middle[:], fields[2:min(7, len(fields))])
	if len(fields) < 8 {
		return &a, nil
	}
	for field := range strings.FieldsSeq(fields[7]) {
		if s, ok := strings.CutPrefix(field, sendingField); ok {
			if a.sending = Sending(s); a.sending == SendingAllowed || !a.sending.valid() {
				return nil, errors.New("the state of sending is not " + sendingField + "suspended or abused")
			}
			continue
		}
		if at, ok := strings.CutPrefix(field, closedField); ok {
			a.closed, err = time.Parse(time.RFC3339, at)
			if err != nil || a.closed.IsZero() || a.closed.UTC().Format(time.RFC3339) != at {
				return nil, errors.New("the closing is not " + closedField + "2026-11-23T10:00:00Z")
			}
			a.closed = a.closed.UTC()
			continue
		}
		if o, ok := strings.CutPrefix(field, ordinaryField); ok {
			if a.ordinary = Ordinary(o); a.ordinary == OrdinaryDefault || !a.ordinary.valid() {
				return nil, errors.New("what is done with ordinary mail is not " + ordinaryField + "accept or refuse")
			}
			continue
		}
		if s, ok := strings.CutPrefix(field, spamField); ok {
			if a.spam, err = ParseSpamLimit(s); err != nil {
				return nil, errSpamField
			}
			continue
		}
		rule, ok := strings.CutPrefix(field, quotaField)
		if !ok {
			a.extra = append(a.extra, field)
			continue
		}
		digits, ok := strings.CutPrefix(rule, quotaRule)
		if a.quota, err = strconv.ParseInt(digits, 10, 64); !ok || err != nil || a.quota < 0 {
			return nil, errors.New("the quota is not " + quotaField + quotaRule + "N")
		}
	}
	return &a, nil
}

// LineError tells which line of an accounts file is wrong.
type LineError struct {
	File string
	Line int // from 1
	Err  error
}

// Error gives the place as compilers do.
func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap gives the cause.
func (e *LineError) Unwrap() error { return e.Err }

// passwdFile is an accounts file. It never changes: a change makes another one.
type passwdFile struct {
	lines    []passwdLine
	accounts map[string]*account
}

// passwdLine is an account, or a comment or empty line, which is kept.
type passwdLine struct {
	account *account
	text    string
}

func parsePasswdFile(name, text string) (*passwdFile, error) {
	f := &passwdFile{accounts: map[string]*account{}}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			f.lines = append(f.lines, passwdLine{text: line})
			continue
		}
		a, err := parseAccount(line)
		if err == nil && f.accounts[a.address] != nil {
			err = errors.New("this account was there already")
		}
		if err != nil {
			return nil, &LineError{name, n, err}
		}
		f.lines = append(f.lines, passwdLine{account: a})
		f.accounts[a.address] = a
	}
	return f, nil
}

// with returns a file in which a takes the place of the account of its address,
// or is added at the end; a nil a removes the address.
func (f *passwdFile) with(address string, a *account) *passwdFile {
	g := &passwdFile{lines: make([]passwdLine, 0, len(f.lines)+1), accounts: make(map[string]*account, len(f.accounts)+1)}
	placed := a == nil
	for _, line := range f.lines {
		if line.account != nil && line.account.address == address {
			if a == nil {
				continue
			}
			line.account, placed = a, true
		}
		g.lines = append(g.lines, line)
	}
	if !placed {
		g.lines = append(g.lines, passwdLine{account: a})
	}
	for _, line := range g.lines {
		if line.account != nil {
			g.accounts[line.account.address] = line.account
		}
	}
	return g
}

// free returns why an address cannot be given to a new account.
func (f *passwdFile) free(address string) error {
	x := f.accounts[address]
	if x == nil {
		return nil
	}
	if err := x.open(); err != nil {
		return fmt.Errorf("%w: its address is never given again", err)
	}
	return ErrAccountExists
}

// plus returns a file with new accounts at the end, which were free.
func (f *passwdFile) plus(all []*account) *passwdFile {
	g := &passwdFile{lines: slices.Clone(f.lines), accounts: maps.Clone(f.accounts)}
	for _, x := range all {
		g.lines = append(g.lines, passwdLine{account: x})
		g.accounts[x.address] = x
	}
	return g
}

func (f *passwdFile) text() []byte {
	var b strings.Builder
	for _, line := range f.lines {
		if line.account != nil {
			b.WriteString(line.account.String())
		} else {
			b.WriteString(line.text)
		}
		b.WriteByte('\n')
	}
	return []byte(b.String())
}
