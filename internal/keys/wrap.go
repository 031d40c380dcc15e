package keys

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"io/fs"

	"golang.org/x/crypto/chacha20poly1305"

	"scripta/internal/durable"
)

// Labels of the keys that are derived from a month's secret or from the
// service secret; part of the format of records, never to change.
const (
	InfoNonce   = "scripta/nonce/v1"   // nonces of records, hence salts
	InfoSeal    = "scripta/seal/v1"    // sealed records
	InfoIndex   = "scripta/index/v1"   // index by mailbox and message
	InfoReceipt = "scripta/receipt/v1" // sealed receipts
)

// Derive returns HKDF-SHA-256 (RFC 5869) of the secret with an empty salt and
// the label info, 32 bytes.
func Derive(secret [32]byte, info string) [32]byte {
	key, err := hkdf.Key(sha256.New, secret[:], nil, info, 32)
	if err != nil {
		// Only an output longer than 255 hashes fails.
		panic("keys: " + err.Error())
	}
	return [32]byte(key)
}

const pemMaster = "SCRIPTA MASTER KEY"

// A master key wraps the secrets of a store with XChaCha20-Poly1305.
type master struct {
	aead cipher.AEAD
	id   [8]byte // names the key in the files that it wraps
}

func newMaster(key [32]byte) *master {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic("keys: " + err.Error()) // only another length fails
	}
	m := &master{aead: aead}
	id := Derive(key, "scripta/master-id/v1")
	copy(m.id[:], id[:])
	return m
}

// createMaster makes the master key file at path, which must not exist.
func createMaster(fsys durable.FS, path string) (*master, error) {
	there, err := exists(fsys, path)
	if err == nil && there {
		err = &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't make the master key: %w", err)
	}
	var key [32]byte
	rand.Read(key[:])
	data := pem.EncodeToMemory(&pem.Block{Type: pemMaster, Bytes: key[:]})
	if err := durable.WriteFile(fsys, path, data, 0o600); err != nil {
		return nil, fmt.Errorf("couldn't make the master key: %w", err)
	}
	return newMaster(key), nil
}

func loadMaster(fsys durable.FS, path string) (*master, error) {
	data, err := readSecret(fsys, path)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the master key: %w", err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemMaster || len(block.Bytes) != 32 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("couldn't read the master key %s: %w; restore it from its copy", path, ErrDamaged)
	}
	return newMaster([32]byte(block.Bytes)), nil
}

// A wrapped secret is a file of 102 bytes:
//
//	16  "scripta/secret/1"
//	 2  the month, big-endian; 0xFFFF is the service secret,
//	    0xFFFE that of held records
//	 8  which master key wraps it
//	24  nonce
//	48  XChaCha20-Poly1305 of the 32 bytes; all bytes above but the nonce are
//	    associated data, so that a file cannot stand for another month
//	 4  CRC-32C of all above: tells damage from a wrong key
const (
	wrapMagic   = "scripta/secret/1"
	wrapHeader  = len(wrapMagic) + 2 + 8
	wrapNonce   = chacha20poly1305.NonceSizeX
	wrapSize    = wrapHeader + wrapNonce + 32 + chacha20poly1305.Overhead + 4
	serviceSlot = 0xFFFF
	holdSlot    = 0xFFFE // both beyond the last month, April 5461
)

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// wrap returns the file of the secret in the slot (a month or serviceSlot).
func (k *master) wrap(slot uint16, secret [32]byte, nonce [wrapNonce]byte) []byte {
	b := make([]byte, 0, wrapSize)
	b = append(b, wrapMagic...)
	b = binary.BigEndian.AppendUint16(b, slot)
	b = append(b, k.id[:]...)
	b = append(b, nonce[:]...)
	b = k.aead.Seal(b, nonce[:], secret[:], b[:wrapHeader])
	return binary.BigEndian.AppendUint32(b, castagnoli(b))
}

// unwrap is the inverse of wrap. Errors: ErrDamaged, ErrMasterKey.
func (k *master) unwrap(slot uint16, b []byte) (secret [32]byte, err error) {
	if len(b) != wrapSize || string(b[:len(wrapMagic)]) != wrapMagic ||
		binary.BigEndian.Uint32(b[wrapSize-4:]) != castagnoli(b[:wrapSize-4]) {
		return secret, ErrDamaged
	}
	if got := binary.BigEndian.Uint16(b[len(wrapMagic):]); got != slot {
		return secret, fmt.Errorf("%w: it is the file of another month (%s)", ErrDamaged, slotName(got))
	}
	if !bytes.Equal(b[len(wrapMagic)+2:wrapHeader], k.id[:]) {
		return secret, ErrMasterKey
	}
	sealed := b[wrapHeader+wrapNonce : wrapSize-4]
	if _, err := k.aead.Open(secret[:0], b[wrapHeader:wrapHeader+wrapNonce], sealed, b[:wrapHeader]); err != nil {
		return [32]byte{}, fmt.Errorf("%w: somebody changed it", ErrDamaged)
	}
	return secret, nil
}

func slotName(slot uint16) string {
	switch slot {
	case serviceSlot:
		return "service"
	case holdSlot:
		return "hold"
	}
	return Month(slot).String()
}
