package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"scripta/archive"
	"scripta/internal/bitrot"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/mta"
	"scripta/mta/spool"
	"scripta/register/audit"
	"scripta/register/evidence"
	"scripta/register/extract"
	"scripta/register/record"
)

// auditOptions are those of an audit of everything in the folder.
func (a *app) auditOptions() audit.Options {
	packages := &closedPackages{dir: a.dir.Path(a.cfg.Archive.Dir)}
	return audit.Options{
		Register: a.register, Stamps: a.stamps, FS: durable.OS, Logger: a.log, KeepsContents: a.cfg.Receipts.KeepOriginals,
		Databases: []string{filepath.Join(a.dir.Log(), merkle.DatabaseDir)},
		Journals:  a.leafFiles, Marks: a.marks, Closed: packages.has,
		Steps: []audit.Step{
			{Name: "packages", Run: a.auditPackages},
			{Name: "extracts", Run: a.auditExtracts},
			{Name: "keys", Run: a.auditKeys},
			{Name: "index files", Run: a.auditIndexFiles},
		},
	}
}

// marks are the checkpoints that lie beside the log: the last published one, and
// the last that witnesses cosigned.
func (a *app) marks(wrong func(place, text string)) (all []audit.Mark) {
	files, err := filepath.Glob(filepath.Join(a.dir.Log(), merkle.CheckpointFile+"*"))
	if err != nil {
		wrong(a.dir.Log(), err.Error())
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // replaced
		}
		var cp *checkpoint.Signed
		if err == nil {
			cp, err = checkpoint.Open(b, a.merkle.Verifier())
		}
		if err != nil {
			wrong(name, err.Error())
			continue
		}
		all = append(all, audit.Mark{Place: name, Size: cp.Size, Root: cp.Root})
	}
	if cp := a.merkle.Checkpoint(); cp != nil {
		all = append(all, audit.Mark{Place: "the published checkpoint", Size: cp.Size, Root: cp.Root})
	}
	return all
}

// leafFiles are the log's finished leaf files. The newest was read when it was
// opened.
func (a *app) leafFiles() ([]string, error) {
	names, err := filepath.Glob(filepath.Join(a.dir.Log(), merkle.DatabaseDir, "leaves", "*.leaves"))
	slices.Sort(names)
	return names[:max(0, len(names)-1)], err
}

// closedPackages knows the packages in a folder, read once.
type closedPackages struct {
	dir  string
	read bool
	err  error
	have map[string]archive.Digest // of the index, by name
}

// has checks that the package which a record tells of is there.
func (c *closedPackages) has(rec *record.Record) error {
	name := ""
	for _, d := range rec.Detail {
		if d.Name == "package" {
			name = d.Value
		}
	}
	digest, ok := c.have[name]
	if !ok || !c.read { // it may have been made since they were read
		c.read, c.have = true, map[string]archive.Digest{}
		var all []*archive.Package
		all, c.err = archive.Packages(c.dir)
		for _, p := range all {
			c.have[p.Name()] = p.Digest
		}
		digest, ok = c.have[name]
	}
	switch {
	case !ok && c.err != nil:
		return fmt.Errorf("the package %s cannot be found: %w", name, c.err)
	case !ok:
		return fmt.Errorf("the package %s is not in %s", name, c.dir)
	case string(digest[:]) != string(rec.Digest):
		return fmt.Errorf("the package %s is not the one that was closed: its index has the SHA-256 %s, recorded is %s", name, digest, hex.EncodeToString(rec.Digest))
	}
	return nil
}

// auditPackages checks every package from the disk, and that its records open.
func (a *app) auditPackages(ctx context.Context, wrong func(place, text string)) error {
	dir := a.dir.Path(a.cfg.Archive.Dir)
	trust, err := loadTrust(a.dir.Public())
	if err != nil {
		wrong(a.dir.Public(), err.Error())
		return nil
	}
	wrongOf := func(name string, r *evidence.Report) {
		for _, c := range r.Checks {
			if c.Err != nil && !c.Warning {
				wrong(filepath.Join(dir, name), fmt.Sprintf("%s: %v", c.Name, c.Err))
			}
		}
	}
	packages, err := archive.Packages(dir)
	if err != nil {
		// One that cannot be read: what can be said of each?
		wrong(dir, err.Error())
		all, err := archive.VerifyAll(dir, *trust)
		if err != nil {
			wrong(dir, err.Error())
		}
		for _, v := range all {
			wrongOf(v.Name, v.Report)
		}
		return nil
	}
	var before *archive.Package
	for _, p := range packages {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wrongOf(p.Name(), archive.Verify(p.Dir, *trust, before))
		before = p
		if c := archive.VerifyRecords(p, a.register); c.Err != nil {
			wrong(p.Dir, fmt.Sprintf("%s: %v", c.Name, c.Err))
		}
		root, err := a.merkle.RootAt(ctx, p.Index.EndSize)
		if err != nil || archive.Digest(root) != p.Index.EndRoot {
			wrong(p.Dir, fmt.Sprintf("its root of %d leaves is not the log's: %v", p.Index.EndSize, err))
		}
	}
	return nil
}

// auditIndexFiles reads the index whole.
func (a *app) auditIndexFiles(ctx context.Context, wrong func(place, text string)) error {
	if err := a.register.CheckIndex(ctx); err != nil && ctx.Err() == nil {
		wrong(filepath.Join(a.dir.Receipts(), "index"), err.Error())
	}
	return ctx.Err()
}

// auditIndex compares the index with what the records give, while nobody appends.
func (a *app) auditIndex(ctx context.Context, wrong func(place, text string)) error {
	if _, err := a.register.VerifyIndex(ctx); err != nil && ctx.Err() == nil {
		wrong(filepath.Join(a.dir.Receipts(), "index"), err.Error())
	}
	return ctx.Err()
}

func (a *app) auditExtracts(ctx context.Context, wrong func(place, text string)) error {
	return extract.CheckFiles(durable.OS, a.dir.Extracts(), a.register.FirstOrigin(), a.months, func(int) error { return ctx.Err() }, wrong)
}

// auditKeys checks that secrets open and certificates lead to the roots that are
// given out, and looks once more at the files that have no checksum.
func (a *app) auditKeys(_ context.Context, wrong func(place, text string)) error {
	if err := a.months.Reread(); err != nil {
		wrong(a.dir.Months(), err.Error())
	}
	for _, c := range []struct{ certificate, root string }{
		{a.dir.PECCertificate(), a.dir.PublicCA()}, {a.dir.TLSCertificate(), a.dir.PublicTLSCA()}, {a.dir.TSUCertificate(), a.dir.PublicTSACA()},
	} {
		if err := leads(c.certificate, c.root); err != nil && !errors.Is(err, fs.ErrNotExist) { // not every provider has them all
			wrong(c.certificate, err.Error())
		}
	}
	if err := a.plainFiles(); err != nil {
		for _, e := range flatten(err) {
			wrong(a.dir.Sums(), e.Error())
		}
	}
	return nil
}

// leads checks that a certificate leads to a root at the time when it began to be
// valid.
func leads(certificate, root string) error {
	chain, err := keys.LoadCertificates(certificate)
	if err != nil {
		return err
	}
	roots, err := keys.LoadCertificates(root)
	if err != nil {
		return err
	}
	for _, r := range roots {
		if err := r.CheckSignatureFrom(r); err != nil {
			return fmt.Errorf("the root in %s is not signed by itself: %w", root, err)
		}
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: pool(roots), Intermediates: pool(chain[1:]), CurrentTime: chain[0].NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

func flatten(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

// plainFiles looks whether a file changed that has no checksum of its own, and
// that nobody wrote.
func (a *app) plainFiles() error {
	names := []string{"scripta.toml", "accounts", filepath.Join("receipts", "issued", "dictionary")}
	for _, folder := range []string{"keys", "public"} {
		err := fs.WalkDir(os.DirFS(string(a.dir)), folder, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
				names = append(names, path)
			}
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("couldn't list %s: %w", folder, err)
		}
	}
	fresh, err := bitrot.Check(durable.OS, a.dir.Sums(), string(a.dir), names, time.Now())
	if fresh {
		a.log.Warn("the sums of configuration, keys and accounts could not be read and were begun anew", "file", a.dir.Sums())
	}
	return err
}

func (a *app) checkPlainFiles(context.Context) error {
	err := a.plainFiles()
	if errors.Is(err, syscall.ENOSPC) && !errors.Is(err, bitrot.ErrDamaged) {
		a.log.Warn("the sums of files cannot be kept", "err", err)
		return nil
	}
	return err
}

// newestChecked is how many of the newest stored messages each start looks for
// in the log: more than are stored between two checkpoints.
const newestChecked = 4096

// checkNewest looks whether the log has the records of the newest messages that
// are stored. A message is stored before its record is appended, by a job that is
// kept until both are done: without record and job the log has lost leaves, which
// no checkpoint covered yet.
func (d *daemon) checkNewest(ctx context.Context, jobs []*spool.Job) error {
	underWay, err := mta.UnderWay(jobs)
	if err != nil {
		return err
	}
	frames, err := d.register.Receipts().Newest(newestChecked)
	if err != nil {
		return err
	}
	accepted, err := d.register.Receipts().LossesAccepted()
	if err != nil {
		return err
	}
	for _, f := range frames {
		if accepted(f.File, f.Offset) {
			continue
		}
		_, ok, err := d.register.Lookup(ctx, f.ID)
		if err != nil {
			return err
		}
		if ok || underWay(f.ID.Transaction()) {
			continue
		}
		d.lost++
		d.log.Error("the log does not have the record of a message that was issued: its newest leaves were lost; see docs/operating.md", "record", f.ID, "file", f.File, "offset", f.Offset)
	}
	return nil
}
