package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"scripta/api"
	"scripta/archive"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register"
	"scripta/register/evidence"
	"scripta/register/rollback"
	"scripta/register/stamps"
)

// frozenLog is a log that was given up when a rollback was accepted, opened for
// reading.
type frozenLog struct {
	state  *rollback.State
	log    *merkle.Log
	past   *register.Past
	stamps *stamps.Store
}

// openFrozen opens the logs that were given up.
func (a *app) openFrozen(ctx context.Context) error {
	states, err := rollback.Load(a.dir)
	if err != nil {
		return err
	}
	for _, s := range states {
		verifier, err := note.NewVerifier(s.Key)
		if err != nil {
			return fmt.Errorf("couldn't read the key of the frozen log %s: %w", s.ID, err)
		}
		folder := rollback.FolderOf(a.dir, s.ID)
		f := &frozenLog{state: s}
		f.log, err = merkle.Open(ctx, merkle.Options{Dir: folder.Log(), Origin: s.Gap.Origin, Verifier: verifier, Logger: a.log, ReadOnly: true})
		if err != nil {
			return fmt.Errorf("couldn't open the frozen log %s: %w", s.ID, err)
		}
		a.onCloseDatabase("frozen log "+s.ID, f.log.Close)
		if f.past, err = register.OpenPast(ctx, folder.Index(), f.log, a.months, a.holds, s.Gap, a.log); err != nil {
			return fmt.Errorf("couldn't open the frozen log %s: %w", s.ID, err)
		}
		a.frozen = append(a.frozen, f)
	}
	return nil
}

// commitRollback appends the first record of a log that follows a frozen one. It
// is the first thing that any opening does, and changes nothing later.
func (a *app) commitRollback(ctx context.Context) error {
	if len(a.frozen) == 0 {
		return nil
	}
	first, err := a.frozen[len(a.frozen)-1].state.First()
	if err != nil {
		return err
	}
	at, err := a.register.Append(ctx, first)
	if err == nil && at[0].Index != 0 {
		err = fmt.Errorf("the record of the accepted rollback is at %d, not at the log's beginning", at[0].Index)
	}
	return err
}

// openPastStamps opens the time stamps of the frozen logs, by origin.
func (a *app) openPastStamps(roots *x509.CertPool) (map[string]*stamps.Store, error) {
	all := map[string]*stamps.Store{}
	for _, f := range a.frozen {
		var err error
		if f.stamps, err = stamps.Open(durable.OS, rollback.FolderOf(a.dir, f.state.ID).Stamps(), f.log.Verifier(), roots); err != nil {
			return nil, err
		}
		all[f.log.Origin()] = f.stamps
	}
	return all, nil
}

// publishedPast are the frozen logs as they stay published.
func (a *app) publishedPast() []api.PastLog {
	var all []api.PastLog
	for _, f := range a.frozen {
		all = append(all, api.PastLog{Origin: f.log.Origin(), Log: f.log.Handler(), Stamps: f.stamps, Known: []byte(f.state.Known)})
	}
	return all
}

// pastPackages checks the packages of the frozen logs too.
func pastPackages(states []*rollback.State, path func(string) string, trust evidence.Trust) ([]archive.Verified, error) {
	var all []archive.Verified
	for _, s := range states {
		v, err := archive.VerifyAll(path(s.Archive), trust)
		if err != nil {
			return all, err
		}
		all = append(all, v...)
	}
	return all, nil
}

// auditFrozen recomputes the frozen logs and opens their records.
func (a *app) auditFrozen(ctx context.Context, wrong func(place, text string)) error {
	for _, f := range a.frozen {
		place := rollback.FolderOf(a.dir, f.state.ID).Log()
		if err := f.log.Verify(ctx); err != nil && ctx.Err() == nil {
			wrong(place, err.Error())
		}
		for i := range f.past.Size() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if _, err := f.past.Read(ctx, i); err != nil && !errors.Is(err, keys.ErrDisposed) {
				wrong(place, err.Error())
			}
		}
	}
	return ctx.Err()
}
