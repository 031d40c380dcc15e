package mailbox

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxSizeFile is the size in bytes from which a maildirsize is recalculated
// (Maildir++: 5120).
const maxSizeFile = 5120

var errSizeFile = errors.New("malformed maildirsize")

// sizeFile is what a maildirsize says.
type sizeFile struct {
	limit      int64 // bytes; 0 for none
	limitCount int64 // messages; 0 for none
	bytes      int64 // used
	count      int64 // messages
	lines      int   // of changes
}

// parseSizeFile reads a maildirsize: a line of limits such as "1000000S,1000C",
// either part of which may be absent, then lines "<bytes> <messages>", which are
// added up and may be negative and padded with spaces. With errSizeFile it
// returns the limits if they could be read.
func parseSizeFile(b []byte) (sizeFile, error) {
	head, rest, ok := strings.Cut(string(b), "\n")
	if !ok {
		return sizeFile{}, errSizeFile
	}
	z, err := parseLimits(strings.TrimSpace(head))
	if err != nil {
		return sizeFile{}, err
	}
	limits := z
	if len(b) >= maxSizeFile || rest != "" && !strings.HasSuffix(rest, "\n") {
		return limits, errSizeFile
	}
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			return limits, errSizeFile
		}
		size, err1 := strconv.ParseInt(fields[0], 10, 64)
		count, err2 := strconv.ParseInt(fields[1], 10, 64)
		if err1 != nil || err2 != nil {
			return limits, errSizeFile
		}
		z.bytes, z.count, z.lines = z.bytes+size, z.count+count, z.lines+1
	}
	if z.bytes < 0 || z.count < 0 {
		return limits, errSizeFile
	}
	return z, nil
}

func parseLimits(s string) (z sizeFile, err error) {
	for part := range strings.SplitSeq(s, ",") {
		number, isBytes := strings.CutSuffix(part, "S")
		if !isBytes {
			var isCount bool
			if number, isCount = strings.CutSuffix(part, "C"); !isCount {
				return z, errSizeFile
			}
		}
		n, err := strconv.ParseInt(number, 10, 64)
		switch {
		case err != nil || n < 0:
			return z, errSizeFile
		case isBytes:
			z.limit = n
		default:
			z.limitCount = n
		}
	}
	return z, nil
}

// text is the file as recalculated: the limits and one line, as Dovecot writes
// them.
func (z sizeFile) text() []byte {
	var limits []string
	if z.limit > 0 {
		limits = append(limits, fmt.Sprintf("%dS", z.limit))
	}
	if z.limitCount > 0 {
		limits = append(limits, fmt.Sprintf("%dC", z.limitCount))
	}
	return fmt.Appendf(nil, "%s\n%d %d\n", strings.Join(limits, ","), z.bytes, z.count)
}

func (z sizeFile) unlimited() bool { return z.limit == 0 && z.limitCount == 0 }

// full tells whether a message of size bytes would be too much.
func (z sizeFile) full(size int64) bool {
	return z.limit > 0 && size > z.limit-z.bytes || z.limitCount > 0 && z.count >= z.limitCount
}
