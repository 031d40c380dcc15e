package mta

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"scripta/mta/pec"
	"scripta/mta/relay"
)

// turn is something that became known of recipients of a submission after its
// envelope was made. The turns of a job are its notes "turn/0", "turn/1" and so on:
// together they are the state of its recipients, now and after a restart.
type turn struct {
	Moment   moment         `json:"moment"`
	What     what           `json:"what"`
	Places   []int          `json:"places"`            // of the recipients
	Answers  []relay.Answer `json:"answers,omitempty"` // to refused and returned: one for each place
	Virus    string         `json:"virus,omitempty"`
	Provider string         `json:"provider,omitempty"` // who said so
}

// what may become known of a recipient.
type what string

const (
	isTaken     what = "taken"     // a take-charge came
	isDelivered what = "delivered" // a delivery receipt came
	isFailed    what = "failed"    // a non-delivery came
	isInfected  what = "infected"  // a virus detection came
	isRefused   what = "refused"   // its provider refused the envelope for good
	isRelayed   what = "relayed"   // ordinary: another server answers for the message now
	isReturned  what = "returned"  // ordinary: refused for good, or not taken in time
	isLate      what = "late"      // 12 hours without a take-charge or an outcome
	isOverdue   what = "overdue"   // 24 hours without an outcome
)

// fate is the state of one recipient.
type fate struct {
	here  bool // of ours: the job itself delivers
	taken bool
	late  bool
	over  bool // the notice was issued that there is no outcome; one may come yet
	done  bool // has its outcome
}

// follow applies a turn.
func (f *fate) follow(w what) {
	switch w {
	case isTaken:
		f.taken = true
	case isLate:
		f.late = true
	case isOverdue:
		f.over = true
	default:
		f.done = true
	}
}

// news reports whether a turn tells what was not known of the recipient yet. Only
// its first outcome counts; a notice comes before it or never.
func (f *fate) news(w what) bool {
	switch w {
	case isTaken:
		return !f.done && !f.taken
	case isLate:
		return !f.done && !f.taken && !f.late && !f.over
	case isOverdue:
		return !f.done && !f.over
	}
	return !f.done
}

// dispatch follows a submission some of whose recipients are not ours, until each
// has its outcome: no worker and no timer of its own waits for that. (A submission
// to recipients of ours alone has none, unless it is late.)
type dispatch struct {
	t          *task
	s          *submission
	envelopeID string // with angle brackets
	revived    bool   // the register may have what its notes lack (see recall.go)

	// told is how many turns their author was told of by this process. Only who
	// carries the task uses it.
	told int

	mu       sync.Mutex // guards what follows; no turn is noted without it
	turns    []turn
	fates    []fate // by place
	letters  int    // relay jobs of the envelope that are not finished
	accepted bool   // acceptance and envelope are in the register
	sent     bool   // everything before the wait is done
	busy     bool   // the task is being carried, or will be
	again    bool   // something came while it was busy: it is to be carried again
	given    bool   // nothing is waited for any more beyond the notices
	closed   bool   // it came to its end
}

// newDispatch begins to follow a submission, or goes on after a restart.
func (p *Pipeline) newDispatch(t *task, s *submission) (*dispatch, error) {
	d := &dispatch{t: t, s: s, envelopeID: s.envelopeID(p, t.job.ID), fates: make([]fate, len(s.Recipients)), busy: true, revived: t.rerun}
	for i := range d.fates {
		d.fates[i].here = !slices.Contains(s.Remote, i)
	}
	for {
		var known turn
		if ok, err := t.noted(turnNote(len(d.turns)), &known); err != nil {
			return nil, err
		} else if !ok {
			break
		}
		d.add(known)
	}
	var none struct{}
	sent, err := t.noted(sentNote, &none)
	d.sent, d.accepted = sent, sent
	return d, err
}

func turnNote(n int) string { return fmt.Sprintf("turn/%d", n) }

// sentNote says that everything before the wait is done for good.
const sentNote = "sent"

// add applies a turn that is noted.
func (d *dispatch) add(known turn) {
	d.turns = append(d.turns, known)
	for _, i := range known.Places {
		if i >= 0 && i < len(d.fates) {
			d.fates[i].follow(known.What)
		}
	}
}

// places are those of the recipients with these addresses.
func (d *dispatch) places(addresses []string) []int {
	var all []int
	for i, r := range d.s.Recipients {
		if slices.ContainsFunc(addresses, func(a string) bool { return pec.SameAddress(a, r.Address) }) {
			all = append(all, i)
		}
	}
	return all
}

// happened notes what became known, as far as it is new, and has the author told.
// When it returns nil the turn is durable.
func (p *Pipeline) happened(d *dispatch, known turn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return p.noteTurn(d, known)
}

// noteTurn is happened for who holds mu.
func (p *Pipeline) noteTurn(d *dispatch, known turn) error {
	var fresh turn
	for k, i := range known.Places {
		if i < 0 || i >= len(d.fates) || !d.fates[i].news(known.What) {
			continue
		}
		fresh.Places = append(fresh.Places, i)
		if known.Answers != nil {
			fresh.Answers = append(fresh.Answers, known.Answers[k])
		}
	}
	if len(fresh.Places) == 0 || d.closed {
		return nil
	}
	known.Places, known.Answers = fresh.Places, fresh.Answers
	all, err := p.recallTurns(d, &known)
	if err != nil {
		return err
	}
	if len(known.Places) > 0 {
		all = append(all, known)
	}
	for _, one := range all {
		if err := p.note(d.t, turnNote(len(d.turns)), one); err != nil {
			return err
		}
		d.add(one)
	}
	p.wake(d)
	return nil
}

// wake has the task carried, once more if it is being carried. The caller holds mu.
func (p *Pipeline) wake(d *dispatch) {
	if d.busy {
		d.again = true
		return
	}
	d.busy = true
	p.enqueue(d.t)
}

// enqueue gives a task to the workers without waiting for one.
func (p *Pipeline) enqueue(t *task) {
	select {
	case p.tasks <- t:
	default:
		go func() {
			select {
			case p.tasks <- t:
			case <-p.ctx.Done():
			}
		}()
	}
}

// errWaiting says that a job is not at its end, and has nothing to do before
// something comes.
var errWaiting = errors.New("mta: the job waits for other providers")

// end says whether the job is at its end.
func (d *dispatch) end() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	open := func(f fate) bool { return !f.done && !(f.here && d.sent) && !(f.over && d.given) }
	if d.letters > 0 || d.told < len(d.turns) || slices.ContainsFunc(d.fates, open) {
		return errWaiting
	}
	d.closed = true
	return nil
}

// rest puts a task aside that waits, unless something came meanwhile.
func (p *Pipeline) rest(t *task) {
	d := t.dispatch
	p.backlog.rest(t.job.ID)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy = d.again; d.again {
		d.again = false
		p.enqueue(t)
	}
}

// letterEnded tells that one of the envelope's relay jobs is finished.
func (p *Pipeline) letterEnded(d *dispatch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.letters--; d.letters == 0 {
		p.wake(d)
	}
}

// dispatches are those that are followed.
type dispatches struct {
	mu         sync.Mutex // guards what follows
	byEnvelope map[string]*dispatch
	byJob      map[[16]byte]*dispatch
}

func (all *dispatches) add(d *dispatch) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.byJob == nil {
		all.byEnvelope, all.byJob = map[string]*dispatch{}, map[[16]byte]*dispatch{}
	}
	all.byEnvelope[trimID(d.envelopeID)], all.byJob[d.t.job.ID] = d, d
}

func (all *dispatches) remove(d *dispatch) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.byEnvelope, trimID(d.envelopeID))
	delete(all.byJob, d.t.job.ID)
}

// ofEnvelope returns nil when nothing is followed under an envelope's identifier.
func (all *dispatches) ofEnvelope(id string) *dispatch {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.byEnvelope[trimID(id)]
}

func (all *dispatches) ofJob(id [16]byte) *dispatch {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.byJob[id]
}

func (all *dispatches) list() []*dispatch {
	all.mu.Lock()
	defer all.mu.Unlock()
	list := make([]*dispatch, 0, len(all.byJob))
	for _, d := range all.byJob {
		list = append(list, d)
	}
	return list
}

// Limits of waiting for another provider (RFC 6109 §3.1.6, DPR 68/2005 art. 8). The
// last notice is due by 24 hours, and not before 22.
const (
	lateAfter    = 12 * time.Hour
	overdueAfter = 23 * time.Hour

	// giveUpAfter is how long a recipient is remembered of whom the author was told
	// that there is no outcome. Another provider that took the envelope late may
	// still find a virus in it, of which the author hears from us alone.
	giveUpAfter = 48 * time.Hour
)

// overdue returns for which of the recipients that count a notice is due at a
// time. The caller holds mu. Whoever gets the last notice has got the first one,
// too, unless a take-charge came: so RFC 6109 §3.1.6 has it, also when nobody was
// there to send it in time.
func (d *dispatch) overdue(now time.Time, counts func(place int) bool) (late, overdue []int) {
	if !d.accepted || d.closed {
		return nil, nil
	}
	age := now.Sub(d.s.Moment.Time)
	for i := range d.fates {
		f := &d.fates[i]
		if !d.s.Recipients[i].Certified || !counts(i) {
			continue
		}
		if age >= lateAfter && f.news(isLate) {
			late = append(late, i)
		}
		if age >= overdueAfter && f.news(isOverdue) {
			overdue = append(overdue, i)
		}
	}
	return late, overdue
}

// lateness notes the notices that are due for the recipients that count.
func (p *Pipeline) lateness(d *dispatch, now time.Time, counts func(place int) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.given && now.Sub(d.s.Moment.Time) >= giveUpAfter {
		d.given = true
		p.wake(d)
	}
	late, overdue := d.overdue(now, counts)
	if len(late)+len(overdue) == 0 {
		return nil
	}
	if err := p.recallHeard(d, now); err != nil {
		return err
	}
	at, err := p.now()
	if err != nil {
		return err
	}
	if err := p.noteTurn(d, turn{Moment: at, What: isLate, Places: late}); err != nil {
		return err
	}
	return p.noteTurn(d, turn{Moment: at, What: isOverdue, Places: overdue})
}
