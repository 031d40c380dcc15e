package seal

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

func testKey(b byte) *[32]byte {
	k := new([32]byte)
	for i := range k {
		k[i] = b
	}
	return k
}

func TestBlob(t *testing.T) {
	t.Parallel()
	sealed := Seal(testKey(1), []byte("ad"), []byte("secret"))
	if got, err := Open(testKey(1), []byte("ad"), sealed); err != nil || string(got) != "secret" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	if bytes.Contains(sealed, []byte("secret")) {
		t.Fatal("plaintext visible")
	}
	if bytes.Equal(sealed, Seal(testKey(1), []byte("ad"), []byte("secret"))) {
		t.Fatal("two sealings are equal: the nonce is not random")
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := Open(testKey(1), []byte("ad"), bad); !errors.Is(err, ErrOpen) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	if _, err := Open(testKey(2), []byte("ad"), sealed); !errors.Is(err, ErrOpen) {
		t.Fatalf("wrong key: %v", err)
	}
	if _, err := Open(testKey(1), []byte("other"), sealed); !errors.Is(err, ErrOpen) {
		t.Fatalf("wrong additional data: %v", err)
	}
	if _, err := Open(testKey(1), nil, sealed[:10]); !errors.Is(err, ErrOpen) {
		t.Fatalf("short: %v", err)
	}
}

func sealStream(t *testing.T, plain []byte, step int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, testKey(1), []byte("ad"))
	if err != nil {
		t.Fatal(err)
	}
	for p := plain; len(p) > 0; {
		n := min(step, len(p))
		if _, err := w.Write(p[:n]); err != nil {
			t.Fatal(err)
		}
		p = p[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestStream(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, chunk - 1, chunk, chunk + 1, 3*chunk - 1, 3 * chunk, 3*chunk + 77} {
		plain := make([]byte, size)
		for i := range plain {
			plain[i] = byte(rnd.Uint32())
		}
		sealed := sealStream(t, plain, 10_000)
		r, err := NewReader(bytes.NewReader(sealed), int64(len(sealed)), testKey(1), []byte("ad"))
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		if r.Size() != int64(size) {
			t.Fatalf("Size = %d, want %d", r.Size(), size)
		}
		got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("size %d: read back %d bytes, %v", size, len(got), err)
		}
		for range 20 {
			if size == 0 {
				break
			}
			off := rnd.IntN(size)
			n := rnd.IntN(size - off + 1)
			p := make([]byte, n)
			if _, err := r.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, plain[off:off+n]) {
				t.Fatalf("ReadAt(%d, %d): %v", off, n, err)
			}
		}
	}
}

// A stream that lost its end, had chunks exchanged or a byte changed must never
// be taken for a whole one.
func TestStreamDamage(t *testing.T) {
	t.Parallel()
	plain := bytes.Repeat([]byte("0123456789abcdef"), 3*chunk/16)
	sealed := sealStream(t, plain, chunk)
	read := func(b []byte) error {
		r, err := NewReader(bytes.NewReader(b), int64(len(b)), testKey(1), []byte("ad"))
		if err != nil {
			return err
		}
		got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if err == nil && !bytes.Equal(got, plain) {
			t.Fatal("damage went unnoticed")
		}
		return err
	}
	for cut := 0; cut < len(sealed); cut += 997 {
		if err := read(sealed[:cut]); err == nil {
			t.Fatalf("cut at %d: no error", cut)
		}
	}
	whole := chunk + tagSize
	if err := read(sealed[:prefixSize+2*whole]); !errors.Is(err, ErrOpen) {
		t.Fatalf("cut between chunks: %v", err)
	}
	swapped := bytes.Clone(sealed)
	copy(swapped[prefixSize:], sealed[prefixSize+whole:prefixSize+2*whole])
	copy(swapped[prefixSize+whole:], sealed[prefixSize:prefixSize+whole])
	if err := read(swapped); !errors.Is(err, ErrOpen) {
		t.Fatalf("chunks exchanged: %v", err)
	}
	for i := 0; i < len(sealed); i += 1013 {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x80
		if err := read(bad); !errors.Is(err, ErrOpen) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
}
