package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/mta/mailbox"
)

const initUsage = `usage: scripta init --dir DIR --domain DOMAIN [--provider NAME]
         [--account USER:PASSWORD]... [--accounts-file FILE] [--port-base N]

Makes the folder DIR with everything that a PEC provider needs to be tried:
configuration, keys, quickstart certificates, accounts and mailboxes.
Certificates and time stamps are for tests and have no legal value.

`

// stagePrefix begins the name of the folder that an init builds in.
const stagePrefix = ".scripta-init-"

var errInterrupted = errors.New("interrupted; nothing was made")

// initRequest is what the command line asks for, checked.
type initRequest struct {
	dir      string
	domain   string
	provider string
	portBase int
	accounts []initAccount
}

type initAccount struct{ local, password string }

// runInit is `scripta init`. It returns the exit code: 0, 1 when something
// failed (nothing is left behind), 2 when the command line is wrong.
func runInit(args []string, stdout, stderr io.Writer) int {
	r, code, ok := parseInit(args, stdout, stderr)
	if !ok {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg := config.Quickstart(r.domain, r.provider, keys.NewLogID(), r.portBase)
	if err := buildProvider(ctx, r, cfg); err != nil {
		fmt.Fprintf(stderr, "scripta init: %v\n", err)
		return 1
	}
	printMade(stdout, r, cfg, calledAs(os.Args[0]))
	return 0
}

// parseInit reads the command line. ok is false when init must end with the code.
func parseInit(args []string, stdout, stderr io.Writer) (r initRequest, code int, ok bool) {
	var accountsFile string
	f := newFlags("init", initUsage, stdout, stderr)
	f.StringVar(&r.dir, "dir", "", "`DIR`, the folder to make; if it exists it must be empty")
	f.StringVar(&r.domain, "domain", "", "certified mail `DOMAIN`, lower case")
	f.StringVar(&r.provider, "provider", "", "provider's `NAME` in certificates and receipts (default the domain)")
	var given []string // parsed below: the flag package would print a password
	f.Func("account", "local part and password, `USER:PASSWORD`, split at the first ':'; repeatable; others on this machine can read a command line", func(s string) error {
		given = append(given, s)
		return nil
	})
	f.StringVar(&accountsFile, "accounts-file", "", "`FILE` with one USER:PASSWORD a line; empty lines and lines that begin with # are skipped")
	f.IntVar(&r.portBase, "port-base", config.DefaultPortBase, "`N`, added to each well-known port; 0 for the real ports")
	rest, code, ok := f.parseWith(args)
	switch {
	case !ok:
		return r, code, false
	case len(rest) > 0: // it may be a password, and is not printed
		return r, f.wrong("an argument without its flag"), false
	}
	err := r.addAccounts(given, accountsFile)
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return r, f.wrong("%v", err), false
	}
	return r, 0, true
}

// addAccounts takes the accounts of the command line and of a file.
func (r *initRequest) addAccounts(given []string, file string) error {
	for i, s := range given {
		a, err := parseAccount(s)
		if err != nil {
			return fmt.Errorf("--account number %d: %w", i+1, err)
		}
		r.accounts = append(r.accounts, a)
	}
	if file != "" {
		more, err := readAccounts(file)
		if err != nil {
			return err
		}
		r.accounts = append(r.accounts, more...)
	}
	if r.provider == "" {
		r.provider = r.domain
	}
	return nil
}

// parseAccount splits at the first colon: a password may hold others.
func parseAccount(s string) (initAccount, error) {
	local, password, ok := strings.Cut(s, ":")
	if !ok {
		return initAccount{}, errors.New("no ':' between the local part and the password")
	}
	return initAccount{local, password}, nil
}

func readAccounts(name string) ([]initAccount, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the accounts: %w", err)
	}
	defer f.Close()
	var accounts []initAccount
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSuffix(lines.Text(), "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		a, err := parseAccount(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		accounts = append(accounts, a)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("couldn't read the accounts: %w", err)
	}
	return accounts, nil
}

// check refuses what could not be built.
func (r *initRequest) check() error {
	if r.dir == "" {
		return errors.New("--dir is missing: write the folder to make, such as --dir ./pec")
	}
	if err := config.CheckDomain(r.domain); err != nil {
		return fmt.Errorf("--domain: %w; write it such as --domain pec.example.it", err)
	}
	if err := config.CheckProvider(r.provider); err != nil {
		return fmt.Errorf("--provider: %w", err)
	}
	cfg := config.Quickstart(r.domain, r.provider, "0", r.portBase)
	if err := cfg.Check(); err != nil {
		return fmt.Errorf("--port-base: %w", err)
	}
	seen := make(map[string]bool)
	for _, a := range r.accounts {
		address, err := mailbox.Normalize(a.local + "@" + r.domain)
		switch {
		case err != nil:
			return fmt.Errorf("account %q: not a local part; write only what stands before the @", a.local)
		case mailbox.Reserved(a.local):
			return fmt.Errorf("account %q: %w", a.local, mailbox.ErrReserved)
		case a.password == "":
			return fmt.Errorf("account %q: the password is empty", a.local)
		case len(a.password) > mailbox.MaxPassword:
			return fmt.Errorf("account %q: the password is longer than %d bytes", a.local, mailbox.MaxPassword)
		case seen[address]:
			return fmt.Errorf("account %q is given twice", a.local)
		}
		seen[address] = true
	}
	return nil
}

// buildProvider makes the whole folder or nothing of it. What is built lies
// in a folder beside the target (in it, when the target exists already: it
// may be a mount) and gets its name in the last step.
func buildProvider(ctx context.Context, r initRequest, cfg config.Config) error {
	target, err := filepath.Abs(r.dir)
	if err != nil {
		return err
	}
	exists, err := checkTarget(target)
	if err != nil {
		return err
	}
	parent := filepath.Dir(target)
	if exists {
		parent = target
	} else if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("couldn't make the folder over %s: %w", target, err)
	}
	stage, err := os.MkdirTemp(parent, stagePrefix)
	if err != nil {
		return fmt.Errorf("couldn't make a folder in %s: %w", parent, err)
	}
	defer os.RemoveAll(stage) // nothing is left there after the last step
	if err := fillProvider(ctx, config.Dir(stage), r, cfg); err != nil {
		return err
	}
	if err := syncFolders(stage); err != nil {
		return fmt.Errorf("couldn't sync %s: %w", stage, err)
	}
	if err := ctx.Err(); err != nil {
		return errInterrupted
	}
	if exists {
		return moveInto(stage, target)
	}
	if err := os.Rename(stage, target); err != nil {
		return fmt.Errorf("couldn't give %s its name: %w", target, err)
	}
	return durable.OS.SyncDir(parent)
}

// checkTarget says whether the folder exists; one that holds anything is an
// error.
func checkTarget(target string) (exists bool, err error) {
	entries, err := os.ReadDir(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("couldn't look into the folder: %w", err)
	case len(entries) == 0:
		return true, nil
	}
	first := entries[0].Name()
	if strings.HasPrefix(first, stagePrefix) {
		return false, fmt.Errorf("%s holds %s, which an init that was killed left: remove it and try again", target, first)
	}
	return false, fmt.Errorf("%s is not empty (it holds %s): give a folder that is absent or empty; nothing was changed", target, first)
}

// moveInto gives what was built its names in the target, the configuration
// last: a folder without it was never finished.
func moveInto(stage, target string) error {
	entries, err := os.ReadDir(stage)
	if err != nil {
		return fmt.Errorf("couldn't read %s: %w", stage, err)
	}
	last := filepath.Base(config.Dir(target).Config())
	slices.SortFunc(entries, func(a, b os.DirEntry) int {
		if (a.Name() == last) != (b.Name() == last) {
			if a.Name() == last {
				return 1
			}
			return -1
		}
		return strings.Compare(a.Name(), b.Name())
	})
	var moved []string
	for _, e := range entries {
		err = os.Rename(filepath.Join(stage, e.Name()), filepath.Join(target, e.Name()))
		if err != nil {
			break
		}
		moved = append(moved, filepath.Join(target, e.Name()))
	}
	if err == nil {
		err = durable.OS.SyncDir(target)
	}
	if err != nil {
		for _, name := range moved {
			err = errors.Join(err, os.RemoveAll(name))
		}
		return fmt.Errorf("couldn't give the files their names in %s: %w", target, err)
	}
	return nil
}

// fillProvider makes every file of the provider in dir.
func fillProvider(ctx context.Context, dir config.Dir, r initRequest, cfg config.Config) error {
	for _, d := range []struct {
		name string
		mode fs.FileMode
	}{
		// Others may reach public/ and see no other name.
		{string(dir), 0o711},
		{dir.Public(), 0o755},
		{dir.Keys(), 0o700},
		{dir.QuickstartKeys(), 0o700},
		{dir.PECCertificates(), 0o700},
		{dir.Mail(), 0o700},
		{dir.Spool(), 0o700},
		{dir.Log(), 0o700},
		{dir.Receipts(), 0o700},
		{dir.Path(cfg.Archive.Dir), 0o700},
	} {
		if err := os.MkdirAll(d.name, d.mode); err != nil {
			return fmt.Errorf("couldn't make the folder: %w", err)
		}
		// MkdirAll obeys the umask and leaves what exists.
		if err := os.Chmod(d.name, d.mode); err != nil {
			return fmt.Errorf("couldn't set the folder's mode: %w", err)
		}
	}
	if err := writeKeys(dir, cfg); err != nil {
		return err
	}
	if _, err := keys.CreateMonths(durable.OS, dir.Months(), dir.MasterKey()); err != nil {
		return err
	}
	if err := makeMailboxes(ctx, dir, r, cfg); err != nil {
		return err
	}
	return config.Write(dir.Config(), cfg)
}

// writeKeys makes the quickstart's keys and certificates and writes them.
func writeKeys(dir config.Dir, cfg config.Config) error {
	q, err := keys.NewQuickstart(keys.QuickstartConfig{Domain: cfg.Domain, Provider: cfg.Provider, LogID: cfg.Log.ID, Now: time.Now()})
	if err != nil {
		return err
	}
	for _, p := range []struct {
		pair      keys.Pair
		key, cert string
		mode      fs.FileMode
	}{
		{q.PEC, dir.PECKey(), dir.PECCertificate(), 0o600},
		{q.TLS, dir.TLSKey(), dir.TLSCertificate(), 0o600},
		{q.TSU, dir.TSUKey(), dir.TSUCertificate(), 0o600},
		{q.PECAuthority, filepath.Join(dir.QuickstartKeys(), "pec-ca.key"), dir.PublicCA(), 0o644},
		{q.TLSAuthority, filepath.Join(dir.QuickstartKeys(), "tls-ca.key"), dir.PublicTLSCA(), 0o644},
		{q.TSAAuthority, filepath.Join(dir.QuickstartKeys(), "tsa-ca.key"), dir.PublicTSACA(), 0o644},
	} {
		if err := keys.SaveSigner(p.key, p.pair.Key); err != nil {
			return err
		}
		if err := writeFile(p.cert, keys.EncodeCertificates(p.pair.Certificate), p.mode); err != nil {
			return err
		}
	}
	if err := keepCertificate(dir, q.PEC.Certificate); err != nil {
		return err
	}
	if err := writeFile(dir.LogKey(), []byte(q.LogSigner+"\n"), 0o600); err != nil {
		return err
	}
	return writeFile(dir.PublicLogKey(), []byte(q.LogVerifier+"\n"), 0o644)
}

// writeFile writes durably and sets the mode whatever the umask is.
func writeFile(name string, data []byte, mode fs.FileMode) error {
	if err := durable.WriteFile(durable.OS, name, data, mode); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

// makeMailboxes makes the accounts with their mailboxes, and the provider's own
// mailbox, which has no account.
func makeMailboxes(ctx context.Context, dir config.Dir, r initRequest, cfg config.Config) error {
	store, err := mailbox.Open(dir.Mail(), mailbox.Options{Host: cfg.Domain, FlushEach: true})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Create(cfg.ServiceAddress(), 0); err != nil {
		return err
	}
	accounts, err := mailbox.OpenAccounts(mailbox.AccountsOptions{File: dir.Accounts(), Create: true})
	if err != nil {
		return err
	}
	all := make([]mailbox.NewAccount, 0, len(r.accounts))
	for _, a := range r.accounts {
		n := mailbox.NewAccount{Address: a.local + "@" + cfg.Domain, Password: a.password, Quota: cfg.Mail.DefaultQuotaBytes}
		if err := store.Create(n.Address, n.Quota); err != nil {
			return err
		}
		all = append(all, n)
	}
	err = accounts.AddAll(ctx, all, nil)
	if ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// syncFolders makes the names in every folder under root durable; the files
// were synced when they were written.
func syncFolders(root string) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = durable.OS.SyncDir(name)
		}
		return err
	})
}

// calledAs is how a person calls the program again: by the path that he wrote,
// or by its name when it lies where the shell looks.
func calledAs(arg0 string) string {
	if strings.ContainsRune(arg0, os.PathSeparator) {
		return arg0
	}
	return "scripta"
}

// printMade tells what was made and what to do next.
func printMade(w io.Writer, r initRequest, cfg config.Config, program string) {
	dir := config.Dir(r.dir)
	a := cfg.Listen.Addresses()
	boxes := make([]string, 0, len(r.accounts))
	for _, acc := range r.accounts {
		boxes = append(boxes, acc.local+"@"+cfg.Domain)
	}
	const shown = 5
	if more := len(boxes) - shown; more > 0 {
		boxes = append(boxes[:shown], fmt.Sprintf("+%d", more))
	}
	list := strings.Join(boxes, ", ")
	if list == "" {
		list = "-"
	}
	fmt.Fprintf(w, `Creato il gestore PEC di prova %[1]s in %[2]s
  ATTENZIONE: certificati e marche temporali di prova, SENZA VALORE LEGALE
  caselle        %[3]s
  configurazione %[4]s
  per verificare %[5]s (ca.pem, tls-ca.pem, tsa-ca.pem, log.vkey)
  da custodire   %[6]s: senza master.key il registro non si legge più
Adesso:
  %[9]s serve --dir %[2]s
  %[9]s status --dir %[2]s
  invio SMTPS %[7]s, API https://%[8]s/

Made the test PEC provider %[1]s in %[2]s
  WARNING: test certificates and time stamps, no legal value
  mailboxes      %[3]s
  configuration  %[4]s
  to verify      %[5]s (ca.pem, tls-ca.pem, tsa-ca.pem, log.vkey)
  keep safe      %[6]s: without master.key the register cannot be read
Next:
  %[9]s serve --dir %[2]s
  %[9]s status --dir %[2]s
  send by SMTPS %[7]s, API https://%[8]s/
`, cfg.Domain, r.dir, list, dir.Config(), dir.Public(), dir.Keys(), a.Submissions, a.HTTPS, program)
}
