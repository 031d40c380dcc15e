package checkpoint

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// NewVerifier returns the verifier of a log's Ed25519 key under its origin. The
// string is the key as auditors and witnesses are given it:
// "<origin>+<key id>+<base64>" (c2sp.org/signed-note).
func NewVerifier(origin string, key ed25519.PublicKey) (note.Verifier, string, error) {
	if !validOrigin(origin) {
		return nil, "", fmt.Errorf("%w: origin %q", ErrMalformed, origin)
	}
	vkey, err := note.NewEd25519VerifierKey(origin, key)
	if err != nil {
		return nil, "", fmt.Errorf("couldn't encode the log's public key: %w", err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, "", fmt.Errorf("couldn't use the log's public key: %w", err)
	}
	return v, vkey, nil
}

// NewSigner returns the signer of a log out of its private key, which must be
// Ed25519, in a file or a device, and the verifier that goes with it.
func NewSigner(origin string, key crypto.Signer) (note.Signer, note.Verifier, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, nil, fmt.Errorf("the log's key is %T, it must be Ed25519", key.Public())
	}
	v, _, err := NewVerifier(origin, public)
	if err != nil {
		return nil, nil, err
	}
	return &signer{Verifier: v, key: key}, v, nil
}

// signer is a note.Signer over a crypto.Signer.
type signer struct {
	note.Verifier // for its name and key hash
	key           crypto.Signer
}

func (s *signer) Sign(msg []byte) ([]byte, error) {
	return s.key.Sign(rand.Reader, msg, crypto.Hash(0)) // Ed25519 signs the message itself
}
