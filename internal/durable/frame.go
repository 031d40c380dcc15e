package durable

import (
	"encoding/binary"
	"hash/crc32"
)

// MaxRecord is the size in bytes of the longest record of a Journal.
const MaxRecord = 64 << 20

// Overhead is how many bytes a record takes in a Journal's file besides its own.
const Overhead = headerSize

// A frame is
//
//	uint32 length | uint32 CRC-32C(length ‖ payload) | payload
//
// big-endian. The length's highest bit, covered by the checksum like the rest,
// marks the first frame of a write: everything before it was on the disk when
// it was written. The bits between MaxRecord and the mark are zero. Eight zero
// bytes are no frame, because the CRC of four zero bytes is not zero.
const (
	headerSize = 8
	markFirst  = 1 << 31
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends the frame of rec to buf.
func appendFrame(buf, rec []byte, first bool) []byte {
	length := uint32(len(rec))
	if first {
		length |= markFirst
	}
	at := len(buf)
	buf = binary.BigEndian.AppendUint32(buf, length)
	sum := crc32.Update(crc32.Checksum(buf[at:], castagnoli), castagnoli, rec)
	buf = binary.BigEndian.AppendUint32(buf, sum)
	return append(buf, rec...)
}

// header is the first headerSize bytes of a frame.
type header struct {
	length int64 // of the payload
	first  bool
	sum    uint32 // CRC-32C of the length field and the payload
	seed   uint32 // CRC-32C of the length field alone
}

// parseHeader reads the header at the start of b, which holds headerSize bytes
// or more, and tells whether its length is possible.
func parseHeader(b []byte) (header, bool) {
	length := binary.BigEndian.Uint32(b)
	h := header{
		length: int64(length &^ markFirst),
		first:  length&markFirst != 0,
		sum:    binary.BigEndian.Uint32(b[4:]),
	}
	if h.length > MaxRecord {
		return h, false
	}
	h.seed = crc32.Checksum(b[:4], castagnoli)
	return h, true
}

// intact tells whether payload is the one that the header was written for.
func (h header) intact(payload []byte) bool {
	return crc32.Update(h.seed, castagnoli, payload) == h.sum
}
