package checkpoint

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
)

func hashes(in [][]byte) [][32]byte {
	out := make([][32]byte, len(in))
	for i, h := range in {
		out[i] = [32]byte(h)
	}
	return out
}

func TestProofs(t *testing.T) {
	t.Parallel()
	tree := testonly.New(rfc6962.DefaultHasher)
	for i := range 20 {
		tree.AppendData(fmt.Appendf(nil, "entry %d", i))
	}
	at := func(n uint64) [32]byte { return [32]byte(tree.HashAt(n)) }
	for n := uint64(1); n <= 20; n++ {
		for i := range n {
			p, err := tree.InclusionProof(i, n)
			if err != nil {
				t.Fatal(err)
			}
			proof, leaf := hashes(p), [32]byte(tree.LeafHash(i))
			if err := VerifyInclusion(proof, i, n, leaf, at(n)); err != nil {
				t.Error(err)
			}
			leaf[0] ^= 1
			if err := VerifyInclusion(proof, i, n, leaf, at(n)); !errors.Is(err, ErrProof) {
				t.Errorf("another leaf at %d of %d: %v", i, n, err)
			}
			if err := VerifyInclusion(proof, n, n, leaf, at(n)); !errors.Is(err, ErrProof) {
				t.Errorf("a leaf beyond the tree of %d: %v", n, err)
			}
			p, err = tree.ConsistencyProof(i, n)
			if err != nil {
				t.Fatal(err)
			}
			proof = hashes(p)
			if err := VerifyConsistency(proof, i, n, at(i), at(n)); err != nil {
				t.Error(err)
			}
			wrong := at(i)
			wrong[31] ^= 1
			if err := VerifyConsistency(proof, i, n, wrong, at(n)); !errors.Is(err, ErrProof) {
				t.Errorf("another root at %d, to %d: %v", i, n, err)
			}
			if err := VerifyConsistency(proof, n, i, at(n), at(i)); !errors.Is(err, ErrProof) {
				t.Errorf("from %d back to %d: %v", n, i, err)
			}
		}
		if err := VerifyConsistency(nil, n, n, at(n), at(n)); err != nil {
			t.Error(err)
		}
		if err := VerifyConsistency(nil, n, n, at(n), at(n-1)); !errors.Is(err, ErrProof) {
			t.Errorf("two roots of size %d: %v", n, err)
		}
	}
	if err := VerifyConsistency(nil, 0, 0, sha256.Sum256(nil), sha256.Sum256(nil)); err != nil {
		t.Error(err)
	}
}
