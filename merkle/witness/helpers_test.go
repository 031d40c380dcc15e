package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/durable"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
)

const origin = "log.example/scripta/1"

var quiet = slog.New(slog.DiscardHandler)

func logKey(t testing.TB, b byte) (note.Signer, note.Verifier) {
	t.Helper()
	s, v, err := checkpoint.NewSigner(origin, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

// newLog opens a real log under the test key.
func newLog(t testing.TB, dir string) *merkle.Log {
	t.Helper()
	s, v := logKey(t, 1)
	l, err := merkle.Open(context.Background(), merkle.Options{Dir: dir, Origin: origin, Signer: s, Verifier: v, MinFree: 1, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// grow adds leaves that hold the given word, and publishes.
func grow(t testing.TB, l *merkle.Log, word string, n int) *checkpoint.Signed {
	t.Helper()
	first := l.Size()
	var leaves []merkle.Leaf
	for i := range n {
		text := fmt.Sprintf("%s %d", word, first+uint64(i))
		leaves = append(leaves, merkle.Leaf{Value: []byte(text), Extra: []byte("x"), Identity: sha256.Sum256([]byte(text))})
	}
	if err := l.AddSequenced(context.Background(), first, leaves); err != nil {
		t.Fatal(err)
	}
	cp, err := l.Publish(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

func newSigner(t testing.TB, name string) *Signer {
	t.Helper()
	skey, vkey, err := GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := NewVerifier(vkey); err != nil || v.KeyHash() != s.KeyHash() || v.Name() != name {
		t.Fatal(v, err)
	}
	return s
}

func newServer(t testing.TB, dir string, fsys durable.FS, s *Signer) *Server {
	t.Helper()
	_, v := logKey(t, 1)
	w, err := OpenServer(ServerOptions{Dir: dir, FS: fsys, Signer: s, Logs: []note.Verifier{v}, PerAddress: 1e6, PerLog: 1e6, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func newClient(t testing.TB, h http.Handler, s *Signer) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &Client{URL: srv.URL, Verifier: s.Verifier(), HTTP: srv.Client()}
}

// TestCrashAtEveryCall holds that whatever was cosigned is known after a power

// cut at any call: a fork of that size is never cosigned.

// TestDamagedStateIsNotBegunAnew holds for a state that no longer verifies.

// TestRolledBackLogIsNoticed restores all of a log's folder, which the log itself

// cannot notice.

// vkeyOf is the text of a witness's public key.
func vkeyOf(s *Signer) string {
	return fmt.Sprintf("%s+%08x+%s", s.name, s.KeyHash(), base64.StdEncoding.EncodeToString(append([]byte{algorithm}, s.public...)))
}
