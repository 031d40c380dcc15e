package checkpoint

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"
)

// proofOf is the proof of entry i of a log of n entries.
func proofOf(t testing.TB, i, n uint64) (p *Proof, leaf [32]byte, log note.Verifier) {
	t.Helper()
	tree := testonly.New(rfc6962.DefaultHasher)
	for k := range n {
		tree.AppendData(fmt.Appendf(nil, "entry %d", k))
	}
	signer, log, err := NewSigner("log.example/1", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	cp, err := Sign(Checkpoint{Origin: "log.example/1", Size: n, Root: [32]byte(tree.HashAt(n))}, signer)
	if err != nil {
		t.Fatal(err)
	}
	h, err := tree.InclusionProof(i, n)
	if err != nil {
		t.Fatal(err)
	}
	return &Proof{Index: i, Hashes: hashes(h), Note: cp.Note}, [32]byte(tree.LeafHash(i)), log
}

// Proofs are those that transparency-dev's own package reads and writes.
func TestProofText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		i, n  uint64
		extra []byte
	}{{0, 1, nil}, {3, 7, nil}, {6, 7, []byte("about a record")}, {12, 300, []byte{}}} {
		p, leaf, log := proofOf(t, c.i, c.n)
		p.Extra = c.extra
		text := p.Text()
		theirs := proof.TLogProof{Index: p.Index, Hashes: p.Hashes, Checkpoint: p.Note, ExtraData: p.Extra}
		if !bytes.Equal(text, theirs.Marshal()) {
			t.Errorf("ours\n%s\ntheirs\n%s", text, theirs.Marshal())
		}
		read, err := ParseProof(text)
		if err != nil {
			t.Fatal(err)
		}
		if cp, err := read.Verify(leaf, log); err != nil || cp.Size != c.n || !bytes.Equal(read.Extra, c.extra) {
			t.Errorf("%d of %d: %v", c.i, c.n, err)
		}
		leaf[0] ^= 1
		if _, err := read.Verify(leaf, log); !errors.Is(err, ErrProof) {
			t.Errorf("another leaf: %v", err)
		}
	}
}

func TestProofRefused(t *testing.T) {
	t.Parallel()
	p, leaf, log := proofOf(t, 3, 7)
	good := string(p.Text())
	line := strings.Split(good, "\n")[2]
	for what, text := range map[string]string{
		"empty":           "",
		"header":          strings.Replace(good, "@v1", "@v2", 1),
		"no checkpoint":   good[:strings.Index(good, "\n\n")],
		"no index":        strings.Replace(good, "index 3\n", "", 1),
		"a leading zero":  strings.Replace(good, "index 3", "index 03", 1),
		"a signed index":  strings.Replace(good, "index 3", "index +3", 1),
		"a short hash":    strings.Replace(good, line, line[4:], 1),
		"no base64":       strings.Replace(good, line, "?"+line[1:], 1),
		"carriage return": strings.Replace(good, line, line+"\r", 1),
		"too many hashes": strings.Replace(good, line+"\n", strings.Repeat(line+"\n", maxProofHashes+1), 1),
		"too long":        good + strings.Repeat("x", MaxProofSize),
	} {
		if _, err := ParseProof([]byte(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, text := range map[string]string{
		"another index":  strings.Replace(good, "index 3", "index 2", 1),
		"beyond":         strings.Replace(good, "index 3", "index 7", 1),
		"a hash less":    strings.Replace(good, line+"\n", "", 1),
		"another root":   strings.Replace(good, "\n7\n", "\n7\nA", 1),
		"no signature":   good[:strings.Index(good, "—")],
		"another origin": strings.ReplaceAll(good, "log.example", "log.evil"),
	} {
		read, err := ParseProof([]byte(text))
		if err == nil {
			_, err = read.Verify(leaf, log)
		}
		if err == nil {
			t.Errorf("%s: verified", what)
		}
	}
}

func FuzzParseProof(f *testing.F) {
	p, _, log := proofOf(f, 3, 7)
	f.Add(p.Text())
	p.Extra = []byte("x")
	f.Add(p.Text())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProof(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Text(), b) {
			t.Errorf("%q is written as %q", b, p.Text())
		}
		_, _ = p.Verify([32]byte{}, log)
	})
}
