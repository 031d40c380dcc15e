package durable

import (
	"bytes"
	"hash/crc32"
)

// block is the unit in which file systems write data back: after a power cut a
// block of an unfinished write is there or reads as zeros.
const block = 4096

// torn decides what a journal ends with, from its first frame that is not
// intact to its end: true if an unfinished last write explains it, false if
// something that had been on the disk was damaged. start is the offset in the
// file of tail's first byte.
//
// A write that was cut short leaves a prefix of its frames; that is easy. But
// the blocks of a large write reach the disk in any order, and a power cut may
// leave zeros in place of the first one and intact frames behind them. So
// intact frames behind the damage mean:
//
//   - one is marked as the first of a write: the damage lies in an earlier
//     write, whose end had been waited for. Damage.
//   - none is marked: damage and frames belong to the same, last write. If
//     every gap holds a block's worth of zeros, up to a boundary of blocks, it
//     never ended. Anything else was overwritten later: damage.
//
// And if the frame at the damage would be intact with one bit changed, it was
// written whole, and the disk lost a bit: damage, too, since its end may have been
// waited for. More than a bit in the very last write passes for an unfinished one.
//
// Frames are searched at every offset, because damage to a length hides where
// the next frame begins. A record that holds frames of another journal, torn
// in its middle, is taken for damage: rather ask a person than lose a record.
func torn(tail []byte, start int64) bool {
	s := newSums(tail)
	gap := 0 // where the stretch that holds no intact frame begins
	for y := 1; y+headerSize <= len(tail); {
		h, ok := parseHeader(tail[y:])
		end := int64(y) + headerSize + h.length
		if !ok || end > int64(len(tail)) || !s.intact(h, y+headerSize, int(end)) {
			y++
			continue
		}
		if h.first || gap < y && !lostBlock(tail[gap:y], start+int64(gap)) {
			return false
		}
		y, gap = int(end), int(end)
	}
	return !oneBitOff(tail)
}

// oneBitOff tells whether the frame at the start of tail would be intact with one
// bit changed.
func oneBitOff(tail []byte) bool {
	if len(tail) < headerSize {
		return false
	}
	// In its length, on which depends where it ends.
	c := bytes.Clone(tail[:headerSize])
	for bit := range 32 {
		c[bit/8] ^= 1 << (bit % 8)
		h, ok := parseHeader(c)
		c[bit/8] ^= 1 << (bit % 8)
		if ok && headerSize+h.length <= int64(len(tail)) && h.intact(tail[headerSize:headerSize+h.length]) {
			return true
		}
	}
	h, ok := parseHeader(tail)
	if !ok || headerSize+h.length > int64(len(tail)) {
		return false
	}
	// In its checksum or payload: a changed bit changes the sum in a way that only
	// depends on how far from the end it is.
	off := crc32.Update(h.seed, castagnoli, tail[headerSize:headerSize+h.length]) ^ h.sum
	if off&(off-1) == 0 {
		return true
	}
	var change [8]uint32
	for bit := range change {
		change[bit] = castagnoli[1<<bit]
	}
	for range h.length {
		for bit, v := range change {
			if v == off {
				return true
			}
			change[bit] = castagnoli[v&0xff] ^ v>>8
		}
	}
	return false
}

// lostBlock tells whether gap, which begins at offset start of the file, holds
// zeros from its start or from a boundary of blocks to the next boundary. Fewer
// zeros than a header has bytes prove nothing: short lengths begin with them.
func lostBlock(gap []byte, start int64) bool {
	for at := 0; ; {
		next := at + int(block-(start+int64(at))%block)
		if next > len(gap) {
			return false
		}
		if next-at >= headerSize && allZero(gap[at:next]) {
			return true
		}
		at = next
	}
}

func allZero(b []byte) bool {
	var zeros [block]byte
	for len(b) > block {
		if !bytes.Equal(b[:block], zeros[:]) {
			return false
		}
		b = b[block:]
	}
	return bytes.Equal(b, zeros[:len(b)])
}

// sums gives the checksum of any part of a text in nearly constant time: the
// search for frames in tens of megabytes of noise would otherwise take hours.
// A CRC is linear: crc(AB) = crc(A)·x^(8·|B|) + crc(B), over GF(2) modulo its
// polynomial (zlib's crc32_combine).
type sums struct {
	text   []byte
	prefix []uint32   // CRC of text[:i·block]
	pow    [32]uint32 // x^(8·2^k)
}

func newSums(text []byte) *sums {
	s := &sums{text: text, prefix: make([]uint32, 1, len(text)/block+1)}
	for at := 0; at+block <= len(text); at += block {
		s.prefix = append(s.prefix, crc32.Update(s.prefix[at/block], castagnoli, text[at:at+block]))
	}
	s.pow[0] = 1 << (31 - 8) // x^8; the highest bit is x^0
	for k := 1; k < len(s.pow); k++ {
		s.pow[k] = mulmod(s.pow[k-1], s.pow[k-1])
	}
	return s
}

// intact tells whether text[from:to] is the payload that h was written for.
func (s *sums) intact(h header, from, to int) bool {
	if to-from <= 4*block {
		return h.intact(s.text[from:to])
	}
	shift := uint32(1) << 31
	for k, n := 0, to-from; n > 0; k, n = k+1, n>>1 {
		if n&1 != 0 {
			shift = mulmod(shift, s.pow[k])
		}
	}
	return mulmod(shift, h.seed^s.upTo(from))^s.upTo(to) == h.sum
}

// upTo is the CRC of text[:i].
func (s *sums) upTo(i int) uint32 {
	return crc32.Update(s.prefix[i/block], castagnoli, s.text[i/block*block:i])
}

// mulmod multiplies two polynomials over GF(2) modulo that of CRC-32C, all of
// them with reflected bits.
func mulmod(a, b uint32) uint32 {
	var p uint32
	for ; a != 0; a <<= 1 {
		if a&(1<<31) != 0 {
			p ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ crc32.Castagnoli
		} else {
			b >>= 1
		}
	}
	return p
}
