package mta

import (
	"context"
	"errors"
	"fmt"
	"time"

	"scripta/mta/mailbox"
	"scripta/mta/pec"
	"scripta/mta/spool"
	"scripta/register/receipts"
	"scripta/register/record"
)

// delivery is the Delivery Point's work on an envelope (RFC 6109 §3.3): it puts it
// into the mailboxes of recipients of ours and reports to the sender.
type delivery struct {
	p          *Pipeline
	t          *task
	env        *envelope
	tx         spool.ID              // of what it records and issues
	begun      time.Time             // the transaction's, in the names of files
	recipients []string              // each once
	places     []uint32              // of the recipients, which ordinals are made of; nil: 0, 1, 2…
	about      func() *record.Record // begins a record about what reaches a mailbox
	notices    []notice              // which the first stage takes along
}

// notice is a message of ours for one mailbox, and the id of the record that tells
// that it got there.
type notice struct {
	*placement
	id record.ID
}

// place is the ordinal of a recipient.
func (d *delivery) place(i int) uint32 {
	if d.places == nil {
		return uint32(i)
	}
	return d.places[i]
}

// run delivers, at most stage mailboxes at a time: the same number on every run.
func (d *delivery) run(ctx context.Context, stage int) error {
	var held waits
	for from := 0; from < len(d.recipients); from += stage {
		var some []int
		for n := from; n < min(from+stage, len(d.recipients)); n++ {
			some = append(some, n)
		}
		notices := d.notices
		if from > 0 {
			notices = nil
		}
		if err := held.keep(d.group(ctx, deliverStage(from), fmt.Sprintf("outcome/%d", from), some, notices)); err != nil {
			return err
		}
	}
	return held.err()
}

// deliverStage is the note of the stage that begins with a recipient.
func deliverStage(from int) string { return fmt.Sprintf("deliver/%d", from) }

// lateStage is the note of a recipient's own stage, whose mailbox failed in that of
// the others.
func lateStage(n int) string { return fmt.Sprintf("deliver/late/%d", n) }

// group delivers to some recipients, given by their numbers from 0 on, and then
// alone to each whose mailbox failed. stage and outcome name the two steps of it.
func (d *delivery) group(ctx context.Context, stage, outcome string, recipients []int, notices []notice) error {
	p := d.p
	var all []*placement
	for _, n := range notices {
		all = append(all, n.placement)
		n.told = []record.ID{n.id}
	}
	for _, n := range recipients {
		all = append(all, &placement{mailbox: d.recipients[n], message: d.env.message, number: n + 1,
			told: []record.ID{record.MakeID(d.tx, stepDelivered, d.place(n)), record.MakeID(d.tx, stepNonDelivery, d.place(n))}})
	}
	at, err := p.place(d.t, stage, d.begun, all, func(i int) error {
		if i < len(notices) {
			return nil
		}
		return p.admits(all[i].mailbox, all[i].message.Size)
	})
	if err != nil {
		return err
	}
	held := d.t.stuck
	b := p.batch(d.t)
	var (
		outcomes []notice
		late     []int
	)
	for _, x := range all[len(notices):] {
		if x.late {
			late = append(late, x.number-1)
			continue
		}
		n := d.place(x.number - 1)
		o, err := d.outcome(b, n, x, at)
		if err != nil {
			return err
		}
		outcomes = append(outcomes, notice{o, record.MakeID(d.tx, stepOutcomeNotified, n)})
	}
	for _, n := range notices {
		b.notification(d.about(), n, at)
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	if len(outcomes) > 0 {
		if err := held.keep(p.handOver(ctx, d.t, outcome, d.begun, outcomes, d.about)); err != nil {
			return err
		}
	}
	if err := held.keep(p.handOverLate(ctx, d.t, stage, d.begun, notices, d.about)); err != nil {
		return err
	}
	for _, n := range late {
		if err := held.keep(d.group(ctx, lateStage(n), fmt.Sprintf("outcome/late/%d", n), []int{n}, nil)); err != nil {
			return err
		}
	}
	return held.err()
}

// outcome records what became of one recipient and issues the delivery receipt
// (RFC 6109 §3.3.2) or the non-delivery (§3.3.3). The receipt's time is that of
// the delivery.
func (d *delivery) outcome(b *batch, n uint32, x *placement, at moment) (*placement, error) {
	p, env := d.p, d.env
	tx := pec.Transaction{ID: d.tx, Time: at.Time}
	about := func(kind record.Kind) *record.Record {
		r := env.record(p, kind, at)
		r.About = []string{x.mailbox}
		return r
	}
	if x.failed != nil {
		kind, text := pec.OtherError, pec.MailboxFull()
		if x.failed.Error() == noMailbox.Error() {
			kind, text = pec.UnknownRecipient, pec.InvalidAddress()
		}
		rec := about(record.NonDeliveryIssued)
		rec.Outcome = record.Outcome{Code: text.Code, Text: text.Text}
		m, err := b.message(record.MakeID(d.tx, stepNonDelivery, n), rec, nil, func() (*pec.Message, error) {
			return p.composer.NonDelivery(tx.Issue(stepNonDelivery, n), env.facts, x.mailbox, kind, text.Extended(p.composer.Provider.Name))
		})
		if err != nil {
			return nil, err
		}
		p.metrics.NotDelivered.Add(1)
		return &placement{mailbox: env.facts.Sender, message: m.Issued, bypassQuota: true}, nil
	}
	rec := about(record.Delivered)
	rec.Digest, rec.Content, rec.Size = env.message.Digest[:], env.message.Content[:], uint64(env.message.Size)
	b.event(record.MakeID(d.tx, stepDelivered, n), rec)

	kind := env.facts.ReceiptType.For(x.mailbox, env.to, env.cc)
	original := env.signed.Original
	rec = about(record.DeliveryIssued)
	rec.ReceiptType = kind.String()
	source := &receipts.Included{Source: env.kept, Offset: original.Offset, Length: original.Length}
	m, err := b.message(record.MakeID(d.tx, stepDelivery, n), rec, source, func() (*pec.Message, error) {
		if kind == pec.Concise {
			return p.composer.Delivery(tx.Issue(stepDelivery, n), env.facts, x.mailbox, kind, nil)
		}
		msg, err := d.t.held.Open(env.message)
		if err != nil {
			return nil, err
		}
		defer msg.Close()
		included := original.Included(msg)
		if kind == pec.Brief {
			short, err := included.Brief()
			if err != nil {
				return nil, err
			}
			source.Edits = edits(short, original.Offset)
			if included, err = included.Edited(short); err != nil {
				return nil, err
			}
		}
		return p.composer.Delivery(tx.Issue(stepDelivery, n), env.facts, x.mailbox, kind, &included)
	})
	if err != nil {
		return nil, err
	}
	p.metrics.Delivered.Add(1)
	return &placement{mailbox: env.facts.Sender, message: m.Issued, bypassQuota: true}, nil
}

// Why a mailbox does not get an envelope. Their texts are kept in notes.
var (
	noMailbox   = mailbox.ErrNoMailbox
	mailboxFull = mailbox.ErrMailboxFull
)

// admits says whether a mailbox exists, is not closed and has room. Receipts are
// put into a closed mailbox nevertheless: they answer what its holder sent before.
func (p *Pipeline) admits(address string, size int64) error {
	if !p.boxes.Exists(address) || p.closed(address) {
		return noMailbox
	}
	if err := p.boxes.CheckQuota(address, size); errors.Is(err, mailboxFull) {
		return mailboxFull
	} else if err != nil {
		return err
	}
	return nil
}

// notification records that a receipt or notice was put into its mailbox, or
// could not be: the latter is an alarm and never causes another receipt. r is
// begun with the facts of what the message is about. What went elsewhere gets its
// records from its relay job.
func (b *batch) notification(r *record.Record, n notice, at moment) {
	if n.elsewhere || n.late {
		return
	}
	r.Kind, r.Time, r.Detail = record.NotificationDelivered, at.Time, at.detail()
	r.About, r.Generated = []string{n.mailbox}, []string{trimID(n.message.MessageID)}
	r.Digest, r.Content, r.Size = n.message.Digest[:], n.message.Content[:], uint64(n.message.Size)
	if n.failed != nil {
		r.Kind = record.NotificationFailed
		r.Outcome = record.Outcome{Code: "5.2.0", Text: n.failed.Error()}
		b.p.metrics.Alarms.Add(1)
		b.p.log.Error("a receipt could not be put into its mailbox", "record", n.id.String(), "err", n.failed)
	}
	b.event(n.id, r)
}
