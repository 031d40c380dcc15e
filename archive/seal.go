package archive

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"scripta/internal/seal"
	"scripta/register/record"
)

// Keys gives the keys that packages are sealed under (*register.Register).
type Keys interface {
	// PackageKey derives a package's key for a month's records; 0 is the
	// service. It returns keys.ErrDisposed for a month that was disposed of.
	PackageKey(month uint16, packageID []byte) ([32]byte, error)
}

// Labels of what is sealed, ASCII without terminator.
const (
	labelSealed = "scripta/packaged/v1"
	labelNonce  = "scripta/package-nonce/v1"
)

// sealer seals and opens the records of one package. It is not safe for
// concurrent use.
type sealer struct {
	keys  Keys
	id    string // of the package
	aeads map[uint16]cipher.AEAD
	ad    []byte
}

func newSealer(k Keys, id string) *sealer {
	return &sealer{keys: k, id: id, aeads: map[uint16]cipher.AEAD{}}
}

func (s *sealer) aead(month uint16) (cipher.AEAD, error) {
	if a := s.aeads[month]; a != nil {
		return a, nil
	}
	key, err := s.keys.PackageKey(month, []byte(s.id))
	if err != nil {
		return nil, err
	}
	a, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, err
	}
	s.aeads[month] = a
	return a, nil
}

// data is what a record is bound to: label ‖ package id ‖ uint64 index ‖ uint16
// month ‖ leaf.
func (s *sealer) data(index uint64, month uint16, leaf record.Leaf) []byte {
	ad := append(append(s.ad[:0], labelSealed...), s.id...)
	ad = binary.BigEndian.AppendUint64(ad, index)
	ad = binary.BigEndian.AppendUint16(ad, month)
	s.ad = append(ad, leaf[:]...)
	return s.ad
}

// seal appends nonce ‖ ciphertext ‖ tag to dst. The nonce is the first 24 bytes
// of SHA-256(label ‖ uint64 index ‖ leaf): the same record gives the same bytes,
// so that a package can be made again; another record, which has another leaf,
// never meets the same nonce.
func (s *sealer) seal(dst []byte, index uint64, month uint16, leaf record.Leaf, plain []byte) ([]byte, error) {
	a, err := s.aead(month)
	if err != nil {
		return nil, err
	}
	in := binary.BigEndian.AppendUint64(append(make([]byte, 0, 96), labelNonce...), index)
	hash := sha256.Sum256(append(in, leaf[:]...))
	nonce := hash[:chacha20poly1305.NonceSizeX]
	return a.Seal(append(dst, nonce...), nonce, plain, s.data(index, month, leaf)), nil
}

// open opens a body and recomputes its leaf; plain is what was sealed.
func (s *sealer) open(f frame, leaf record.Leaf) (o *record.Opened, plain []byte, err error) {
	a, err := s.aead(f.month)
	if err != nil {
		return nil, nil, err
	}
	if len(f.body) < seal.Overhead {
		return nil, nil, fmt.Errorf("%w: record %d has a body of %d bytes", errFrame, f.index, len(f.body))
	}
	nonce, sealed := f.body[:chacha20poly1305.NonceSizeX], f.body[chacha20poly1305.NonceSizeX:]
	if plain, err = a.Open(nil, nonce, sealed, s.data(f.index, f.month, leaf)); err != nil {
		return nil, nil, fmt.Errorf("record %d: %w", f.index, seal.ErrOpen)
	}
	o = &record.Opened{Leaf: leaf}
	head := len(o.ID) + len(o.Nonce)
	if len(plain) < head {
		return nil, nil, fmt.Errorf("%w: record %d of %d bytes", errFrame, f.index, len(plain))
	}
	copy(o.ID[:], plain)
	copy(o.Nonce[:], plain[len(o.ID):])
	if o.Fields, err = record.ParseFields(plain[head:]); err != nil {
		return nil, nil, fmt.Errorf("record %d: %w", f.index, err)
	}
	if o.Fields.Commit(o.Nonce, leaf.Class()) != leaf {
		return nil, nil, fmt.Errorf("record %d does not give its leaf", f.index)
	}
	return o, plain, nil
}

// plaintext appends what is sealed of a record: record id ‖ nonce ‖ fields.
func plaintext(b []byte, o *record.Opened) []byte {
	return o.Fields.AppendTo(append(append(b, o.ID[:]...), o.Nonce[:]...))
}
