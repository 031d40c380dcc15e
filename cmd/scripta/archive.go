package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"scripta/archive"
	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/register/evidence"
	"scripta/register/rollback"
	"scripta/register/stamps"
)

const archiveCloseUsage = `usage: scripta archive close --dir DIR

Closes every interval up to now, split at UTC midnight, and says what it closed:
one package for each. What comes later today goes into another package. Works
beside a running provider and by a stopped one.

`

const archiveListUsage = `usage: scripta archive list --dir DIR

Lists the packages of closed intervals.

`

const archiveVerifyUsage = `usage: scripta archive verify --dir DIR [--trust FOLDER]

Checks every package from the disk, and that they continue one another.

`

func archiveCommands() []command {
	return []command{
		{name: "close", about: "close every interval up to now", run: runArchiveClose},
		{name: "list", about: "list the packages", run: runArchiveList},
		{name: "verify", about: "check every package from the disk", run: runArchiveVerify},
	}
}

func runArchiveClose(args []string, stdout, stderr io.Writer) int {
	f := newFlags("archive close", archiveCloseUsage, stdout, stderr)
	dir := f.folder()
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	err := withOperations(config.Dir(*dir), commandLogger(stderr), func(ctx context.Context, o operations) error {
		made, err := o.CloseDays(ctx)
		for _, c := range made {
			fmt.Fprintln(stdout, c)
		}
		if len(made) == 0 && err == nil {
			fmt.Fprintln(stdout, "nothing to close: the register has no record yet, or the last package ends now")
		}
		return err
	})
	if err != nil {
		return f.failed(err)
	}
	return 0
}

func runArchiveList(args []string, stdout, stderr io.Writer) int {
	f := newFlags("archive list", archiveListUsage, stdout, stderr)
	dir := f.folder()
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if err := listPackages(config.Dir(*dir), stdout); err != nil {
		return f.failed(err)
	}
	return 0
}

func runArchiveVerify(args []string, stdout, stderr io.Writer) int {
	f := newFlags("archive verify", archiveVerifyUsage, stdout, stderr)
	dir := f.folder()
	trust := f.String("trust", "", "`FOLDER` with ca.pem, tsa-ca.pem and log.vkey (default DIR/public)")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if *trust == "" {
		*trust = config.Dir(*dir).Public()
	}
	ok, err := verifyPackages(config.Dir(*dir), *trust, stdout)
	if err != nil {
		return f.failed(err)
	}
	if !ok {
		return 1
	}
	return 0
}

// packages is the folder of a provider's packages.
func packages(dir config.Dir) (string, error) {
	cfg, err := loadFolder(dir)
	if err != nil {
		return "", err
	}
	return dir.Path(cfg.Archive.Dir), nil
}

const noPackage = "no package yet: scripta archive close makes one"

func listPackages(dir config.Dir, out io.Writer) error {
	folder, err := packages(dir)
	if err != nil {
		return err
	}
	states, err := rollback.Load(dir)
	if err != nil {
		return err
	}
	var all []*archive.Package
	for _, s := range states {
		past, err := archive.Packages(dir.Path(s.Archive))
		if err != nil {
			return err
		}
		all = append(all, past...)
	}
	own, err := archive.Packages(folder)
	all = append(all, own...)
	for _, p := range all {
		fmt.Fprintf(out, "%s  %s\n", p.Name(), recordRange(p.Index.StartSize, p.Index.EndSize))
	}
	if len(all) == 0 && err == nil {
		fmt.Fprintln(out, noPackage)
	}
	return err
}

func verifyPackages(dir config.Dir, trust string, out io.Writer) (ok bool, err error) {
	cfg, err := loadFolder(dir)
	if err != nil {
		return false, err
	}
	folder := dir.Path(cfg.Archive.Dir)
	t, err := loadTrust(trust)
	if err != nil {
		return false, err
	}
	states, err := rollback.Load(dir)
	if err != nil {
		return false, err
	}
	all, err := pastPackages(states, dir.Path, *t)
	if err != nil {
		return false, err
	}
	own, err := archive.VerifyAll(folder, *t)
	all = append(all, own...)
	ok = true
	for _, v := range all {
		if ok && !v.Report.OK() && t.Log.Name() != cfg.Origin() {
			fmt.Fprintf(out, "likely cause: %s holds the key of the log %s, and this provider's log is %s\n", trust, t.Log.Name(), cfg.Origin())
		}
		fmt.Fprintf(out, "%s  %s\n", v.Name, v.Report.Verdict())
		if !v.Report.OK() {
			printChecks(out, v.Report.Checks, true)
			ok = false
		}
	}
	if len(all) == 0 && err == nil {
		fmt.Fprintln(out, noPackage)
	}
	return ok, err
}

// openArchive makes what closes days.
func (a *app) openArchive(context.Context) error {
	certs, err := a.publicCertificates()
	if err != nil {
		return err
	}
	trust, err := loadTrust(a.dir.Public())
	if err != nil {
		return err
	}
	chain, err := os.ReadFile(a.dir.PECCertificate())
	if err != nil {
		return fmt.Errorf("couldn't read the signing certificate: %w", err)
	}
	a.closer, err = archive.New(archive.Options{Dir: a.dir.Path(a.cfg.Archive.Dir), FS: durable.OS, Log: a.merkle, Register: a.register, Signer: a.signer,
		Trust: *trust, Provider: a.cfg.Provider, Certificates: append(certs, evidence.NewFile("certificates/pec.pem", chain)), Now: a.now, Logger: a.log,
		Stamps: archive.KeptStamps{Store: a.stamps, Request: a.stamps.Request, Ask: func(ctx context.Context) (*stamps.Stamp, error) {
			return a.stamper.Latest(ctx)
		}}})
	return err
}

// closedInterval tells of a package that was made.
type closedInterval struct {
	Path      string `json:"path"`
	First     uint64 `json:"first"` // index of the first record
	Personal  uint64 `json:"personal"`
	Service   uint64 `json:"service"`
	Timestamp string `json:"timestamp"`
}

func (c closedInterval) String() string {
	return fmt.Sprintf("%s: %s (%d about messages and mailboxes, %d of the service itself), time stamp %s",
		c.Path, recordRange(c.First, c.First+c.Personal+c.Service), c.Personal, c.Service, c.Timestamp)
}

// recordRange names the records from first up to end, which is not one of them.
func recordRange(first, end uint64) string {
	switch n := end - first; n {
	case 0:
		return "no record"
	case 1:
		return fmt.Sprintf("record %d", first)
	default:
		return fmt.Sprintf("%d records, %d to %d", n, first, end-1)
	}
}

// CloseDays implements operations.
func (a *app) CloseDays(ctx context.Context) ([]closedInterval, error) {
	now, err := a.now()
	if err != nil {
		return nil, err
	}
	made, err := a.closer.Close(ctx, now)
	all := make([]closedInterval, 0, len(made))
	for _, p := range made {
		all = append(all, closedInterval{filepath.Join(a.dir.Path(a.cfg.Archive.Dir), p.Name()), p.Index.StartSize, p.Index.Records.Personal,
			p.Index.Records.Service, p.Index.Timestamp})
	}
	return all, err
}
