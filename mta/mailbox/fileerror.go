package mailbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
)

// FileError is an error of the files of one mailbox; errors.Is tells which. What a
// Delivery's Write fails with is none.
type FileError struct {
	Mailbox string
	Err     error
}

// Error gives the cause.
func (e *FileError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *FileError) Unwrap() error { return e.Err }

// Alone tells whether the error is one by which the disk, or somebody's hand, keeps
// this mailbox from being read or written and says nothing of others. No space, no
// descriptors and a disk that became read-only befall all.
func (e *FileError) Alone() bool {
	return slices.ContainsFunc([]error{syscall.EIO, syscall.EUCLEAN, syscall.ESTALE, syscall.EACCES, syscall.EPERM,
		syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP}, func(cause error) bool { return errors.Is(e.Err, cause) })
}

// cleaned makes sure that what a crash left in a mailbox's tmp/ was looked at, which
// CleanTmp may have been kept from: before that, the absence of a file there proves
// nothing.
func (s *Store) cleaned(mailbox string) error {
	mailbox = lower(mailbox)
	keepOf := func() func(mailbox, name string) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.unclean[mailbox]
	}
	if keepOf() == nil {
		return nil
	}
	// One at a time: nobody cleans a tmp/ into which another, for whom it was
	// clean, has begun to write.
	s.cleaning.Lock()
	defer s.cleaning.Unlock()
	keep := keepOf()
	if keep == nil {
		return nil
	}
	dir, err := s.Path(mailbox)
	if err == nil {
		err = s.clean(filepath.Join(dir, "tmp"), mailbox, keep)
	}
	if err != nil {
		return &FileError{mailbox, fmt.Errorf("what a crash left cannot be looked at: %w", err)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unclean, mailbox)
	return nil
}
