package mta

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"scripta/mta/mailbox"
	"scripta/mta/pec"
	"scripta/mta/providers"
	"scripta/register/receipts"
	"scripta/register/record"
)

// placement is one message to be put into one mailbox: of ours, or elsewhere.
type placement struct {
	mailbox     string
	message     *receipts.Issued
	bypassQuota bool

	// Of use when the mailbox is not ours. Receipts have none of them.
	from     string // reverse path; "": our service address
	ordinary bool   // its domain is not certified
	envelope bool   // the message is a submission's envelope
	place    int    // of the recipient in that submission

	number    int         // of the recipient in its delivery, from 1; 0 for notices
	elsewhere bool        // the mailbox is not ours: a relay job takes the message there
	told      []record.ID // of the records, one of which will tell what became of it
	recalled  bool        // one of them did
	late      bool        // its mailbox fails for now: it gets a stage of its own
	prepared  *mailbox.Prepared
	failed    error // for this mailbox alone
}

// placed is the note that makes a stage of deliveries final: its time, and those
// that failed for good, by their place.
type placed struct {
	Moment    moment         `json:"moment"`
	Failed    map[int]string `json:"failed,omitempty"`
	Elsewhere []int          `json:"elsewhere,omitempty"` // handed to relay jobs, which are durable
	Late      map[int]int    `json:"late,omitempty"`      // left to a stage of their own, by their place: their number
}

// place puts messages into mailboxes so that each is there exactly once whatever
// happens (design of durable delivery):
//
//  1. every message is written to tmp/N and fsynced; what is for elsewhere becomes
//     durable as relay jobs, which wait;
//  2. the note "publishing, time t" is made durable: from here the delivery
//     has happened at t;
//  3. each tmp/N is renamed to new/N, and the relay jobs begin.
//
// A crash before 2 leaves files in tmp, which the rerun writes again; after 2
// the absence of tmp/N proves that it was published, since only recovery cleans
// tmp and it leaves the files of live jobs. A rename that a power cut undoes is
// done again by the rerun, so what follows from the delivery may be recorded and
// sent at once; the job alone, whose note it needs, must not be forgotten before
// the folders are fsynced. The next stage's 1 does that, or finish.
//
// A mailbox that refuses for good fails alone (placement.failed). One whose files
// the disk gives an error for is left out (placement.late), and a stage of its own
// tries again without holding up the others: such a stage, of one placement, fails
// with a *heldUp. A full disk fails the whole stage, which is run again. verdict, if given, may fail
// placements before they are written; what it decided is in the note.
//
// The note alone tells what became of a placement, now and on every rerun: what
// follows from it may be recorded and sent already. A mailbox that somebody
// removes after the note has got its message at t, and lost it with all others.
//
// named is the time in the files' names, which must be the same on every run.
func (p *Pipeline) place(t *task, stage string, named time.Time, all []*placement, verdict func(i int) error) (moment, error) {
	t.stuck = nil
	var note placed
	if done, err := t.noted(stage, &note); err != nil {
		return moment{}, err
	} else if done {
		for i, x := range all {
			if text, failed := note.Failed[i]; failed {
				x.failed = errors.New(text)
				continue
			}
			if _, x.late = note.Late[i]; x.late {
				continue
			}
			if x.elsewhere = slices.Contains(note.Elsewhere, i); x.elsewhere {
				continue
			}
			x.prepared = p.boxes.Resume(x.mailbox, fileName(x.message.ID), x.message.Size, named)
		}
		p.depart(t, stage)
		return note.Moment, p.publish(t, all)
	}
	for i, x := range all {
		// Who is a recipient of ours, and who is not, was decided when the message came.
		if x.elsewhere = x.envelope || x.number == 0 && !p.ours(x.mailbox); x.elsewhere {
			note.Elsewhere = append(note.Elsewhere, i)
		}
	}
	if err := p.passagesFor(t, stage, all); err != nil { // of an earlier run there may be some, when none is wanted any more
		return moment{}, err
	}
	known, err := p.recall(t, all, named, &note)
	if err != nil {
		return moment{}, err
	}
	written := make([]*mailbox.Prepared, 0, len(all)+len(t.moved))
	for i, x := range all {
		if x.elsewhere || x.recalled || x.late {
			continue
		}
		if verdict != nil {
			x.failed = verdict(i)
		}
		if x.failed == nil {
			x.failed = p.prepare(t, x, named)
		}
		if x.failed != nil {
			final := refusal(x.failed)
			if final == nil {
				if !ofOneMailbox(x.failed) {
					return moment{}, x.failed
				}
				if len(all) == 1 {
					return moment{}, &heldUp{x.failed}
				}
				x.failed = nil
				note.leave(i, x)
				continue
			}
			x.failed = final
			note.fail(i, x)
			continue
		}
		written = append(written, x.prepared)
	}
	if err := p.boxes.Sync(append(written, t.moved...)...); err != nil {
		return moment{}, err
	}
	t.moved = nil
	if !known {
		if note.Moment, err = p.now(); err != nil {
			return moment{}, err
		}
	}
	if err := p.note(t, stage, note); err != nil {
		return moment{}, err
	}
	p.depart(t, stage)
	return note.Moment, p.publish(t, all)
}

// ours says whether an address is of a domain of this provider.
func (p *Pipeline) ours(address string) bool {
	of, ok := p.index().OfAddress(address)
	return ok && pec.SameAddress(of.ServiceAddress, p.composer.Provider.ServiceAddress)
}

// providerOf is where a message for elsewhere goes: the name of the provider of its
// domain, or the domain of an ordinary recipient, or of one whose provider has left
// the index.
func providerOf(index *providers.Index, x *placement) string {
	if of, ok := index.OfAddress(x.mailbox); ok && !x.ordinary {
		return of.Name
	}
	return providers.Domain(x.mailbox)
}

func (p *Pipeline) prepare(t *task, x *placement, named time.Time) error {
	msg, err := t.held.Open(x.message)
	if err != nil {
		return err
	}
	defer msg.Close()
	x.prepared, err = p.boxes.Prepare(mailbox.Delivery{Mailbox: x.mailbox, Name: fileName(x.message.ID), Time: named, Size: x.message.Size,
		BypassQuota: x.bypassQuota, Write: func(w io.Writer) error {
			_, err := msg.WriteTo(w)
			return err
		}})
	return err
}

// publish moves what was prepared. Once that is noted it has happened, whatever the
// disk says of one mailbox (task.stuck): what follows from it goes on, and then who
// called place fails, so that the job is run again.
func (p *Pipeline) publish(t *task, all []*placement) error {
	for _, x := range all {
		if x.failed != nil || x.elsewhere || x.late {
			continue
		}
		switch err := p.boxes.Move(x.prepared); {
		case err == nil:
			t.moved = append(t.moved, x.prepared)
		case errors.Is(err, mailbox.ErrNoMailbox):
			p.metrics.Alarms.Add(1)
			p.log.Error("a mailbox was removed while a message was put into it", "tx", t.id(), "record", x.message.ID.String())
		case ofOneMailbox(err):
			t.stuck = append(t.stuck, &heldUp{err})
			p.log.Warn("a delivered message is not in its mailbox yet, because the disk gives an error", "tx", t.id(), "record", x.message.ID.String(), "err", err)
		default:
			return fmt.Errorf("couldn't publish to the mailboxes: %w", err)
		}
	}
	return nil
}

// refusal returns why a mailbox refuses for good, as it is noted, or nil when
// the error may pass. What can be no mailbox's address is one that does not exist.
func refusal(err error) error {
	switch {
	case errors.Is(err, mailbox.ErrNoMailbox), errors.Is(err, mailbox.ErrAddress):
		return mailbox.ErrNoMailbox
	case errors.Is(err, mailbox.ErrMailboxFull):
		return mailbox.ErrMailboxFull
	}
	return nil
}
