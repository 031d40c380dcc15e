package checkpoint

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrMalformed says that a text is not a checkpoint, or not in its one
	// canonical form.
	ErrMalformed = errors.New("checkpoint: malformed")
	// ErrOrigin says that a checkpoint, or a key, belongs to another log.
	ErrOrigin = errors.New("checkpoint: of another log")
	// ErrExtension says that a checkpoint has extension lines, which this
	// project's logs do not sign.
	ErrExtension = errors.New("checkpoint: unexpected extension lines")
)

// Checkpoint is a log's statement about itself at one moment.
type Checkpoint struct {
	// Origin names the log for ever: "<provider domain>/scripta/<log id>".
	Origin string
	// Size is the number of leaves.
	Size uint64
	// Root is the Merkle tree hash of those leaves (RFC 6962 §2.1).
	Root [32]byte
	// Extensions are the lines after the root, without their line ends. A log of
	// this project has none.
	Extensions []string
}

// Text returns the note text: origin, size in decimal and root in base64, each
// on a line, then the extension lines. It is what a signature covers. It
// performs no checks: what Parse refuses, Text can write.
func (c *Checkpoint) Text() string {
	b := make([]byte, 0, len(c.Origin)+72)
	b = append(append(b, c.Origin...), '\n')
	b = append(strconv.AppendUint(b, c.Size, 10), '\n')
	b = append(base64.StdEncoding.AppendEncode(b, c.Root[:]), '\n')
	for _, e := range c.Extensions {
		b = append(append(b, e...), '\n')
	}
	return string(b)
}

// Parse reads a note text. It is strict: the size has no leading zeros, the
// root is canonical base64 of 32 bytes, extension lines are not empty, every
// line ends with a line feed; so Text gives the same bytes again. The error is
// ErrMalformed. Parse verifies no signature.
func Parse(text string) (*Checkpoint, error) {
	fail := func(what string) (*Checkpoint, error) { return nil, fmt.Errorf("%w: %s", ErrMalformed, what) }
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[len(lines)-1] != "" {
		return fail("fewer than three lines, or the last one is not ended")
	}
	lines = lines[:len(lines)-1]
	c := &Checkpoint{Origin: lines[0]}
	if !validOrigin(c.Origin) {
		return fail("the origin is no valid name of a key")
	}
	var err error
	if c.Size, err = strconv.ParseUint(lines[1], 10, 64); err != nil || strconv.FormatUint(c.Size, 10) != lines[1] {
		return fail("the size is no canonical decimal number below 2^64")
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return fail("the root is not the base64 of 32 bytes")
	}
	c.Root = [32]byte(root)
	for _, e := range lines[3:] {
		if e == "" {
			return fail("an empty extension line")
		}
		c.Extensions = append(c.Extensions, e)
	}
	// DecodeString skips \r (and \n), so compare with what would be written.
	if c.Text() != text {
		return fail("not canonical")
	}
	return c, nil
}

// validOrigin reports whether s can be an origin and with it the name of the
// log's key: not empty, UTF-8, without spaces and plus signs
// (c2sp.org/signed-note).
func validOrigin(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.Contains(s, "+") &&
		strings.IndexFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r < 0x20 || r == 0x7f }) < 0
}
