package record

import (
	"encoding/binary"
	"fmt"
)

// Field is the number of one of a record's fields.
type Field byte

// The fields of version 1. Recipients, About, Generated and Detail are lists.
const (
	FieldKind Field = 1 + iota
	FieldTime
	FieldMessageID
	FieldOriginalID
	FieldSender
	FieldRecipients
	FieldSubject
	FieldAbout
	FieldGenerated
	FieldProvider
	FieldReceiptType
	FieldOutcome
	FieldDigest
	FieldContent
	FieldSize
	FieldPeer
	FieldActor
	FieldDetail

	// NumFields is how many fields version 1 has, numbered from 1.
	NumFields = 18
)

var fieldNames = [NumFields + 1]string{"", "kind", "time", "message_id", "original_id", "sender", "recipients", "subject", "about",
	"generated", "provider", "receipt_type", "outcome", "digest", "content", "size", "peer", "actor", "detail"}

func (f Field) String() string {
	if f >= 1 && f <= NumFields {
		return fieldNames[f]
	}
	return fmt.Sprintf("field-%d", byte(f))
}

// FieldNamed returns the field with this name, or 0.
func FieldNamed(name string) Field {
	for i, n := range fieldNames {
		if i > 0 && n == name {
			return Field(i)
		}
	}
	return 0
}

// IsList reports whether the field is a list of elements.
func (f Field) IsList() bool {
	switch f {
	case FieldRecipients, FieldAbout, FieldGenerated, FieldDetail:
		return true
	}
	return false
}

// Fields holds the encoded values of all 18 fields of one record.
type Fields struct {
	scalars [NumFields + 1][]byte
	lists   [NumFields + 1][][]byte
}

// Scalar returns the value of a scalar field.
func (f *Fields) Scalar(i Field) []byte { return f.scalars[i] }

// List returns the elements of a list field.
func (f *Fields) List(i Field) [][]byte { return f.lists[i] }

func (f *Fields) setScalar(i Field, v []byte) { f.scalars[i] = v }
func (f *Fields) add(i Field, e []byte)       { f.lists[i] = append(f.lists[i], e) }

// AppendTo appends the encoding of the fields that are not empty, by ascending
// number: i ‖ uint32 length ‖ value for a scalar, i ‖ uint32 m ‖ m × (uint32
// length ‖ element) for a list.
func (f *Fields) AppendTo(b []byte) []byte {
	for i := Field(1); i <= NumFields; i++ {
		if i.IsList() {
			if len(f.lists[i]) == 0 {
				continue
			}
			b = binary.BigEndian.AppendUint32(append(b, byte(i)), uint32(len(f.lists[i])))
			for _, e := range f.lists[i] {
				b = append(binary.BigEndian.AppendUint32(b, uint32(len(e))), e...)
			}
		} else if len(f.scalars[i]) > 0 {
			b = append(binary.BigEndian.AppendUint32(append(b, byte(i)), uint32(len(f.scalars[i]))), f.scalars[i]...)
		}
	}
	return b
}

// Size is the length of the encoding that [Fields.AppendTo] makes, bytes.
func (f *Fields) Size() int {
	n := 0
	for i := Field(1); i <= NumFields; i++ {
		if len(f.lists[i]) > 0 || len(f.scalars[i]) > 0 {
			n += 1 + 4 + len(f.scalars[i])
		}
		for _, e := range f.lists[i] {
			n += 4 + len(e)
		}
	}
	return n
}

// ParseFields decodes what [Fields.AppendTo] made, and nothing else: fields out
// of order, empty ones and trailing bytes are [ErrMalformed]. The result refers
// to b.
func ParseFields(b []byte) (*Fields, error) {
	var f Fields
	take := func() ([]byte, error) {
		if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
			return nil, fmt.Errorf("%w: value cut short", ErrMalformed)
		}
		n := binary.BigEndian.Uint32(b)
		v := b[4 : 4+n : 4+n]
		b = b[4+n:]
		return v, nil
	}
	for last := Field(0); len(b) > 0; {
		i := Field(b[0])
		if i <= last || i > NumFields {
			return nil, fmt.Errorf("%w: field %d after %d", ErrMalformed, i, last)
		}
		last, b = i, b[1:]
		if !i.IsList() {
			v, err := take()
			if err != nil {
				return nil, err
			}
			if len(v) == 0 {
				return nil, fmt.Errorf("%w: empty %v written out", ErrMalformed, i)
			}
			f.scalars[i] = v
			continue
		}
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: list cut short", ErrMalformed)
		}
		m := binary.BigEndian.Uint32(b)
		b = b[4:]
		if m == 0 || uint64(m)*4 > uint64(len(b)) {
			return nil, fmt.Errorf("%w: list of %d elements", ErrMalformed, m)
		}
		for range m {
			e, err := take()
			if err != nil {
				return nil, err
			}
			f.lists[i] = append(f.lists[i], e)
		}
	}
	return &f, nil
}
