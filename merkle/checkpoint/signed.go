package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// MaxNoteSize bounds the length in bytes of a signed checkpoint that Open
// reads: text and about a hundred signatures, post-quantum ones included.
const MaxNoteSize = 512 << 10

// ErrSignature says that a note does not carry a good signature of the log.
var ErrSignature = errors.New("checkpoint: not signed by the log")

// Signed is a checkpoint whose signature by the log was made or verified.
type Signed struct {
	Checkpoint
	// Note is the signed note: the text, a blank line, the log's signature line,
	// perhaps those of witnesses. It must not be changed.
	Note []byte

	stamped []byte
}

// Stamped returns what a time stamp covers: the note's text, the blank line and
// the log's own signature line, never the cosignatures, which may come later.
func (s *Signed) Stamped() []byte { return bytes.Clone(s.stamped) }

// Sign signs a checkpoint with the log's key, whose name must be the origin. The
// error is ErrOrigin, ErrExtension, ErrMalformed or the signer's.
func Sign(c Checkpoint, signer note.Signer) (*Signed, error) {
	if signer.Name() != c.Origin {
		return nil, fmt.Errorf("%w: the key of %q can't sign for %q", ErrOrigin, signer.Name(), c.Origin)
	}
	if len(c.Extensions) > 0 {
		return nil, ErrExtension
	}
	if _, err := Parse(c.Text()); err != nil {
		return nil, err
	}
	signed, err := note.Sign(&note.Note{Text: c.Text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("couldn't sign the checkpoint: %w", err)
	}
	return &Signed{Checkpoint: c, Note: signed, stamped: signed}, nil
}

// Open reads a signed checkpoint and verifies the log's signature. It returns
// ErrSignature unless exactly one line is signed under the verifier's name and
// its signature is good, ErrOrigin if the origin is not the verifier's name,
// ErrExtension, or ErrMalformed. Signatures of others are neither needed nor
// verified.
func Open(signed []byte, verifier note.Verifier) (*Signed, error) {
	if len(signed) > MaxNoteSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(signed))
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	c, err := Parse(n.Text)
	if err != nil {
		return nil, err
	}
	if c.Origin != verifier.Name() {
		return nil, fmt.Errorf("%w: %q, not %q", ErrOrigin, c.Origin, verifier.Name())
	}
	if len(c.Extensions) > 0 {
		return nil, ErrExtension
	}
	stamped, err := Stamped(signed)
	if err != nil {
		return nil, err
	}
	return &Signed{Checkpoint: *c, Note: bytes.Clone(signed), stamped: stamped}, nil
}

// Stamped returns what a time stamp covers of a signed checkpoint: the text, the
// blank line and the one signature line whose name is the origin. It verifies
// nothing: use Open for that. The error is ErrMalformed, or ErrSignature if
// there is no such line or more than one.
func Stamped(signed []byte) ([]byte, error) {
	split := bytes.LastIndex(signed, []byte("\n\n"))
	if split < 0 || signed[len(signed)-1] != '\n' {
		return nil, fmt.Errorf("%w: no signed note", ErrMalformed)
	}
	head := signed[:split+2]
	origin, _, _ := strings.Cut(string(head), "\n")
	prefix := []byte("— " + origin + " ")
	var own []byte
	for line := range bytes.Lines(signed[len(head):]) {
		if !bytes.HasPrefix(line, prefix) {
			continue
		}
		if own != nil {
			return nil, fmt.Errorf("%w: several signatures in the name of %q", ErrSignature, origin)
		}
		own = line
	}
	if own == nil {
		return nil, fmt.Errorf("%w: no signature in the name of %q", ErrSignature, origin)
	}
	return append(bytes.Clone(head), own...), nil
}
