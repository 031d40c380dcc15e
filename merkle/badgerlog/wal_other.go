//go:build !linux

package badgerlog

// adviseWAL is for Linux's file systems.
func adviseWAL(string) {}
