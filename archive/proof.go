package archive

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// encodeHashes writes hashes in hexadecimal, one on a line.
func encodeHashes(b []byte, hashes [][32]byte) []byte {
	for _, h := range hashes {
		b = append(hex.AppendEncode(b, h[:]), '\n')
	}
	return b
}

// decodeHashes reads what encodeHashes wrote, and nothing else.
func decodeHashes(b []byte) ([][32]byte, error) {
	hashes := [][32]byte{}
	for line := range bytes.Lines(b) {
		var d Digest
		if err := d.UnmarshalText(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return nil, err
		}
		hashes = append(hashes, d)
	}
	if !bytes.Equal(encodeHashes(nil, hashes), b) {
		return nil, errors.New("not a list of SHA-256 hashes in its canonical form")
	}
	return hashes, nil
}

// step is a proof that the log of to leaves continues that of from leaves (RFC
// 6962 §2.1.2).
type step struct {
	from, to uint64
	hashes   [][32]byte
}

// encodeSteps writes each proof as a line "consistency FROM TO" and its hashes.
func encodeSteps(steps ...step) []byte {
	var b []byte
	for _, s := range steps {
		b = fmt.Appendf(b, "consistency %d %d\n", s.from, s.to)
		b = encodeHashes(b, s.hashes)
	}
	return b
}

// decodeSteps reads what encodeSteps wrote, and nothing else.
func decodeSteps(b []byte) ([]step, error) {
	var steps []step
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "consistency ") {
			var s step
			if _, err := fmt.Sscanf(line, "consistency %d %d\n", &s.from, &s.to); err != nil {
				return nil, fmt.Errorf("%.80q is not the head of a consistency proof", line)
			}
			steps = append(steps, s)
			continue
		}
		var d Digest
		if err := d.UnmarshalText([]byte(strings.TrimSuffix(line, "\n"))); err != nil {
			return nil, err
		}
		if len(steps) == 0 {
			return nil, errors.New("a hash before the head of its proof")
		}
		last := &steps[len(steps)-1]
		last.hashes = append(last.hashes, d)
	}
	if !bytes.Equal(encodeSteps(steps...), b) {
		return nil, errors.New("not consistency proofs in their canonical form")
	}
	return steps, nil
}
