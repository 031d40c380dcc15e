package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"scripta/mta/mailbox"
	"scripta/register"
	"scripta/register/record"
)

// Actions of an accountChange.
const (
	accountAdd      = "add"
	accountPassword = "password"
	accountSuspend  = "suspend"
	accountResume   = "resume"
	accountClose    = "close"
	accountOrdinary = "ordinary"
	accountSpam     = "spam"
	// accountSuspendSending leaves its holder everything but sending.
	accountSuspendSending = "suspend sending"
)

// accountChange is what a command asks to be done to accounts. It holds
// passwords and goes over the control socket only.
type accountChange struct {
	Action string `json:"action"`
	// Accounts are those to be added; else the one to be changed, with its new
	// password for accountPassword.
	Accounts []mailbox.NewAccount `json:"accounts"`
	// Ordinary is what accountOrdinary sets.
	Ordinary mailbox.Ordinary `json:"ordinary,omitempty"`
	// Spam is what accountSpam sets.
	Spam mailbox.SpamLimit `json:"spam,omitempty"`
	// Reason of a suspension, as its record says it; may be empty.
	Reason string `json:"reason,omitempty"`
}

// ChangeAccounts implements operations. The order of steps is the same for every
// action: 1. what cannot be done is refused; 2. a new mailbox's folder is made;
// 3. the records are appended; 4. the accounts file is written, and from then on
// it holds. A crash between 3 and 4 leaves the record of a change that was not
// made; to give the command again makes it, with a record of its own.
func (a *app) ChangeAccounts(ctx context.Context, c accountChange) error {
	return a.changeAccountsBy(ctx, c, byCommand)
}

// changeAccountsBy says in the record who did it.
func (a *app) changeAccountsBy(ctx context.Context, c accountChange, by string) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	if len(c.Accounts) == 0 || (c.Action != accountAdd && len(c.Accounts) > 1) {
		return errors.New("no account, or too many")
	}
	for _, x := range c.Accounts {
		if err := a.ours(x.Address); err != nil {
			return err
		}
	}
	err := a.recordFounders(ctx)
	if err == nil {
		err = a.changeAccounts(ctx, c, by)
	}
	if err == nil {
		a.log.Info("accounts were changed", "action", c.Action, "accounts", len(c.Accounts))
	}
	return err
}

// ours refuses an address that can be no mailbox of this provider.
func (a *app) ours(address string) error {
	full, err := mailbox.Normalize(address)
	if err != nil {
		return err
	}
	if !strings.HasSuffix(full, "@"+a.cfg.Domain) {
		return fmt.Errorf("%q is no mailbox of this provider: they end in @%s", address, a.cfg.Domain)
	}
	return nil
}

func (a *app) changeAccounts(ctx context.Context, c accountChange, by string) error {
	if c.Action == accountAdd {
		return a.addAccounts(ctx, c.Accounts)
	}
	x := c.Accounts[0]
	is, err := a.accounts.Get(x.Address)
	switch {
	case err != nil:
		return err
	case !is.Closed.IsZero():
		return fmt.Errorf("%s: %w on %s", is.Address, mailbox.ErrClosed, is.Closed.Format(time.DateOnly))
	}
	switch c.Action {
	case accountPassword:
		if x.Password == "" || len(x.Password) > mailbox.MaxPassword {
			return mailbox.ErrPassword
		}
		if err := a.recordAccounts(ctx, byCommand, record.ConfigurationChanged, record.Outcome{Code: "password changed"}, x); err != nil {
			return err
		}
		return a.accounts.SetPassword(ctx, is.Address, x.Password)
	case accountSuspend:
		if is.Disabled {
			return fmt.Errorf("%s is suspended already", is.Address)
		}
		if err := a.recordAccounts(ctx, by, record.MailboxSuspended, record.Outcome{Code: "suspended", Text: c.Reason}, x); err != nil {
			return err
		}
		return a.accounts.Disable(is.Address, true)
	case accountSuspendSending:
		if is.Sending != mailbox.SendingAllowed {
			return fmt.Errorf("%s: %w", is.Address, errSendingSuspended)
		}
		if err := a.recordAccounts(ctx, by, record.MailboxSuspended, record.Outcome{Code: "sending suspended", Text: c.Reason}, x); err != nil {
			return err
		}
		state := mailbox.SendingSuspended
		if by == byProvider {
			state = mailbox.SendingAbused
		}
		return a.accounts.SetSending(is.Address, state)
	case accountResume:
		if !is.Disabled && is.Sending == mailbox.SendingAllowed {
			return fmt.Errorf("%s is not suspended", is.Address)
		}
		if err := a.recordAccounts(ctx, by, record.MailboxSuspended, record.Outcome{Code: "lifted", Text: c.Reason}, x); err != nil {
			return err
		}
		if err := a.accounts.Resume(is.Address); err != nil {
			return err
		}
		return a.pardon(is.Address)
	case accountOrdinary:
		if c.Ordinary == is.Ordinary {
			return fmt.Errorf("%s says so already", is.Address)
		}
		code := map[mailbox.Ordinary]string{mailbox.OrdinaryAccept: "ordinary mail accepted", mailbox.OrdinaryRefuse: "ordinary mail refused",
			mailbox.OrdinaryDefault: "ordinary mail by default"}[c.Ordinary]
		if code == "" {
			return fmt.Errorf("ordinary mail is not %q", string(c.Ordinary))
		}
		if err := a.recordAccounts(ctx, by, record.ConfigurationChanged, record.Outcome{Code: code}, x); err != nil {
			return err
		}
		return a.accounts.SetOrdinary(is.Address, c.Ordinary)
	case accountSpam:
		if c.Spam == is.Spam {
			return fmt.Errorf("%s says so already", is.Address)
		}
		code := "spam refused from score " + c.Spam.String()
		switch c.Spam {
		case mailbox.SpamDefault:
			code = "spam refused by default"
		case mailbox.SpamAccepted:
			code = "spam accepted"
		}
		if err := a.recordAccounts(ctx, byCommand, record.ConfigurationChanged, record.Outcome{Code: code}, x); err != nil {
			return err
		}
		return a.accounts.SetSpamLimit(is.Address, c.Spam)
	case accountClose:
		if err := a.recordAccounts(ctx, byCommand, record.MailboxClosed, record.Outcome{Code: "closed"}, x); err != nil {
			return err
		}
		return a.accounts.Close(is.Address, time.Now())
	}
	return fmt.Errorf("there is no action %q", c.Action)
}

var errSendingSuspended = errors.New("its sending is suspended already")

func (a *app) addAccounts(ctx context.Context, all []mailbox.NewAccount) error {
	if err := a.accounts.CheckNew(all); err != nil {
		return err
	}
	for _, x := range all {
		if err := a.boxes.Create(x.Address, x.Quota); err != nil {
			return err
		}
	}
	return a.accounts.AddAll(ctx, all, func() error {
		return a.recordAccounts(ctx, byCommand, record.MailboxCreated, record.Outcome{Code: "created"}, all...)
	})
}

// Who made a change, as its record says.
const (
	byCommand = "command line"
	byInit    = "scripta init"
	// byProvider is for what the provider does by itself.
	byProvider = "abuse noticed"
)

// recordFounders records the accounts that init made, as the first records of a
// register that has none yet.
func (a *app) recordFounders(ctx context.Context) error {
	if a.merkle.Size() > 0 {
		return nil
	}
	var all []mailbox.NewAccount
	for _, x := range a.accounts.List() {
		all = append(all, mailbox.NewAccount{Address: x.Address, Quota: x.Quota})
	}
	return a.recordAccounts(ctx, byInit, record.MailboxCreated, record.Outcome{Code: "created"}, all...)
}

// recordsAtOnce bounds the records of one append.
const recordsAtOnce = 500

// recordAccounts appends a record about each account. The time is marked when it
// is not traceable, also under the policy that refuses messages then: a stolen
// password must not wait for a time server.
func (a *app) recordAccounts(ctx context.Context, by string, kind record.Kind, outcome record.Outcome, all ...mailbox.NewAccount) error {
	if len(all) == 0 {
		return nil
	}
	reading, _ := a.clock.Now()
	at := reading.Time.UTC().Truncate(time.Millisecond)
	if err := a.register.Begin(at); err != nil {
		return err
	}
	var tx [16]byte
	rand.Read(tx[:])
	entries := make([]register.Entry, 0, min(len(all), recordsAtOnce))
	for i, x := range all {
		detail := append(register.ClockMarks(reading.State), record.Pair{Name: "by", Value: by})
		if kind == record.MailboxCreated {
			detail = append(detail, record.Pair{Name: "quota", Value: strconv.FormatInt(x.Quota, 10)})
		}
		entries = append(entries, register.Entry{ID: record.MakeID(tx, 0, uint32(i)), Record: &record.Record{Kind: kind, Time: at,
			About: []string{strings.ToLower(x.Address)}, Provider: a.cfg.Provider, Outcome: outcome, Detail: record.SortDetail(detail)}})
		if len(entries) == recordsAtOnce || i == len(all)-1 {
			if _, err := a.register.Append(ctx, entries...); err != nil {
				return fmt.Errorf("couldn't record it, and changed nothing: %w", err)
			}
			entries = entries[:0]
		}
	}
	return nil
}

// ChangeAccounts implements operations.
func (c *controlClient) ChangeAccounts(ctx context.Context, change accountChange) error {
	resp, err := c.do(ctx, http.MethodPost, "/accounts", change)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
