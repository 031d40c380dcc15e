// Package seal encrypts what Scripta keeps about people, so that destroying one
// key makes it unreadable everywhere.
//
// A blob is sealed whole with XChaCha20-Poly1305 and a random 24-byte nonce
// ([Seal], [Open]). A message of any size is sealed as a stream of 64 KiB
// chunks ([NewWriter], [NewReader]) in the STREAM construction (Hoang,
// Reyhanitabar, Rogaway, Vizár, 2015): each chunk's nonce holds a random
// prefix, the chunk's number and whether it is the last, so that chunks cannot
// be reordered, dropped or cut off unnoticed, and any part can be read alone.
//
// Keys are 32 bytes and belong to the caller (internal/keys). The additional
// data is authenticated and not stored: who opens must know what it was.
package seal

import (
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Overhead is how many bytes longer a sealed blob is than its plaintext: nonce
// and authentication tag.
const Overhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// ErrOpen says that a sealed value was not made with this key and additional
// data, or is damaged.
var ErrOpen = errors.New("seal: wrong key, or damaged data")

// Seal returns nonce ‖ ciphertext ‖ tag of plaintext, bound to ad.
func Seal(key *[32]byte, ad, plaintext []byte) []byte {
	return Append(make([]byte, 0, Overhead+len(plaintext)), key, ad, plaintext)
}

// Append appends to dst what [Seal] returns. Its spare room and plaintext must
// not overlap.
func Append(dst []byte, key *[32]byte, ad, plaintext []byte) []byte {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic(err) // only for a key that is not 32 bytes
	}
	var nonce [chacha20poly1305.NonceSizeX]byte
	rand.Read(nonce[:]) // never fails (crypto/rand, Go 1.24)
	dst = append(dst, nonce[:]...)
	return aead.Seal(dst, nonce[:], plaintext, ad)
}

// Open returns the plaintext of what [Seal] made with the same key and ad, or
// [ErrOpen].
func Open(key *[32]byte, ad, sealed []byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrOpen, len(sealed))
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic(err)
	}
	nonce, ct := sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:]
	plain, err := aead.Open(nil, nonce, ct, ad)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}
