package badgerlog

import "golang.org/x/sys/unix"

// freeSpace returns how many bytes are free for us on the file system of dir.
func freeSpace(dir string) (uint64, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false
	}
	return st.Bavail * uint64(st.Bsize), true
}
