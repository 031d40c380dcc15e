package register

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register/index"
	"scripta/register/receipts"
	"scripta/register/record"
)

// Options say what a register is made of.
type Options struct {
	Dir     string // index, receipts, contents and quarantine lie here
	FS      durable.FS
	Origin  string // of the log
	Log     *merkle.Log
	Months  *keys.Months
	Holds   *Holds   // records that outlive their months; may be nil
	Past    []*Past  // logs that were frozen before this one, the oldest first; Close closes them
	Samples [][]byte // synthetic messages of the provider, for the receipts' dictionary
	Logger  *slog.Logger
	// Patience is how long an append waits when as many records wait to be
	// written as may, before it returns [ErrBusy]; 10 s if 0.
	Patience time.Duration
}

// Register is an open register. Its methods may be called concurrently.
type Register struct {
	origin   string
	log      *merkle.Log
	keys     *keyring
	index    *index.DB
	receipts *receipts.Store
	contents *receipts.ContentStore
	infected *receipts.ContentStore
	past     []*Past
	logger   *slog.Logger

	room    *admission     // bounds what is in queue
	queue   chan []*unit   // to the sequencer
	done    chan *batch    // from the sequencer to the indexer
	stop    chan struct{}  // closed by Close
	stopped chan struct{}  // closed by fail, under mu
	wait    sync.WaitGroup // sequencer and indexer

	mu       sync.Mutex          // guards what follows
	inflight map[record.ID]*unit // ids that some caller is appending
	broken   error               // why nothing more can be appended
	indexed  uint64              // leaves below this are in the index
	grown    chan struct{}       // closed and replaced when indexed grows
	metrics  Metrics
}

func (o *Options) indexDir() string { return filepath.Join(o.Dir, "index") }

// Open opens the register and brings its projections up to date with the log.
func Open(ctx context.Context, o Options) (*Register, error) { return open(ctx, o, index.Open, nil) }

// opener opens an index: [index.Open], or [index.OpenRebuild].
type opener func(fsys durable.FS, dir, origin string, log *slog.Logger) (*index.DB, error)

// open is Open with the index that openIndex gives. progress, if not nil, is told
// of records that were added to the index.
func open(ctx context.Context, o Options, openIndex opener, progress func(done, total uint64)) (*Register, error) {
	r := &Register{origin: o.Origin, log: o.Log, keys: newKeyring(o.Months, o.Holds), past: o.Past, logger: o.Logger,
		queue: make(chan []*unit, maxWaitingRecords), room: newAdmission(o.Patience), done: make(chan *batch, 16), stop: make(chan struct{}),
		inflight: map[record.ID]*unit{}, grown: make(chan struct{}), stopped: make(chan struct{})}
	var err error
	if r.index, err = openIndex(o.FS, o.indexDir(), o.Origin, o.Logger); err != nil {
		return nil, err
	}
	bound := firstOrigin(o.Past, o.Origin)
	if r.receipts, err = receipts.Open(o.FS, filepath.Join(o.Dir, "issued"), bound, r.keys, r.index, o.Samples); err != nil {
		return nil, errors.Join(err, r.index.Close())
	}
	if r.contents, err = receipts.OpenContents(o.FS, filepath.Join(o.Dir, "contents"), bound, r.keys); err == nil {
		r.infected, err = receipts.OpenQuarantine(o.FS, filepath.Join(o.Dir, "quarantine"), bound, r.keys)
	}
	if err == nil {
		r.indexed, err = r.own().catchUp(ctx, r.log.Size(), progress)
	}
	if err != nil {
		return nil, errors.Join(err, r.receipts.Close(), r.index.Close())
	}
	r.wait.Add(2)
	go r.sequence()
	go r.follow()
	return r, nil
}

// Log is the verifiable log behind the register.
func (r *Register) Log() *merkle.Log { return r.log }

// Origin is the log's name, which every sealed record is bound to.
func (r *Register) Origin() string { return r.origin }

// Receipts keeps the messages that the provider issued.
func (r *Register) Receipts() *receipts.Store { return r.receipts }

// Contents keeps the messages that were submitted.
func (r *Register) Contents() *receipts.ContentStore { return r.contents }

// Quarantine keeps the messages that a virus was found in, as long as records of
// their month (DPR 68/2005 art. 12).
func (r *Register) Quarantine() *receipts.ContentStore { return r.infected }

// Health returns why the register cannot append, or nil.
func (r *Register) Health() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

// fail stops the register for good; the first reason stands.
func (r *Register) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.broken = err
		close(r.stopped)
	}
}

// Stopped is closed when the register has failed and appends nothing more: the
// process should end and be started again, which reads from the disk what was
// committed. [Register.Health] tells the reason.
func (r *Register) Stopped() <-chan struct{} { return r.stopped }

// Close lets the appends under way finish and closes the index and the receipts.
// It does not close the logs. Nobody may call Append any more.
func (r *Register) Close() error {
	close(r.stop)
	r.wait.Wait()
	err := errors.Join(r.receipts.Close(), r.index.Close())
	for _, p := range r.past {
		err = errors.Join(err, p.Close())
	}
	return err
}

// openLeaf opens the sealed record beside a leaf of the register's own log.
func (r *Register) openLeaf(l merkle.Leaf) (*record.Opened, uint16, error) {
	return r.keys.open(r.origin, l)
}
