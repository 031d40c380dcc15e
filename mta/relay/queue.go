package relay

import (
	"context"
	"log/slog"
	"time"
)

// Options say what a queue is made of.
type Options struct {
	Send           Sender
	Open           Opener
	Handle         Handler
	Holds          *Holds           // what operators hold; nil: nothing is kept beyond the process
	Sessions       int              // attempts at once, in all
	PerDestination int              // attempts at once to one destination
	FirstDelay     time.Duration    // after the first attempt that failed; it doubles with each
	MaxDelay       time.Duration    // the longest time between two attempts
	Now            func() time.Time // nil: time.Now
	Logger         *slog.Logger
}

// Queue schedules letters. Its methods may be called concurrently.
type Queue struct{}

// Holds is what operators hold.
type Holds struct{}

// NewQueue makes a queue without letters.
func NewQueue(o Options) *Queue { return &Queue{} }

// Add adds letters, before or while the queue runs. A letter whose ID is there already is dropped.
func (q *Queue) Add(letters ...*Letter) {}

// Remove takes a letter out of the queue, if it is there and is not being sent.
func (q *Queue) Remove(id ID) (removed bool) { return false }

// Run sends letters until ctx ends, then lets attempts under way finish for the drain time, cuts the others off and
// returns.
func (q *Queue) Run(ctx context.Context, drain time.Duration) {}

// Wake makes the queue look at the clock: for tests that move it.
func (q *Queue) Wake() {}

// Len is how many letters are in the queue.
func (q *Queue) Len() int { return 0 }
