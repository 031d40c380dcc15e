package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked is wrapped by what is returned by Lock when another process, or another Lock of this
// one, holds the file.
var ErrLocked = errors.New("locked by another process")

// Lock takes the file name, created with mode 0600 if absent, for this process
// (flock(2), exclusive, without waiting). The kernel lets go of it when the
// process ends, however it ends; unlock does so earlier. The file stays: to
// remove it would let two processes lock two files of one name. It holds the
// process's PID, for people: see [Holder].
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
	// Only the lock counts. A full disk may leave the file without the PID.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return func() {
		_ = f.Truncate(0)
		_ = f.Close()
	}, nil
}

// Holder returns the PID of the process that locked the file name, for a message
// to people: 0 if the file does not tell, or that process has ended.
func Holder(name string) int {
	f, err := os.Open(name)
	if err != nil {
		return 0
	}
	defer f.Close()
	var text [24]byte
	n, _ := io.ReadFull(f, text[:])
	pid, err := strconv.Atoi(strings.TrimSuffix(string(text[:n]), "\n"))
	if err != nil || pid < 1 || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return 0
	}
	return pid
}
