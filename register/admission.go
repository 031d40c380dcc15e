package register

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// What may wait for the sequencer, sealed, at once. A record of any size goes in
// when nothing else waits.
const (
	maxWaitingRecords = 8192
	maxWaitingBytes   = 32 << 20
)

// defaultPatience is how long an append waits for others to make room.
const defaultPatience = 10 * time.Second

// ErrBusy says that more records wait for the disk than may, and did so for the
// whole of Options.Patience. The record at hand was not appended, others of the
// call perhaps were; trying again later is safe.
var ErrBusy = errors.New("register: too many records are waiting to be written; try again later")

// admission bounds the records that are sealed and wait to be written, in number and in
// bytes, and with them the memory that appends take. Whoever finds no room stands
// in line.
type admission struct {
	maxRecords, maxBytes int
	patience             time.Duration

	mu      sync.Mutex // guards what follows
	records int        // let in, and not left
	bytes   int
	line    []*turn // who waits, in order
}

// turn is someone's place in the line.
type turn struct {
	records, bytes int
	come           chan struct{} // closed when he is in
}

func newAdmission(patience time.Duration) *admission {
	if patience == 0 {
		patience = defaultPatience
	}
	return &admission{maxRecords: maxWaitingRecords, maxBytes: maxWaitingBytes, patience: patience}
}

// fits reports whether there is room. Under mu.
func (a *admission) fits(records, bytes int) bool {
	return a.records == 0 || a.records+records <= a.maxRecords && a.bytes+bytes <= a.maxBytes
}

// enter waits until there is room. The error is ErrBusy or the context's.
func (a *admission) enter(ctx context.Context, records, bytes int) error {
	a.mu.Lock()
	if len(a.line) == 0 && a.fits(records, bytes) {
		a.records += records
		a.bytes += bytes
		a.mu.Unlock()
		return nil
	}
	t := &turn{records, bytes, make(chan struct{})}
	a.line = append(a.line, t)
	a.mu.Unlock()
	patience := time.NewTimer(a.patience)
	defer patience.Stop()
	var err error
	select {
	case <-t.come:
		return nil
	case <-patience.C:
		err = fmt.Errorf("%w (for %v)", ErrBusy, a.patience)
	case <-ctx.Done():
		err = fmt.Errorf("register: gave up waiting for other records to be written: %w", ctx.Err())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, other := range a.line {
		if other == t {
			a.line = append(a.line[:i], a.line[i+1:]...)
			a.advance() // who stood behind may fit
			return err
		}
	}
	return nil // it came after all
}

// leave makes room.
func (a *admission) leave(records, bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.records -= records
	a.bytes -= bytes
	a.advance()
}

// advance lets in who stands first, as long as they fit. Under mu.
func (a *admission) advance() {
	for len(a.line) > 0 && a.fits(a.line[0].records, a.line[0].bytes) {
		t := a.line[0]
		a.line[0] = nil
		a.line = a.line[1:]
		a.records += t.records
		a.bytes += t.bytes
		close(t.come)
	}
}

// Waiting tells how many records are sealed and wait to be written, and their
// bytes.
func (r *Register) Waiting() (records, bytes int) {
	r.room.mu.Lock()
	defer r.room.mu.Unlock()
	return r.room.records, r.room.bytes
}
