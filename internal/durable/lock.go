package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned by Lock when another process, or another Lock of this
// one, holds the file.
var ErrLocked = errors.New("locked by another process")

// Lock takes the file name, created with mode 0600 if absent, for this process
// (flock(2), exclusive, without waiting). The kernel lets go of it when the
// process ends, however it ends; unlock does so earlier. The file stays: to
// remove it would let two processes lock two files of one name.
func Lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Clean(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("couldn't lock %s: %w", name, err)
	}
	return func() { _ = f.Close() }, nil
}
