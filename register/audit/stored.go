package audit

import (
	"context"
	"errors"
	"fmt"
	"io"

	"scripta/internal/keys"
	"scripta/register/receipts"
)

// messages reads the files of the receipt store, whatever the index says, and
// looks for the record of each message. That the message is the one which the
// record tells of was checked with the record.
func (a *Audit) messages(ctx context.Context) error {
	r := a.o.Register
	accepted, err := r.Receipts().LossesAccepted()
	if err != nil {
		return err
	}
	from := receipts.Frame{File: a.s.File, Offset: a.s.Offset}
	return r.Receipts().Each(from, func(f receipts.Frame) error {
		a.s.File, a.s.Offset = f.File, f.Offset
		if err := a.o.Pace(ctx, int(f.Size)); err != nil {
			return err
		}
		a.saveSometimes()
		a.s.Report.Messages++
		a.o.Progress(stepMessages, a.s.Report.Messages, 0)
		place := fmt.Sprintf("%s at %d", f.File, f.Offset)
		_, ok, err := r.Lookup(ctx, f.ID)
		switch {
		case err != nil:
			a.wrong(place, "the record of the message cannot be read: %v", err)
		case !ok && accepted(f.File, f.Offset):
			a.note(place, "no record tells of the message: a backup was brought back, or it was accepted that the log lost records")
		case !ok && a.o.UnderWay == nil:
			a.note(place, "no record tells of the message: its transaction is under way, or the log lost its newest leaves")
		case !ok && !a.o.UnderWay(f.ID.Transaction()):
			a.wrong(place, "no record tells of the message, and its transaction is not under way: the log lost leaves")
		}
		if _, err := r.Receipts().Get(f.ID); err != nil && !errors.Is(err, keys.ErrDisposed) {
			a.wrong(place, "the message cannot be read: %v", err)
		}
		return nil
	}, func(file string, offset int64, err error) {
		a.wrong(fmt.Sprintf("%s at %d", file, offset), "what is behind this is not read: %v", err)
	})
}

// contents reads every kept content to its end, and what is in quarantine.
func (a *Audit) contents(ctx context.Context) error {
	a.s.Report.Contents, a.s.Report.Quarantined = 0, 0
	if err := a.contentsOf(ctx, a.o.Register.Contents(), &a.s.Report.Contents); err != nil {
		return err
	}
	return a.contentsOf(ctx, a.o.Register.Quarantine(), &a.s.Report.Quarantined)
}

func (a *Audit) contentsOf(ctx context.Context, store *receipts.ContentStore, read *uint64) error {
	return store.Each(func(tx [16]byte, month uint16) error {
		place := store.Name(tx, month)
		c, err := store.OpenContent(tx, month)
		if errors.Is(err, keys.ErrDisposed) || errors.Is(err, receipts.ErrNotFound) { // just removed
			return nil
		}
		if err == nil {
			if err := a.o.Pace(ctx, int(c.Size())); err != nil {
				return errors.Join(err, c.Close())
			}
			_, err = io.Copy(io.Discard, io.NewSectionReader(c, 0, c.Size()))
			err = errors.Join(err, c.Close())
		}
		if err != nil {
			a.wrong(place, "%v", err)
			return ctx.Err()
		}
		*read++
		a.o.Progress(stepContents, *read, 0)
		return nil
	}, func(file string) { a.note(file, "it does not belong here") })
}
