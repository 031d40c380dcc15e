package mta

import (
	"context"
	"errors"
	"slices"
	"time"

	"scripta/mta/mailbox"
	"scripta/mta/pec"
	"scripta/mta/relay"
	"scripta/register"
	"scripta/register/record"
	"scripta/tsa/clock"
)

// A backup copies the jobs first and the log some time later, while the service
// runs. So a job that was brought back may lack the last of its notes while the
// register has what followed from them. What the register has is what happened: a
// job that is run again asks it before it decides anew, and takes the same times.

// recorded returns the first of some records that the register has, or nil.
func (p *Pipeline) recorded(ids ...record.ID) (*record.Record, error) {
	ctx := context.WithoutCancel(p.ctx)
	for _, id := range ids {
		if id == (record.ID{}) {
			continue
		}
		at, ok, err := p.register.Lookup(ctx, id)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		found, err := p.register.Read(ctx, at.Index)
		if err != nil || found.Opened.ID != id { // it is in a log that was frozen since
			continue
		}
		return found.Record, nil
	}
	return nil, nil
}

// momentOf is the time that a record tells of.
func momentOf(r *record.Record) moment {
	m := moment{Time: r.Time, State: clock.Synced}
	for _, s := range []clock.State{clock.Out, clock.Unknown} {
		marks := moment{State: s}.detail()
		if len(marks) > 0 && slices.Contains(r.Detail, marks[0]) {
			m.State = s
		}
	}
	return m
}

// nowOr reads the clock, unless a record that it is read for is in the register.
func (p *Pipeline) nowOr(t *task, id record.ID) (moment, error) {
	if t.rerun {
		if r, err := p.recorded(id); err != nil {
			return moment{}, err
		} else if r != nil {
			return momentOf(r), nil
		}
	}
	return p.now()
}

// recall finds, for a stage that has no note, what the register says of its
// placements. Those that another stage told of at another time are left to a stage of
// their own.
func (p *Pipeline) recall(t *task, all []*placement, named time.Time, note *placed) (known bool, err error) {
	if !t.rerun {
		return false, nil
	}
	for i, x := range all {
		if x.elsewhere {
			continue
		}
		r, err := p.recorded(x.told...)
		if err != nil {
			return false, err
		}
		if r == nil {
			continue
		}
		switch at := momentOf(r); {
		case !known:
			known, note.Moment = true, at
		case !at.Time.Equal(note.Moment.Time):
			note.leave(i, x)
			continue
		}
		x.recalled = true
		switch r.Kind {
		case record.NonDeliveryIssued:
			x.failed = mailbox.ErrNoMailbox
			if r.Outcome.Code == pec.MailboxFull().Code {
				x.failed = mailbox.ErrMailboxFull
			}
		case record.NotificationFailed:
			x.failed = errors.New(r.Outcome.Text)
		default:
			x.prepared = p.boxes.Resume(x.mailbox, fileName(x.message.ID), x.message.Size, named)
		}
		if x.failed != nil {
			note.fail(i, x)
		}
	}
	return known, nil
}

// leave notes that a placement is left to a stage of its own.
func (n *placed) leave(i int, x *placement) {
	x.late = true
	if n.Late == nil {
		n.Late = map[int]int{}
	}
	n.Late[i] = x.number
}

// fail notes that a placement failed for good.
func (n *placed) fail(i int, x *placement) {
	if n.Failed == nil {
		n.Failed = map[int]string{}
	}
	n.Failed[i] = x.failed.Error()
}

// recallTurns takes those recipients out of a turn of whom the author was told
// already, by the register, and returns a turn for each.
func (p *Pipeline) recallTurns(d *dispatch, known *turn) (told []turn, err error) {
	step, ok := map[what]uint16{isLate: stepDelay, isOverdue: stepTimeout, isInfected: stepInfected, isRefused: stepRefused, isReturned: stepReturned}[known.What]
	if !ok || !d.revived { // the task's own mark belongs to who carries it
		return nil, nil
	}
	var left turn
	for k, i := range known.Places {
		r, err := p.recorded(record.MakeID(d.t.job.ID, step, uint32(i)))
		if err != nil {
			return nil, err
		}
		if r == nil {
			left.Places = append(left.Places, i)
			if known.Answers != nil {
				left.Answers = append(left.Answers, known.Answers[k])
			}
			continue
		}
		one := *known
		one.Moment, one.Places = momentOf(r), []int{i}
		switch known.What {
		case isInfected:
			one.Virus = virusName(r.Outcome.Text)
		case isRefused:
			a := known.Answers[k]
			a.Enhanced, a.Text = r.Outcome.Code, r.Outcome.Text
			one.Answers = append(one.Answers[:0:0], a)
		case isReturned: // one report about all of them
			one.Places, one.Answers = known.Places, known.Answers
			known.Places, known.Answers = nil, nil
			return []turn{one}, nil
		}
		told = append(told, one)
	}
	known.Places, known.Answers = left.Places, left.Answers
	return told, nil
}

// recallHeard notes what the register has of other providers' receipts and no turn
// tells, before anybody is told that there was none: they do not come again. The
// caller holds d.mu.
func (p *Pipeline) recallHeard(d *dispatch, now time.Time) error {
	var heard []turn
	index := p.index()
	err := p.register.Search(context.WithoutCancel(p.ctx), register.Query{MessageID: trimID(d.envelopeID)}, now, func(f *register.Found) bool {
		r := f.Record
		if r.Kind != record.NotificationReceived {
			return true
		}
		of := turn{Moment: momentOf(r), Provider: r.Provider, Virus: virusName(r.Outcome.Text)}
		for _, pair := range r.Detail {
			if pair.Name == "type" {
				of.What = sayings[pair.Value]
			}
		}
		for _, i := range d.places(r.About) {
			if by, ok := index.OfAddress(d.s.Recipients[i].Address); ok && by.Name == r.Provider && slices.Contains(d.s.Remote, i) {
				of.Places = append(of.Places, i)
			}
		}
		if of.What != "" && len(of.Places) > 0 {
			heard = append(heard, of)
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, one := range heard {
		if err := p.noteTurn(d, one); err != nil {
			return err
		}
	}
	return nil
}

// recallAttempts goes on with a relay job whose answers may be in the register
// without a note of the job: it notes them, one attempt after the other.
func (p *Pipeline) recallAttempts(ctx context.Context, x *passage) error {
	for {
		next := &attempt{N: 1}
		if x.last != nil {
			next.N, next.Tries = x.last.N+1, x.last.Tries
		}
		next.Tries++
		for n := range uint32(maxAnswers) {
			r, state, err := p.answerRecorded(x, next.N*maxAnswers+n)
			if err != nil {
				return err
			}
			if r == nil {
				break
			}
			next.Moment = momentOf(r)
			for _, to := range r.About {
				a := relay.Answer{Recipient: to, State: state, Enhanced: r.Outcome.Code, Text: r.Outcome.Text}
				a.Peer = relay.Peer(r.Peer)
				for _, d := range r.Detail {
					if d.Name == "host" {
						a.Host = d.Value
					}
				}
				next.Answers = append(next.Answers, a)
			}
		}
		if len(next.Answers) == 0 {
			return nil
		}
		next.Left = next.without(x.left())
		if err := p.spool.Note(x.job, attemptNote, next); err != nil {
			return err
		}
		x.last, x.handled = next, false
		if err := p.settle(ctx, x); err != nil || len(x.last.Left) == 0 {
			return err
		}
	}
}

// answerRecorded returns the record of an attempt's answer.
func (p *Pipeline) answerRecorded(x *passage, ordinal uint32) (*record.Record, relay.State, error) {
	for state, k := range answerKinds {
		if r, err := p.recorded(record.MakeID(x.job.ID, k.step, ordinal)); err != nil || r != nil {
			return r, state, err
		}
	}
	return nil, 0, nil
}
