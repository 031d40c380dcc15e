package relay

import (
	"net/netip"
	"strings"
)

// checkAddress returns the domain of an address, in lower case, or why it cannot stand in MAIL or RCPT as it is. The
// local part is written as the address has it, quotes included (RFC 5321 §4.1.2).
func checkAddress(address string) (domain, problem string) {
	at := strings.LastIndexByte(address, '@')
	if at < 1 {
		return "", "the address has no domain"
	}
	local, domain := address[:at], strings.ToLower(strings.TrimSuffix(address[at+1:], "."))
	for _, c := range []byte(address) {
		switch {
		case c >= 0x80:
			return "", "the address is not ASCII, which needs SMTPUTF8" // RFC 6531
		case c < 0x20 || c == 0x7f:
			return "", "the address holds a control character"
		}
	}
	if len(local) > 64 || len(domain) > 255 {
		return "", "the address is too long"
	}
	if !quoted(local) && strings.ContainsAny(local, " <>()[],;:\\\"@") {
		return "", "the part before @ needs quotes"
	}
	if !hostname(domain) {
		return "", "the part after @ is not a domain"
	}
	return domain, ""
}

// quoted says whether s is one quoted string.
func quoted(s string) bool {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return false
	}
	for i := 1; i < len(s)-1; i++ {
		switch s[i] {
		case '"':
			return false
		case '\\':
			if i++; i == len(s)-1 {
				return false
			}
		}
	}
	return true
}

// hostname says whether s is a domain name that mail can go to: labels of letters, digits, hyphens and underscores.
func hostname(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
