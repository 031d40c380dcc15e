package mta

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"

	"scripta/mta/mailbox"
	"scripta/mta/spool"
	"scripta/register"
	"scripta/register/receipts"
)

// work is what a job of the spool is about: a message that came in at one of the
// points. Its fields are the job's body, everything that was decided before any
// effect; a rerun takes nothing from elsewhere.
type work interface {
	// begun is the transaction's one reading of the clock.
	begun() moment
	// content says under which month the octets that came in are kept in the
	// content store, by the job's id; ok is false when none are.
	content() (month uint16, ok bool)
	// transactions are those, the job's own among them, whose ids its records,
	// its stored messages and its files in mailboxes are made of.
	transactions(id spool.ID) []spool.ID
	// first is the job's first record, the point of no return: without it the
	// client got no 250, and a restart drops the job.
	first(p *Pipeline, id spool.ID) register.Entry
	// carry carries the job to its end. Every step of it may be run again.
	carry(ctx context.Context, p *Pipeline, t *task, log *slog.Logger) error
}

// Kinds of jobs, as their bodies name them.
const (
	kindSubmission = "submission" // or none: handed in at the Access Point
	kindReception  = "reception"  // came in on the port of other mail servers
	kindRelay      = "relay"      // a message of ours for one destination
)

// kindOf reads what kind of job a body is.
func kindOf(j *spool.Job) (string, error) {
	var head struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(j.Body, &head); err != nil {
		return "", fmt.Errorf("job %x cannot be read: %w", j.ID, err)
	}
	if head.Kind == "" {
		return kindSubmission, nil
	}
	return head.Kind, nil
}

// decodeWork reads a job that a worker carries.
func decodeWork(j *spool.Job, kind string) (work, error) {
	switch kind {
	case kindSubmission:
		return decodeSubmission(j)
	case kindReception:
		return decodeReception(j)
	}
	return nil, fmt.Errorf("job %x is of kind %q, which this release does not know: a newer one wrote it", j.ID, kind)
}

// task is a job on its way.
type task struct {
	job        *spool.Job
	work       work
	placed     bool                // it has a place, which its first run gives up
	unrecorded bool                // whether its first record is in the log nobody knows
	rerun      bool                // an earlier run, of this process or another, may have stored or recorded something
	held       *receipts.Held      // messages and contents of this run
	moved      []*mailbox.Prepared // published in this run, and not flushed yet
	stuck      waits               // of the last place: published by its note, and kept by the disk from its mailbox
	dispatch   *dispatch           // nil unless it is a submission that is followed

	// notes is held while the job's notes are read or added to: what others answer
	// is noted while a worker carries the job.
	notes sync.Mutex
}

// noted decodes a note of the job and reports whether there is one.
func (t *task) noted(name string, value any) (bool, error) {
	t.notes.Lock()
	defer t.notes.Unlock()
	return t.job.Noted(name, value)
}

// note makes a decision about a task's job durable.
func (p *Pipeline) note(t *task, name string, value any) error {
	t.notes.Lock()
	defer t.notes.Unlock()
	return p.spool.Note(t.job, name, value)
}

// id is the transaction's, for logging.
func (t *task) id() string { return fmt.Sprintf("%x", t.job.ID) }

// UnderWay tells which transactions the jobs of a spool belong to: they may have
// stored what they have not recorded yet.
func UnderWay(jobs []*spool.Job) (func(transaction [16]byte) bool, error) {
	all := map[[16]byte]bool{}
	for _, j := range jobs {
		kind, err := kindOf(j)
		if err != nil {
			return nil, err
		}
		if kind == kindRelay { // stores nothing
			continue
		}
		w, err := decodeWork(j, kind)
		if err != nil {
			return nil, err
		}
		for _, id := range w.transactions(j.ID) {
			all[id] = true
		}
	}
	return func(tx [16]byte) bool { return all[tx] }, nil
}
