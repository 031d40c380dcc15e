package mta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"scripta/mta/relay"
	"scripta/mta/spool"
	"scripta/register"
	"scripta/register/receipts"
	"scripta/register/record"
)

// Relay is who passes letters on (mta/relay's Queue). A letter that it has already
// is dropped.
type Relay interface {
	Add(letters ...*relay.Letter)
}

// passage is a relay job: one message of ours for one destination elsewhere. The
// job that hands the message over makes it durable before its own note says that it
// did; only then is it sent. Sending is at least once, with the same octets.
type passage struct {
	Kind        string    `json:"kind"`
	Parent      spool.ID  `json:"parent"` // the job that hands over, and its stage
	Stage       string    `json:"stage"`
	Message     record.ID `json:"message"` // of the record that tells of its issue
	MessageID   string    `json:"message_id"`
	Destination string    `json:"destination"`
	Certified   bool      `json:"certified"`
	From        string    `json:"from"`
	Recipients  []string  `json:"recipients"`
	Places      []int     `json:"places,omitempty"` // of an envelope's recipients in its submission; none: a receipt
	Size        int64     `json:"size"`
	EightBit    bool      `json:"eight_bit"`
	Content     *uint16   `json:"content,omitempty"` // month of the parent's content, if the message includes octets of it
	Begun       time.Time `json:"begun"`

	job   *spool.Job
	fresh bool // made by this process: no answer about it is recorded yet

	// Only the queue's handler, one call at a time, uses what follows.
	last    *attempt // noted
	handled bool     // everything that follows from last is done
	alarmed bool     // a person was called
}

// attempt is the note of the last attempt whose result came: what followed from
// those before it was done by then.
type attempt struct {
	N       uint32         `json:"n"`     // 1, 2… of those that had a result
	Tries   int            `json:"tries"` // that were made
	Moment  moment         `json:"moment"`
	Answers []relay.Answer `json:"answers"`
	Left    []string       `json:"left"` // recipients without a final answer
}

const attemptNote = "attempt"

// passageID is the same whenever a message is handed over for a destination.
func passageID(message record.ID, destination string) spool.ID {
	h := sha256.New()
	io.WriteString(h, "scripta/relay/v1")
	h.Write(message[:])
	io.WriteString(h, destination)
	return spool.ID(h.Sum(nil))
}

func decodePassage(j *spool.Job) (*passage, error) {
	x := &passage{job: j}
	if err := json.Unmarshal(j.Body, x); err != nil {
		return nil, fmt.Errorf("job %x cannot be read: %w", j.ID, err)
	}
	var last attempt
	if ok, err := j.Noted(attemptNote, &last); err != nil {
		return nil, err
	} else if ok {
		x.last = &last
	}
	return x, nil
}

// left are the recipients that the message is still to be sent to.
func (x *passage) left() []string {
	if x.last != nil {
		return x.last.Left
	}
	return x.Recipients
}

// receiptTerm is how long a receipt or notice is tried. The 24 hours are an
// envelope's, of which the author is told what became; a receipt is what tells, and
// whoever it is for may be unreachable for longer (RFC 5321 §4.5.4.1: 4 to 5 days).
const receiptTerm = 5 * 24 * time.Hour

// letter is what the queue gets; it gives up after the limit, an envelope's.
func (x *passage) letter(limit time.Duration) *relay.Letter {
	if len(x.Places) == 0 {
		limit = receiptTerm
	}
	l := &relay.Letter{ID: relay.ID(x.job.ID), Destination: x.Destination, Certified: x.Certified, From: x.From, Recipients: append([]string(nil), x.left()...),
		Size: x.Size, EightBit: x.EightBit, Begun: x.Begun, Until: x.Begun.Add(limit)}
	if x.last != nil {
		l.Tries = x.last.Tries
	}
	return l
}

// passages are the relay jobs that are not finished.
type passages struct {
	mu      sync.Mutex // guards what follows
	all     map[spool.ID]*passage
	waiting map[spool.ID][]*passage // made by a job, by its id, whose note is not durable yet
	used    map[spool.ID]int        // how many need a job's content
}

func (ps *passages) add(x *passage) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.all == nil {
		ps.all, ps.waiting, ps.used = map[spool.ID]*passage{}, map[spool.ID][]*passage{}, map[spool.ID]int{}
	}
	ps.all[x.job.ID] = x
	if x.Content != nil {
		ps.used[x.Parent]++
	}
}

func (ps *passages) wait(all ...*passage) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, x := range all {
		ps.waiting[x.Parent] = append(ps.waiting[x.Parent], x)
	}
}

func (ps *passages) get(id spool.ID) *passage {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.all[id]
}

// claim takes out those that wait for a stage of a job.
func (ps *passages) claim(parent spool.ID, stage string) []*passage {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if len(ps.waiting[parent]) == 0 {
		return nil
	}
	var mine, others []*passage
	for _, x := range ps.waiting[parent] {
		if x.Stage == stage {
			mine = append(mine, x)
		} else {
			others = append(others, x)
		}
	}
	if ps.waiting[parent] = others; len(others) == 0 {
		delete(ps.waiting, parent)
	}
	return mine
}

// remove forgets one; unused says that nobody needs the parent's content any more.
func (ps *passages) remove(x *passage) (unused bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.all, x.job.ID)
	if x.Content == nil {
		return false
	}
	if ps.used[x.Parent]--; ps.used[x.Parent] > 0 {
		return false
	}
	delete(ps.used, x.Parent)
	return true
}

// uses says whether one needs the content of a job.
func (ps *passages) uses(id spool.ID) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.used[id] > 0
}

func (ps *passages) len() int {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return len(ps.all)
}

// passagesFor makes durable that placements for elsewhere will be sent: one job for
// each message and destination. They wait until the stage's note is durable; those
// that an earlier run made are found again.
func (p *Pipeline) passagesFor(t *task, stage string, all []*placement) error {
	index := p.index()
	var order []spool.ID
	made := map[spool.ID]*passage{}
	for _, x := range all {
		if !x.elsewhere {
			continue
		}
		destination := providerOf(index, x)
		id := passageID(x.message.ID, destination)
		m := made[id]
		if m == nil {
			m = p.passage(t, stage, x, destination)
			made[id], order = m, append(order, id)
		}
		m.Recipients = append(m.Recipients, x.mailbox)
		if x.envelope {
			m.Places = append(m.Places, x.place)
		}
	}
	earlier := p.passages.claim(t.job.ID, stage)
	for i, w := range earlier {
		if m := made[w.job.ID]; m != nil && slices.Equal(m.Recipients, w.Recipients) {
			p.passages.wait(w)
			order = slices.DeleteFunc(order, func(id spool.ID) bool { return id == w.job.ID })
			continue
		}
		if err := p.forgetPassage(w); err != nil { // of another index
			p.passages.wait(earlier[i:]...)
			return err
		}
	}
	if len(order) == 0 {
		return nil
	}
	at, err := p.now()
	if err != nil {
		return err
	}
	for _, id := range order {
		m := made[id]
		if m.Begun = at.Time; len(m.Places) > 0 {
			m.Begun = t.work.begun().Time
		}
		if m.job, err = p.spool.Add(id, t.job.Month, m); err != nil {
			return err
		}
		p.passages.add(m)
		p.passages.wait(m)
		if d := t.dispatch; d != nil && len(m.Places) > 0 {
			d.mu.Lock()
			d.letters++
			d.mu.Unlock()
		}
	}
	return nil
}

// passage begins the job of a message for a destination.
func (p *Pipeline) passage(t *task, stage string, x *placement, destination string) *passage {
	m := &passage{fresh: !t.rerun, Kind: kindRelay, Parent: t.job.ID, Stage: stage, Message: x.message.ID, MessageID: x.message.MessageID, Destination: destination,
		Certified: !x.ordinary, From: x.from, Size: x.message.Size, EightBit: eightBit(x.message)}
	if m.From == "" {
		m.From = p.composer.Provider.ServiceAddress
	}
	if month, ok := t.work.content(); ok && x.message.Included != nil {
		m.Content = &month
	}
	return m
}

// eightBit reads in the header of a message of ours whether it needs 8BITMIME.
func eightBit(m *receipts.Issued) bool {
	head, _, _ := bytes.Cut(m.Prefix, []byte("\r\n\r\n"))
	return bytes.Contains(head, []byte("\r\nContent-Transfer-Encoding: 8bit\r\n")) || bytes.Contains(head, []byte("\r\nContent-Transfer-Encoding: binary\r\n"))
}

// forgetPassage ends a relay job.
func (p *Pipeline) forgetPassage(x *passage) error {
	if err := p.spool.Done(x.job); err != nil {
		return err
	}
	unused := p.passages.remove(x)
	if d := p.dispatches.ofJob(x.Parent); d != nil && len(x.Places) > 0 {
		p.letterEnded(d)
	}
	if unused && !p.keep && !p.backlog.has(x.Parent) {
		if err := p.register.Contents().Remove(x.Parent, *x.Content); err != nil {
			p.log.Warn("the content of a finished message could not be deleted", "tx", x.id(), "err", err)
		}
	}
	return nil
}

// depart sends what waited for a stage's note.
func (p *Pipeline) depart(t *task, stage string) {
	for _, x := range p.passages.claim(t.job.ID, stage) {
		p.admit(x)
	}
}

// admit gives a relay job to the queue, once everything that follows from what
// was answered before is done.
func (p *Pipeline) admit(x *passage) {
	if !x.fresh {
		ctx := context.WithoutCancel(p.ctx)
		var err error
		if x.last != nil && !x.handled {
			err = p.settle(ctx, x)
		}
		if err == nil && len(x.left()) > 0 {
			err = p.recallAttempts(ctx, x)
		}
		if err != nil {
			p.metrics.Retries.Add(1)
			p.log.Error("the answer of another server could not be recorded yet", "tx", x.id(), "err", err)
			time.AfterFunc(2*time.Second, func() {
				if p.ctx.Err() == nil {
					p.admit(x)
				}
			})
			return
		}
		if len(x.left()) == 0 {
			return
		}
	}
	if p.relay != nil {
		p.relay.Add(x.letter(p.relayFor))
	}
}

func (x *passage) id() string { return fmt.Sprintf("%x", x.job.ID) }

// openMessage is a letter's message, to be read.
type openMessage struct {
	io.Reader
	io.Closer
}

// OpenLetter implements [relay.Opener].
func (p *Pipeline) OpenLetter(_ context.Context, l *relay.Letter) (io.ReadCloser, error) {
	x := p.passages.get(spool.ID(l.ID))
	if x == nil {
		return nil, fmt.Errorf("there is no relay job %s", l.ID)
	}
	m, err := p.register.Receipts().Open(x.Message, p.register.Contents())
	if err != nil {
		return nil, fmt.Errorf("couldn't open the message that is to be sent: %w", err)
	}
	return openMessage{io.NewSectionReader(m, 0, m.Size()), m}, nil
}

// issueOf reads the record of a relayed message's issue, for its facts.
func (p *Pipeline) issueOf(ctx context.Context, x *passage) (*record.Record, error) {
	at, ok, err := p.register.Lookup(ctx, x.Message)
	if err != nil {
		return nil, err
	}
	if ok {
		found, err := p.register.Read(ctx, at.Index)
		if err == nil && len(found.Record.Generated) == 1 && found.Record.Generated[0] == trimID(x.MessageID) {
			return found.Record, nil
		}
	}
	// It may be in a log that was frozen since.
	var rec *record.Record
	err = p.register.Search(ctx, register.Query{Generated: x.MessageID}, time.Now(), func(f *register.Found) bool {
		if _, ours := issuedKinds[f.Record.Kind]; ours {
			rec = f.Record
		}
		return rec == nil
	})
	if err == nil && rec == nil {
		err = fmt.Errorf("there is no record of the issue of message %s", x.Message)
	}
	return rec, err
}
