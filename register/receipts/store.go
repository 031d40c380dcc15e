package receipts

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"scripta/internal/durable"
	"scripta/internal/seal"
	"scripta/register/index"
	"scripta/register/record"
)

// Keys gives the key under which receipts and contents of a month are sealed
// (month 0 is the service's).
type Keys interface {
	ReceiptKey(month uint16) (*[32]byte, error)
}

// ErrNotFound says that nothing is stored under an ID.
var ErrNotFound = errors.New("receipts: not stored here")

const (
	// segmentSize is when a new segment is begun, bytes.
	segmentSize = 64 << 20
	issuedLabel = "scripta/receipt/v1"
	frameHead   = 1 + len(record.ID{}) + 2 + 32
)

// Store keeps issued messages. Its methods may be called concurrently.
type Store struct {
	fsys   durable.FS
	dir    string
	origin string
	keys   Keys
	index  *index.DB
	codec  *codec

	// mu is held for reading from a message's append to its entry in recent,
	// so that whoever holds it for writing sees no message between the two.
	mu     sync.RWMutex
	active *durable.Journal            // the segment that is appended to
	number uint32                      // of the active segment
	old    map[uint32]*durable.Journal // finished segments that were read

	recentMu sync.Mutex
	recent   map[[22]byte]index.Location // stored, and not in the index yet
}

// Open opens the store in dir and brings the index up to date. samples are
// synthetic messages of the provider, of which a new store makes its
// compression dictionary.
func Open(fsys durable.FS, dir, origin string, keys Keys, idx *index.DB, samples [][]byte) (*Store, error) {
	if err := durable.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the receipt store: %w", err)
	}
	s := &Store{fsys: fsys, dir: dir, origin: origin, keys: keys, index: idx,
		old: map[uint32]*durable.Journal{}, recent: map[[22]byte]index.Location{}}
	var err error
	if s.codec, err = openCodec(fsys, dir, samples); err != nil {
		return nil, err
	}
	numbers, err := s.segments()
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		numbers = []uint32{1}
	}
	mark := idx.Mark()
	for i, n := range numbers {
		last := i == len(numbers)-1
		if n < mark.Segment && !last {
			continue // finished, and known to the index
		}
		j, err := durable.OpenJournal(fsys, s.segment(n), func(off int64, rec []byte) error {
			id, _, _, _, err := s.splitFrame(rec)
			if err == nil && (n > mark.Segment || off >= mark.Offset) {
				s.recent[id] = index.Location{Segment: n, Offset: off}
				if len(s.recent) >= maxRecent { // of a whole store: not all at once in memory
					err = s.put(index.Location{Segment: n, Offset: off + 1})
				}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if last {
			s.active, s.number = j, n
		} else {
			s.old[n] = j
		}
	}
	return s, s.flush()
}

func (s *Store) segment(n uint32) string { return filepath.Join(s.dir, fmt.Sprintf("%08d.seg", n)) }

func (s *Store) segments() ([]uint32, error) {
	entries, err := s.fsys.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("couldn't list the receipt store: %w", err)
	}
	var ns []uint32
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".seg")
		if n, err := strconv.ParseUint(name, 10, 32); ok && err == nil {
			ns = append(ns, uint32(n))
		}
	}
	slices.Sort(ns)
	return ns, nil
}

// splitFrame splits a stored frame: 0x01 ‖ record id ‖ uint16 month ‖ digest ‖
// sealed bytes.
func (s *Store) splitFrame(rec []byte) (id record.ID, month uint16, digest [32]byte, sealed []byte, err error) {
	if len(rec) < frameHead || rec[0] != issuedVersion {
		return id, 0, digest, nil, fmt.Errorf("%w: frame of %d bytes", ErrMalformed, len(rec))
	}
	copy(id[:], rec[1:])
	month = uint16(rec[23])<<8 | uint16(rec[24])
	copy(digest[:], rec[25:])
	return id, month, digest, rec[frameHead:], nil
}

func (s *Store) additional(id record.ID, digest [32]byte) []byte {
	ad := make([]byte, 0, len(issuedLabel)+len(s.origin)+len(id)+len(digest))
	return append(append(append(append(ad, issuedLabel...), s.origin...), id[:]...), digest[:]...)
}

// Put stores issued messages and returns when they are on the disk. Concurrent
// calls share the sync. A full disk gives syscall.ENOSPC and stores nothing.
func (s *Store) Put(msgs ...*Issued) error {
	frames := make([][]byte, len(msgs))
	for i, m := range msgs {
		key, err := s.keys.ReceiptKey(m.Month)
		if err != nil {
			return err
		}
		b := make([]byte, 0, frameHead)
		b = append(append(b, issuedVersion), m.ID[:]...)
		b = append(append(b, byte(m.Month>>8), byte(m.Month)), m.Digest[:]...)
		frames[i] = append(b, seal.Seal(key, s.additional(m.ID, m.Digest), s.codec.compress(m.encode()))...)
	}
	if err := s.rotate(); err != nil {
		return err
	}
	full, err := s.append(msgs, frames)
	if err != nil {
		return fmt.Errorf("couldn't store an issued message: %w", err)
	}
	if full {
		return s.flush()
	}
	return nil
}

// maxRecent is how many places are kept in memory before they are indexed.
const maxRecent = 1024

func (s *Store) append(msgs []*Issued, frames [][]byte) (full bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	offs, err := s.active.Append(frames...)
	if err != nil {
		return false, err
	}
	s.recentMu.Lock()
	defer s.recentMu.Unlock()
	for i, m := range msgs {
		s.recent[m.ID] = index.Location{Segment: s.number, Offset: offs[i]}
	}
	return len(s.recent) >= maxRecent, nil
}

// rotate begins a new segment when the active one is full.
func (s *Store) rotate() error {
	s.mu.RLock()
	full := s.active.Size() >= segmentSize
	s.mu.RUnlock()
	if !full {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active.Size() < segmentSize {
		return nil
	}
	j, err := durable.OpenJournal(s.fsys, s.segment(s.number+1), nil)
	if err != nil {
		return err
	}
	s.old[s.number] = s.active
	s.active, s.number = j, s.number+1
	return nil
}

// flush moves what is recent into the index, and its mark to the end of what is
// stored. On a full disk it stays in memory, and is found in the segments again
// on opening.
func (s *Store) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(index.Location{Segment: s.number, Offset: s.active.Size()})
}

// put moves what is recent, and stored before mark, into the index. Nobody may be
// storing.
func (s *Store) put(mark index.Location) error {
	s.recentMu.Lock()
	defer s.recentMu.Unlock()
	all := make([]index.Placed, 0, len(s.recent))
	for id, at := range s.recent {
		all = append(all, index.Placed{ID: id, At: at})
	}
	slices.SortFunc(all, func(a, b index.Placed) int {
		return cmp.Or(cmp.Compare(a.At.Segment, b.At.Segment), cmp.Compare(a.At.Offset, b.At.Offset))
	})
	err := s.index.PutLocations(all, mark)
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	} else if err != nil {
		return fmt.Errorf("couldn't index the receipts: %w", err)
	}
	clear(s.recent)
	return nil
}

// Get returns the issued message stored under a record's ID, or [ErrNotFound].
func (s *Store) Get(id record.ID) (*Issued, error) {
	m, sealed, err := s.find(id)
	if err != nil {
		return nil, err
	}
	key, err := s.keys.ReceiptKey(m.Month)
	if err != nil {
		return nil, err
	}
	packed, err := seal.Open(key, s.additional(m.ID, m.Digest), sealed)
	if err != nil {
		return nil, fmt.Errorf("couldn't open stored message %v: %w", id, err)
	}
	plain, err := s.codec.decompress(packed)
	if err != nil {
		return nil, fmt.Errorf("couldn't open stored message %v: %w", id, err)
	}
	return m, m.decode(plain)
}

// find reads the frame of a record's message.
func (s *Store) find(id record.ID) (m *Issued, sealed []byte, err error) {
	s.recentMu.Lock()
	at, ok := s.recent[id]
	s.recentMu.Unlock()
	places := []index.Location{at}
	if !ok {
		if places, err = s.index.Locations(id); err != nil {
			return nil, nil, err
		}
	}
	for _, at := range places {
		j, err := s.journal(at.Segment)
		if err != nil {
			return nil, nil, err
		}
		rec, err := j.ReadAt(at.Offset)
		if err != nil {
			return nil, nil, err
		}
		m = new(Issued)
		if m.ID, m.Month, m.Digest, sealed, err = s.splitFrame(rec); err != nil {
			return nil, nil, err
		}
		if m.ID == id { // another id may have the same token
			return m, sealed, nil
		}
	}
	return nil, nil, fmt.Errorf("%w: %v", ErrNotFound, id)
}

func (s *Store) journal(n uint32) (*durable.Journal, error) {
	s.mu.RLock()
	j := s.old[n]
	if n == s.number {
		j = s.active
	}
	s.mu.RUnlock()
	if j != nil {
		return j, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.old[n]; j != nil {
		return j, nil
	}
	j, err := durable.OpenReadOnly(s.fsys, s.segment(n))
	if err == nil {
		s.old[n] = j
	}
	return j, err
}

// Locations calls visit with the place of every stored message. It reads the
// whole store.
func (s *Store) Locations(visit func(index.Placed)) error {
	if err := s.flush(); err != nil {
		return err
	}
	numbers, err := s.segments()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		j, err := s.journal(n)
		if err != nil {
			return err
		}
		err = j.Scan(func(off int64, rec []byte) error {
			id, _, _, _, err := s.splitFrame(rec)
			if err == nil {
				visit(index.Placed{ID: id, At: index.Location{Segment: n, Offset: off}})
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Close brings the index up to date and closes the files.
func (s *Store) Close() error {
	err := s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.old {
		err = errors.Join(err, j.Close())
	}
	return errors.Join(err, s.active.Close())
}
