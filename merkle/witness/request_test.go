package witness

import (
	"bytes"
	"testing"
)

func FuzzParseRequest(f *testing.F) {
	f.Add((&Request{Old: 7, Proof: make([][32]byte, 2), Note: []byte("a\n")}).Bytes())
	f.Add((&Request{Proof: make([][32]byte, MaxProof+1)}).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err == nil && (!bytes.Equal(r.Bytes(), b) || len(r.Proof) > MaxProof) {
			t.Errorf("%q is written as %q", b, r.Bytes())
		}
	})
}
