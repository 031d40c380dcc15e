package mta

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"scripta/mta/pec"
	"scripta/mta/relay"
	"scripta/register/record"
)

// follow carries a submission that is followed: up to the point at which only
// others can go on, and from there through what became known since.
func (s *submission) follow(ctx context.Context, p *Pipeline, t *task, d *dispatch) error {
	var err error
	if !d.sent { // only here, by who carries the task, is it set
		if err = s.send(ctx, p, t, d); err != nil {
			err = errors.Join(err, p.lateHere(d))
		}
	}
	err = errors.Join(err, p.tell(ctx, t, d))
	err = errors.Join(err, p.flush(t))
	if err != nil {
		return err
	}
	return d.end()
}

// send does everything that comes before the wait, and notes that it is done: a
// restart need not go through it again.
func (s *submission) send(ctx context.Context, p *Pipeline, t *task, d *dispatch) error {
	if err := p.accept(ctx, t, s); err != nil {
		return err
	}
	if err := p.flush(t); err != nil {
		return err
	}
	if err := p.note(t, sentNote, struct{}{}); err != nil {
		return err
	}
	s.original = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent = true
	return nil
}

// flush makes durable that what was put into mailboxes is there.
func (p *Pipeline) flush(t *task) error {
	if len(t.moved) == 0 {
		return nil
	}
	err := p.boxes.Sync(t.moved...)
	if err == nil {
		t.moved = nil
	}
	return err
}

// isLate says whether 12 hours have passed since a submission came.
func (p *Pipeline) isLate(s *submission) bool {
	reading, err := p.clock.Now()
	return err == nil && reading.Time.Sub(s.Moment.Time) >= lateAfter
}

// lateHere notes the notices that are due for recipients of ours, when the job
// that delivers to them fails for that long.
func (p *Pipeline) lateHere(d *dispatch) error {
	if !p.isLate(d.s) {
		return nil
	}
	reading, err := p.clock.Now()
	if err != nil {
		return err
	}
	weight, err := d.s.weight(p)
	if err != nil {
		return err
	}
	stage, delivered, n := stageOf(weight), map[int]bool{}, 0
	for i := range d.fates {
		if !d.fates[i].here {
			continue
		}
		var note placed
		if delivered[i], err = d.t.noted(deliverStage(n/stage*stage), &note); err != nil {
			return err
		}
		if slices.Contains(slices.Collect(maps.Values(note.Late)), n+1) {
			if delivered[i], err = d.t.noted(lateStage(n), new(placed)); err != nil {
				return err
			}
		}
		n++
	}
	return p.lateness(d, reading.Time, func(i int) bool { return d.fates[i].here && !delivered[i] })
}

// tell issues what the author is to be told of the turns that came.
func (p *Pipeline) tell(ctx context.Context, t *task, d *dispatch) error {
	for {
		d.mu.Lock()
		n := d.told
		if n == len(d.turns) {
			d.mu.Unlock()
			return nil
		}
		known := d.turns[n]
		d.mu.Unlock()
		if err := p.tellTurn(ctx, t, d, n, &known); err != nil {
			return fmt.Errorf("couldn't tell the author what became of the message: %w", err)
		}
		d.mu.Lock()
		d.told = n + 1
		d.mu.Unlock()
	}
}

// tellTurn issues the notices of one turn and puts them into the author's mailbox.
func (p *Pipeline) tellTurn(ctx context.Context, t *task, d *dispatch, n int, known *turn) error {
	weight, err := d.s.weight(p)
	if err != nil {
		return err
	}
	stage, held := stageOf(weight), waits(nil) // each notice, and each record, names every recipient
	for from := 0; from < len(known.Places); from += stage {
		part, name := *known, fmt.Sprintf("told/%d", n)
		if known.What == isReturned { // one report
			stage = len(known.Places)
		} else if part.Places = known.Places[from:min(from+stage, len(known.Places))]; known.Answers != nil {
			part.Answers = known.Answers[from:min(from+stage, len(known.Places))]
		}
		if from > 0 {
			name = fmt.Sprintf("told/%d/%d", n, from)
		}
		if err := held.keep(p.tellPart(ctx, t, d, name, &part)); err != nil {
			return err
		}
	}
	return held.err()
}

// tellPart tells of some of a turn's recipients, in a stage of that name.
func (p *Pipeline) tellPart(ctx context.Context, t *task, d *dispatch, stage string, known *turn) error {
	w := &teller{p: p, t: t, d: d, b: p.batch(t), turn: known, about: func() *record.Record {
		return d.s.record(p, record.NotificationDelivered, d.envelopeID)
	}}
	var err error
	switch known.What {
	case isReturned:
		err = w.returned()
	case isLate, isOverdue, isInfected, isRefused:
		for k, i := range known.Places {
			if err = w.recipient(k, i); err != nil {
				break
			}
		}
	default: // the author hears it from the other provider, or it is not for him
		return nil
	}
	if err != nil {
		return err
	}
	if err := w.b.commit(ctx); err != nil {
		return err
	}
	return p.handOver(ctx, t, stage, known.Moment.Time, w.notices, w.about)
}

// teller makes the notices of a turn.
type teller struct {
	p       *Pipeline
	t       *task
	d       *dispatch
	b       *batch
	turn    *turn
	notices []notice
	about   func() *record.Record // begins a record about what the notices are about
}

// recipient issues the notice about the recipient at a place, the turn's k-th.
func (w *teller) recipient(k, place int) error {
	p, s := w.p, w.d.s
	var (
		kind     record.Kind
		step     uint16
		notified uint16
		outcome  record.Outcome
		make     func(at pec.Issue, f pec.Facts, recipient string) (*pec.Message, error)
	)
	say := func(why pec.ErrorText) { outcome = record.Outcome{Code: why.Code, Text: why.Text} }
	switch w.turn.What {
	case isLate:
		kind, step, notified, make = record.DelayNoticeIssued, stepDelay, stepDelayNotified, p.composer.DelayNotice
		say(pec.NotDeliveredIn12Hours())
		p.metrics.DelayNotices.Add(1)
	case isOverdue:
		kind, step, notified, make = record.TimeoutNoticeIssued, stepTimeout, stepTimeoutNotified, p.composer.TimeoutNotice
		say(pec.NotDeliveredIn24Hours())
		p.metrics.TimeoutNotices.Add(1)
	case isInfected:
		kind, step, notified = record.NonDeliveryIssued, stepInfected, stepInfectedNotified
		say(pec.VirusFound(w.turn.Virus))
		make = func(at pec.Issue, f pec.Facts, recipient string) (*pec.Message, error) {
			return p.composer.VirusNonDelivery(at, f, recipient, w.turn.Virus)
		}
		p.metrics.NotDelivered.Add(1)
	case isRefused:
		a := &w.turn.Answers[k]
		kind, step, notified = record.NonDeliveryIssued, stepRefused, stepRefusedNotified
		say(pec.ErrorText{Code: a.Status(), Text: a.Text})
		make = func(at pec.Issue, f pec.Facts, recipient string) (*pec.Message, error) {
			return p.composer.NonDelivery(at, f, recipient, errorOf(a), p.refusalText(a, w.turn.Provider))
		}
		p.metrics.NotDelivered.Add(1)
	}
	address := s.Recipients[place].Address
	rec := s.record(p, kind, w.d.envelopeID)
	rec.Time, rec.Detail = w.turn.Moment.Time, w.turn.Moment.detail()
	rec.About, rec.Outcome = []string{address}, outcome
	tx := pec.Transaction{ID: w.t.job.ID, Time: w.turn.Moment.Time}
	m, err := w.b.message(record.MakeID(w.t.job.ID, step, uint32(place)), rec, nil, func() (*pec.Message, error) {
		return make(tx.Issue(step, uint32(place)), s.facts(w.d.envelopeID), address)
	})
	if err != nil {
		return err
	}
	w.toAuthor(m, record.MakeID(w.t.job.ID, notified, uint32(place)))
	return nil
}

// toAuthor adds a notice for the author's mailbox.
func (w *teller) toAuthor(m *issued, id record.ID) {
	w.notices = append(w.notices, notice{&placement{mailbox: w.d.s.Sender, message: m.Issued, bypassQuota: true}, id})
}

// refusalText is the errore-esteso of a refusal: who refused is who states it.
func (p *Pipeline) refusalText(a *relay.Answer, provider string) string {
	if a.Code == 0 || provider == "" {
		provider = p.composer.Provider.Name
	}
	return pec.ErrorText{Code: a.Status(), Text: a.Text}.Extended(provider)
}

// errorOf is the kind of error that a refusal states.
func errorOf(a *relay.Answer) pec.ErrorKind {
	switch a.Enhanced {
	case "5.1.1":
		return pec.UnknownRecipient
	case "5.1.2":
		return pec.UnknownDomain
	}
	return pec.OtherError
}
