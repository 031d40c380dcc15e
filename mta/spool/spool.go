// Package spool keeps the jobs of the pipeline: what was accepted and is not
// finished, and how far each transaction has come.
//
// A job is what has been decided about a transaction before any of its effects:
// its id, its one time reading, the envelope. A note is a decision taken on the
// way (a time, "publishing"), made durable before what it decides is done. After
// a crash, [Open] returns the unfinished jobs with their notes, and a rerun
// takes the same decisions again. Message contents lie elsewhere (register/receipts).
//
// Jobs lie in append-only files (durable.Journal): concurrent transactions share
// each sync. What they hold is personal data and is sealed under the month of
// the transaction. A file is deleted when every job that began in it or before
// it is finished; a job that does not end for long is carried over into a newer
// file, so that it does not keep the others from being deleted.
package spool

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"scripta/internal/durable"
	"scripta/internal/seal"
)

// ID is a transaction's: 16 random bytes.
type ID [16]byte

// Keys gives the key under which a month's jobs are sealed.
type Keys interface {
	ReceiptKey(month uint16) (*[32]byte, error)
}

// Job is a transaction that is not finished. Its body and notes are encoded by
// the pipeline, in JSON.
type Job struct {
	ID    ID
	Month uint16
	Body  json.RawMessage
	Notes map[string]json.RawMessage

	file uint64 // in which it began, or was carried over into; under Spool.mu
}

const (
	version  = 1
	opJob    = 1
	opNote   = 2
	opDone   = 3
	opCarry  = 4 // a job with its notes, in place of all entries before
	label    = "scripta/spool/v1"
	headSize = 1 + 1 + len(ID{}) + 2

	// fileSize is when a new file is begun, bytes.
	fileSize = 32 << 20
	// keepFiles is how many files may be kept for a job before it is carried
	// over.
	keepFiles = 4
	// maxCarry bounds what is carried over into a file that is begun, as a part
	// of it: when very many jobs wait, it is the disk that has to hold them.
	maxCarry = 8
)

// Spool is an open spool. Its methods may be called concurrently, but those on
// one job by one goroutine at a time.
type Spool struct {
	fsys     durable.FS
	dir      string
	keys     Keys
	fileSize int64

	// mu is held for reading while an entry goes into the active file, so that
	// whoever holds it for writing may exchange that file.
	mu     sync.RWMutex
	active *durable.Journal
	number uint64

	jobsMu sync.Mutex
	jobs   map[ID]*Job    // unfinished
	live   map[uint64]int // unfinished jobs, and those under way, by their file
	files  []uint64       // that exist, ascending; the last is active
}

// Open opens the spool in dir and returns its unfinished jobs, oldest first.
func Open(fsys durable.FS, dir string, keys Keys) (*Spool, []*Job, error) {
	if err := durable.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("couldn't make the spool: %w", err)
	}
	s := &Spool{fsys: fsys, dir: dir, keys: keys, fileSize: fileSize, jobs: map[ID]*Job{}, live: map[uint64]int{}}
	var err error
	if s.files, err = s.list(); err != nil {
		return nil, nil, err
	}
	if len(s.files) == 0 {
		s.files = []uint64{1}
	}
	jobs := s.jobs
	var order []*Job
	for i, n := range s.files {
		j, err := durable.OpenJournal(fsys, s.name(n), func(_ int64, rec []byte) error {
			job, err := s.replay(jobs, n, rec)
			if job != nil {
				order = append(order, job)
			}
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		if i < len(s.files)-1 {
			if err := j.Close(); err != nil {
				return nil, nil, err
			}
			continue
		}
		s.active, s.number = j, n
	}
	order = slices.DeleteFunc(order, func(j *Job) bool { return jobs[j.ID] != j })
	for _, j := range order {
		s.live[j.file]++
	}
	return s, order, s.tidy()
}

func (s *Spool) name(n uint64) string { return filepath.Join(s.dir, fmt.Sprintf("%08d.jobs", n)) }

func (s *Spool) list() ([]uint64, error) {
	entries, err := s.fsys.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("couldn't list the spool: %w", err)
	}
	var ns []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".jobs")
		if n, err := strconv.ParseUint(name, 10, 64); ok && err == nil {
			ns = append(ns, n)
		}
	}
	slices.Sort(ns)
	return ns, nil
}

// entry encodes 0x01 ‖ op ‖ id ‖ uint16 month ‖ sealed payload.
func (s *Spool) entry(op byte, id ID, month uint16, payload []byte) ([]byte, error) {
	head := make([]byte, 0, headSize+seal.Overhead+len(payload))
	head = append(append(head, version, op), id[:]...)
	head = binary.BigEndian.AppendUint16(head, month)
	if payload == nil {
		return head, nil
	}
	key, err := s.keys.ReceiptKey(month)
	if err != nil {
		return nil, err
	}
	return append(head, seal.Seal(key, append([]byte(label), head...), payload)...), nil
}

// ErrMalformed says that a journal holds what no spool wrote.
var ErrMalformed = errors.New("spool: malformed entry")

// replay applies one entry; it returns the job that the entry begins.
func (s *Spool) replay(jobs map[ID]*Job, file uint64, rec []byte) (*Job, error) {
	if len(rec) < headSize || rec[0] != version {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(rec))
	}
	head := rec[:headSize:headSize]
	id, month := ID(rec[2:18]), binary.BigEndian.Uint16(rec[18:])
	if rec[1] == opDone {
		delete(jobs, id)
		return nil, nil
	}
	key, err := s.keys.ReceiptKey(month)
	if err != nil {
		return nil, err
	}
	payload, err := seal.Open(key, append([]byte(label), head...), rec[headSize:])
	if err != nil {
		return nil, err
	}
	switch rec[1] {
	case opJob:
		j := &Job{ID: id, Month: month, Body: payload, Notes: map[string]json.RawMessage{}, file: file}
		jobs[id] = j
		return j, nil
	case opCarry:
		var c carried
		if err := json.Unmarshal(payload, &c); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if c.Notes == nil {
			c.Notes = map[string]json.RawMessage{}
		}
		j := &Job{ID: id, Month: month, Body: c.Body, Notes: c.Notes, file: file}
		jobs[id] = j
		return j, nil
	case opNote:
		var n note
		if err := json.Unmarshal(payload, &n); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if j := jobs[id]; j != nil {
			j.Notes[n.Name] = n.Value
		}
		return nil, nil
	}
	return nil, fmt.Errorf("%w: operation %d", ErrMalformed, rec[1])
}

type note struct {
	Name  string          `json:"n"`
	Value json.RawMessage `json:"v"`
}

type carried struct {
	Body  json.RawMessage            `json:"b"`
	Notes map[string]json.RawMessage `json:"n"`
}

// Add makes a job durable. body is encoded in JSON.
func (s *Spool) Add(id ID, month uint16, body any) (*Job, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	e, err := s.entry(opJob, id, month, b)
	if err != nil {
		return nil, err
	}
	if err := s.rotate(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	// Counted before it is written: a file with a job under way is never deleted.
	s.jobsMu.Lock()
	s.live[s.number]++
	s.jobsMu.Unlock()
	if _, err := s.active.Append(e); err != nil {
		s.finished(s.number)
		return nil, fmt.Errorf("couldn't spool a message: %w", err)
	}
	j := &Job{ID: id, Month: month, Body: b, Notes: map[string]json.RawMessage{}, file: s.number}
	s.jobsMu.Lock()
	s.jobs[id] = j
	s.jobsMu.Unlock()
	return j, nil
}

// Note makes a decision about a job durable, and remembers it in the job.
func (s *Spool) Note(j *Job, name string, value any) error {
	v, err := json.Marshal(value)
	if err != nil {
		return err
	}
	b, err := json.Marshal(note{name, v})
	if err != nil {
		return err
	}
	e, err := s.entry(opNote, j.ID, j.Month, b)
	if err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, err := s.active.Append(e); err != nil {
		return fmt.Errorf("couldn't note %q of a message: %w", name, err)
	}
	j.Notes[name] = v
	return nil
}

// Noted decodes a job's note into value and reports whether there is one.
func (j *Job) Noted(name string, value any) (bool, error) {
	v, ok := j.Notes[name]
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(v, value); err != nil {
		return false, fmt.Errorf("%w: note %q: %w", ErrMalformed, name, err)
	}
	return true, nil
}

// Done forgets jobs. Should the entries be lost in a crash, the jobs are run
// again, which changes nothing.
func (s *Spool) Done(jobs ...*Job) error {
	entries := make([][]byte, len(jobs))
	for i, j := range jobs {
		var err error
		if entries[i], err = s.entry(opDone, j.ID, j.Month, nil); err != nil {
			return err
		}
	}
	// Until the jobs are forgotten here, too: one that is finished must not be
	// carried over behind the entry that says so.
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, err := s.active.Append(entries...); err != nil {
		return fmt.Errorf("couldn't finish messages: %w", err)
	}
	for _, j := range jobs {
		s.jobsMu.Lock()
		delete(s.jobs, j.ID)
		s.jobsMu.Unlock()
		s.finished(j.file)
	}
	return nil
}

func (s *Spool) finished(file uint64) {
	s.jobsMu.Lock()
	defer s.jobsMu.Unlock()
	if s.live[file]--; s.live[file] == 0 {
		delete(s.live, file)
	}
}

// Waiting is the number of unfinished jobs.
func (s *Spool) Waiting() int {
	s.jobsMu.Lock()
	defer s.jobsMu.Unlock()
	n := 0
	for _, c := range s.live {
		n += c
	}
	return n
}

// rotate begins a new file when the active one is full, and deletes old ones.
func (s *Spool) rotate() error {
	s.mu.RLock()
	full := s.active.Size() >= s.fileSize
	s.mu.RUnlock()
	if !full {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active.Size() < s.fileSize {
		return nil
	}
	j, err := durable.OpenJournal(s.fsys, s.name(s.number+1), nil)
	if err != nil {
		return err
	}
	if err := s.active.Close(); err != nil {
		return errors.Join(err, j.Close())
	}
	s.active, s.number = j, s.number+1
	s.jobsMu.Lock()
	s.files = append(s.files, s.number)
	s.jobsMu.Unlock()
	if err := s.carry(); err != nil {
		return err
	}
	return s.tidy()
}

// carry writes the jobs of the oldest files into the active one, as they are now:
// one entry for each, so that a crash leaves either its old entries or the new
// one in force. The caller holds mu, so that no entry about them comes between.
func (s *Spool) carry() error {
	var old []*Job
	s.jobsMu.Lock()
	for _, j := range s.jobs {
		if j.file+keepFiles <= s.number {
			old = append(old, j)
		}
	}
	s.jobsMu.Unlock()
	slices.SortFunc(old, func(a, b *Job) int {
		return cmp.Or(cmp.Compare(a.file, b.file), bytes.Compare(a.ID[:], b.ID[:]))
	})
	var entries [][]byte
	size := 0
	for i, j := range old {
		b, err := json.Marshal(carried{j.Body, j.Notes})
		if err != nil {
			return err
		}
		e, err := s.entry(opCarry, j.ID, j.Month, b)
		if err != nil {
			return err
		}
		if size += len(e); int64(size) > s.fileSize/maxCarry && i > 0 {
			old = old[:i]
			break
		}
		entries = append(entries, e)
	}
	if _, err := s.active.Append(entries...); err != nil {
		return fmt.Errorf("couldn't carry old messages over: %w", err)
	}
	s.jobsMu.Lock()
	defer s.jobsMu.Unlock()
	for _, j := range old {
		if s.live[j.file]--; s.live[j.file] == 0 {
			delete(s.live, j.file)
		}
		j.file = s.number
		s.live[j.file]++
	}
	return nil
}

// tidy deletes, oldest first, the files before the first that an unfinished job
// began in. Later files may hold notes of its jobs, never of older ones' alone.
func (s *Spool) tidy() error {
	s.jobsMu.Lock()
	defer s.jobsMu.Unlock()
	for len(s.files) > 1 && s.live[s.files[0]] == 0 {
		if err := s.fsys.Remove(s.name(s.files[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("couldn't delete a finished spool file: %w", err)
		}
		s.files = s.files[1:]
	}
	return nil
}

// Close closes the files. Unfinished jobs come back with the next Open.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active.Close()
}
