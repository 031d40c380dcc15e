package pec

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// Widths of header lines, without their line break.
const (
	foldAt    = 78  // RFC 5322 section 2.1.1: lines should stay under it
	wordLine  = 76  // RFC 2047 section 2: a line with an encoded word
	wordBytes = 75  // RFC 2047 section 2: an encoded word
	maxChunk  = 500 // longest piece without a place to fold that goes out as it is
)

// maxSubject is how much of a subject goes into a Subject field. The whole of it is in daticert.xml, and some servers cut
// or refuse longer headers.
const maxSubject = 4096

// appendField appends a field whose value is known to be short printable ASCII.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// appendSubject appends a Subject of a constant ASCII prefix, which ends in a space, and a free text.
func appendSubject(b []byte, prefix, text string) []byte {
	text = strings.TrimRight(oneLine(cut(text, maxSubject)), " ")
	start := len(b)
	b = append(b, "Subject: "...)
	b = append(b, prefix...)
	if isFoldable(text) {
		b = appendFolded(b, len(b)-start, text)
	} else {
		b = appendEncodedWords(b, len(b)-start, text)
	}
	return append(b, "\r\n"...)
}

// isFoldable says whether text can stand in a header as it is: printable ASCII that nobody decodes to something else,
// with spaces to fold at often enough.
func isFoldable(text string) bool {
	if !isPrintable(text) || strings.Contains(text, "=?") {
		return false
	}
	for len(text) > 0 {
		n := chunk(text)
		if n > maxChunk {
			return false
		}
		text = text[n:]
	}
	return true
}

// chunk is the length of the spaces that s begins with and the word after them.
func chunk(s string) int {
	n := 0
	for n < len(s) && s[n] == ' ' {
		n++
	}
	for n < len(s) && s[n] != ' ' {
		n++
	}
	return n
}

// appendFolded appends a foldable text to a line that already has the given width.
func appendFolded(b []byte, width int, text string) []byte {
	for len(text) > 0 {
		n := chunk(text)
		if width+n > foldAt && text[0] == ' ' {
			b = append(b, "\r\n"...)
			width = 0
		}
		b = append(b, text[:n]...)
		width += n
		text = text[n:]
	}
	return b
}

// appendEncodedWords appends text as encoded words (RFC 2047) in UTF-8, which are also right inside a phrase, to a line
// that already has the given width and ends in a space.
func appendEncodedWords(b []byte, width int, text string) []byte {
	const frame = len("=?UTF-8?Q??=")
	q := 2*countEncoded(text) < len(text)/3 // the shorter of the two encodings
	room := wordLine - width
	if room < frame+24 && len(b) > 0 && b[len(b)-1] == ' ' {
		b = append(b[:len(b)-1], "\r\n "...)
		room = wordBytes
	}
	for {
		if q {
			b, text = appendQWord(b, text, room-frame)
		} else {
			b, text = appendBWord(b, text, room-frame)
		}
		if text == "" {
			return b
		}
		b = append(b, "\r\n "...)
		room = wordBytes
	}
}

// isQSafe says whether c stands for itself in a Q-encoded word, even inside a phrase (RFC 2047 section 5).
func isQSafe(c byte) bool {
	return isAlnum(c) || c == '!' || c == '*' || c == '+' || c == '-' || c == '/'
}

func countEncoded(s string) int {
	n := 0
	for i := 0; i < len(s); i++ {
		if !isQSafe(s[i]) && s[i] != ' ' {
			n++
		}
	}
	return n
}

// appendQWord appends one word with as many whole characters of text as fit in room; it returns the rest of the text.
func appendQWord(b []byte, text string, room int) ([]byte, string) {
	const hexDigits = "0123456789ABCDEF"
	b = append(b, "=?UTF-8?Q?"...)
	for len(text) > 0 {
		_, n := utf8.DecodeRuneInString(text)
		cost := 3 * n
		if text[0] == ' ' || isQSafe(text[0]) {
			cost = 1
		}
		if room -= cost; room < 0 {
			break
		}
		switch {
		case text[0] == ' ':
			b = append(b, '_')
		case cost == 1:
			b = append(b, text[0])
		default:
			for _, c := range []byte(text[:n]) {
				b = append(b, '=', hexDigits[c>>4], hexDigits[c&15])
			}
		}
		text = text[n:]
	}
	return append(b, "?="...), text
}

// appendBWord is appendQWord in the B encoding.
func appendBWord(b []byte, text string, room int) ([]byte, string) {
	part := cut(text, room/4*3)
	b = append(b, "=?UTF-8?B?"...)
	b = base64.StdEncoding.AppendEncode(b, []byte(part))
	return append(b, "?="...), text[len(part):]
}

// appendAddresses appends an address field, folded after commas.
func appendAddresses(b []byte, name string, addresses []string) []byte {
	start := len(b)
	b = append(b, name...)
	b = append(b, ": "...)
	for i, a := range addresses {
		if i > 0 {
			b = append(b, ',')
			if len(b)-start+1+len(a) > foldAt {
				b = append(b, "\r\n"...)
				start = len(b)
			}
			b = append(b, ' ')
		}
		b = appendAddress(b, len(b)-start, a)
	}
	return append(b, "\r\n"...)
}

// appendAddress appends an addr-spec. What is none goes out as the name of an empty group, which is valid wherever an
// address list is and names no mailbox.
func appendAddress(b []byte, width int, a string) []byte {
	if _, _, ok := splitAddress(a); ok {
		return append(b, a...)
	}
	b = appendEncodedWords(b, width, oneLine(cut(a, maxAddress)))
	return append(b, " :;"...)
}

// appendOnBehalf appends the From field of an envelope, which shows the sender in the display name and has the
// provider's address, because the address must be the one in the signing certificate (RFC 6109 section 2.1).
func appendOnBehalf(b []byte, sender, service string) []byte {
	display := onBehalfOf + oneLine(cut(sender, maxAddress))
	start := len(b)
	b = append(b, "From: "...)
	if isPrintable(display) && !strings.Contains(display, "=?") { // some programs decode words even inside quotes
		b = append(b, '"')
		for i := 0; i < len(display); i++ {
			if display[i] == '"' || display[i] == '\\' {
				b = append(b, '\\')
			}
			b = append(b, display[i])
		}
		b = append(b, '"')
	} else {
		b = appendEncodedWords(b, len("From: "), display)
	}
	if len(b)-start+len(service)+3 > foldAt {
		b = append(b, "\r\n"...)
	}
	b = append(b, " <"...)
	b = append(b, service...)
	return append(b, ">\r\n"...)
}
