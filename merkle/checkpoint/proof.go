package checkpoint

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// ErrProof says that a proof does not prove what it should.
var ErrProof = errors.New("checkpoint: proof fails")

// VerifyInclusion checks that the leaf with the given hash stands at index in
// the tree of that size and root (RFC 6962 §2.1.1). The error is ErrProof.
func VerifyInclusion(hashes [][32]byte, index, size uint64, leaf, root [32]byte) error {
	err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leaf[:], slices(hashes), root[:])
	if err != nil {
		return fmt.Errorf("%w: leaf %d is not in the tree of %d: %w", ErrProof, index, size, err)
	}
	return nil
}

// VerifyConsistency checks that the tree of size1 and root1 is a prefix of the
// tree of size2 and root2 (RFC 6962 §2.1.2). The proof is empty if the sizes
// are equal or size1 is 0; an empty tree has the root of no leaves. The error is
// ErrProof.
func VerifyConsistency(hashes [][32]byte, size1, size2 uint64, root1, root2 [32]byte) error {
	var err error
	for _, t := range []struct {
		size uint64
		root [32]byte
	}{{size1, root1}, {size2, root2}} {
		// The library takes any root for a tree of no leaves.
		if t.size == 0 && t.root != sha256.Sum256(nil) {
			err = errors.New("not the root of the empty tree")
		}
	}
	if err == nil {
		err = proof.VerifyConsistency(rfc6962.DefaultHasher, size1, size2, slices(hashes), root1[:], root2[:])
	}
	if err != nil {
		return fmt.Errorf("%w: the tree of %d does not continue the tree of %d: %w", ErrProof, size2, size1, err)
	}
	return nil
}

// slices gives the library's form of hashes, sharing their memory.
func slices(hashes [][32]byte) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}
