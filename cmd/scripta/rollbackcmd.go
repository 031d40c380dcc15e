package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/register/rollback"
	"scripta/register/stamps"
)

const acceptRollbackUsage = `usage: scripta log accept-rollback --dir DIR [--checkpoint FILE]... [--yes-records-are-lost]

For a stopped provider whose log is refused because it is behind a checkpoint
that was published, or contradicts it, and whose newest copy is not to be had.
Freezes the log: what is left of it stays readable, provable and published under
its own name, and nothing is ever written there again. A new log id goes on, and
its first record commits the last known checkpoint and what was lost. Asks you
to type the log's name, unless --yes-records-are-lost says it.

`

func runAcceptRollback(args []string, stdout, stderr io.Writer) int {
	f := newFlags("log accept-rollback", acceptRollbackUsage, stdout, stderr)
	dir := f.folder()
	var files []string
	f.Func("checkpoint", "`FILE` with a checkpoint that somebody else holds: a witness, an auditor, another disk; repeatable", func(s string) error {
		files = append(files, s)
		return nil
	})
	yes := f.Bool("yes-records-are-lost", false, "do not ask: the records above what is left are lost for good")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	err := acceptRollback(context.Background(), config.Dir(*dir), files, *yes, os.Stdin, stdout, commandLogger(stderr))
	if err != nil {
		return f.failed(err)
	}
	return 0
}

// acceptRollback does it. The folder is stopped: its lock is taken.
func acceptRollback(ctx context.Context, dir config.Dir, files []string, yes bool, in io.Reader, out io.Writer, log *slog.Logger) error {
	cfg, err := loadFolder(dir)
	if err != nil {
		return err
	}
	unlock, err := lockFolder(dir)
	if err != nil {
		return err
	}
	defer unlock()
	o, err := rollbackOptions(dir, cfg, files, log)
	if err != nil {
		return err
	}
	if rollback.Check(dir, cfg.Log.ID) == nil { // nothing is decided yet
		survey, err := rollback.Survey(ctx, o)
		if err != nil {
			return err
		}
		printSurvey(out, survey)
		if !yes && !confirmed(in, out, survey.Origin) {
			return errors.New("nothing was changed: the log's name was not confirmed")
		}
	}
	s, err := rollback.Accept(ctx, o)
	if err != nil {
		return err
	}
	// The first record is appended before anything else can be.
	a := &app{dir: dir, log: log}
	if a.cfg, err = loadFolder(dir); err != nil {
		return err
	}
	if err = a.take(ctx, a.everything()...); err == nil {
		err = a.close()
	}
	if err != nil {
		return fmt.Errorf("%s is frozen and %s begins, but it could not be opened: %w", s.Gap.Origin, s.Gap.Next, err)
	}
	fmt.Fprintf(out, "%s is frozen, %s goes on\ngive %s, which now has a line for each, to those who verify\n", s.Gap.Origin, s.Gap.Next, dir.PublicLogKey())
	return nil
}

func rollbackOptions(dir config.Dir, cfg config.Config, files []string, log *slog.Logger) (o rollback.Options, err error) {
	o = rollback.Options{Dir: dir, FS: durable.OS, Now: time.Now()}
	if rollback.Check(dir, cfg.Log.ID) != nil {
		return o, nil // decided: what follows may have moved
	}
	if o.Months, err = keys.OpenMonths(durable.OS, dir.Months(), dir.MasterKey()); err != nil {
		return o, err
	}
	signer, err := keys.LoadNoteSigner(dir.LogKey())
	if err != nil {
		return o, err
	}
	verifier, err := loadLogKey(dir.PublicLogKey())
	if err != nil {
		return o, err
	}
	o.Log = merkle.Options{Dir: dir.Log(), Origin: cfg.Origin(), Signer: signer, Verifier: verifier, Logger: log, MinFree: databaseReserve}
	if o.Elsewhere, err = readCheckpoints(files, verifier); err != nil {
		return o, err
	}
	if own, err := readCheckpoints([]string{filepath.Join(dir.Log(), merkle.CheckpointFile)}, verifier); err == nil { // else there is nothing to ask with
		seen, _, err := askWitnesses(context.Background(), cfg, verifier, own[0], log)
		if err != nil {
			return o, err
		}
		o.Elsewhere = append(o.Elsewhere, seen...)
	}
	roots, err := keys.LoadCertificates(dir.PublicTSACA())
	if err != nil {
		return o, err
	}
	o.Stamps, err = stamps.Open(durable.OS, dir.Stamps(), verifier, pool(roots))
	return o, err
}

// readCheckpoints reads signed notes of a log.
func readCheckpoints(files []string, verifier note.Verifier) ([]*checkpoint.Signed, error) {
	var all []*checkpoint.Signed
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(io.LimitReader(f, checkpoint.MaxNoteSize+1))
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		c, err := checkpoint.Open(b, verifier)
		if err != nil {
			return nil, fmt.Errorf("%s is no checkpoint of %s: %w", name, verifier.Name(), err)
		}
		all = append(all, c)
	}
	return all, nil
}

// printSurvey says what is about to be given up.
func printSurvey(out io.Writer, s *merkle.Survey) {
	known := "none is known"
	if s.Known != nil {
		known = fmt.Sprintf("%d records", s.Known.Size)
	}
	fmt.Fprintf(out, "log            %s\nin this folder %d records\nproved up to   %d records\npublished      %s\nlost           %d records at least\n",
		s.Origin, s.Size, s.Kept.Size, known, s.Lost())
	if s.Contradicted {
		fmt.Fprintln(out, "CONTRADICTION  this folder has another history than the one published")
	}
}

// confirmed asks a person to type the log's name.
func confirmed(in io.Reader, out io.Writer, origin string) bool {
	fmt.Fprintf(out, "The records above are given up for good. Type the name of the log to confirm: ")
	line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
	return (err == nil || errors.Is(err, io.EOF)) && strings.TrimSpace(line) == origin
}
