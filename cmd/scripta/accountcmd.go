package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"scripta/internal/config"
	"scripta/mta/mailbox"
)

const accountAddUsage = `usage: scripta account add --dir DIR --mailbox ADDRESS [--password-file FILE] [--quota BYTES]
       scripta account add --dir DIR --accounts-file FILE [--quota BYTES]

Makes a mailbox and its account, or many: all of them or none. Works beside a
running provider, too. Without --password-file the password is asked for.

`

const accountPasswordUsage = `usage: scripta account password --dir DIR --mailbox ADDRESS [--password-file FILE]

Changes a mailbox's password; the old one is refused at once. Without
--password-file the password is asked for.

`

const accountSuspendUsage = `usage: scripta account suspend --dir DIR --mailbox ADDRESS [--sending] [--reason TEXT] [--lift]

Keeps a mailbox's holder from logging in and sending; mail still comes in. With
--sending he still logs in and reads, and only cannot send. Either holds at once,
over open connections too; what he sent before goes on. --lift is account resume.

`

const accountResumeUsage = `usage: scripta account resume --dir DIR --mailbox ADDRESS [--reason TEXT]

Ends every suspension of a mailbox, that by the provider itself too: its holder
logs in with the password that he had, and sends.

`

const accountCloseUsage = `usage: scripta account close --dir DIR --mailbox ADDRESS --yes

Closes a mailbox for ever: nobody logs in, mail to it is answered with a
non-delivery notice, and the address is never given again. What is in it stays
on the disk, and what the register knows of it stays in the register.

`

const accountOrdinaryUsage = `usage: scripta account ordinary --dir DIR --mailbox ADDRESS --set accept|refuse|default

Says what is done with mail for a mailbox that is no certified mail: accept puts
it into the mailbox in an anomaly envelope, refuse answers its sender 550. With
default, incoming.ordinary of scripta.toml holds.

`

const accountSpamUsage = `usage: scripta account spam --dir DIR --mailbox ADDRESS --score N|never|default

Says from which score on ([scan] rspamd) ordinary mail for a mailbox is refused
with 554: a score from 1 to 1000, or never: then it gets everything, and the score
stands in the anomaly envelope. With default, scan.spam_score of scripta.toml
holds. Certified mail is never scored.

`

const accountListUsage = `usage: scripta account list --dir DIR

Lists the mailboxes that have an account: address, state, quota, and what is done
with ordinary mail, if that is set.

`

func accountCommands() []command {
	return []command{
		{name: "add", about: "make a mailbox and its account, or many", run: runAccountAdd},
		{name: "password", about: "change a password", run: runAccountPassword},
		{name: "suspend", about: "keep a holder from logging in, or from sending", run: runAccountSuspend},
		{name: "resume", about: "end the suspension of a mailbox", run: runAccountResume},
		{name: "ordinary", about: "accept or refuse mail that is no certified mail", run: runAccountOrdinary},
		{name: "spam", about: "say how much like spam ordinary mail may look", run: runAccountSpam},
		{name: "close", about: "close a mailbox for ever", run: runAccountClose},
		{name: "list", about: "list the mailboxes", run: runAccountList},
	}
}

// accountFlags are those of a command about one mailbox.
type accountFlags struct {
	*flags
	dir, mailbox *string
}

func newAccountFlags(name, usage string, stdout, stderr io.Writer) *accountFlags {
	f := newFlags("account "+name, usage, stdout, stderr)
	return &accountFlags{f, f.folder(), f.String("mailbox", "", "the mailbox `ADDRESS`")}
}

func (f *accountFlags) passwordFile() *string {
	return f.String("password-file", "", "`FILE` with the password in its first line; - is the standard input")
}

// change has a folder's accounts changed.
func (f *accountFlags) change(c accountChange, done string) int {
	err := withOperations(config.Dir(*f.dir), commandLogger(f.stderr), func(ctx context.Context, o operations) error {
		return o.ChangeAccounts(ctx, c)
	})
	if err != nil {
		return f.failed(err)
	}
	fmt.Fprintln(f.stdout, done)
	return 0
}

func runAccountAdd(args []string, stdout, stderr io.Writer) int {
	f := newAccountFlags("add", accountAddUsage, stdout, stderr)
	passwordFile := f.passwordFile()
	many := f.String("accounts-file", "", "`FILE` with one USER:PASSWORD a line, USER without @ and domain; empty lines and lines that begin with # are skipped")
	quota := f.Int64("quota", -1, "quota in `BYTES`, 0 for none (default mail.default_quota_bytes)")
	if code, ok := f.parse(args, f.dir); !ok {
		return code
	}
	if (*f.mailbox == "") == (*many == "") {
		return f.wrong("one of --mailbox and --accounts-file is needed")
	}
	cfg, err := loadFolder(config.Dir(*f.dir))
	if err != nil {
		return f.failed(err)
	}
	if *quota < 0 {
		*quota = cfg.Mail.DefaultQuotaBytes
	}
	c := accountChange{Action: accountAdd}
	done := *f.mailbox + " is there"
	if *many != "" {
		all, err := readAccounts(*many)
		if err != nil {
			return f.failed(err)
		}
		for _, x := range all {
			c.Accounts = append(c.Accounts, mailbox.NewAccount{Address: x.local + "@" + cfg.Domain, Password: x.password, Quota: *quota})
		}
		done = fmt.Sprintf("%d mailboxes are there", len(all))
	} else {
		password, err := newPassword(*passwordFile, stderr)
		if err != nil {
			return f.failed(err)
		}
		c.Accounts = []mailbox.NewAccount{{Address: *f.mailbox, Password: password, Quota: *quota}}
	}
	return f.change(c, done)
}

func runAccountPassword(args []string, stdout, stderr io.Writer) int {
	f := newAccountFlags("password", accountPasswordUsage, stdout, stderr)
	passwordFile := f.passwordFile()
	if code, ok := f.parseMailbox(args); !ok {
		return code
	}
	if _, err := loadFolder(config.Dir(*f.dir)); err != nil {
		return f.failed(err)
	}
	password, err := newPassword(*passwordFile, stderr)
	if err != nil {
		return f.failed(err)
	}
	return f.change(accountChange{Action: accountPassword, Accounts: []mailbox.NewAccount{{Address: *f.mailbox, Password: password}}},
		*f.mailbox+" has a new password")
}

func runAccountSuspend(args []string, stdout, stderr io.Writer) int {
	f := newAccountFlags("suspend", accountSuspendUsage, stdout, stderr)
	lift := f.Bool("lift", false, "end the suspension, as account resume does")
	sending := f.Bool("sending", false, "let the holder log in, but not send")
	reason := f.String("reason", "", "the reason, `TEXT` for the record")
	if code, ok := f.parseMailbox(args); !ok {
		return code
	}
	switch {
	case *lift && *sending:
		return f.wrong("--lift ends every suspension: leave --sending out")
	case *lift:
		return f.resume(*reason)
	}
	action, done := accountSuspend, " is suspended: its holder cannot log in, mail still comes in"
	if *sending {
		action, done = accountSuspendSending, " cannot send any more; its holder logs in, and mail comes in"
	}
	return f.change(accountChange{Action: action, Accounts: []mailbox.NewAccount{{Address: *f.mailbox}}, Reason: *reason}, *f.mailbox+done)
}

func runAccountResume(args []string, stdout, stderr io.Writer) int {
	f := newAccountFlags("resume", accountResumeUsage, stdout, stderr)
	reason := f.String("reason", "", "the reason, `TEXT` for the record")
	if code, ok := f.parseMailbox(args); !ok {
		return code
	}
	return f.resume(*reason)
}

func (f *accountFlags) resume(reason string) int {
	return f.change(accountChange{Action: accountResume, Accounts: []mailbox.NewAccount{{Address: *f.mailbox}}, Reason: reason}, *f.mailbox+" is not suspended any more")
}

func runAccountOrdinary(args []string, stdout, stderr io.Writer) int {
	f := newAccountFlags("ordinary", accountOrdinaryUsage, stdout, stderr)
	set := f.String("set", "", "`WHAT` is done with it: accept, refuse or default")
	if code, ok := f.parseMailbox(args); !ok {
		return code
	}
	c := accountChange{Action: accountOrdinary, Accounts: []mailbox.NewAccount{{Address: *f.mailbox}}}
	done := " gets what incoming.ordinary says"
	switch *set {
	case "accept":
		c.Ordinary, done = mailbox.OrdinaryAccept, " accepts ordinary mail"
	case "refuse":
		c.Ordinary, done = mailbox.OrdinaryRefuse, " refuses ordinary mail"
	case "default":
	default:
		return f.wrong("--set must be accept, refuse or default")
	}
	return f.change(c, *f.mailbox+done)
}

func runAccountSpam(args []string, stdout, stderr io.Writer) int {
	f := newAccountFlags("spam", accountSpamUsage, stdout, stderr)
	score := f.String("score", "", "`SCORE` from which on it is refused: 1 to 1000, never or default")
	if code, ok := f.parseMailbox(args); !ok {
		return code
	}
	c := accountChange{Action: accountSpam, Accounts: []mailbox.NewAccount{{Address: *f.mailbox}}}
	done := " refuses ordinary mail as scan.spam_score says"
	if *score != "default" {
		var err error
		if c.Spam, err = mailbox.ParseSpamLimit(*score); err != nil {
			return f.wrong("--score: %v, nor default", err)
		}
		done = " refuses ordinary mail from score " + *score
		if c.Spam == mailbox.SpamAccepted {
			done = " gets ordinary mail of every score"
		}
	}
	return f.change(c, *f.mailbox+done)
}

func runAccountClose(args []string, stdout, stderr io.Writer) int {
	f := newAccountFlags("close", accountCloseUsage, stdout, stderr)
	yes := f.Bool("yes", false, "close it: this is for ever")
	if code, ok := f.parseMailbox(args); !ok {
		return code
	}
	if !*yes {
		return f.wrong("a mailbox is closed for ever: give --yes if it shall be")
	}
	return f.change(accountChange{Action: accountClose, Accounts: []mailbox.NewAccount{{Address: *f.mailbox}}}, *f.mailbox+" is closed")
}

// parseMailbox parses a command line that must name the folder and a mailbox.
func (f *accountFlags) parseMailbox(args []string) (code int, ok bool) {
	if code, ok := f.parse(args, f.dir); !ok {
		return code, false
	}
	if *f.mailbox == "" {
		return f.wrong("--mailbox is missing"), false
	}
	return 0, true
}

func runAccountList(args []string, stdout, stderr io.Writer) int {
	f := newFlags("account list", accountListUsage, stdout, stderr)
	dir := f.folder()
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if _, err := loadFolder(config.Dir(*dir)); err != nil {
		return f.failed(err)
	}
	// The file is replaced whole by whoever changes it: nobody is asked.
	accounts, err := mailbox.OpenAccounts(mailbox.AccountsOptions{File: config.Dir(*dir).Accounts()})
	if err != nil {
		return f.failed(err)
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, x := range accounts.List() {
		state, quota := "active", "no quota"
		switch {
		case !x.Closed.IsZero():
			state = "closed " + x.Closed.Format(time.DateOnly)
		case x.Disabled:
			state = "suspended"
		case x.Sending == mailbox.SendingSuspended:
			state = "sending suspended"
		case x.Sending == mailbox.SendingAbused:
			state = "sending suspended: abuse noticed"
		}
		if x.Quota > 0 {
			quota = fmt.Sprintf("%d bytes", x.Quota)
		}
		if x.Ordinary != mailbox.OrdinaryDefault {
			quota += "\tordinary mail: " + string(x.Ordinary)
		}
		if x.Spam != mailbox.SpamDefault {
			quota += "\tspam refused from score: " + x.Spam.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", x.Address, state, quota)
	}
	if err := w.Flush(); err != nil {
		return f.failed(err)
	}
	return 0
}

// newPassword reads a password from a file, "-" being the standard input, or
// asks for it on the terminal.
func newPassword(file string, prompt io.Writer) (string, error) {
	switch file {
	case "":
		return askPassword(os.Stdin, prompt)
	case "-":
		return firstLine(os.Stdin)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("couldn't read the password: %w", err)
	}
	defer f.Close()
	return firstLine(f)
}
