package mta

import (
	"errors"
	"fmt"
	"io"
	"time"

	"scripta/mta/mailbox"
	"scripta/mta/spool"
	"scripta/register/receipts"
)

// placement is one message to be put into one mailbox.
type placement struct {
	mailbox     string
	message     *receipts.Issued
	bypassQuota bool

	prepared *mailbox.Prepared
	failed   error // for this mailbox alone
}

// placed is the note that makes a stage of deliveries final: its time, and those
// that failed for good, by their place.
type placed struct {
	Moment moment         `json:"moment"`
	Failed map[int]string `json:"failed,omitempty"`
}

// place puts messages into mailboxes so that each is there exactly once whatever
// happens (design of durable delivery):
//
//  1. every message is written to tmp/N and fsynced;
//  2. the note "publishing, time t" is made durable: from here the delivery
//     has happened at t;
//  3. each tmp/N is renamed to new/N and the folders are fsynced.
//
// A crash before 2 leaves files in tmp, which the rerun writes again; after 2
// the absence of tmp/N proves that it was published, since only recovery cleans
// tmp and it leaves the files of live jobs. What the caller records next makes
// the end of 3 durable.
//
// A mailbox that cannot be written fails alone (placement.failed). A full disk
// fails the whole stage, which is run again. verdict, if given, may fail
// placements before they are written; what it decided is in the note.
//
// named is the time in the files' names, which must be the same on every run.
func (p *Pipeline) place(job *spool.Job, stage string, named time.Time, all []*placement, verdict func(i int) error) (moment, error) {
	var note placed
	if done, err := job.Noted(stage, &note); err != nil {
		return moment{}, err
	} else if done {
		for i, x := range all {
			if text, failed := note.Failed[i]; failed {
				x.failed = errors.New(text)
				continue
			}
			x.prepared = p.boxes.Resume(x.mailbox, fileName(x.message.ID), x.message.Size, named)
		}
		return note.Moment, p.publish(all)
	}
	written := make([]*mailbox.Prepared, 0, len(all))
	for i, x := range all {
		if verdict != nil {
			x.failed = verdict(i)
		}
		if x.failed == nil {
			x.failed = p.prepare(x, named)
		}
		if x.failed != nil {
			final := refusal(x.failed)
			if final == nil {
				return moment{}, x.failed
			}
			x.failed = final
			if note.Failed == nil {
				note.Failed = map[int]string{}
			}
			note.Failed[i] = x.failed.Error()
			continue
		}
		written = append(written, x.prepared)
	}
	if err := p.boxes.Sync(written...); err != nil {
		return moment{}, err
	}
	var err error
	if note.Moment, err = p.now(); err != nil {
		return moment{}, err
	}
	if err := p.spool.Note(job, stage, note); err != nil {
		return moment{}, err
	}
	return note.Moment, p.publish(all)
}

func (p *Pipeline) prepare(x *placement, named time.Time) error {
	msg, err := p.open(x.message.ID)
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

func (p *Pipeline) publish(all []*placement) error {
	ready := make([]*mailbox.Prepared, 0, len(all))
	for _, x := range all {
		if x.failed == nil {
			ready = append(ready, x.prepared)
		}
	}
	err := p.boxes.Publish(ready...)
	if err == nil || refusal(err) == nil {
		return wrapPublish(err)
	}
	// A mailbox was removed since the note. The others have their messages;
	// which one it was shows when each is published again.
	for _, x := range all {
		if x.failed != nil {
			continue
		}
		err := p.boxes.Publish(x.prepared)
		if x.failed = refusal(err); x.failed == nil && err != nil {
			return wrapPublish(err)
		}
	}
	return nil
}

func wrapPublish(err error) error {
	if err != nil {
		return fmt.Errorf("couldn't publish to the mailboxes: %w", err)
	}
	return nil
}

// refusal returns why a mailbox refuses for good, as it is noted, or nil when
// the error may pass.
func refusal(err error) error {
	for _, e := range []error{mailbox.ErrNoMailbox, mailbox.ErrMailboxFull} {
		if errors.Is(err, e) {
			return e
		}
	}
	return nil
}
