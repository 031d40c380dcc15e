package record

import (
	"encoding/binary"
	"fmt"

	"scripta/internal/seal"
)

const sealLabel = "scripta/sealed/v1"

// Sealed is a record as it is stored beside its leaf:
//
//	0x01 ‖ uint16 month ‖ XChaCha20-Poly1305 nonce (24) ‖ ciphertext ‖ tag
//
// month is year × 12 + month − 1 in UTC, or 0 for a record of the service. The
// plaintext is record id ‖ nonce ‖ fields ([Fields.AppendTo]); the additional
// data is "scripta/sealed/v1" ‖ origin ‖ leaf.
type Sealed []byte

const sealedHead = 3

// Month tells which month's key opens the record; 0 is the service's.
func (s Sealed) Month() (uint16, error) {
	if len(s) < sealedHead+seal.Overhead || s[0] != Version {
		return 0, fmt.Errorf("%w: not a sealed record of version %d", ErrMalformed, Version)
	}
	return binary.BigEndian.Uint16(s[1:]), nil
}

func sealedData(origin string, leaf Leaf) []byte {
	ad := make([]byte, 0, len(sealLabel)+len(origin)+LeafSize)
	return append(append(append(ad, sealLabel...), origin...), leaf[:]...)
}

// Seal seals a record for storing. key is K_seal of the month.
func Seal(key *[32]byte, origin string, month uint16, leaf Leaf, id ID, nonce Nonce, f *Fields) Sealed {
	size := len(id) + len(nonce) + f.Size()
	plain := make([]byte, 0, size)
	plain = append(append(plain, id[:]...), nonce[:]...)
	plain = f.AppendTo(plain)
	sealed := append(make([]byte, 0, sealedHead+seal.Overhead+size), Version, byte(month>>8), byte(month))
	return seal.Append(sealed, key, sealedData(origin, leaf), plain)
}

// Opened is what a sealed record holds.
type Opened struct {
	ID     ID
	Nonce  Nonce
	Fields *Fields
	Leaf   Leaf
}

// Open opens the record and recomputes its leaf, which commits the key too. A
// leaf that differs is [ErrMalformed]; a wrong key or damage is [seal.ErrOpen].
func (s Sealed) Open(key *[32]byte, origin string, leaf Leaf) (*Opened, error) {
	if _, err := s.Month(); err != nil {
		return nil, err
	}
	plain, err := seal.Open(key, sealedData(origin, leaf), s[sealedHead:])
	if err != nil {
		return nil, err
	}
	o := &Opened{Leaf: leaf}
	if len(plain) < len(o.ID)+len(o.Nonce) {
		return nil, fmt.Errorf("%w: sealed record of %d bytes", ErrMalformed, len(plain))
	}
	copy(o.ID[:], plain)
	copy(o.Nonce[:], plain[len(o.ID):])
	if o.Fields, err = ParseFields(plain[len(o.ID)+len(o.Nonce):]); err != nil {
		return nil, err
	}
	if o.Fields.Commit(o.Nonce, leaf.Class()) != leaf {
		return nil, fmt.Errorf("%w: the sealed record does not give its leaf", ErrMalformed)
	}
	return o, nil
}
