package pec

import (
	"errors"
	"fmt"
	"io"
	"sort"
)

// Edit replaces Delete octets at Offset of a message by Insert.
type Edit struct {
	Offset, Delete int64
	Insert         []byte
}

// ErrEdits is returned for edits that are out of order, overlap, or reach outside of the message.
var ErrEdits = errors.New("pec: edits do not fit the message")

// Patch returns the edits that make the original the postacert.eml of its envelope (RFC 6109 section 2.2.1): its
// Message-ID gives way to the envelope's, and X-Riferimento-Message-ID with the old one is appended to its header. An
// original without Message-ID gets the envelope's at the end of its header and no X-Riferimento-Message-ID. Further
// Message-ID fields and an X-Riferimento-Message-ID that the sender had put there are removed: they would speak in the
// provider's name.
//
// The edits are in the original's coordinates, ascending and not overlapping.
func (o *Original) Patch(envelopeID string) []Edit {
	var edits []Edit
	own := appendField(nil, "Message-ID", envelopeID)
	h := &o.Header
	cutEnd := false // the last field, and so the last line break, of the header is edited away
	for i, f := range h.fields {
		e := Edit{Offset: int64(f.start), Delete: int64(f.end - f.start)}
		switch {
		case h.is(i, "Message-ID"):
			e.Insert, own = own, nil
		case h.is(i, "X-Riferimento-Message-ID"):
		default:
			continue
		}
		edits = append(edits, e)
		cutEnd = f.end == len(h.raw)
	}

	var tail []byte
	if n := len(h.raw); n > 0 && h.raw[n-1] != '\n' && !cutEnd {
		tail = append(tail, "\r\n"...) // a header that the end of the message cut short
	}
	tail = append(tail, own...)
	if o.MessageID != "" {
		tail = appendField(tail, "X-Riferimento-Message-ID", o.MessageID)
	}
	if o.ended == lineWithoutName {
		tail = append(tail, "\r\n"...) // what follows is body for everyone from now on
	}
	if len(tail) > 0 {
		edits = append(edits, Edit{Offset: o.HeaderLen, Insert: tail})
	}
	return edits
}

// Included returns postacert.eml: the original, whose bytes original holds, patched for its envelope.
func (o *Original) Included(original io.ReaderAt, envelopeID string) (Included, error) {
	return Included{Bytes: original, Size: o.Size, Encoding: o.encoding}.Edited(o.Patch(envelopeID))
}

// Whole returns the message as it came, to be included in an anomaly envelope.
func (o *Original) Whole(message io.ReaderAt) Included {
	return Included{Bytes: message, Size: o.Size, Encoding: o.encoding}
}

// Edited returns the original with the edits applied.
func (i Included) Edited(edits []Edit) (Included, error) {
	p, err := NewPatched(i.Bytes, i.Size, edits)
	if err != nil {
		return Included{}, err
	}
	return Included{Bytes: p, Size: p.Size(), Encoding: i.Encoding}, nil
}

// Patched is a message with edits, read without being made. It is safe for concurrent use when the message is.
type Patched struct {
	original io.ReaderAt
	pieces   []piece
	size     int64
}

// piece is a run of octets of a Patched: those of insert, or those of the original from offset on.
type piece struct {
	at, size int64
	insert   []byte
	offset   int64
}

// NewPatched returns the message of that size with the edits applied.
func NewPatched(original io.ReaderAt, size int64, edits []Edit) (*Patched, error) {
	p := &Patched{original: original}
	next := int64(0) // of the original
	for _, e := range edits {
		if e.Offset < next || e.Delete < 0 || e.Delete > size-e.Offset || e.Offset > size {
			return nil, fmt.Errorf("%w: at offset %d", ErrEdits, e.Offset)
		}
		p.add(piece{size: e.Offset - next, offset: next})
		p.add(piece{size: int64(len(e.Insert)), insert: e.Insert})
		next = e.Offset + e.Delete
	}
	p.add(piece{size: size - next, offset: next})
	return p, nil
}

func (p *Patched) add(next piece) {
	if next.size > 0 {
		next.at = p.size
		p.pieces = append(p.pieces, next)
		p.size += next.size
	}
}

// Size returns the octets of the patched message.
func (p *Patched) Size() int64 { return p.size }

// ReadAt implements io.ReaderAt.
func (p *Patched) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("pec: negative offset")
	}
	first := sort.Search(len(p.pieces), func(i int) bool { return p.pieces[i].at+p.pieces[i].size > off })
	for _, piece := range p.pieces[first:] {
		if n == len(b) {
			return n, nil
		}
		skip := off + int64(n) - piece.at
		want := b[n:min(int64(len(b)), int64(n)+piece.size-skip)]
		if piece.insert != nil {
			n += copy(want, piece.insert[skip:])
			continue
		}
		got, err := p.original.ReadAt(want, piece.offset+skip)
		n += got
		if got < len(want) {
			if err == nil || err == io.EOF {
				err = ErrIncludedSize
			}
			return n, err
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
