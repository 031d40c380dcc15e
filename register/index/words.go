package index

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	// MaxWords is how many different words of a subject are found; further ones
	// are not.
	MaxWords   = 32
	maxWord    = 64      // bytes; of a longer word the beginning counts
	maxSubject = 4 << 10 // bytes of a subject that are looked at
)

// Words returns the words of a subject by which it is found, each once, in their
// order, at most [MaxWords]: runs of two or more letters and digits, in lower
// case, compatible forms made one (NFKC) and accents taken off, so that "Perché"
// and "PERCHE" are one word. The subject is text, already decoded.
func Words(subject string) []string {
	if len(subject) > maxSubject {
		subject = subject[:maxSubject]
	}
	if strings.IndexFunc(subject, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
		subject = norm.NFKD.String(subject)
	}
	var (
		words []string
		word  []byte
		n     int // letters of word
	)
	end := func() {
		if n >= 2 && !slices.Contains(words, string(word)) {
			words = append(words, string(word))
		}
		word, n = word[:0], 0
	}
	for _, r := range subject {
		switch {
		case unicode.Is(unicode.Mn, r): // an accent
		case r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			if r = unicode.ToLower(r); len(word)+utf8.RuneLen(r) <= maxWord {
				word = utf8.AppendRune(word, r)
			}
			n++
		default:
			if end(); len(words) == MaxWords {
				return words
			}
		}
	}
	end()
	return words
}
