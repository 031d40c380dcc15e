package backup

import (
	"bytes"
	"testing"

	"scripta/merkle"
)

func FuzzLeaves(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01v\x00\x00\x00\x01e0123456789abcdef0123456789abcdef"), uint8(1))
	f.Add([]byte("\xff\xff\xff\xff"), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		left := uint64(n)
		err := readLeaves(bytes.NewReader(b), uint64(n), func(l merkle.Leaf) error {
			if left--; len(l.Value)+len(l.Extra) > len(b) {
				t.Errorf("a leaf of %d bytes out of %d", len(l.Value)+len(l.Extra), len(b))
			}
			return nil
		})
		if err == nil && left != 0 {
			t.Errorf("%d leaves are missing and nothing was said", left)
		}
	})
}

func FuzzSums(f *testing.F) {
	f.Add([]byte("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  files/accounts\n"))
	f.Add([]byte("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  ../x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sums, err := parseSums(b)
		if err != nil {
			return
		}
		for name := range sums {
			if name == "" || name[0] == '/' || bytes.HasPrefix([]byte(name), []byte("..")) && (len(name) == 2 || name[2] == '/') {
				t.Errorf("it takes the name %q", name)
			}
		}
	})
}
