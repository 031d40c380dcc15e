package mailbox

import (
	"errors"
	"fmt"
	"strings"
)

// ErrAddress is returned for an address that cannot be a mailbox of ours.
var ErrAddress = errors.New("not an address that a mailbox can have")

const (
	// ServiceLocal is the local part of the provider's own mailbox, the sender
	// of every envelope and receipt (RFC 6109 §3.1.2). It has no account.
	ServiceLocal = "posta-certificata"
	// LogRequestLocal is the local part to which holders write for an extract
	// of the log.
	LogRequestLocal = "richiesta-log"
)

// Reserved tells whether a local part, in any case, belongs to the provider and
// can be no account: the service mailbox, the log requests, and the two that
// RFC 2142 asks for.
func Reserved(local string) bool {
	switch lower(local) {
	case ServiceLocal, LogRequestLocal, "postmaster", "abuse":
		return true
	}
	return false
}

// Normalize returns address in lower case, or ErrAddress. The local part is a
// dot-atom (RFC 5322 §3.2.3) of at most 64 bytes without the characters that
// mean something to a path, a glob, a comment or Dovecot's variables ("/#%*?|`");
// the domain has at least two labels of ASCII letters, digits and hyphens. So
// neither can leave its folder: "/", NUL, "..", and a leading dot are refused.
func Normalize(address string) (string, error) {
	local, domain, err := split(address)
	if err != nil {
		return "", err
	}
	return local + "@" + domain, nil
}

func split(address string) (local, domain string, err error) {
	local, domain, ok := strings.Cut(address, "@")
	if !ok || !validLocal(local) || !validDomain(domain) {
		return "", "", fmt.Errorf("%.100q: %w", address, ErrAddress)
	}
	return lower(local), lower(domain), nil
}

// lower turns A to Z alone into lower case: the Kelvin sign, U+212A, is no k.
func lower(s string) string {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return s
		}
	}
	return strings.ToLower(s)
}

func validLocal(s string) bool {
	if s == "" || len(s) > 64 || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		if !alphanumeric(s[i]) && !strings.ContainsRune("!$&'+-=^_{}~.", rune(s[i])) {
			return false
		}
	}
	return true
}

func validDomain(s string) bool {
	if len(s) > 253 || !strings.Contains(s, ".") {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !alphanumeric(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
