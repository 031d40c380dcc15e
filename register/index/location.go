package index

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
)

// Location is where a stored receipt begins.
type Location struct {
	Segment uint32 `json:"segment"`
	Offset  int64  `json:"offset"` // bytes, less than 4 GiB
}

func (l Location) value() uint64 { return uint64(l.Segment)<<32 | uint64(l.Offset) }

// idToken is the token of a record id, which is random and needs no key.
func idToken(id [22]byte) Token {
	sum := sha256.Sum256(id[:])
	return Token(binary.BigEndian.Uint64(sum[:]))
}

// Placed says where the receipt of a record is stored.
type Placed struct {
	ID [22]byte
	At Location
}

// Posting is how the place stands in the index, under the month [Receipts].
func (p Placed) Posting() (Token, uint64) { return idToken(p.ID), p.At.value() }

// PutLocations remembers where receipts are stored, in ascending order of their
// places and after all that were put before, and that everything up to mark is
// known. Errors are as of [DB.Add].
func (d *DB) PutLocations(at []Placed, mark Location) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.admit(); err != nil {
		return err
	}
	for _, p := range at {
		if p.At.Offset < 0 || p.At.Offset > math.MaxUint32 {
			return fmt.Errorf("index: a receipt at offset %d", p.At.Offset)
		}
		d.active.of(Receipts).add(p.Posting())
	}
	d.active.postings += len(at)
	d.mark = mark
	d.active.mark = mark
	d.freeze(1)
	return nil
}

// Locations returns where a receipt may be stored, the latest first: another
// record's id may have the same token, so look whose it is.
func (d *DB) Locations(id [22]byte) (all []Location, err error) {
	err = d.Search(Query{Month: Receipts, Tokens: []Token{idToken(id)}}, func(v uint64) bool {
		all = append([]Location{{uint32(v >> 32), int64(v & math.MaxUint32)}}, all...)
		return true
	})
	return all, err
}

// Mark returns the place up to which locations are known.
func (d *DB) Mark() Location {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.mark
}
