package record

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"testing"
)

// TestDigestsOfAnyLength compares what is computed without the heap with the
// definition (docs/format.md §2), on both sides of the lengths that are treated apart.
func TestDigestsOfAnyLength(t *testing.T) {
	t.Parallel()
	salt := [32]byte(bytes.Repeat([]byte{7}, 32))
	for _, n := range []int{0, 1, 21, 22, short - 1, short, short + 1, 5000} {
		value := bytes.Repeat([]byte{'v'}, n)
		if got, want := ScalarDigest(5, salt, value), sha256.Sum256(append(append([]byte{0x10, 5}, salt[:]...), value...)); got != want {
			t.Errorf("scalar of %d bytes: %x, want %x", n, got, want)
		}
		if got, want := ElementDigest(8, 513, salt, value), sha256.Sum256(append(append([]byte{0x12, 8, 0, 0, 2, 1}, salt[:]...), value...)); got != want {
			t.Errorf("element of %d bytes: %x, want %x", n, got, want)
		}
	}
	for _, m := range []int{0, 1, 8, 9, 200} {
		elements, all := make([][32]byte, m), binary.BigEndian.AppendUint32([]byte{0x11, 6}, uint32(m))
		for i := range elements {
			elements[i][0] = byte(i)
			all = append(all, elements[i][:]...)
		}
		if got, want := ListDigest(6, elements), sha256.Sum256(all); got != want {
			t.Errorf("list of %d: %x, want %x", m, got, want)
		}
	}
}

func TestNonceIsHMAC(t *testing.T) {
	t.Parallel()
	key := [32]byte(bytes.Repeat([]byte{0xa5}, 32))
	id := MakeID([16]byte{1, 2, 3}, 4, 5)
	for _, origin := range []string{"", "pec.example/scripta/0001", strings.Repeat("o", 200)} {
		m := hmac.New(sha256.New, key[:])
		m.Write(binary.BigEndian.AppendUint16(nil, uint16(len(origin))))
		m.Write([]byte(origin))
		m.Write(id[:])
		if got := NewNonce(&key, origin, id); string(got[:]) != string(m.Sum(nil)) {
			t.Errorf("origin of %d bytes: %x", len(origin), got)
		}
	}
}
