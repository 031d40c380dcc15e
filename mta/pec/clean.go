package pec

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// oneLine returns s as it may stand in one line that a person reads: control characters, line separators and the
// characters that turn the direction of text (which could make a subject rewrite the rest of its line) become spaces,
// what is not UTF-8 becomes U+FFFD.
func oneLine(s string) string {
	if isPrintable(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r),
			r == '\u2028', r == '\u2029',
			'\u202a' <= r && r <= '\u202e',
			'\u2066' <= r && r <= '\u2069',
			r == '\u200e', r == '\u200f', r == '\u061c', r == '\ufeff':
			return ' '
		}
		return r // strings.Map turns invalid UTF-8 into U+FFFD
	}, s)
}

// isPrintable says whether s is printable ASCII.
func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// cut returns at most n octets of s, ending between two characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// maxMessageID bounds the inside of a Message-ID so that a header line with it stays under 998 octets.
const maxMessageID = 900

// cleanMessageID returns the Message-ID in v, a field value or one from elsewhere, with its angle brackets. What may not
// stand in one is dropped. It is empty when nothing is left, or when it is too long to go on a line of its own.
func cleanMessageID(v string) string {
	if i := strings.IndexByte(v, '<'); i >= 0 {
		v = v[i+1:]
		if j := strings.IndexByte(v, '>'); j >= 0 {
			v = v[:j]
		}
	}
	keep := func(r rune) rune {
		if r <= ' ' || r > '~' || r == '<' || r == '>' {
			return -1
		}
		return r
	}
	v = strings.Map(keep, v)
	if v == "" || len(v) > maxMessageID {
		return ""
	}
	return "<" + v + ">"
}

// bare returns a Message-ID without its angle brackets.
func bare(id string) string {
	return strings.TrimSuffix(strings.TrimPrefix(id, "<"), ">")
}
