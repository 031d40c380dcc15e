package record

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
)

const (
	// Version is the first byte of every leaf and sealed record of this format.
	Version = 0x01
	// LeafSize is the length of a leaf in bytes.
	LeafSize = 2 + sha256.Size

	commitLabel = "scripta/record/v1"
	identLabel  = "scripta/id/v1"

	tagScalar  = 0x10
	tagList    = 0x11
	tagElement = 0x12
)

// Leaf is a log entry: version ‖ class ‖ commitment.
type Leaf [LeafSize]byte

// Class is the leaf's class byte.
func (l Leaf) Class() Class { return Class(l[1]) }

// ParseLeaf checks an entry's length, version and class.
func ParseLeaf(b []byte) (l Leaf, err error) {
	if len(b) != LeafSize || b[0] != Version || (Class(b[1]) != Personal && Class(b[1]) != Service) {
		return l, fmt.Errorf("%w: not a leaf of version %d: %x", ErrMalformed, Version, b)
	}
	return Leaf(b), nil
}

// Nonce is the secret from which a record's salts are derived.
type Nonce [32]byte

// NewNonce derives a record's nonce from the month's nonce key. The origin is
// that of the log, at most 65,535 bytes.
func NewNonce(key *[32]byte, origin string, id ID) (n Nonce) {
	m := hmac.New(sha256.New, key[:])
	m.Write(binary.BigEndian.AppendUint16(nil, uint16(len(origin))))
	m.Write([]byte(origin))
	m.Write(id[:])
	m.Sum(n[:0])
	return n
}

// Identity is the LeafIdentityHash of a record: SHA-256("scripta/id/v1" ‖ id).
func Identity(id ID) [32]byte { return sha256.Sum256(append([]byte(identLabel), id[:]...)) }

// Salter derives the salts of one record. It is not safe for concurrent use.
type Salter struct{ mac hash.Hash }

// NewSalter returns the salter for a record's nonce.
func NewSalter(n Nonce) *Salter { return &Salter{hmac.New(sha256.New, n[:])} }

// Scalar returns the salt of scalar field i.
func (s *Salter) Scalar(i Field) (salt [32]byte) {
	s.mac.Reset()
	s.mac.Write([]byte{byte(i)})
	s.mac.Sum(salt[:0])
	return salt
}

// Element returns the salt of element j of list field i, counted from 1.
func (s *Salter) Element(i Field, j uint32) (salt [32]byte) {
	s.mac.Reset()
	s.mac.Write([]byte{byte(i), byte(j >> 24), byte(j >> 16), byte(j >> 8), byte(j)})
	s.mac.Sum(salt[:0])
	return salt
}

// ScalarDigest is d_i of a scalar field.
func ScalarDigest(i Field, salt [32]byte, value []byte) (d [32]byte) {
	h := sha256.New()
	h.Write([]byte{tagScalar, byte(i)})
	h.Write(salt[:])
	h.Write(value)
	h.Sum(d[:0])
	return d
}

// ElementDigest is e_j of element j of a list field, counted from 1.
func ElementDigest(i Field, j uint32, salt [32]byte, element []byte) (d [32]byte) {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32([]byte{tagElement, byte(i)}, j))
	h.Write(salt[:])
	h.Write(element)
	h.Sum(d[:0])
	return d
}

// ListDigest is d_i of a list field whose elements have these digests.
func ListDigest(i Field, elements [][32]byte) (d [32]byte) {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32([]byte{tagList, byte(i)}, uint32(len(elements))))
	for _, e := range elements {
		h.Write(e[:])
	}
	h.Sum(d[:0])
	return d
}

// Digests are d_1 … d_18, at their field's number.
type Digests [NumFields + 1][32]byte

// Leaf makes the leaf that commits to the digests.
func (d *Digests) Leaf(c Class) (l Leaf) {
	h := sha256.New()
	h.Write([]byte(commitLabel))
	for i := 1; i <= NumFields; i++ {
		h.Write(d[i][:])
	}
	l[0], l[1] = Version, byte(c)
	h.Sum(l[:2])
	return l
}

// Commit makes the leaf of a record's fields under its nonce.
func (f *Fields) Commit(n Nonce, c Class) Leaf {
	var (
		d    Digests
		s    = NewSalter(n)
		list [][32]byte
	)
	for i := Field(1); i <= NumFields; i++ {
		if !i.IsList() {
			d[i] = ScalarDigest(i, s.Scalar(i), f.scalars[i])
			continue
		}
		list = list[:0]
		for j, e := range f.lists[i] {
			list = append(list, ElementDigest(i, uint32(j+1), s.Element(i, uint32(j+1)), e))
		}
		d[i] = ListDigest(i, list)
	}
	return d.Leaf(c)
}
