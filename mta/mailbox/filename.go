package mailbox

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// fileName is "<seconds>.<unique>.<host>,S=<size>,W=<size>". W is the size with
// CRLF line ends, which is the size on disk: messages are kept as issued.
func fileName(at time.Time, unique, host string, size int64) string {
	return fmt.Sprintf("%d.%s.%s,S=%d,W=%d", at.Unix(), unique, host, size, size)
}

// uniqueOf returns the unique part of a name that fileName made. Dovecot's own
// files in tmp/ have no size yet and are not taken for ours.
func uniqueOf(file string) (unique string, ok bool) {
	stem, sizes, ok := strings.Cut(file, ",S=")
	if !ok || !strings.Contains(sizes, ",W=") {
		return "", false
	}
	_, rest, ok := strings.Cut(stem, ".")
	if !ok {
		return "", false
	}
	unique, _, ok = strings.Cut(rest, ".")
	return unique, ok && validName(unique)
}

// sizeOf returns the size that a file name states, with or without flags.
func sizeOf(file string) (size int64, ok bool) {
	_, rest, ok := strings.Cut(file, ",S=")
	if !ok {
		return 0, false
	}
	end := strings.IndexAny(rest, ",:")
	if end < 0 {
		end = len(rest)
	}
	size, err := strconv.ParseInt(rest[:end], 10, 64)
	return size, err == nil && size >= 0
}

// validName tells whether s can be the unique part of a file name.
func validName(s string) bool {
	if s == "" || len(s) > 100 {
		return false
	}
	for i := range len(s) {
		if !alphanumeric(s[i]) && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return true
}
