package checkpoint

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

const (
	// MaxProofSize bounds the length in bytes of a proof that ParseProof reads.
	MaxProofSize = MaxNoteSize + 64<<10
	// maxProofHashes is what an inclusion proof in a tree of fewer than 2^64
	// leaves has at most.
	maxProofHashes = 64

	proofHeader = "c2sp.org/tlog-proof@v1"
)

// Proof is a self-contained proof that a log has an entry, to be kept and checked
// offline (c2sp.org/tlog-proof). Files of it are named *.tlog-proof.
type Proof struct {
	// Index is that of the entry.
	Index uint64
	// Extra is what the application adds, authenticated by nothing; nil for none.
	Extra []byte
	// Hashes is the inclusion proof in the tree of the checkpoint, from the
	// leaf's sibling up (RFC 6962 §2.1.1).
	Hashes [][32]byte
	// Note is the signed checkpoint, perhaps with cosignatures.
	Note []byte
}

// Text is the proof as it is stored and served.
func (p *Proof) Text() []byte {
	b := make([]byte, 0, 128+45*len(p.Hashes)+len(p.Note))
	b = append(b, proofHeader+"\n"...)
	if p.Extra != nil {
		b = append(base64.StdEncoding.AppendEncode(append(b, "extra "...), p.Extra), '\n')
	}
	b = append(strconv.AppendUint(append(b, "index "...), p.Index, 10), '\n')
	b = append(AppendHashes(b, p.Hashes), '\n')
	return append(b, p.Note...)
}

// AppendHashes appends hashes in base64, each on a line of its own.
func AppendHashes(b []byte, hashes [][32]byte) []byte {
	for _, h := range hashes {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return b
}

// ParseProof reads a proof in its one spelling and verifies nothing; the error is
// ErrMalformed.
func ParseProof(text []byte) (*Proof, error) {
	fail := func(what string) (*Proof, error) { return nil, fmt.Errorf("%w: proof: %s", ErrMalformed, what) }
	if len(text) > MaxProofSize {
		return fail("too long")
	}
	head, rest, ok := bytes.Cut(text, []byte("\n\n"))
	if !ok {
		return fail("no empty line before the checkpoint")
	}
	lines := strings.Split(string(head), "\n")
	if lines[0] != proofHeader {
		return fail("its first line is not " + proofHeader)
	}
	lines = lines[1:]
	p := &Proof{Note: bytes.Clone(rest)}
	var err error
	if len(lines) > 0 {
		if extra, ok := strings.CutPrefix(lines[0], "extra "); ok {
			if p.Extra, err = base64.StdEncoding.Strict().DecodeString(extra); err != nil {
				return fail("extra is not base64")
			}
			lines = lines[1:]
		}
	}
	if len(lines) == 0 {
		return fail("no index")
	}
	index, ok := strings.CutPrefix(lines[0], "index ")
	if p.Index, err = strconv.ParseUint(index, 10, 64); !ok || err != nil {
		return fail("no index")
	}
	if lines = lines[1:]; len(lines) > maxProofHashes {
		return fail("too many hashes")
	}
	for _, l := range lines {
		h, err := base64.StdEncoding.Strict().DecodeString(l)
		if err != nil || len(h) != 32 {
			return fail("a hash is not the base64 of 32 bytes")
		}
		p.Hashes = append(p.Hashes, [32]byte(h))
	}
	if !bytes.Equal(p.Text(), text) { // leading zeros, line breaks within base64
		return fail("not canonical")
	}
	return p, nil
}

// Verify checks that the log signed the checkpoint, and that its tree has an
// entry of that hash at the proof's index. The errors are those of Open, and
// ErrProof.
func (p *Proof) Verify(leaf [32]byte, log note.Verifier) (*Signed, error) {
	cp, err := Open(p.Note, log)
	if err != nil {
		return nil, err
	}
	return cp, VerifyInclusion(p.Hashes, p.Index, cp.Size, leaf, cp.Root)
}
