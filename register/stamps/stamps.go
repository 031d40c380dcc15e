// Package stamps keeps the RFC 3161 time stamps over the log's checkpoints.
//
// A stamp covers a checkpoint, and so every record below its size: events are
// anchored within the stamping interval at a cost that does not grow with
// traffic. Of each stamp three files are kept, all that evidence needs: the
// checkpoint's text as stamped (SIZE.txt), the request (SIZE.tsq) and the whole
// reply (SIZE.tsr). A token counts only after every check of tsa.Verify. The
// SHA-256 of the reply is kept, too (SIZE.sum): not every bit of it is signed.
package stamps

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/durable"
	"scripta/merkle/checkpoint"
	"scripta/tsa"
)

// Stamp is one stamped checkpoint.
type Stamp struct {
	Signed *checkpoint.Signed
	Reply  []byte // TimeStampResp, DER
	Token  *tsa.Token
}

// ErrNotFound says that no stamp is kept for a size.
var ErrNotFound = errors.New("stamps: no time stamp for this size")

// errChanged says that a reply is not the one that was kept.
var errChanged = errors.New("the reply, or its sum, is not what was kept")

// Store keeps stamps in a folder. Its methods may be called concurrently.
type Store struct {
	fsys     durable.FS
	dir      string
	verifier note.Verifier
	roots    *x509.CertPool

	mu    sync.RWMutex // guards sizes
	sizes []uint64     // ascending
}

// Open opens the store in dir.
func Open(fsys durable.FS, dir string, log note.Verifier, roots *x509.CertPool) (*Store, error) {
	if err := durable.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the folder of time stamps: %w", err)
	}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("couldn't list the time stamps: %w", err)
	}
	s := &Store{fsys: fsys, dir: dir, verifier: log, roots: roots}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".tsr")
		if n, err := strconv.ParseUint(name, 10, 64); ok && err == nil {
			s.sizes = append(s.sizes, n)
		}
	}
	slices.Sort(s.sizes)
	return s, nil
}

func (s *Store) name(size uint64, ext string) string {
	return filepath.Join(s.dir, strconv.FormatUint(size, 10)+"."+ext)
}

// Verify checks a reply over a checkpoint, without keeping it.
func (s *Store) Verify(cp *checkpoint.Signed, reply []byte, c tsa.Check) (*Stamp, error) {
	c.Digest, c.Roots = sha256.Sum256(cp.Stamped()), s.roots
	tok, err := tsa.Verify(reply, c)
	if err != nil {
		return nil, err
	}
	return &Stamp{Signed: cp, Reply: reply, Token: tok}, nil
}

// Put keeps a verified stamp and what was asked for. The reply is written last:
// a stamp whose .tsr is there is whole.
func (s *Store) Put(st *Stamp, request []byte) error {
	size, sum := st.Signed.Size, sha256.Sum256(st.Reply)
	for _, f := range []struct {
		ext  string
		data []byte
	}{{"txt", st.Signed.Stamped()}, {"tsq", request}, {"sum", fmt.Appendf(nil, "%x\n", sum)}, {"tsr", st.Reply}} {
		if err := durable.WriteFile(s.fsys, s.name(size, f.ext), f.data, 0o600); err != nil {
			return fmt.Errorf("couldn't keep the time stamp: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, found := slices.BinarySearch(s.sizes, size); !found {
		s.sizes = slices.Insert(s.sizes, i, size)
	}
	return nil
}

// Get returns the stamp of the checkpoint of a size, verified again, or
// [ErrNotFound].
func (s *Store) Get(size uint64) (*Stamp, error) {
	text, err := s.read(size, "txt")
	if err != nil {
		return nil, err
	}
	cp, err := checkpoint.Open(text, s.verifier)
	if err != nil {
		return nil, fmt.Errorf("kept time stamp of size %d: %w", size, err)
	}
	reply, err := s.read(size, "tsr")
	if err != nil {
		return nil, err
	}
	// Stamps of before there were sums have none.
	if sum, err := s.read(size, "sum"); err == nil && string(sum) != fmt.Sprintf("%x\n", sha256.Sum256(reply)) {
		return nil, fmt.Errorf("kept time stamp of size %d: %w", size, errChanged)
	} else if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	st, err := s.Verify(cp, reply, tsa.Check{})
	if err != nil {
		return nil, fmt.Errorf("kept time stamp of size %d: %w", size, err)
	}
	return st, nil
}

// Reply returns the kept reply of a size as it came, or [ErrNotFound].
func (s *Store) Reply(size uint64) ([]byte, error) { return s.read(size, "tsr") }

// Request returns what was asked for the stamp of a size, or [ErrNotFound].
func (s *Store) Request(size uint64) ([]byte, error) { return s.read(size, "tsq") }

// Text returns the checkpoint that the stamp of a size covers, or [ErrNotFound].
func (s *Store) Text(size uint64) ([]byte, error) { return s.read(size, "txt") }

func (s *Store) read(size uint64, ext string) ([]byte, error) {
	f, err := s.fsys.OpenFile(s.name(size, ext), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %d", ErrNotFound, size)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, tsa.MaxReply+1))
}

// Covering returns the size of the first stamped checkpoint that covers a leaf.
func (s *Store) Covering(leaf uint64) (size uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, found := slices.BinarySearch(s.sizes, leaf)
	if found {
		i++ // a checkpoint of size n covers the leaves below n
	}
	if i == len(s.sizes) {
		return 0, false
	}
	return s.sizes[i], true
}

// Before returns the size of the last stamped checkpoint that does not cover a
// leaf.
func (s *Store) Before(leaf uint64) (size uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, found := slices.BinarySearch(s.sizes, leaf)
	if !found {
		i--
	}
	if i < 0 {
		return 0, false
	}
	return s.sizes[i], true
}

// Last returns the size of the newest stamped checkpoint.
func (s *Store) Last() (size uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.sizes) == 0 {
		return 0, false
	}
	return s.sizes[len(s.sizes)-1], true
}

// Between returns the sizes of the stamped checkpoints above from, up to to.
func (s *Store) Between(from, to uint64) []uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, _ := slices.BinarySearch(s.sizes, from+1)
	j, _ := slices.BinarySearch(s.sizes, to+1)
	return slices.Clone(s.sizes[i:j])
}

// Name is the file of the stamp of a size.
func (s *Store) Name(size uint64) string { return s.name(size, "tsr") }
