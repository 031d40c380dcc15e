package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// MaxRequestSize bounds the body of a request in bytes: proof and note with
	// some dozens of signatures, post-quantum ones included.
	MaxRequestSize = 256 << 10
	// MaxProof bounds the hashes of a consistency proof (c2sp.org/tlog-witness).
	MaxProof = 63
)

// ErrRequest says that a body is no add-checkpoint request.
var ErrRequest = errors.New("witness: malformed request")

// Request is the body of add-checkpoint.
type Request struct {
	// Old is the size from which Proof goes: the last one that was cosigned.
	Old uint64
	// Proof proves that the tree of Old leaves is a prefix of the note's
	// (RFC 6962 §2.1.2).
	Proof [][32]byte
	// Note is the signed checkpoint.
	Note []byte
}

// Bytes is the request on the wire.
func (r *Request) Bytes() []byte {
	b := fmt.Appendf(nil, "old %d\n", r.Old)
	for _, h := range r.Proof {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return append(append(b, '\n'), r.Note...)
}

// ParseRequest reads a request. It is strict: Bytes gives the same bytes again.
// It looks at nothing in the note. The error is ErrRequest.
func ParseRequest(b []byte) (*Request, error) {
	if len(b) > MaxRequestSize {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrRequest, MaxRequestSize)
	}
	head, signed, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		return nil, fmt.Errorf("%w: no blank line", ErrRequest)
	}
	first, rest, more := strings.Cut(string(head), "\n")
	r := &Request{Note: signed}
	size, ok := strings.CutPrefix(first, "old ")
	var err error
	if r.Old, err = parseSize(size); !ok || err != nil {
		return nil, fmt.Errorf("%w: the first line is not \"old\" and a size", ErrRequest)
	}
	for more {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		h, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(h) != 32 || len(line) != 44 {
			return nil, fmt.Errorf("%w: a line of the proof is not the base64 of 32 bytes", ErrRequest)
		}
		if len(r.Proof) == MaxProof {
			return nil, fmt.Errorf("%w: more than %d hashes", ErrRequest, MaxProof)
		}
		r.Proof = append(r.Proof, [32]byte(h))
	}
	return r, nil
}

// parseSize reads a size in its one decimal form.
func parseSize(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, ErrRequest
	}
	return n, nil
}
