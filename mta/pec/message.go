package pec

import (
	"errors"
	"fmt"
	"io"
)

// Message is an issued message: Prefix, then the bytes of the included original if there is one, then Suffix. Without an
// included original Prefix is the whole message and Suffix is nil.
type Message struct {
	Kind      Kind
	MessageID string // with angle brackets

	Prefix   []byte
	Original *Enclosed // nil when no original is included
	Suffix   []byte

	Size    int64    // octets of the whole message
	Digest  [32]byte // SHA-256 of the whole message
	Content [32]byte // SHA-256 of its signed entity
}

// Enclosed describes the original inside an issued message.
type Enclosed struct {
	Size     int64    // octets, as they travel
	Encoding Encoding // EightBit and Binary tell that the next hop needs 8BITMIME or BINARYMIME
}

// ErrIncludedSize is returned by a Message's reader when the included original ends before its size.
var ErrIncludedSize = errors.New("pec: included original is shorter than it was when the message was composed")

// Reader returns a reader of the whole message, which is also an io.WriterTo. included holds the same bytes that the
// message was composed with; it is not used when there is no included original.
func (m *Message) Reader(included io.ReaderAt) io.Reader {
	r := &messageReader{prefix: m.Prefix, suffix: m.Suffix, included: included}
	if m.Original != nil {
		r.left = m.Original.Size
	}
	return r
}

// messageReader reads the three pieces in turn.
type messageReader struct {
	prefix, suffix []byte
	included       io.ReaderAt
	at, left       int64 // what is next of included, and how much
}

// Read implements io.Reader.
func (r *messageReader) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case len(r.prefix) > 0:
		n := copy(p, r.prefix)
		r.prefix = r.prefix[n:]
		return n, nil
	case r.left > 0:
		n, err := r.included.ReadAt(p[:min(int64(len(p)), r.left)], r.at)
		r.at += int64(n)
		r.left -= int64(n)
		if err == io.EOF {
			err = nil
			if r.left > 0 {
				err = ErrIncludedSize
			}
		}
		return n, err
	case len(r.suffix) > 0:
		n := copy(p, r.suffix)
		r.suffix = r.suffix[n:]
		return n, nil
	}
	return 0, io.EOF
}

// WriteTo implements io.WriterTo.
func (r *messageReader) WriteTo(w io.Writer) (written int64, err error) {
	n, err := w.Write(r.prefix)
	written, r.prefix = int64(n), r.prefix[n:]
	if err != nil {
		return written, err
	}
	if r.left > 0 {
		n, err := copyIncluded(w, r.included, r.at, r.left)
		written, r.at, r.left = written+n, r.at+n, r.left-n
		if err != nil {
			return written, err
		}
	}
	n, err = w.Write(r.suffix)
	r.suffix = r.suffix[n:]
	return written + int64(n), err
}

// copyIncluded writes exactly size octets of included, beginning at off.
func copyIncluded(w io.Writer, included io.ReaderAt, off, size int64) (int64, error) {
	if size == 0 {
		return 0, nil // io.CopyBuffer panics over an empty buffer
	}
	buf := make([]byte, min(size, 64<<10))
	n, err := io.CopyBuffer(onlyWriter{w}, onlyReader{io.NewSectionReader(included, off, size)}, buf)
	if err == nil && n < size {
		err = ErrIncludedSize
	}
	if err != nil && !errors.Is(err, ErrIncludedSize) {
		err = fmt.Errorf("couldn't copy the included original: %w", err)
	}
	return n, err
}

// onlyWriter and onlyReader hide shortcuts that would bypass the buffer or allocate another.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)
