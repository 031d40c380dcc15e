package mta

import (
	"context"
	"slices"

	"scripta/mta/relay"
	"scripta/mta/spool"
	"scripta/register"
	"scripta/register/record"
)

// Relayed implements [relay.Handler]: it makes what other servers answered durable,
// in this order: 1. the note of the answers, with their time; 2. the records; 3.
// what follows for the submission, or an alarm for a receipt; 4. the end of the job
// when no recipient is left. Each may be run again.
func (p *Pipeline) Relayed(ctx context.Context, l *relay.Letter, r *relay.Result) error {
	x := p.passages.get(spool.ID(l.ID))
	if x == nil || len(r.Answers) == 0 {
		return nil
	}
	if x.last == nil || x.handled {
		at, err := p.now()
		if err != nil {
			return err
		}
		next := &attempt{N: 1, Tries: l.Tries, Moment: at, Answers: r.Answers}
		if x.last != nil {
			next.N = x.last.N + 1
		}
		next.Left = next.without(x.left())
		if err := p.spool.Note(x.job, attemptNote, next); err != nil {
			return err
		}
		x.last, x.handled = next, false
	}
	return p.settle(ctx, x)
}

// without returns those of some recipients that the attempt gave no final answer for.
func (a *attempt) without(recipients []string) []string {
	left := []string{}
	for _, to := range recipients {
		if !slices.ContainsFunc(a.Answers, func(b relay.Answer) bool { return b.Recipient == to && b.State != relay.Deferred }) {
			left = append(left, to)
		}
	}
	return left
}

// settle does everything that follows from the last attempt's answers.
func (p *Pipeline) settle(ctx context.Context, x *passage) error {
	about, err := p.issueOf(ctx, x)
	if err != nil {
		return err
	}
	entries, refused := x.records(about)
	if _, err := p.register.Append(ctx, entries...); err != nil {
		return err
	}
	d := p.dispatches.ofJob(x.Parent)
	if len(x.Places) > 0 && d != nil {
		if err := p.answered(d, x); err != nil {
			return err
		}
	}
	if len(x.Places) == 0 && refused > 0 && !x.alarmed {
		x.alarmed = true
		p.metrics.Alarms.Add(1)
		p.log.Error("a receipt or notice could not be handed over to another provider, for good: see its record", "tx", x.id(), "record", x.Message.String(), "destination", x.Destination)
	}
	if len(x.last.Left) == 0 {
		return p.forgetPassage(x) // when that fails it is still these answers that are handled again
	}
	x.handled = true
	return nil
}

// answerKinds are the records of what became of an attempt.
var answerKinds = map[relay.State]struct {
	kind record.Kind
	step uint16
}{
	relay.Taken:    {record.Relayed, stepRelayed},
	relay.Deferred: {record.Deferred, stepDeferred},
	relay.Refused:  {record.Bounced, stepBounced},
}

// maxAnswers bounds the records of one attempt, whose ordinals are between those of
// the attempts around it: the different answers beyond it are told as the last one of
// the same state is.
const maxAnswers = 256

// records are those of the last attempt: one for each different answer, about the
// recipients that got it. about is the record of the message's issue.
func (x *passage) records(about *record.Record) (entries []register.Entry, refused int) {
	type answer struct {
		state        relay.State
		status, text string
		host         string
	}
	of := map[answer]*record.Record{}
	last := map[relay.State]*record.Record{}
	for i := range x.last.Answers {
		a := &x.last.Answers[i]
		if a.State == relay.Refused {
			refused++
		}
		key := answer{a.State, a.Status(), a.Text, a.Host}
		r := of[key]
		if r == nil && len(entries) >= maxAnswers-len(answerKinds) { // there is room for one of each state
			r = last[a.State]
		}
		if r == nil {
			k := answerKinds[a.State]
			r = &record.Record{Kind: k.kind, Time: x.last.Moment.Time, MessageID: about.MessageID, OriginalID: about.OriginalID, Sender: about.Sender,
				Recipients: about.Recipients, Subject: about.Subject, Provider: about.Provider, ReceiptType: about.ReceiptType,
				Outcome: record.Outcome{Code: a.Status(), Text: a.Text}, Digest: about.Digest, Content: about.Content, Size: about.Size, Peer: record.Peer(a.Peer),
				Detail: x.last.Moment.detail(record.Pair{Name: "destination", Value: x.Destination}, record.Pair{Name: "host", Value: a.Host},
					record.Pair{Name: "message", Value: trimID(x.MessageID)}, record.Pair{Name: "type", Value: issuedKinds[about.Kind].String()})}
			entries = append(entries, register.Entry{ID: record.MakeID(x.job.ID, k.step, x.last.N*maxAnswers+uint32(len(entries))), Record: r})
			of[key], last[a.State] = r, r
		}
		r.About = append(r.About, a.Recipient)
	}
	return entries, refused
}

// answered tells the submission what other servers answered for its envelope.
func (p *Pipeline) answered(d *dispatch, x *passage) error {
	given := map[what]*turn{}
	for _, a := range x.last.Answers {
		i := slices.IndexFunc(x.Recipients, func(r string) bool { return r == a.Recipient })
		if i < 0 {
			continue
		}
		w := meaning(&a, x.Certified)
		if w == "" {
			continue
		}
		known := given[w]
		if known == nil {
			known = &turn{Moment: x.last.Moment, What: w, Provider: x.Destination}
			given[w] = known
		}
		known.Places = append(known.Places, x.Places[i])
		if w != isRelayed {
			known.Answers = append(known.Answers, a)
		}
	}
	for _, w := range []what{isRelayed, isRefused, isReturned} {
		if known := given[w]; known != nil {
			if err := p.happened(d, *known); err != nil {
				return err
			}
		}
	}
	return nil
}

// meaning is what an answer about an envelope means for its author; empty: nothing.
// Towards a certified recipient only a receipt counts as an outcome, and that
// nobody took the envelope in time is told by the notice of the 24 hours; a refusal
// for good is a non-delivery that we issue.
func meaning(a *relay.Answer, certified bool) what {
	switch {
	case a.State == relay.Taken && !certified:
		return isRelayed
	case a.State == relay.Refused && !certified:
		return isReturned
	case a.State == relay.Refused && !expired(a):
		return isRefused
	}
	return ""
}

// expired says that the queue gave up because time was over.
func expired(a *relay.Answer) bool {
	return a.Code == 0 && (a.Enhanced == "4.4.7" || a.Enhanced == "5.4.7")
}
