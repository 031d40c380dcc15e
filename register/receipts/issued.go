package receipts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"scripta/register/record"
)

// Issued is a message that the provider made, as it is stored: Prefix ‖ the
// included bytes ‖ Suffix.
type Issued struct {
	ID        record.ID // of the record that tells of its issue
	Month     uint16    // of that record
	MessageID string    // its own, with angle brackets
	Digest    [32]byte  // SHA-256 of the whole message
	Content   [32]byte  // SHA-256 of its signed entity
	Size      int64     // of the whole message, bytes
	Prefix    []byte
	Included  *Included // nil when no other message is included
	Suffix    []byte
}

// Included says which bytes of another message stand between prefix and suffix:
// Length bytes at Offset of the source, after Edits have been applied to it.
type Included struct {
	Source Source
	Offset int64
	Length int64
	Edits  []Edit // in the source's coordinates, ascending; what makes postacert.eml of an original
}

// Source names a message.
type Source struct {
	Issued bool      // an issued message with this ID; else the content of the ID's transaction
	ID     record.ID // its record's ID, or the transaction's with step and ordinal 0
	Month  uint16    // under which a content is kept; 0 for an issued message
}

// Edit replaces Delete bytes at Offset by Insert.
type Edit struct {
	Offset, Delete int64
	Insert         []byte
}

const issuedVersion = 1

// appendBytes appends uint32 length ‖ p.
func appendBytes(b, p []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
}

// encode gives the plaintext that is compressed and sealed: version ‖ message-id
// ‖ content digest ‖ uint64 size ‖ prefix ‖ suffix ‖ included, byte strings with
// their uint32 length in front.
func (m *Issued) encode() []byte {
	b := make([]byte, 0, len(m.Prefix)+len(m.Suffix)+256)
	b = append(b, issuedVersion)
	b = appendBytes(b, []byte(m.MessageID))
	b = append(b, m.Content[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Size))
	b = appendBytes(b, m.Prefix)
	b = appendBytes(b, m.Suffix)
	if m.Included == nil {
		return append(b, 0)
	}
	kind := byte(1)
	if m.Included.Source.Issued {
		kind = 2
	}
	b = append(append(b, kind), m.Included.Source.ID[:]...)
	b = binary.BigEndian.AppendUint16(b, m.Included.Source.Month)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Included.Offset))
	b = binary.BigEndian.AppendUint64(b, uint64(m.Included.Length))
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Included.Edits)))
	for _, e := range m.Included.Edits {
		b = binary.BigEndian.AppendUint64(b, uint64(e.Offset))
		b = binary.BigEndian.AppendUint64(b, uint64(e.Delete))
		b = appendBytes(b, e.Insert)
	}
	return b
}

// ErrMalformed says that stored bytes are not an issued message.
var ErrMalformed = errors.New("receipts: malformed")

// scanner takes values off a byte string; after the first that is not there,
// bad is set and all others are zero.
type scanner struct {
	b   []byte
	bad bool
}

func (s *scanner) take(n uint64) []byte {
	if s.bad || n > uint64(len(s.b)) {
		s.bad = true
		return nil
	}
	v := s.b[:n:n]
	s.b = s.b[n:]
	return v
}

func (s *scanner) byte() byte {
	if v := s.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (s *scanner) uint16() uint16 {
	if v := s.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (s *scanner) uint32() uint32 {
	if v := s.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (s *scanner) int64() int64 {
	if v := s.take(8); v != nil {
		n := int64(binary.BigEndian.Uint64(v))
		s.bad = s.bad || n < 0
		return n
	}
	return 0
}

func (s *scanner) bytes() []byte { return s.take(uint64(s.uint32())) }

func (m *Issued) decode(b []byte) error {
	s := &scanner{b: b}
	version := s.byte()
	m.MessageID = string(s.bytes())
	copy(m.Content[:], s.take(32))
	m.Size = s.int64()
	m.Prefix = s.bytes()
	m.Suffix = s.bytes()
	switch kind := s.byte(); kind {
	case 0:
	case 1, 2:
		in := &Included{Source: Source{Issued: kind == 2}}
		copy(in.Source.ID[:], s.take(uint64(len(in.Source.ID))))
		in.Source.Month = s.uint16()
		in.Offset, in.Length = s.int64(), s.int64()
		for n := s.uint32(); n > 0 && !s.bad; n-- {
			in.Edits = append(in.Edits, Edit{s.int64(), s.int64(), s.bytes()})
		}
		m.Included = in
	default:
		s.bad = true
	}
	if s.bad || len(s.b) > 0 || version != issuedVersion {
		return fmt.Errorf("%w: issued message %v", ErrMalformed, m.ID)
	}
	return nil
}

// Reader reads the whole message; included holds exactly the included bytes and
// may be nil when there are none.
func (m *Issued) Reader(included io.ReaderAt) *Multi {
	if m.Included == nil {
		return NewMulti(bytesPart(m.Prefix), bytesPart(m.Suffix))
	}
	return NewMulti(bytesPart(m.Prefix), Part{R: included, Size: m.Included.Length}, bytesPart(m.Suffix))
}
