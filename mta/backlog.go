package mta

import (
	"encoding/hex"
	"sync"
	"time"

	"scripta/mta/spool"
)

// Backlog is what the pipeline has before it.
type Backlog struct {
	Waiting int       // messages in the spool: accepted, or about to be, and not finished here
	Oldest  time.Time // when the oldest of them was accepted; zero when there is none
	Failing int       // those of them whose last run failed: they are run again
	Worst   Failing   // the one of these that failed most often

	Elsewhere int // messages beside these that wait for other providers' receipts
	Letters   int // messages, of ours or receipts, that are to be sent to other servers
}

// Failing is a job that was put off.
type Failing struct {
	Transaction string // as it stands in the log
	Tries       int    // how often it failed
	Err         error  // why it failed the last time
}

// backlog keeps account of the jobs that are not finished.
type backlog struct {
	mu   sync.Mutex // guards jobs
	jobs map[spool.ID]*waiting
}

// waiting is a job that is not finished.
type waiting struct {
	since time.Time
	tries int
	err   error // of the last run, if that failed
	rests bool  // it waits for other providers
}

func (b *backlog) add(id spool.ID, since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.jobs == nil {
		b.jobs = map[spool.ID]*waiting{}
	}
	b.jobs[id] = &waiting{since: since}
}

func (b *backlog) remove(id spool.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.jobs, id)
}

// failed notes that a job's run failed, and returns how often it did, and whether
// the last time was for the same reason.
func (b *backlog) failed(id spool.ID, err error) (tries int, again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.jobs[id]
	if w == nil {
		return 1, false
	}
	again = w.err != nil && w.err.Error() == err.Error()
	w.tries, w.err = w.tries+1, err
	return w.tries, again
}

// rest notes that a job waits for other providers.
func (b *backlog) rest(id spool.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w := b.jobs[id]; w != nil {
		w.rests, w.tries, w.err = true, 0, nil
	}
}

// has says whether a job is not finished.
func (b *backlog) has(id spool.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.jobs[id] != nil
}

func (b *backlog) now() Backlog {
	b.mu.Lock()
	defer b.mu.Unlock()
	var n Backlog
	for id, w := range b.jobs {
		if w.rests && w.err == nil {
			n.Elsewhere++
			continue
		}
		if n.Oldest.IsZero() || w.since.Before(n.Oldest) {
			n.Oldest = w.since
		}
		if w.err == nil {
			continue
		}
		n.Failing++
		if w.tries > n.Worst.Tries {
			n.Worst = Failing{Transaction: hex.EncodeToString(id[:]), Tries: w.tries, Err: w.err}
		}
	}
	return n
}
