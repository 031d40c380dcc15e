package durable

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
)

const (
	// maxAppend bounds the frames of one Append, in bytes.
	maxAppend = 2 * (MaxRecord + headerSize)
	// fullBatch is the size in bytes at which a batch takes no further calls.
	fullBatch = 4 << 20
	// maxUnsynced bounds what a journal can hold beyond its last sync. Damage
	// farther from the end is no torn write.
	maxUnsynced = fullBatch + maxAppend
	// keepBuffer is the largest buffer kept from one batch to another.
	keepBuffer = 1 << 20
)

var (
	// ErrTooLarge is returned by Append for a record longer than MaxRecord, or
	// records of twice as much in all. Nothing was written.
	ErrTooLarge = errors.New("record too large for the journal")
	// ErrNoRecord is returned by ReadAt when no intact record begins at the
	// offset.
	ErrNoRecord = errors.New("no intact record at this offset")
)

// CorruptError is returned by OpenJournal for a file with damage that no
// unfinished write explains. The file is left as it is.
type CorruptError struct {
	Name   string // of the file
	Offset int64  // of the first frame that is not intact
}

// Error says which file is damaged, where, and what to do.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("journal %s is damaged at offset %d, before records that were on the disk: "+
		"restore it from a copy, or from another disk; nothing was changed", e.Name, e.Offset)
}

// Journal is an append-only file of records. All methods may be called
// concurrently.
//
// A record is acknowledged (Append returns nil) when it and all before it are
// on the disk. Concurrent appends share one write and one fdatasync.
//
// Errors: an append that finds the disk full is undone by truncating the file
// to its last synced size, and the journal goes on when there is space again.
// Any other failed write, a failed sync or a failed undoing stops the journal
// for good: every later Append returns that error. A record whose Append failed
// may be in the file when it is opened again.
type Journal struct {
	f      File
	name   string
	torn   int64
	size   atomic.Int64 // bytes acknowledged; set by the leader of a batch alone
	rounds rounds[batch]
	err    error  // guarded by rounds.turn; once set, nothing is written any more
	spare  []byte // guarded by rounds.mu: a buffer for the next batch
}

// batch collects the frames of concurrent appends.
type batch struct {
	buf  []byte
	base int64 // offset of buf in the file, set when it has been written
}

// OpenJournal opens the journal in the file name, creating it with mode 0600,
// and calls replay (which may be nil) with each record in order; an error of
// replay ends it and is returned. rec is replay's to keep. Nobody else may have
// the file open: take a Lock first.
//
// What a crash may have left of an unfinished append, whole frames without
// their acknowledgement included, is either replayed or cut off (Torn tells how
// much): part of a frame, zeros after a power cut, noise. Everything replayed
// is on the disk. Damage to what had been acknowledged is a *CorruptError.
func OpenJournal(fsys FS, name string, replay func(off int64, rec []byte) error) (*Journal, error) {
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the journal: %w", err)
	}
	j := &Journal{f: f, name: name}
	if err := j.open(fsys, replay); err != nil {
		_ = f.Close()
		return nil, err
	}
	return j, nil
}

func (j *Journal) open(fsys FS, replay func(int64, []byte) error) error {
	// An earlier process may have died between its write and its sync, or
	// after a sync that failed: the cache then shows records that are not on
	// the disk. Nothing may be done upon them before they are.
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("couldn't sync journal %s: %w", j.name, err)
	}
	if c, ok := j.f.(interface{ dropCache() error }); ok {
		if err := c.dropCache(); err != nil {
			return fmt.Errorf("couldn't reread journal %s: %w", j.name, err)
		}
	}
	st, err := j.f.Stat()
	if err != nil {
		return fmt.Errorf("couldn't read journal %s: %w", j.name, err)
	}
	if st.Size() == 0 {
		if err := fsys.SyncDir(filepath.Dir(j.name)); err != nil {
			return fmt.Errorf("couldn't sync the folder of journal %s: %w", j.name, err)
		}
	}
	end, err := j.replay(st.Size(), replay)
	if err != nil {
		return err
	}
	if end < st.Size() {
		if err := j.checkTail(end, st.Size()); err != nil {
			return err
		}
		if err := j.cut(end); err != nil {
			return fmt.Errorf("couldn't cut the torn end of journal %s at %d: %w", j.name, end, err)
		}
		j.torn = st.Size() - end
	}
	j.size.Store(end)
	return nil
}

// replay calls f for each intact frame from the start and returns where they
// end.
func (j *Journal) replay(size int64, f func(int64, []byte) error) (end int64, err error) {
	r := bufio.NewReaderSize(io.NewSectionReader(j.f, 0, size), 1<<18)
	var head [headerSize]byte
	for size-end >= headerSize {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return 0, fmt.Errorf("couldn't read journal %s at %d: %w", j.name, end, err)
		}
		h, ok := parseHeader(head[:])
		next := end + headerSize + h.length
		if !ok || next > size {
			break
		}
		rec := make([]byte, h.length)
		if _, err := io.ReadFull(r, rec); err != nil {
			return 0, fmt.Errorf("couldn't read journal %s at %d: %w", j.name, end, err)
		}
		if !h.intact(rec) {
			break
		}
		if f != nil {
			if err := f(end, rec); err != nil {
				return 0, fmt.Errorf("couldn't replay journal %s at %d: %w", j.name, end, err)
			}
		}
		end = next
	}
	return end, nil
}

// checkTail returns a *CorruptError unless the bytes from end to size are an
// unfinished write.
func (j *Journal) checkTail(end, size int64) error {
	zero, err := j.zeroFrom(end, size)
	if err != nil || zero {
		return err
	}
	if size-end > maxUnsynced {
		return &CorruptError{Name: j.name, Offset: end}
	}
	tail := make([]byte, size-end)
	if _, err := io.ReadFull(io.NewSectionReader(j.f, end, size-end), tail); err != nil {
		return fmt.Errorf("couldn't read journal %s at %d: %w", j.name, end, err)
	}
	if !torn(tail, end) {
		return &CorruptError{Name: j.name, Offset: end}
	}
	return nil
}

// zeroFrom tells whether the file is zero from one offset to the other: a file
// system may have prolonged it by any length before the power went.
func (j *Journal) zeroFrom(from, to int64) (bool, error) {
	buf := make([]byte, min(1<<16, to-from))
	for from < to {
		b := buf[:min(int64(len(buf)), to-from)]
		if _, err := io.ReadFull(io.NewSectionReader(j.f, from, int64(len(b))), b); err != nil {
			return false, fmt.Errorf("couldn't read journal %s at %d: %w", j.name, from, err)
		}
		if !allZero(b) {
			return false, nil
		}
		from += int64(len(b))
	}
	return true, nil
}

func (j *Journal) cut(size int64) error {
	if err := j.f.Truncate(size); err != nil {
		return err
	}
	return j.f.Sync()
}

// Append writes recs one after the other and returns their offsets when they
// are on the disk. Concurrent calls share one write and one fdatasync; nobody
// waits for more than the one under way and his own. The records of one call
// are contiguous, but a crash may keep only the first ones. It does not keep
// recs.
//
// Errors: ErrTooLarge; syscall.ENOSPC, EDQUOT or EFBIG when the disk was full
// and nothing was appended; any other error is final (see Journal).
func (j *Journal) Append(recs ...[]byte) (offs []int64, err error) {
	total := 0
	for _, rec := range recs {
		if len(rec) > MaxRecord {
			return nil, fmt.Errorf("couldn't append %d bytes to journal %s: %w", len(rec), j.name, ErrTooLarge)
		}
		if total += headerSize + len(rec); total > maxAppend {
			return nil, fmt.Errorf("couldn't append to journal %s: %w", j.name, ErrTooLarge)
		}
	}
	if len(recs) == 0 {
		return nil, nil
	}
	var at int
	done := j.rounds.do(
		func(b *batch) (full bool) {
			if b.buf == nil {
				b.buf, j.spare = j.spare, nil
			}
			at = len(b.buf)
			b.buf = slices.Grow(b.buf, total)
			for _, rec := range recs {
				b.buf = appendFrame(b.buf, rec, len(b.buf) == 0)
			}
			return len(b.buf) >= fullBatch
		},
		j.commit)
	if done.err != nil {
		return nil, done.err
	}
	offs = make([]int64, len(recs))
	off := done.batch.base + int64(at)
	for i, rec := range recs {
		offs[i] = off
		off += headerSize + int64(len(rec))
	}
	return offs, nil
}

// commit writes a batch and waits until it is on the disk. Commits never
// overlap: a batch is written when all before it have been synced, which is
// what the mark on its first frame says.
func (j *Journal) commit(b *batch) error {
	if j.err != nil {
		return j.err
	}
	size := j.size.Load()
	if _, err := j.f.Write(b.buf); err != nil {
		err = fmt.Errorf("couldn't append to journal %s: %w", j.name, err)
		if !diskFull(err) {
			j.err = fmt.Errorf("journal stopped: %w", err)
			return j.err
		}
		// Part of the batch may be there. It must not stay: a later one
		// behind it would turn a torn end into damage in the middle.
		if cerr := j.cut(size); cerr != nil {
			j.err = fmt.Errorf("journal stopped: %w; couldn't undo it: %w", err, cerr)
			return j.err
		}
		return err
	}
	if err := j.f.Sync(); err != nil {
		j.err = fmt.Errorf("journal stopped: couldn't sync %s: %w", j.name, err)
		return j.err
	}
	b.base = size
	j.size.Store(size + int64(len(b.buf)))
	if cap(b.buf) <= keepBuffer {
		j.rounds.mu.Lock()
		j.spare = b.buf[:0]
		j.rounds.mu.Unlock()
	}
	b.buf = nil
	return nil
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// ReadAt returns the record at off, an offset that Append or the replay gave.
// It returns ErrNoRecord when no intact record begins there: a wrong offset, or
// damage to the disk since.
func (j *Journal) ReadAt(off int64) ([]byte, error) {
	fail := func(err error) error {
		return fmt.Errorf("couldn't read journal %s at %d: %w", j.name, off, err)
	}
	size := j.size.Load()
	if off < 0 || off+headerSize > size {
		return nil, fail(ErrNoRecord)
	}
	var head [headerSize]byte
	if _, err := j.f.ReadAt(head[:], off); err != nil {
		return nil, fail(err)
	}
	h, ok := parseHeader(head[:])
	if !ok || off+headerSize+h.length > size {
		return nil, fail(ErrNoRecord)
	}
	rec := make([]byte, h.length)
	if _, err := j.f.ReadAt(rec, off+headerSize); err != nil {
		return nil, fail(err)
	}
	if !h.intact(rec) {
		return nil, fail(ErrNoRecord)
	}
	return rec, nil
}

// Size is the length in bytes of what is acknowledged: the offset of the next
// record.
func (j *Journal) Size() int64 { return j.size.Load() }

// Torn is the number of bytes of an unfinished append that opening cut off.
func (j *Journal) Torn() int64 { return j.torn }

// Close waits for the append under way and closes the file. Later appends
// return fs.ErrClosed.
func (j *Journal) Close() error {
	j.rounds.turn.Lock()
	defer j.rounds.turn.Unlock()
	if j.err == nil {
		j.err = fmt.Errorf("journal %s: %w", j.name, fs.ErrClosed)
	}
	return j.f.Close()
}
