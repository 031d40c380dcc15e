package pec

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// maxEncodedWord bounds the search for the end of an encoded word. RFC 2047 allows 75 octets; real mail exceeds that.
const maxEncodedWord = 4096

// decodeText returns an unstructured field value as UTF-8: encoded words (RFC 2047) are decoded, an encoded word in an
// unknown charset stays as it is, raw octets that are not UTF-8 are read as windows-1252.
func decodeText(v string) string {
	if !strings.Contains(v, "=?") {
		return textOf(v)
	}
	var out strings.Builder
	var run []byte // decoded octets of the words since the last text, all of one charset
	var charset string
	flush := func() {
		if len(run) > 0 {
			s, _ := decodeCharset(charset, run)
			out.WriteString(s)
			run = run[:0]
		}
	}
	for len(v) > 0 {
		i := strings.Index(v, "=?")
		if i < 0 {
			i = len(v)
		}
		gap := v[:i]
		w, rest, ok := cutEncodedWord(v[i:])
		if !ok {
			// Not a word: the text up to and with its "=?" stands for itself.
			flush()
			n := min(len(v), i+2)
			out.WriteString(textOf(v[:n]))
			v = v[n:]
			continue
		}
		// White space between two words is not text; a character may be split over two words by careless encoders.
		if len(run) == 0 || strings.Trim(gap, " \t") != "" || !strings.EqualFold(charset, w.charset) {
			hadRun := len(run) > 0
			flush()
			if !hadRun || strings.Trim(gap, " \t") != "" {
				out.WriteString(textOf(gap))
			}
		}
		charset = w.charset
		run = append(run, w.text...)
		v = rest
	}
	flush()
	return out.String()
}

// encodedWord is one decoded encoded word, its text still in its charset.
type encodedWord struct {
	charset string
	text    []byte
}

// cutEncodedWord takes an encoded word off the front of v.
func cutEncodedWord(v string) (w encodedWord, rest string, ok bool) {
	if len(v) < 2 {
		return w, v, false
	}
	const longestCharset = 48
	head := v[2:min(len(v), 2+longestCharset)]
	q := strings.IndexByte(head, '?')
	if q <= 0 || len(head) < q+3 || head[q+2] != '?' {
		return w, v, false
	}
	w.charset = head[:q]
	if lang := strings.IndexByte(w.charset, '*'); lang > 0 { // RFC 2231 section 5
		w.charset = w.charset[:lang]
	}
	if _, known := decodeCharset(w.charset, nil); !known {
		return w, v, false
	}
	body := v[2+q+3:]
	end := strings.Index(body[:min(len(body), maxEncodedWord)], "?=")
	if end < 0 {
		return w, v, false
	}
	text := body[:end]
	switch head[q+1] {
	case 'q', 'Q':
		w.text = decodeQ(text)
	case 'b', 'B':
		text = strings.TrimRight(strings.Map(dropSpace, text), "=")
		b, err := base64.RawStdEncoding.DecodeString(text)
		if err != nil {
			return w, v, false
		}
		w.text = b
	default:
		return w, v, false
	}
	return w, body[end+2:], true
}

func dropSpace(r rune) rune {
	if r == ' ' || r == '\t' {
		return -1
	}
	return r
}

// decodeQ decodes the Q encoding; a malformed escape stands for itself.
func decodeQ(s string) []byte {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			b = append(b, ' ')
		case c == '=' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			b = append(b, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return b
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c - 'A' + 10)
	case 'a' <= c && c <= 'f':
		return int(c - 'a' + 10)
	}
	return -1
}

// textOf reads raw octets: UTF-8 when they are, windows-1252 when not.
func textOf(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	t, _ := decodeCharset("windows-1252", []byte(s))
	return t
}

// decodeCharset converts b to UTF-8; known is false for a charset it does not know. What mail calls ISO-8859-1 is read as
// windows-1252, as every reader of mail does.
func decodeCharset(charset string, b []byte) (text string, known bool) {
	switch strings.ToLower(charset) {
	case "utf-8", "utf8":
		return strings.ToValidUTF8(string(b), "\uFFFD"), true
	case "us-ascii", "ascii":
		return textOf(string(b)), true
	case "iso-8859-1", "iso8859-1", "latin1", "windows-1252", "cp1252":
		return decodeBytes(b, windows1252), true
	case "iso-8859-15", "iso8859-15", "latin9":
		return decodeBytes(b, latin9), true
	}
	return "", false
}

func decodeBytes(b []byte, decode func(byte) rune) string {
	var s strings.Builder
	s.Grow(len(b) + len(b)/8)
	for _, c := range b {
		s.WriteRune(decode(c))
	}
	return s.String()
}

func windows1252(c byte) rune {
	const high = "€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ"
	if c < 0x80 || c > 0x9f {
		return rune(c)
	}
	n := int(c - 0x80)
	for _, r := range high {
		if n == 0 {
			return r
		}
		n--
	}
	return utf8.RuneError
}

func latin9(c byte) rune {
	switch c {
	case 0xa4:
		return '€'
	case 0xa6:
		return 'Š'
	case 0xa8:
		return 'š'
	case 0xb4:
		return 'Ž'
	case 0xb8:
		return 'ž'
	case 0xbc:
		return 'Œ'
	case 0xbd:
		return 'œ'
	case 0xbe:
		return 'Ÿ'
	}
	return rune(c)
}
