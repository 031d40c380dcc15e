package pec

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
)

// lineBuffer is the size of a lineReader's buffer. A line that does not fit is handed out in fragments.
const lineBuffer = 32 << 10

// lineReader splits a stream into lines of its fixed buffer, hashes every octet on the way, and can hash one region of
// the stream (the signed entity) apart, in large pieces.
type lineReader struct {
	r    io.Reader
	err  error     // what the reader ended with, once it did
	sum  hash.Hash // over every octet read
	size int64     // octets read

	buf        []byte
	start, end int   // buf[start:end] is read and not yet handed out
	off        int64 // offset in the stream of buf[start]
	line       int   // where in buf the last fragment begins
	midline    bool  // the last fragment did not end its line

	// While region is set, buf[mark:start] is in the region and not yet hashed. At least the last two octets handed
	// out stay in buf, because the line break before a delimiter belongs to the delimiter, not to the region.
	region io.Writer
	mark   int
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: r, sum: sha256.New(), buf: make([]byte, lineBuffer)}
}

// next returns the next line with its line break, or a fragment of a line longer than the buffer; first says whether it
// begins a line. CR and LF of one line break are never split. The slice is valid until the next call. At the end of the
// stream the error is io.EOF.
func (l *lineReader) next() (frag []byte, first bool, err error) {
	scanned := 0
	for {
		if i := bytes.IndexByte(l.buf[l.start+scanned:l.end], '\n'); i >= 0 {
			frag, first = l.take(scanned+i+1, false)
			return frag, first, nil
		}
		scanned = l.end - l.start
		switch {
		case l.err != nil && l.err != io.EOF:
			return nil, false, l.err
		case l.err == io.EOF && scanned == 0:
			return nil, false, io.EOF
		case l.err == io.EOF:
			frag, first = l.take(scanned, true)
			return frag, first, nil
		case l.full():
			n := scanned
			if l.buf[l.end-1] == '\r' {
				n--
			}
			frag, first = l.take(n, true)
			return frag, first, nil
		}
		l.fill()
	}
}

// take hands out the next n octets.
func (l *lineReader) take(n int, midline bool) ([]byte, bool) {
	first := !l.midline
	l.line, l.midline = l.start, midline
	l.start += n
	l.off += int64(n)
	return l.buf[l.line:l.start], first
}

// base is the index of the first octet that must stay in the buffer.
func (l *lineReader) base() int {
	if l.region == nil {
		return l.start
	}
	return max(l.mark, l.start-2)
}

func (l *lineReader) full() bool {
	return l.end == len(l.buf) && l.base() == 0
}

// fill moves what must stay to the front of the buffer and reads once.
func (l *lineReader) fill() {
	base := l.base()
	if l.region != nil {
		l.region.Write(l.buf[l.mark:base])
		l.mark = 0
	}
	if base > 0 {
		copy(l.buf, l.buf[base:l.end])
		l.start -= base
		l.end -= base
	}
	for range 100 {
		n, err := l.r.Read(l.buf[l.end:])
		l.sum.Write(l.buf[l.end : l.end+n])
		l.end += n
		l.size += int64(n)
		l.err = err
		if n > 0 || err != nil {
			return
		}
	}
	l.err = io.ErrNoProgress
}

// beginRegion starts hashing into w with the octet after the last fragment.
func (l *lineReader) beginRegion(w io.Writer) {
	l.region, l.mark = w, l.start
}

// endRegion ends the region drop octets (at most two) before the last fragment.
func (l *lineReader) endRegion(drop int) {
	if end := l.line - drop; end > l.mark {
		l.region.Write(l.buf[l.mark:end])
	}
	l.region = nil
}

// fragmentOffset is the offset in the stream of the last fragment.
func (l *lineReader) fragmentOffset() int64 {
	return l.off - int64(l.start-l.line)
}

// breakLen is the length of the line break that ends frag: 2, 1 (a bare LF) or 0.
func breakLen(frag []byte) int {
	switch n := len(frag); {
	case n >= 2 && frag[n-1] == '\n' && frag[n-2] == '\r':
		return 2
	case n >= 1 && frag[n-1] == '\n':
		return 1
	}
	return 0
}
