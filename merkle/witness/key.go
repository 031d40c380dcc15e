package witness

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// algorithm is the type of an Ed25519 cosignature key (c2sp.org/tlog-cosignature).
const algorithm = 0x04

// ErrKey says that a text is no key of a witness.
var ErrKey = errors.New("witness: not an Ed25519 cosignature key")

// Signer makes cosignatures. It may be used concurrently.
type Signer struct {
	verifier
	private ed25519.PrivateKey
}

// GenerateKey makes the key of a witness with the given name, which should be a
// URL without scheme that the operator controls. It returns the private key
// ("PRIVATE+KEY+<name>+<key id>+<base64>") and the public one
// ("<name>+<key id>+<base64>"), both of type 0x04.
func GenerateKey(random io.Reader, name string) (skey, vkey string, err error) {
	if !validName(name) {
		return "", "", fmt.Errorf("%w: the name %q is empty or has spaces or a plus sign", ErrKey, name)
	}
	public, private, err := ed25519.GenerateKey(random)
	if err != nil {
		return "", "", err
	}
	id := keyID(name, public)
	encode := func(b []byte) string { return base64.StdEncoding.EncodeToString(append([]byte{algorithm}, b...)) }
	return fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, id, encode(private.Seed())), fmt.Sprintf("%s+%08x+%s", name, id, encode(public)), nil
}

// NewSigner reads a private key that GenerateKey made. The error is ErrKey and
// holds nothing of the key.
func NewSigner(skey string) (*Signer, error) {
	rest, ok := strings.CutPrefix(skey, "PRIVATE+KEY+")
	if !ok {
		return nil, ErrKey
	}
	name, id, seed, err := parseKey(rest)
	if err != nil {
		return nil, ErrKey
	}
	private := ed25519.NewKeyFromSeed(seed)
	v := verifier{name: name, public: private.Public().(ed25519.PublicKey)}
	if v.KeyHash() != id {
		return nil, fmt.Errorf("%w: the key id does not fit", ErrKey)
	}
	return &Signer{verifier: v, private: private}, nil
}

// Verifier verifies what s signs.
func (s *Signer) Verifier() note.Verifier { return &s.verifier }

// Line returns the cosignature line of a note's text at a time, of which whole
// seconds count.
func (s *Signer) Line(text string, at time.Time) ([]byte, error) {
	seconds := at.Unix()
	if seconds < 0 {
		return nil, fmt.Errorf("witness: the clock shows %s", at)
	}
	b := binary.BigEndian.AppendUint32(nil, s.KeyHash())
	b = binary.BigEndian.AppendUint64(b, uint64(seconds))
	b = append(b, ed25519.Sign(s.private, cosigned(uint64(seconds), []byte(text)))...)
	return fmt.Appendf(nil, "— %s %s\n", s.name, base64.StdEncoding.EncodeToString(b)), nil
}

// verifier is a note.Verifier of cosignature/v1.
type verifier struct {
	name   string
	public ed25519.PublicKey
}

// NewVerifier reads the public key of a witness, of type 0x04. The error is
// ErrKey.
func NewVerifier(vkey string) (note.Verifier, error) {
	name, id, public, err := parseKey(vkey)
	if err != nil {
		return nil, err
	}
	v := &verifier{name: name, public: public}
	if v.KeyHash() != id {
		return nil, fmt.Errorf("%w: the key id does not fit", ErrKey)
	}
	return v, nil
}

func (v *verifier) Name() string    { return v.name }
func (v *verifier) KeyHash() uint32 { return keyID(v.name, v.public) }

// Verify checks a signature: 8 bytes of seconds since 1970, then Ed25519's 64.
func (v *verifier) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	return ed25519.Verify(v.public, cosigned(binary.BigEndian.Uint64(sig), text), sig[8:])
}

// cosigned is what a cosignature/v1 signs.
func cosigned(seconds uint64, text []byte) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", seconds), text...)
}

func parseKey(s string) (name string, id uint32, key []byte, err error) {
	parts := strings.Split(s, "+")
	if len(parts) < 3 {
		return "", 0, nil, ErrKey
	}
	name = parts[0]
	b, err := base64.StdEncoding.DecodeString(strings.Join(parts[2:], "+")) // base64 has plus signs, too
	var n uint32
	_, scanErr := fmt.Sscanf(parts[1], "%08x", &n)
	if err != nil || scanErr != nil || len(parts[1]) != 8 || !validName(name) || len(b) != 1+ed25519.PublicKeySize || b[0] != algorithm {
		return "", 0, nil, ErrKey
	}
	return name, n, b[1:], nil
}

// keyID is SHA-256(name ‖ 0x0A ‖ type ‖ key)[:4] (c2sp.org/signed-note).
func keyID(name string, public []byte) uint32 {
	h := sha256.Sum256(append(append([]byte(name), '\n', algorithm), public...))
	return binary.BigEndian.Uint32(h[:])
}

func validName(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.Contains(s, "+") && strings.IndexFunc(s, unicode.IsSpace) < 0
}
