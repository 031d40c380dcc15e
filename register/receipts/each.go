package receipts

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/register/record"
)

// Frame is one stored message as it lies on the disk, sealed.
type Frame struct {
	File   string
	Offset int64
	Size   int64 // bytes on the disk
	ID     record.ID
	Digest [32]byte
}

// Each calls visit with every stored frame from a place on (that of a Frame; the
// zero one is the beginning), in the order of storing, until that returns an error,
// which Each returns. It reads the files themselves, and not the index. What is
// not intact goes to damaged; the file is then passed over from there on, because
// nothing tells where its next frame begins.
func (s *Store) Each(from Frame, visit func(f Frame) error, damaged func(file string, offset int64, err error)) error {
	numbers, err := s.segments()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		off := int64(0)
		switch name := s.segment(n); {
		case name < from.File:
			continue
		case name == from.File:
			off = from.Offset
		}
		if err := s.eachOf(n, off, visit, damaged); err != nil {
			return err
		}
	}
	return nil
}

// Newest returns the last n frames of the newest file, or fewer if it has not got
// so many, the oldest first.
func (s *Store) Newest(n int) ([]Frame, error) {
	s.mu.RLock()
	name := s.segment(s.number)
	s.mu.RUnlock()
	var last []Frame
	var damage error
	err := s.Each(Frame{File: name}, func(f Frame) error {
		if last = append(last, f); len(last) >= 2*n {
			last = append(last[:0], last[len(last)-n:]...)
		}
		return nil
	}, func(file string, offset int64, err error) {
		damage = fmt.Errorf("%s at %d: %w", file, offset, err)
	})
	return last[max(0, len(last)-n):], errors.Join(err, damage)
}

func (s *Store) eachOf(n uint32, off int64, visit func(Frame) error, damaged func(string, int64, error)) error {
	s.mu.RLock()
	j, active := s.active, n == s.number
	s.mu.RUnlock()
	name := s.segment(n)
	if !active {
		var err error
		if j, err = durable.OpenReadOnly(s.fsys, name); err != nil {
			return err
		}
		defer j.Close()
	}
	for end := j.Size(); off < end; {
		rec, err := j.ReadAt(off)
		f := Frame{File: name, Offset: off}
		if err == nil {
			f.Size = durable.Overhead + int64(len(rec))
			f.ID, _, f.Digest, _, err = s.splitFrame(rec)
		}
		if err != nil {
			damaged(name, off, err)
			return nil
		}
		if err := visit(f); err != nil {
			return err
		}
		off += f.Size
	}
	return nil
}

// Each calls visit with every transaction whose content is kept, by month, until
// that returns an error, which Each returns. What does not belong into the store
// goes to stranger.
func (c *ContentStore) Each(visit func(transaction [16]byte, month uint16) error, stranger func(file string)) error {
	months, err := c.fsys.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("couldn't list the contents: %w", err)
	}
	for _, m := range months {
		dir := filepath.Join(c.dir, m.Name())
		month, err := keys.ParseMonth(m.Name())
		if err != nil {
			if dir != c.incoming() {
				stranger(dir)
			}
			continue
		}
		files, err := c.fsys.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("couldn't list the contents: %w", err)
		}
		for _, f := range files {
			id, err := hex.DecodeString(f.Name())
			if err != nil || len(id) != 16 {
				stranger(filepath.Join(dir, f.Name()))
				continue
			}
			if err := visit([16]byte(id), uint16(month)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Name is the file of a transaction's content.
func (c *ContentStore) Name(transaction [16]byte, month uint16) string {
	return c.name(transaction, month)
}
