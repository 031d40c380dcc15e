package mailbox

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Cost is how much work Argon2id does for one password (RFC 9106 §3.1).
type Cost struct {
	Memory  uint32 // KiB
	Passes  uint32
	Threads uint8
}

// DefaultCost is the configuration that OWASP's Password Storage Cheat Sheet
// names first for little memory: 19 MiB and 2 passes. Its alternatives (46 MiB
// and 1 pass, 12 MiB and 3) are meant to be equally strong; 64 MiB, RFC 9106's
// second choice, would cost every login three times as much, on the cores and
// the memory that sign mail. One thread, because more of them would take the
// second core too, and libsodium, with which Dovecot checks, makes no others.
// A file with other costs is verified at those.
var DefaultCost = Cost{Memory: 19 << 10, Passes: 2, Threads: 1}

const (
	maxMemory  = 1 << 20 // KiB: 1 GiB
	maxPasses  = 64
	maxThreads = 16
	saltSize   = 16
	hashSize   = 32
)

var errHash = errors.New("malformed Argon2id hash")

// valid tells whether Argon2 is defined for c, and whether a login may cost so
// much: what a file says must not be able to stop the server.
func (c Cost) valid() bool {
	return c.Threads >= 1 && c.Threads <= maxThreads && c.Passes >= 1 && c.Passes <= maxPasses &&
		c.Memory >= 8*uint32(c.Threads) && c.Memory <= maxMemory && uint64(c.Memory)*uint64(c.Passes) <= 4*maxMemory
}

// hash is an Argon2id hash of a password.
type hash struct {
	cost Cost
	salt []byte
	sum  []byte
}

func newHash(c Cost, salt []byte, password string) hash {
	return hash{c, salt, argon2.IDKey([]byte(password), salt, c.Passes, c.Memory, c.Threads, hashSize)}
}

// matches computes the hash of password and compares it in constant time.
func (h hash) matches(password string) bool {
	sum := argon2.IDKey([]byte(password), h.salt, h.cost.Passes, h.cost.Memory, h.cost.Threads, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}

// String is the hash in the PHC format, "$argon2id$v=19$m=…,t=…,p=…$salt$hash".
func (h hash) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.cost.Memory, h.cost.Passes, h.cost.Threads, b64(h.salt), b64(h.sum))
}

// parseHash reads the PHC format of Argon2id version 1.3, with its three costs in
// this order, a salt of 8 to 64 bytes and a hash of 16 to 64.
func parseHash(s string) (hash, error) {
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v=19" {
		return hash{}, errHash
	}
	var h hash
	costs := strings.Split(f[3], ",")
	if len(costs) != 3 {
		return hash{}, errHash
	}
	var n [3]uint32
	for i, name := range []string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(costs[i], name)
		v, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || strconv.FormatUint(v, 10) != digits {
			return hash{}, errHash
		}
		n[i] = uint32(v)
	}
	if n[2] > maxThreads {
		return hash{}, fmt.Errorf("%w: cost out of bounds", errHash)
	}
	h.cost = Cost{Memory: n[0], Passes: n[1], Threads: uint8(n[2])}
	if !h.cost.valid() {
		return hash{}, fmt.Errorf("%w: cost out of bounds", errHash)
	}
	var err1, err2 error
	strict := base64.RawStdEncoding.Strict()
	h.salt, err1 = strict.DecodeString(f[4])
	h.sum, err2 = strict.DecodeString(f[5])
	if err1 != nil || err2 != nil || strings.ContainsAny(f[4]+f[5], "\r\n") ||
		len(h.salt) < 8 || len(h.salt) > 64 || len(h.sum) < 16 || len(h.sum) > 64 {
		return hash{}, errHash
	}
	return h, nil
}
