package record

import (
	"fmt"
)

// Disclosure shows some of a record's fields and hides the others behind their
// digests; it commits to the same leaf as the whole record.
type Disclosure struct {
	Class  Class
	Fields [NumFields + 1]DisclosedField // at the field's number; 0 is not used
}

// DisclosedField is one field of a disclosure. A scalar is shown by Value and
// Salt, or hidden by Digest. A list is always shown as its Elements, each of
// which is shown or hidden, or hidden whole by Digest.
type DisclosedField struct {
	Shown    bool
	Value    []byte
	Salt     [32]byte
	Digest   [32]byte
	Elements []DisclosedElement
}

// DisclosedElement is one element of a list field.
type DisclosedElement struct {
	Shown  bool
	Value  []byte
	Salt   [32]byte
	Digest [32]byte
}

// Disclose shows the fields for which show returns true.
func (f *Fields) Disclose(n Nonce, c Class, show func(Field) bool) *Disclosure {
	d := &Disclosure{Class: c}
	s := NewSalter(n)
	for i := Field(1); i <= NumFields; i++ {
		x := &d.Fields[i]
		x.Shown = show(i)
		if !i.IsList() {
			salt := s.Scalar(i)
			if x.Shown {
				x.Value, x.Salt = f.scalars[i], salt
			} else {
				x.Digest = ScalarDigest(i, salt, f.scalars[i])
			}
			continue
		}
		var digests [][32]byte
		for j, e := range f.lists[i] {
			salt := s.Element(i, uint32(j+1))
			if x.Shown {
				x.Elements = append(x.Elements, DisclosedElement{Shown: true, Value: e, Salt: salt})
			} else {
				digests = append(digests, ElementDigest(i, uint32(j+1), salt, e))
			}
		}
		if !x.Shown {
			x.Digest = ListDigest(i, digests)
		}
	}
	return d
}

// Leaf recomputes the leaf from what is shown and the digests of what is not.
// A shown kind that contradicts the class is [ErrMalformed].
func (d *Disclosure) Leaf() (Leaf, error) {
	var all Digests
	for i := Field(1); i <= NumFields; i++ {
		x := &d.Fields[i]
		switch {
		case !x.Shown:
			all[i] = x.Digest
		case !i.IsList():
			all[i] = ScalarDigest(i, x.Salt, x.Value)
		default:
			digests := make([][32]byte, len(x.Elements))
			for j, e := range x.Elements {
				digests[j] = e.Digest
				if e.Shown {
					digests[j] = ElementDigest(i, uint32(j+1), e.Salt, e.Value)
				}
			}
			all[i] = ListDigest(i, digests)
		}
	}
	if k := d.Fields[FieldKind]; k.Shown {
		if len(k.Value) != 2 {
			return Leaf{}, fmt.Errorf("%w: kind has %d bytes", ErrMalformed, len(k.Value))
		}
		if kind := Kind(uint16(k.Value[0])<<8 | uint16(k.Value[1])); kind.Class() != d.Class {
			return Leaf{}, fmt.Errorf("%w: %v is not of class %d", ErrMalformed, kind, d.Class)
		}
	}
	return all.Leaf(d.Class), nil
}

// Shown returns the record as far as it is disclosed: hidden fields and
// elements are empty. Kind and time must be shown.
func (d *Disclosure) Shown() (*Record, error) {
	var f Fields
	for i := Field(1); i <= NumFields; i++ {
		x := &d.Fields[i]
		if !x.Shown {
			continue
		}
		f.scalars[i] = x.Value
		for _, e := range x.Elements {
			if e.Shown {
				f.lists[i] = append(f.lists[i], e.Value)
			}
		}
	}
	return f.Record()
}
