package tiles

import "crypto/sha256"

// Hash is a SHA-256 hash: of a leaf, a node or a root.
type Hash = [HashSize]byte

// EmptyRoot is the root of the tree without leaves: SHA-256 of nothing (RFC
// 6962 §2.1).
func EmptyRoot() Hash { return sha256.Sum256(nil) }

// LeafHash is the hash of an entry: SHA-256(0x00 ‖ entry) (RFC 6962 §2.1).
func LeafHash(entry []byte) Hash {
	var buf [512]byte
	if len(entry) < len(buf) {
		return sha256.Sum256(append(buf[:1], entry...))
	}
	var h Hash
	d := sha256.New()
	d.Write(buf[:1])
	d.Write(entry)
	d.Sum(h[:0])
	return h
}

// NodeHash is the hash of two children: SHA-256(0x01 ‖ left ‖ right) (RFC 6962
// §2.1).
func NodeHash(left, right Hash) Hash {
	var buf [1 + 2*HashSize]byte
	buf[0] = 1
	copy(buf[1:], left[:])
	copy(buf[1+HashSize:], right[:])
	return sha256.Sum256(buf[:])
}

// pair hashes two neighbouring hashes, 64 bytes, into dst.
func pair(dst, children []byte) {
	var buf [1 + 2*HashSize]byte
	buf[0] = 1
	copy(buf[1:], children[:2*HashSize])
	h := sha256.Sum256(buf[:])
	copy(dst, h[:])
}
