//go:build !linux

package badgerlog

// freeSpace is not known here.
func freeSpace(string) (uint64, bool) { return 0, false }
