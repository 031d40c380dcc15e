package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"

	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register"
	"scripta/register/receipts"
	"scripta/register/record"
)

// leafOverhead is about what is read of a leaf besides its record: its hash and
// its identity.
const leafOverhead = 256

// leaves recomputes the log and examines every record.
func (a *Audit) leaves(ctx context.Context, log *merkle.Audit) error {
	a.s.Report.Leaves = log.Size()
	a.compare(0, log.Root)
	for done := false; !done; {
		var err error
		read := 0
		done, err = log.Next(ctx, 256, func(index uint64, leaf merkle.Leaf) {
			a.compare(index+1, log.Root)
			a.record(ctx, index, leaf)
			read += len(leaf.Value) + len(leaf.Extra) + leafOverhead
		}, func(err error) { a.wrong("the log's database", "%v", err) })
		a.s.Leaf, a.s.edge = log.Position()
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		a.o.Progress(stepLog, a.s.Leaf, log.Size())
		if err := a.o.Pace(ctx, read); err != nil {
			return err
		}
		a.saveSometimes()
	}
	return nil
}

// record examines one record and what it tells of.
func (a *Audit) record(ctx context.Context, index uint64, leaf merkle.Leaf) {
	place := leafPlace(index)
	f, err := a.o.Register.Examine(ctx, index, leaf)
	if errors.Is(err, keys.ErrDisposed) {
		a.s.Report.Disposed++
		return
	}
	if err != nil {
		a.wrong(place, "%v", err)
	}
	if f == nil {
		return
	}
	a.s.Report.Opened++
	switch kind := f.Record.Kind; {
	case kind.Issued():
		a.message(ctx, place, f)
	case cameIn(f.Record) && a.o.KeepsContents:
		a.content(ctx, place, f, false)
	case kind == record.Quarantined:
		a.content(ctx, place, f, true)
	case kind == record.CheckpointStamped:
		a.stamped(place, f.Record)
	case kind == record.DayClosed && a.o.Closed != nil:
		if err := a.o.Closed(f.Record); err != nil {
			a.wrong(place, "%v", err)
		}
	}
}

// cameIn says whether a record tells of a message that came in from outside, whose
// octets are kept as those of its transaction. What passes between two mailboxes of
// this provider is kept as what was submitted.
func cameIn(r *record.Record) bool {
	switch r.Kind {
	case record.Submitted:
		return true
	case record.Received, record.NotificationReceived, record.UncertifiedReceived:
		return r.Peer.Address != ""
	}
	return false
}

// message checks that the message which a record tells of is kept, byte for byte.
func (a *Audit) message(ctx context.Context, place string, f *register.Found) {
	store := a.o.Register.Receipts()
	m, err := store.Get(f.Opened.ID)
	if err != nil {
		a.wrong(place, "the message that it tells of (%v) cannot be read: %v", f.Record.Kind, err)
		return
	}
	switch rec := f.Record; {
	case string(m.Digest[:]) != string(rec.Digest), string(m.Content[:]) != string(rec.Content), uint64(m.Size) != rec.Size:
		a.wrong(place, "the message that is kept is not the one that it tells of")
		return
	case !a.o.KeepsContents && m.Included != nil:
		return // it can be made whole only with what its holder has
	}
	whole, err := store.Open(f.Opened.ID, a.o.Register.Contents())
	if errors.Is(err, receipts.ErrNotFound) {
		a.note(place, "the author's message that is included is not kept (was receipts.keep_originals off?): %v", err)
		return
	} else if err != nil {
		a.wrong(place, "the message that it tells of cannot be made whole: %v", err)
		return
	}
	sum, err := digest(ctx, whole, whole.Size())
	if err = errors.Join(err, whole.Close()); err != nil && ctx.Err() == nil {
		a.wrong(place, "the message that it tells of cannot be made whole: %v", err)
	} else if err == nil && sum != m.Digest {
		a.wrong(place, "the message that it tells of comes back with another digest")
	}
}

// content checks that the message which a record tells of is kept as it came:
// among the contents or in quarantine, or there only.
func (a *Audit) content(ctx context.Context, place string, f *register.Found, infected bool) {
	stores := []*receipts.ContentStore{a.o.Register.Contents(), a.o.Register.Quarantine()}
	if infected {
		stores = stores[1:]
	}
	tx := f.Opened.ID.Transaction()
	var (
		c   receipts.Content
		err error
	)
	for _, store := range stores {
		// Its octets are sealed under the month in which they began to come.
		c, err = store.OpenContent(tx, f.Month)
		if errors.Is(err, receipts.ErrNotFound) {
			c, err = store.OpenContent(tx, f.Month-1)
		}
		if !absent(err) {
			break
		}
	}
	switch {
	case err == nil:
	case infected:
		a.wrong(place, "the infected message cannot be read: %v", err)
		return
	case absent(err):
		a.note(place, "the author's message is not kept (was receipts.keep_originals off?)")
		return
	default:
		a.wrong(place, "the author's message cannot be read: %v", err)
		return
	}
	sum, err := digest(ctx, c, c.Size())
	if err = errors.Join(err, c.Close()); err != nil && ctx.Err() == nil {
		a.wrong(place, "the author's message cannot be read: %v", err)
	} else if err == nil && string(sum[:]) != string(f.Record.Digest) {
		a.wrong(place, "the author's message is not the one that it tells of")
	}
}

// absent says that a content is not kept; the month before may have no secret yet,
// or none any more.
func absent(err error) bool {
	var before *keys.MonthError
	return errors.As(err, &before) || errors.Is(err, receipts.ErrNotFound) || errors.Is(err, keys.ErrNoSecret) || errors.Is(err, keys.ErrDisposed)
}

func digest(ctx context.Context, r io.ReaderAt, size int64) (sum [32]byte, err error) {
	if err := ctx.Err(); err != nil {
		return sum, err
	}
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(r, 0, size))
	h.Sum(sum[:0])
	return sum, err
}
