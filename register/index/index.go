package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"scripta/internal/durable"
)

// Entry says under which tokens a leaf is found. Month and Time are those of its
// record; month 0 is the service's.
type Entry struct {
	Index  uint64
	Month  uint16
	Time   time.Time
	Tokens []Token
}

// DB is an open index. Its methods may be called concurrently.
type DB struct {
	fsys        durable.FS
	dir, origin string
	log         *slog.Logger

	// installMu is held for the entire duration of every change of the manifest.
	// This guarantees that the manifest on the disk is that of runs.
	installMu sync.Mutex

	mu     sync.RWMutex // guards what follows
	moved  *sync.Cond   // under mu: frozen was written, or could not be
	active *batch       // what is added goes here
	frozen *batch       // what is being written, or nil
	runs   map[uint16][]*run
	number uint64 // of the next run
	next   uint64 // leaves below it have been added
	mark   Location
	full   error // the last try to write met a full disk
	broken error // the last try to write failed otherwise: nothing is added any more
	damage error // the first damage that a search met

	write, tidy chan struct{} // to the goroutines that write runs and merge them
	stop        chan struct{}
	wait        sync.WaitGroup
}

// batch is what will be written at once.
type batch struct {
	months   map[uint16]*memory
	postings int
	first    uint64   // leaf that next was when it began
	begun    Location // that mark was when it began
	next     uint64
	mark     Location
}

const (
	// reserve is how many bytes the file system must have free for the index to
	// be written: the last ones are for the log.
	reserve = 16 << 20
	// A batch is written when it has so many postings or leaves; what it holds is
	// read from the log again after a crash. Adding waits, or meets a full disk,
	// when there are twice as many behind one that is being written.
	maxPostings = 1 << 20
	maxLeaves   = 1 << 16
)

// Open opens the index of the log of that name in dir, or makes an empty one.
// An index that is damaged, of an earlier format or of another log gives way to an
// empty one, and the logger says so. What an unfinished [Swap] left is put in
// order; what an unfinished rebuilding left is removed.
func Open(fsys durable.FS, dir, origin string, log *slog.Logger) (*DB, error) {
	if err := settle(fsys, dir); err != nil {
		return nil, fmt.Errorf("couldn't put the index in order: %w", err)
	}
	return open(fsys, dir, origin, log)
}

func open(fsys durable.FS, dir, origin string, log *slog.Logger) (*DB, error) {
	if err := durable.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the index: %w", err)
	}
	d := &DB{fsys: fsys, dir: dir, origin: origin, log: log, runs: map[uint16][]*run{}, number: 1,
		write: make(chan struct{}, 1), tidy: make(chan struct{}, 1), stop: make(chan struct{})}
	d.moved = sync.NewCond(&d.mu)
	err := d.load()
	if errors.Is(err, ErrDamaged) {
		log.Error("the index is made again from the log: it was deleted, is damaged, or of another format or log", "err", err)
		err = d.clear()
	}
	if err == nil {
		err = d.sweep()
	}
	if err != nil {
		d.letGo()
		return nil, fmt.Errorf("couldn't open the index in %s: %w", dir, err)
	}
	d.active = d.newBatch()
	d.wait.Add(2)
	go d.writer()
	go d.merger()
	d.tidy <- struct{}{}
	return d, nil
}

// load reads what the manifest names.
func (d *DB) load() error {
	if _, err := d.fsys.Stat(filepath.Join(d.dir, damagedName)); err == nil {
		return damaged("a search met damage")
	}
	m, err := readManifest(d.fsys, d.dir)
	if err != nil {
		return err
	}
	if m == nil {
		left, err := d.fsys.ReadDir(d.dir)
		if err == nil && len(left) > 0 {
			err = damaged("there is no manifest")
		}
		return err
	}
	if m.Origin != d.origin {
		return damaged("it is of the log %.80q", m.Origin)
	}
	for _, info := range m.Runs {
		r, err := openRun(d.fsys, info.name(d.dir), info)
		if err != nil {
			return err
		}
		d.runs[info.Month] = append(d.runs[info.Month], r)
	}
	d.next, d.mark, d.number = m.Next, m.Receipts, m.Number
	return nil
}

// clear forgets what load found, and removes everything.
func (d *DB) clear() error {
	d.letGo()
	d.runs, d.next, d.mark, d.number = map[uint16][]*run{}, 0, Location{}, 1
	if err := durable.RemoveAll(d.fsys, d.dir); err != nil {
		return err
	}
	return durable.MkdirAll(d.fsys, d.dir, 0o700)
}

// letGo closes the runs.
func (d *DB) letGo() {
	for _, runs := range d.runs {
		for _, r := range runs {
			r.release()
		}
	}
}

// sweep removes what the manifest does not name: runs that a crash cut off, or
// that were merged.
func (d *DB) sweep() error {
	named := map[string]bool{filepath.Join(d.dir, manifestName): true}
	for month, runs := range d.runs {
		named[folder(d.dir, month)] = true
		for _, r := range runs {
			named[r.name(d.dir)] = true
		}
	}
	all, err := d.fsys.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		name := filepath.Join(d.dir, e.Name())
		if !e.IsDir() {
			if !named[name] {
				err = errors.Join(err, d.fsys.Remove(name))
			}
			continue
		}
		if !named[name] {
			err = errors.Join(err, durable.RemoveAll(d.fsys, name))
			continue
		}
		inside, rerr := d.fsys.ReadDir(name)
		err = errors.Join(err, rerr)
		for _, r := range inside {
			if name := filepath.Join(name, r.Name()); !named[name] {
				err = errors.Join(err, d.fsys.Remove(name))
			}
		}
	}
	return err
}

func (d *DB) newBatch() *batch {
	return &batch{months: map[uint16]*memory{}, first: d.next, begun: d.mark, next: d.next, mark: d.mark}
}

func (b *batch) of(month uint16) *memory {
	m := b.months[month]
	if m == nil {
		m = newMemory()
		b.months[month] = m
	}
	return m
}

// parts says how many batches what is in b would fill, rounded down.
func (b *batch) parts() int {
	return max(b.postings/maxPostings, int((b.next-b.first)/maxLeaves))
}

// Close writes what is in memory and closes the files. A full disk is no error:
// the next opening adds again what could not be written.
func (d *DB) Close() error {
	close(d.stop)
	d.wait.Wait()
	err := d.Flush()
	if errors.Is(err, syscall.ENOSPC) {
		d.log.Warn("the disk is full: the next start adds to the index again what could not be written", "err", err)
		err = nil
	}
	d.letGo()
	return err
}

// Next is the index of the first leaf that has not been added.
func (d *DB) Next() uint64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.next
}

// Add adds entries, whose leaves come in ascending order, and sets [DB.Next].
// What is below Next was added before, and is passed over. It does not wait for
// the disk, unless much more comes than the disk takes; when the disk is full
// and memory, too, the error is syscall.ENOSPC, and nothing was added.
func (d *DB) Add(entries []Entry, next uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.admit(); err != nil {
		return err
	}
	b := d.active
	for _, e := range entries {
		if e.Index < d.next || len(e.Tokens) == 0 {
			continue
		}
		m := b.of(e.Month)
		for _, t := range e.Tokens {
			m.add(t, e.Index)
		}
		m.times = addTime(m.times, e.Index, e.Time.UnixMilli())
		b.postings += len(e.Tokens)
	}
	d.next = max(d.next, next)
	b.next = d.next
	d.freeze(1)
	return nil
}

// admit waits until there is room in memory. The caller holds mu.
func (d *DB) admit() error {
	for d.broken == nil && d.frozen != nil && d.active.parts() >= 2 {
		if d.full != nil {
			d.wakeWriter()
			return d.full
		}
		d.moved.Wait()
	}
	if d.full != nil {
		d.wakeWriter() // to try again
	}
	return d.broken
}

// freeze hands the active batch to the writer if it has so many parts and the
// writer is free. The caller holds mu.
func (d *DB) freeze(parts int) {
	if d.frozen == nil && d.active.parts() >= parts && (d.active.postings > 0 || d.active.next > d.active.first) {
		d.frozen, d.active = d.active, d.newBatch()
		d.wakeWriter()
	}
}

func (d *DB) wakeWriter() {
	select {
	case d.write <- struct{}{}:
	default:
	}
}

// Query says what is sought in a month: leaves that stand under all tokens, of
// which there is at least one.
type Query struct {
	Month    uint16
	Tokens   []Token
	First    uint64    // only leaves at or after it
	From, To time.Time // From included, To not; zero: no bound. Leaves of records somewhat outside come, too
}

// Search calls visit with the leaves that q seeks, ascending, until it returns
// false. It misses none; a few that are not sought may come, because values share
// tokens and times are kept of groups of records: compare the record. An error is
// [ErrDamaged] or one of the disk; what was visited before is then not all.
func (d *DB) Search(q Query, visit func(leaf uint64) bool) error {
	if len(q.Tokens) == 0 {
		return errors.New("index: a search without a token")
	}
	runs, lists, times := d.snapshot(q)
	defer func() {
		for _, r := range runs {
			r.release()
		}
	}()
	p := period{math.MinInt64, math.MaxInt64}
	if !q.From.IsZero() {
		p.from = q.From.UnixMilli()
	}
	if !q.To.IsZero() {
		p.to = q.To.Add(time.Millisecond - 1).UnixMilli()
	}
	skip := func(spans []span) func(uint64) (uint64, bool) {
		if q.From.IsZero() && q.To.IsZero() {
			return func(leaf uint64) (uint64, bool) { return leaf, true }
		}
		return func(leaf uint64) (uint64, bool) { return p.skip(spans, leaf) }
	}
	for _, r := range runs {
		if r.Last < q.First {
			continue
		}
		cursors := make([]cursor, len(q.Tokens))
		for i, t := range q.Tokens {
			cursors[i] = &runCursor{run: r, token: t, block: -1}
		}
		if more, err := intersect(cursors, q.First, skip(r.times), visit); err != nil || !more {
			return d.noted(err)
		}
	}
	for i, l := range lists {
		cursors := make([]cursor, len(l))
		for j := range l {
			cursors[j] = (*listCursor)(&l[j])
		}
		if more, err := intersect(cursors, q.First, skip(times[i]), visit); err != nil || !more {
			return err
		}
	}
	return nil
}

// snapshot takes what a search goes through: runs, which the caller releases, and
// for each batch in memory the leaves under each token and the spans of time.
func (d *DB) snapshot(q Query) (runs []*run, lists [][][]uint64, times [][]span) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	runs = d.runs[q.Month]
	for _, r := range runs {
		r.hold()
	}
	for _, b := range []*batch{d.frozen, d.active} {
		if b == nil || b.months[q.Month] == nil {
			continue
		}
		m := b.months[q.Month]
		var of [][]uint64
		for _, t := range q.Tokens {
			of = append(of, m.list(t, q.First))
		}
		if slices.ContainsFunc(of, func(l []uint64) bool { return len(l) == 0 }) {
			continue
		}
		lists, times = append(lists, of), append(times, slices.Clone(m.times))
	}
	return runs, lists, times
}

// noted leaves a note on the disk when a search met damage, so that the next
// opening begins anew.
func (d *DB) noted(err error) error {
	if errors.Is(err, ErrDamaged) {
		d.mu.Lock()
		if d.damage == nil {
			d.damage = err
		}
		d.mu.Unlock()
		d.log.Error("a search met damage in the index", "err", err)
		if werr := durable.WriteFile(d.fsys, filepath.Join(d.dir, damagedName), []byte(err.Error()+"\n"), 0o600); werr != nil {
			d.log.Error("couldn't leave a note of it", "err", werr)
		}
	}
	return err
}

// Health returns the damage that some search met, or why nothing can be written;
// nil when all is well.
func (d *DB) Health() error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return cmp.Or(d.damage, d.broken, d.full)
}

// Check reads every file whole and compares its checksums. Searches and additions
// go on meanwhile.
func (d *DB) Check(ctx context.Context) error {
	n := 0
	return d.All(func(uint16, Token, uint64) error {
		if n++; n%1024 == 0 {
			return ctx.Err()
		}
		return nil
	})
}

// Months lists the months of which there is something, the service's (0) not.
func (d *DB) Months() []uint16 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	have := map[uint16]bool{}
	for m := range d.runs {
		have[m] = true
	}
	for _, b := range []*batch{d.frozen, d.active} {
		if b != nil {
			for m := range b.months {
				have[m] = true
			}
		}
	}
	delete(have, service)
	delete(have, Receipts)
	return slices.Sorted(maps.Keys(have))
}

// DropMonth removes everything of a month, from the disk too: it was disposed of.
func (d *DB) DropMonth(month uint16) error {
	if err := d.Flush(); err != nil {
		return err
	}
	d.installMu.Lock()
	defer d.installMu.Unlock()
	d.mu.RLock()
	runs, old := maps.Clone(d.runs), d.runs[month]
	next, mark := d.written()
	d.mu.RUnlock()
	delete(runs, month)
	if err := d.install(runs, next, mark, func() {}); err != nil {
		return fmt.Errorf("couldn't remove %s from the index: %w", folder(d.dir, month), err)
	}
	for _, r := range old {
		r.release()
	}
	if err := durable.RemoveAll(d.fsys, folder(d.dir, month)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("couldn't remove %s from the index: %w", folder(d.dir, month), err)
	}
	return d.fsys.SyncDir(d.dir)
}

// All calls visit with every posting, in no useful order, until it returns an
// error. Places of receipts come under the month [Receipts].
func (d *DB) All(visit func(month uint16, t Token, leaf uint64) error) error {
	if err := d.Flush(); err != nil {
		return err
	}
	d.mu.RLock()
	var runs []*run
	for _, of := range d.runs {
		runs = append(runs, of...)
	}
	for _, r := range runs {
		r.hold()
	}
	d.mu.RUnlock()
	slices.SortFunc(runs, func(a, b *run) int { return cmp.Or(cmp.Compare(a.Month, b.Month), cmp.Compare(a.First, b.First)) })
	var err error
	for _, r := range runs {
		x := reader{run: r}
		for err == nil {
			var ok bool
			if ok, err = x.next(); err != nil || !ok {
				break
			}
			for _, l := range x.leaves {
				if err = visit(r.Month, x.token, l); err != nil {
					break
				}
			}
		}
		r.release()
	}
	return d.noted(err)
}

// room returns an error that wraps [syscall.ENOSPC] when there is no room.
func (d *DB) room() error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); errors.Is(err, os.ErrNotExist) {
		return nil // the writing will say it better
	} else if err != nil {
		return fmt.Errorf("couldn't ask the disk for its free space: %w", err)
	}
	if st.Bavail*uint64(st.Bsize) < reserve {
		return fmt.Errorf("index: less than %d MiB are free in %s: %w", reserve>>20, d.dir, syscall.ENOSPC)
	}
	return nil
}
