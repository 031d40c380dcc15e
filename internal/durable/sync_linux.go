package durable

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// Sync is fdatasync(2): it leaves out the times, which spares ext4 one write of
// its journal for each append that does not change the size.
func (f osFile) Sync() error {
	err := f.control(func(fd uintptr) error {
		for {
			if err := unix.Fdatasync(int(fd)); err != unix.EINTR {
				return err
			}
		}
	})
	if err != nil {
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

// dropCache makes the next read come from the disk. After a failed write-back
// the cache still shows what the disk never got.
func (f osFile) dropCache() error {
	return f.control(func(fd uintptr) error {
		return unix.Fadvise(int(fd), 0, 0, unix.FADV_DONTNEED)
	})
}
