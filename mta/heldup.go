package mta

import (
	"errors"

	"scripta/mta/mailbox"
)

// heldUp is the error of what waits for one mailbox alone: everything else of its
// job goes on, and the job is run again for it.
type heldUp struct{ err error }

// Error gives the cause.
func (h *heldUp) Error() string { return h.err.Error() }

// Unwrap gives the cause.
func (h *heldUp) Unwrap() error { return h.err }

// waits collects what is held up.
type waits []error

// keep keeps an error by which nothing but mailboxes are held up, and returns any
// other.
func (w *waits) keep(err error) error {
	var h *heldUp
	if errors.As(err, &h) {
		*w = append(*w, err)
		return nil
	}
	return err
}

// err is everything that is held up, or nil.
func (w waits) err() error {
	if len(w) == 0 {
		return nil
	}
	return &heldUp{errors.Join(w...)}
}

// ofOneMailbox tells of an error that keeps the files of one mailbox from being
// written, and of no other.
func ofOneMailbox(err error) bool {
	var f *mailbox.FileError
	return errors.As(err, &f) && f.Alone()
}
