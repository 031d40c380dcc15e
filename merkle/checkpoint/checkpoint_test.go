package checkpoint

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
)

const origin = "log.example/scripta/1"

// root is the root that TestGolden signs.
var root = [32]byte(bytes.Repeat([]byte{0x5a, 0xff}, 16))

// key returns the signer and verifier whose private key is 32 times b.
func key(t testing.TB, origin string, b byte) (note.Signer, note.Verifier) {
	t.Helper()
	s, v, err := NewSigner(origin, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

func sign(t testing.TB, text string, signers ...note.Signer) []byte {
	t.Helper()
	b, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden(t *testing.T) {
	t.Parallel()
	s, v := key(t, origin, 1)
	signed, err := Sign(Checkpoint{Origin: origin, Size: 202944, Root: root}, s)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(signed.Note, want) {
		t.Errorf("signed checkpoint is\n%s\nwant\n%s", signed.Note, want)
	}
	if !bytes.Equal(signed.Stamped(), want) {
		t.Error("without cosignatures, a time stamp should cover the whole note")
	}
	// A reader that is not ours.
	c, _, _, err := log.ParseCheckpoint(want, origin, v)
	if err != nil || c.Size != 202944 || !bytes.Equal(c.Hash, root[:]) {
		t.Errorf("transparency-dev/formats reads %+v, %v", c, err)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	s, v := key(t, origin, 1)
	otherKey, _ := key(t, origin, 2)
	otherLog, otherVerifier := key(t, "log.example/scripta/2", 1)
	witness1, _ := key(t, "witness.example/1", 3)
	witness2, _ := key(t, "witness.example/2", 4)
	c := Checkpoint{Origin: origin, Size: 7, Root: root}
	text := c.Text()
	own := sign(t, text, s)

	t.Run("cosigned", func(t *testing.T) {
		t.Parallel()
		cosigned := sign(t, text, witness1, s, witness2)
		got, err := Open(cosigned, v)
		if err != nil {
			t.Fatal(err)
		}
		if got.Size != 7 || got.Root != root || got.Origin != origin || !bytes.Equal(got.Note, cosigned) {
			t.Errorf("opened %+v", got)
		}
		if !bytes.Equal(got.Stamped(), own) {
			t.Errorf("a time stamp would cover\n%s\nwant\n%s", got.Stamped(), own)
		}
	})
	ext := Checkpoint{Origin: origin, Size: 7, Root: root, Extensions: []string{"time 1"}}
	tampered := bytes.Replace(own, []byte("\n7\n"), []byte("\n8\n"), 1)
	for name, c := range map[string]struct {
		note     []byte
		verifier note.Verifier
		want     error
	}{
		"nothing":               {nil, v, ErrSignature},
		"text alone":            {[]byte(text), v, ErrSignature},
		"tampered":              {tampered, v, ErrSignature},
		"other key":             {sign(t, text, otherKey), v, ErrSignature},
		"other log's key":       {own, otherVerifier, ErrSignature},
		"only a witness":        {sign(t, text, witness1), v, ErrSignature},
		"two keys of the log":   {sign(t, text, s, otherKey), v, ErrSignature},
		"signed by another log": {sign(t, text, otherLog), otherVerifier, ErrOrigin},
		"extension":             {sign(t, ext.Text(), s), v, ErrExtension},
		"not a checkpoint":      {sign(t, "hello\nworld\n", s), v, ErrMalformed},
		"size 07":               {sign(t, strings.Replace(text, "\n7\n", "\n07\n", 1), s), v, ErrMalformed},
		"too long":              {append(bytes.Repeat([]byte{'a'}, MaxNoteSize), own...), v, ErrMalformed},
	} {
		if got, err := Open(c.note, c.verifier); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	s, _ := key(t, origin, 1)
	for name, c := range map[string]struct {
		c    Checkpoint
		want error
	}{
		"another origin": {Checkpoint{Origin: "log.example/scripta/2"}, ErrOrigin},
		"extension":      {Checkpoint{Origin: origin, Extensions: []string{"x"}}, ErrExtension},
	} {
		if got, err := Sign(c.c, s); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewSigner(origin, ec); err == nil {
		t.Error("an ECDSA key was taken")
	}
	for _, bad := range []string{"", "a b", "a+b", "a\nb", "a\x01", "\xff"} {
		if _, _, err := NewVerifier(bad, make([]byte, 32)); !errors.Is(err, ErrMalformed) {
			t.Errorf("origin %q: %v", bad, err)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	const b64 = "Wv9a/1r/Wv9a/1r/Wv9a/1r/Wv9a/1r/Wv9a/1r/Wv8="
	good := origin + "\n18446744073709551615\n" + b64 + "\n"
	c, err := Parse(good)
	if err != nil || c.Size != 1<<64-1 || c.Root != root || c.Text() != good {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = Parse(good + "one\ntwo two\n")
	if err != nil || len(c.Extensions) != 2 || c.Extensions[1] != "two two" {
		t.Errorf("with extension lines: %+v, %v", c, err)
	}
	for _, bad := range []string{
		"", "\n", "\n\n\n", good[:len(good)-1], good + "\n", good + "x", good + "x\n\ny\n", "\n1\n" + b64 + "\n",
		"a b\n1\n" + b64 + "\n", "a\n\n" + b64 + "\n", "a\n+1\n" + b64 + "\n", "a\n01\n" + b64 + "\n", "a\n-1\n" + b64 + "\n",
		"a\n0x1\n" + b64 + "\n", "a\n1_0\n" + b64 + "\n", "a\n18446744073709551616\n" + b64 + "\n", "a\n1 \n" + b64 + "\n",
		"a\n1\n" + b64[:43] + "\n", "a\n1\n" + b64[:40] + "\n", "a\n1\n" + b64 + b64 + "\n", "a\n1\n" + strings.Replace(b64, "8=", "9=", 1) + "\n",
		"a\n1\n" + b64 + "\r\n", "a\n1\n\r" + b64 + "\n", "a\n1\n",
	} {
		if c, err := Parse(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %+v, %v", bad, c, err)
		}
	}
}

func TestStampedRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"":                    ErrMalformed,
		"a":                   ErrMalformed,
		"a\n\nb":              ErrMalformed,
		"\n\n":                ErrSignature,
		"a\n\n— b x\n":        ErrSignature,
		"a\n\n— a x\n— a y\n": ErrSignature,
	} {
		if got, err := Stamped([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%q: %q, %v; want %v", text, got, err, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	s, v := key(f, origin, 1)
	w, _ := key(f, "witness.example/1", 3)
	text := (&Checkpoint{Origin: origin, Size: 7, Root: root}).Text()
	f.Add(sign(f, text, s))
	f.Add(sign(f, text, w, s))
	f.Add([]byte("\n\n— a x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = Stamped(b)
		if c, err := Parse(string(b)); err == nil && c.Text() != string(b) {
			t.Errorf("%q is written as %q", b, c.Text())
		}
		if c, err := Open(b, v); err == nil && c.Text() != text {
			t.Errorf("a forged checkpoint: %q", b)
		}
	})
}
