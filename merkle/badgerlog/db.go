package badgerlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"scripta/internal/badgerfile"
	"scripta/internal/durable"
	"scripta/merkle/tiles"
)

// Options of a database.
type Options struct {
	// Dir is Badger's folder; it is made if it is not there.
	Dir string
	// ReadOnly opens a database that was closed in an orderly way, for reading.
	ReadOnly bool
	// Now is the clock; time.Now if nil. It may step back.
	Now func() time.Time
	// Logger gets what goes wrong, and at level debug what Badger tells; nothing
	// is logged if nil.
	Logger *slog.Logger
	// MaxBatch bounds the leaves of one commit; 4096 if 0.
	MaxBatch int
	// MinFree is how many bytes the file system must have free for leaves to be
	// taken; 512 MiB if 0. Badger writes through mapped files: without this
	// reserve a full disk would kill the process.
	MinFree uint64
	// FS has the leaf files; durable.OS if nil. Badger is always on the real file
	// system.
	FS durable.FS
	// CachedTiles is how many full tiles stay in memory, 16 KiB each; 1024 if 0.
	CachedTiles int
}

const (
	// valueThreshold is the length in bytes from which on Badger would put a
	// value into its value log, whose failed syncs it does not report.
	valueThreshold = 1 << 20
	// maxBatchBytes bounds the records of one commit.
	maxBatchBytes = 4 << 20
	// maxQueueBytes bounds the records that wait in memory.
	maxQueueBytes = 64 << 20
	// maxChecked bounds the bytes of tables, the newest first, that opening reads
	// whole: about a second. The others are for the scrub.
	maxChecked = 1 << 30
	// recordOverhead is about what a leaf takes besides its record.
	recordOverhead = 160
	// memTable is the size in bytes of Badger's. A transaction holds at most 15 %
	// of it.
	memTable = 16 << 20
)

// DB is an open database. LogStorage and AdminStorage are its two faces towards
// Trillian. Its methods may be called concurrently.
type DB struct {
	opt    Options
	dir    string // opt.Dir without links, absolute
	badger *badger.DB
	cache  *tileCache
	leaves *leafFiles
	behind *behind

	// leavesMu is held while a batch is appended to the leaf files and put into
	// behind. This guarantees that whatever Badger is told to have up to a place
	// is all that stands before it.
	leavesMu sync.Mutex

	// flushMu is held for the entire duration of a flush: there is one writing
	// delta.
	flushMu sync.Mutex

	stopCatchUp chan struct{} // closed by Close when nothing is added any more
	caughtUp    chan struct{} // closed when catchUp has ended

	// commitMu is held for the entire duration of every commit. This guarantees
	// that Badger's versions grow and that whatever is read at readable is
	// durable.
	commitMu sync.Mutex
	version  uint64 // of the last commit; guarded by commitMu
	wal      int    // the number of Badger's newest write-ahead log; guarded by commitMu
	readable atomic.Uint64

	// adminMu is held for the entire duration of a read-write transaction on
	// trees: Badger's own conflict detection is off.
	adminMu sync.Mutex

	fatal  atomic.Pointer[error] // set once, by fail
	failed chan struct{}         // closed by fail

	mu      sync.Mutex // guards what follows
	logs    map[int64]*treeLog
	closing bool
	users   sync.WaitGroup // calls and transactions under way; no Add once closing

	stopping chan struct{} // closed when closing is set

	// beforeCommit, if a test sets it under leavesMu, can fail a commit.
	beforeCommit func() error
}

// Open opens the database in a folder, or makes an empty one, and checks its
// files and every tree in it. The errors are ErrFormat, ErrCorrupt (a
// badgerfile.DamageError or a CorruptError), or those of Badger: among them that
// another process has it open.
func Open(opt Options) (*DB, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.MaxBatch == 0 {
		opt.MaxBatch = 4096
	}
	if opt.MinFree == 0 {
		opt.MinFree = 512 << 20
	}
	if opt.FS == nil {
		opt.FS = durable.OS
	}
	if opt.CachedTiles == 0 {
		opt.CachedTiles = 1024
	}
	if !opt.ReadOnly {
		if err := dropEmptyFiles(opt.Dir); err != nil {
			return nil, err
		}
	}
	// What Badger would make of damage is worse than not to open.
	if err := badgerfile.Check(opt.Dir, badgerfile.Options{Most: maxChecked, WAL: true}); errors.Is(err, badgerfile.ErrDamaged) {
		return nil, fmt.Errorf("%w: %w; nothing was changed: restore a backup of the log and compare it with the last published checkpoint", ErrCorrupt, err)
	} else if err != nil {
		return nil, fmt.Errorf("couldn't check the log database %s: %w", opt.Dir, err)
	}
	if !opt.ReadOnly {
		if err := badgerfile.Settle(opt.Dir); err != nil {
			return nil, fmt.Errorf("couldn't open the log database %s: %w", opt.Dir, err)
		}
	}
	// Managed: this package gives the versions. A read then takes the last
	// durable one, where Badger's own would wait for the commit under way.
	b, err := badger.OpenManaged(badger.DefaultOptions(opt.Dir).
		WithReadOnly(opt.ReadOnly).
		WithSyncWrites(true).
		WithMemTableSize(memTable).
		WithNumMemtables(3).
		WithDetectConflicts(false). // commitMu lets one writer in at a time
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(1 << 20). // nothing goes there
		WithCompression(options.None). // digests and ciphertext: nothing to gain
		WithBlockCacheSize(0).         // uncompressed tables are read where they are mapped
		WithChecksumVerificationMode(options.OnBlockRead).
		WithMetricsEnabled(false).
		WithLogger(badgerLogger{opt.Logger}))
	if err != nil {
		return nil, fmt.Errorf("couldn't open the log database %s: %w", opt.Dir, err)
	}
	db := &DB{
		opt: opt, badger: b, cache: newTileCache(opt.CachedTiles), behind: newBehind(),
		logs: map[int64]*treeLog{}, stopping: make(chan struct{}), failed: make(chan struct{}),
		stopCatchUp: make(chan struct{}), caughtUp: make(chan struct{}),
	}
	db.version = b.MaxVersion()
	db.readable.Store(db.version)
	if err = db.beginWAL(); err == nil {
		err = db.start()
	}
	if err != nil {
		if db.leaves != nil {
			err = errors.Join(err, db.leaves.close())
		}
		return nil, errors.Join(err, b.Close())
	}
	if opt.ReadOnly {
		close(db.caughtUp)
	} else {
		go db.catchUp()
	}
	return db, nil
}

// start checks the format, loads the trees and brings them up to date with the
// leaf files.
func (db *DB) start() error {
	if err := db.checkFormat(); err != nil {
		return err
	}
	var err error
	if db.leaves, err = findLeafFiles(db.opt.FS, db.dir); err != nil {
		return err
	}
	txn := db.newRead()
	defer txn.Discard()
	trees, err := listTrees(txn, true)
	if err != nil {
		return err
	}
	for _, t := range trees {
		if _, err := db.load(t.TreeId); err != nil {
			return err
		}
	}
	b, err := read(txn, []byte{kindMark})
	if err != nil {
		return fmt.Errorf("couldn't read how far the database has the leaves: %w", err)
	}
	mark := place(0)
	if len(b) == 8 {
		mark = place(binary.BigEndian.Uint64(b))
	} else if b != nil {
		return &CorruptError{Reason: fmt.Sprintf("how far it has the leaves is written in %d bytes", len(b))}
	}
	if db.opt.ReadOnly {
		return db.leaves.closedAt(mark)
	}
	r := replayed{db: db}
	if err := db.leaves.replay(mark, r.visit); err != nil {
		return err
	}
	if n := db.leaves.torn(); n > 0 {
		db.opt.Logger.Warn("an unfinished write was cut off the newest leaf file: nobody was answered for it, if the disk kept what it had been given", "bytes", n)
	}
	if r.batches > 0 {
		db.opt.Logger.Info("the log's database was brought up to date with the leaf files", "batches", r.batches)
	}
	return nil
}

func (db *DB) checkFormat() error {
	txn := db.newRead()
	defer txn.Discard()
	v, err := read(txn, []byte{kindFormat})
	if err != nil {
		return fmt.Errorf("couldn't read the format of the log database: %w", err)
	}
	if v == nil && db.version == 0 && !db.opt.ReadOnly {
		w := db.badger.NewTransactionAt(db.version, true)
		defer w.Discard()
		if err := w.Set([]byte{kindFormat}, []byte(format)); err != nil {
			return err
		}
		return db.commit(w)
	}
	if string(v) != format {
		return fmt.Errorf("%w: %s says %.40q, want %q", ErrFormat, db.opt.Dir, v, format)
	}
	return nil
}

// replayed puts batches that Badger does not have behind it, when the database
// is opened.
type replayed struct {
	db      *DB
	leaves  []*pending // since the last end of a batch
	places  []place
	batches int
}

// visit takes the next record of the leaf files.
func (r *replayed) visit(at place, rec []byte) error {
	if len(rec) > 0 && rec[0] == kindLeaf {
		value, err := valueOf(rec)
		if err != nil {
			return &CorruptError{Reason: fmt.Sprintf("what stands in leaf file %d at %d is no leaf", at.file(), at.offset())}
		}
		r.leaves = append(r.leaves, &pending{identity: tiles.Hash(rec[recordIdentity:recordLength]), merkle: tiles.LeafHash(value)})
		r.places = append(r.places, at)
		return nil
	}
	tree, n, root, err := parseCommit(rec)
	if err != nil || n > len(r.leaves) {
		return &CorruptError{Tree: tree, Reason: fmt.Sprintf("the end of a batch in leaf file %d at %d is unreadable", at.file(), at.offset())}
	}
	// What stands before was a batch without an end: nobody was answered.
	leaves, places := r.leaves[len(r.leaves)-n:], r.places[len(r.places)-n:]
	r.leaves, r.places = nil, nil
	l := r.db.logs[tree]
	if l == nil && n == 0 {
		return nil // initialised, and removed before it had a leaf
	}
	if l == nil {
		return &CorruptError{Tree: tree, Reason: "the leaf files have leaves of a tree that is not there"}
	}
	hashes := make([]tiles.Hash, n)
	for i, p := range leaves {
		hashes[i] = p.merkle
	}
	s := l.state.Load()
	next, values, err := s.extend(tree, hashes, root)
	if err != nil {
		return err
	}
	next.places = growPlaces(tree, s.size, s.places, places, values)
	values[string(appendKey(nil, kindRoot, tree))] = root
	l.state.Store(next)
	r.db.behind.add(tree, s.size, leaves, values, placeAt(at.file(), at.offset()+frameSize(rec)))
	r.batches++
	if r.db.behind.full() {
		return r.db.flush()
	}
	return nil
}

// newWrite returns a transaction for commit.
func (db *DB) newWrite() *badger.Txn { return db.badger.NewTransactionAt(db.readable.Load(), true) }

// newRead returns a read transaction on what is durable.
func (db *DB) newRead() *badger.Txn { return db.badger.NewTransactionAt(db.readable.Load(), false) }

// read returns a copy of the value under key, nil if there is none. The error is
// ErrCorrupt if Badger panics: it trusts what it reads of a damaged block.
func read(txn *badger.Txn, key []byte) (value []byte, err error) {
	defer recovered(&err)
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}

// recovered turns a panic within Badger into an error. Deferred, around reads
// alone.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: badger panicked: %v", ErrCorrupt, p)
	}
}

// commit makes a transaction durable. An error is fatal: the writes may be in
// Badger's memory, on the disk, both or neither.
func (db *DB) commit(txn *badger.Txn) error {
	db.commitMu.Lock()
	defer db.commitMu.Unlock()
	if err := db.err(); err != nil {
		return err
	}
	if err := txn.CommitAt(db.version+1, nil); err != nil {
		return db.fail(fmt.Errorf("couldn't commit: %w", err))
	}
	if err := db.followWAL(); err != nil {
		return db.fail(err)
	}
	db.version++
	db.readable.Store(db.version)
	// No reader minds that old versions go: all it reads at its version was
	// written once (leaves, tiles, identities) or is taken at the latest one.
	db.badger.SetDiscardTs(db.version)
	return nil
}

// err returns why nothing can be done: ErrFatal with its cause, or nil.
func (db *DB) err() error {
	if p := db.fatal.Load(); p != nil {
		return *p
	}
	return nil
}

// fail stops the database and answers everyone who waits. It returns the error
// that is given from now on.
func (db *DB) fail(cause error) error {
	err := fmt.Errorf("%w (%w)", ErrFatal, cause)
	if !db.fatal.CompareAndSwap(nil, &err) {
		return db.err()
	}
	close(db.failed)
	db.opt.Logger.Error("the log has stopped; restart after fixing the cause", "err", cause)
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, l := range db.logs {
		l.giveUp(err)
	}
	return err
}

// enter begins a use of the database, which Close waits for; leave ends it.
func (db *DB) enter() error { return db.enterFor(0) }

// enterFor is enter for a read-write transaction on a tree, whose sequencer,
// itself a user, finishes its queue while the database is being closed.
func (db *DB) enterFor(tree int64) error {
	if err := db.err(); err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closing {
		if l := db.logs[tree]; l == nil || !l.isSequencing() {
			return ErrClosed
		}
	}
	db.users.Add(1)
	return nil
}

func (db *DB) leave() { db.users.Done() }

// Writable returns why leaves would be refused now: ErrReadOnly, ErrDiskFull,
// ErrFatal, ErrClosed, or nil.
func (db *DB) Writable() error {
	if err := db.enterToWrite(); err != nil {
		return err
	}
	db.leave()
	return nil
}

// enterToWrite is enter for who wants to change something.
func (db *DB) enterToWrite() error {
	if db.opt.ReadOnly {
		return ErrReadOnly
	}
	if free, ok := freeSpace(db.opt.Dir); ok && free < db.opt.MinFree {
		return fmt.Errorf("%w: %d MiB free on the file system of %s, %d MiB wanted", ErrDiskFull, free>>20, db.opt.Dir, db.opt.MinFree>>20)
	}
	return db.enter()
}

// log returns the log of a tree. The error is a NotFound status if there is no
// such tree.
func (db *DB) log(tree int64) (*treeLog, error) {
	db.mu.Lock()
	l := db.logs[tree]
	db.mu.Unlock()
	if l != nil {
		return l, nil
	}
	txn := db.newRead()
	defer txn.Discard()
	if _, err := getTree(txn, tree); err != nil {
		return nil, err
	}
	return db.load(tree)
}

// load reads a log's state. If another call was faster, it returns its log.
func (db *DB) load(tree int64) (*treeLog, error) {
	s, err := db.loadState(tree)
	if err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if l := db.logs[tree]; l != nil {
		return l, nil
	}
	l := newTreeLog(db, tree, s)
	db.logs[tree] = l
	return l, nil
}

// Close takes no more leaves, waits until those that were taken are integrated
// (if a Sequence runs) and until every transaction is closed, and closes the
// database.
func (db *DB) Close(ctx context.Context) error {
	db.mu.Lock()
	if db.closing {
		db.mu.Unlock()
		return nil
	}
	db.closing = true
	close(db.stopping)
	for _, l := range db.logs {
		l.close()
	}
	db.mu.Unlock()
	idle := make(chan struct{})
	go func() { db.users.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-ctx.Done():
		return fmt.Errorf("couldn't close the log database, which is in use: %w", ctx.Err())
	}
	close(db.stopCatchUp)
	<-db.caughtUp
	if err := errors.Join(db.leaves.close(), db.badger.Close()); err != nil {
		return fmt.Errorf("couldn't close the log database %s: %w", db.opt.Dir, err)
	}
	return nil
}
