package merkle

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"log/slog"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"scripta/merkle/checkpoint"
	"scripta/merkle/tiles"
)

const testOrigin = "log.example/scripta/1"

// testKey is the signer and verifier of the key that is 32 times b.
func testKey(t testing.TB, origin string, b byte) (note.Signer, note.Verifier) {
	t.Helper()
	s, v, err := checkpoint.NewSigner(origin, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

// testPublic is the public key of testKey.
func testPublic(b byte) ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
}

// options are those of the test log in a folder.
func options(t testing.TB, dir string) Options {
	t.Helper()
	s, v := testKey(t, testOrigin, 1)
	return Options{Dir: dir, Origin: testOrigin, Signer: s, Verifier: v, MinFree: 1, Logger: slog.New(slog.DiscardHandler)}
}

// open opens a log, which is closed at the end of the test.
func open(t testing.TB, opt Options) *Log {
	t.Helper()
	l, err := Open(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, ErrFatal) {
			t.Error(err)
		}
	})
	return l
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// testLeaf is the leaf of an index: as long as a record's commitment and its
// sealed record are.
func testLeaf(i uint64) Leaf {
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], i)
	h := tiles.LeafHash(seed[:])
	id := tiles.NodeHash(h, h)
	return Leaf{
		Value:    append([]byte{1, 1}, h[:]...),
		Extra:    append(bytes.Repeat(h[:], 9), seed[:]...)[:296],
		Identity: id,
	}
}

func testLeaves(first, n uint64) []Leaf {
	leaves := make([]Leaf, n)
	for i := range leaves {
		leaves[i] = testLeaf(first + uint64(i))
	}
	return leaves
}

func mustAdd(t testing.TB, l *Log, first, n uint64) {
	t.Helper()
	if err := l.AddSequenced(context.Background(), first, testLeaves(first, n)); err != nil {
		t.Fatal(err)
	}
}

func mustPublish(t testing.TB, l *Log) *checkpoint.Signed {
	t.Helper()
	c, err := l.Publish(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// reference is the tree of the first n test leaves.
func reference(n uint64) tiles.Frontier {
	var f tiles.Frontier
	for i := range n {
		f.Append(tiles.LeafHash(testLeaf(i).Value))
	}
	return f
}
