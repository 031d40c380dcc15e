package witness

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func TestKeysRefused(t *testing.T) {
	t.Parallel()
	skey, vkey, err := GenerateKey(rand.Reader, "w.example")
	if err != nil {
		t.Fatal(err)
	}
	logVKey, err := note.NewEd25519VerifierKey("w.example", make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "+", "a+b+c", vkey + "A", "x" + vkey, logVKey, strings.Replace(vkey, "+", "++", 1)} {
		if _, err := NewVerifier(bad); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", vkey, "x" + skey, strings.Replace(skey, "w.example", "v.example", 1)} {
		if _, err := NewSigner(bad); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
