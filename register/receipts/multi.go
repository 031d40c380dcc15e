package receipts

import (
	"bytes"
	"fmt"
	"io"
)

// Part is Size bytes of R, from Offset on.
type Part struct {
	R      io.ReaderAt
	Offset int64
	Size   int64
}

func bytesPart(b []byte) Part { return Part{R: bytes.NewReader(b), Size: int64(len(b))} }

// Multi reads parts as one, at any offset. It is as safe for concurrent use as
// its parts.
type Multi struct {
	parts []Part
	size  int64
}

// NewMulti joins parts.
func NewMulti(parts ...Part) *Multi {
	m := &Multi{}
	for _, p := range parts {
		if p.Size > 0 {
			m.parts = append(m.parts, p)
			m.size += p.Size
		}
	}
	return m
}

// Size is the sum of the parts'.
func (m *Multi) Size() int64 { return m.size }

// ReadAt implements [io.ReaderAt].
func (m *Multi) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("receipts: negative offset %d", off)
	}
	for _, p := range m.parts {
		if off >= p.Size {
			off -= p.Size
			continue
		}
		for n < len(b) && off < p.Size {
			want := min(int64(len(b)-n), p.Size-off)
			c, err := p.R.ReadAt(b[n:n+int(want)], p.Offset+off)
			n, off = n+c, off+int64(c)
			if int64(c) < want {
				if err == nil || err == io.EOF {
					err = io.ErrUnexpectedEOF // the part is shorter than it was said to be
				}
				return n, err
			}
		}
		if n == len(b) {
			return n, nil
		}
		off = 0
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteTo writes everything to w.
func (m *Multi) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, io.NewSectionReader(m, 0, m.size))
}

// edited applies edits to a source of the given size.
func edited(src io.ReaderAt, size int64, edits []Edit) (*Multi, error) {
	var (
		parts []Part
		at    int64
	)
	for _, e := range edits {
		if e.Offset < at || e.Delete < 0 || e.Offset > size || e.Delete > size-e.Offset {
			return nil, fmt.Errorf("%w: edit at %d of %d bytes", ErrMalformed, e.Offset, size)
		}
		parts = append(parts, Part{R: src, Offset: at, Size: e.Offset - at}, bytesPart(e.Insert))
		at = e.Offset + e.Delete
	}
	return NewMulti(append(parts, Part{R: src, Offset: at, Size: size - at})...), nil
}
