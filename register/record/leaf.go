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
func NewNonce(key *[32]byte, origin string, id ID) Nonce {
	// HMAC (RFC 2104) by hand: one for each record, without anything on the heap.
	const pad = sha256.BlockSize
	var in [2 * pad]byte
	var out [pad + sha256.Size]byte
	for i := range pad {
		k := byte(0)
		if i < len(key) {
			k = key[i]
		}
		in[i], out[i] = k^0x36, k^0x5c
	}
	msg := binary.BigEndian.AppendUint16(in[:pad], uint16(len(origin)))
	msg = append(append(msg, origin...), id[:]...)
	inner := sha256.Sum256(msg)
	copy(out[pad:], inner[:])
	return sha256.Sum256(out[:])
}

// Identity is the LeafIdentityHash of a record: SHA-256("scripta/id/v1" ‖ id).
func Identity(id ID) [32]byte {
	var b [len(identLabel) + len(id)]byte
	copy(b[copy(b[:], identLabel):], id[:])
	return sha256.Sum256(b[:])
}

// Salter derives the salts of one record. It is not safe for concurrent use.
type Salter struct {
	mac hash.Hash
	in  [5]byte
	sum [sha256.Size]byte
}

// NewSalter returns the salter for a record's nonce.
func NewSalter(n Nonce) *Salter { return &Salter{mac: hmac.New(sha256.New, n[:])} }

// Scalar returns the salt of scalar field i.
func (s *Salter) Scalar(i Field) [32]byte {
	s.in[0] = byte(i)
	return s.of(1)
}

// Element returns the salt of element j of list field i, counted from 1.
func (s *Salter) Element(i Field, j uint32) [32]byte {
	s.in[0] = byte(i)
	binary.BigEndian.PutUint32(s.in[1:], j)
	return s.of(len(s.in))
}

func (s *Salter) of(n int) [32]byte {
	s.mac.Reset()
	s.mac.Write(s.in[:n])
	s.mac.Sum(s.sum[:0])
	return s.sum
}

// short is the length in bytes of values whose digests are computed without
// anything on the heap: nearly all that there are.
const short = 256

// ScalarDigest is d_i of a scalar field.
func ScalarDigest(i Field, salt [32]byte, value []byte) [32]byte {
	var b [2 + sha256.Size + short]byte
	head := append(append(b[:0], tagScalar, byte(i)), salt[:]...)
	return digest(head, value)
}

// ElementDigest is e_j of element j of a list field, counted from 1.
func ElementDigest(i Field, j uint32, salt [32]byte, element []byte) [32]byte {
	var b [6 + sha256.Size + short]byte
	head := append(binary.BigEndian.AppendUint32(append(b[:0], tagElement, byte(i)), j), salt[:]...)
	return digest(head, element)
}

// digest is SHA-256 of head ‖ value. It uses what room head has.
func digest(head, value []byte) (d [32]byte) {
	if len(value) <= short {
		return sha256.Sum256(append(head, value...))
	}
	h := sha256.New()
	h.Write(head)
	h.Write(value)
	h.Sum(d[:0])
	return d
}

// ListDigest is d_i of a list field whose elements have these digests.
func ListDigest(i Field, elements [][32]byte) [32]byte {
	var b [6 + 8*sha256.Size]byte
	all := binary.BigEndian.AppendUint32(append(b[:0], tagList, byte(i)), uint32(len(elements)))
	for j := range elements {
		all = append(all, elements[j][:]...)
	}
	return sha256.Sum256(all)
}

// Digests are d_1 … d_18, at their field's number.
type Digests [NumFields + 1][32]byte

// Leaf makes the leaf that commits to the digests.
func (d *Digests) Leaf(c Class) (l Leaf) {
	var b [len(commitLabel) + NumFields*sha256.Size]byte
	all := append(b[:0], commitLabel...)
	for i := 1; i <= NumFields; i++ {
		all = append(all, d[i][:]...)
	}
	l[0], l[1] = Version, byte(c)
	sum := sha256.Sum256(all)
	copy(l[2:], sum[:])
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
