package relay

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a reply. RFC 5321 §4.5.3.1.5 allows 512 octets a line; servers send more.
const (
	maxReplyLine  = 4096 // octets, CRLF included
	maxReplyLines = 128
	maxReplyText  = 1000 // octets that are kept of it
)

// errReply says that a server's reply is no SMTP reply.
var errReply = errors.New("relay: not an SMTP reply")

// reply is a server's whole reply.
type reply struct {
	code     int
	enhanced string   // RFC 2034, of the first line; empty: none
	text     string   // its lines, joined by spaces, printable, without the codes
	lines    []string // as they came, without code and line end; for EHLO
}

// class is the first digit of the code.
func (r *reply) class() int { return r.code / 100 }

// readReply reads a reply of any number of lines (RFC 5321 §4.2.1). r's buffer must be of maxReplyLine octets. A
// line may end in LF alone, as some servers' do.
func readReply(r *bufio.Reader) (reply, error) {
	var rep reply
	for {
		b, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return rep, fmt.Errorf("%w: a line of more than %d octets", errReply, maxReplyLine)
		case errors.Is(err, io.EOF) && (len(b) > 0 || rep.lines != nil):
			return rep, io.ErrUnexpectedEOF
		case err != nil:
			return rep, err
		}
		code, rest, last, ok := splitReplyLine(string(b))
		switch {
		case !ok:
			return rep, fmt.Errorf("%w: %s", errReply, printable(string(b), 100))
		case rep.lines != nil && code != rep.code:
			return rep, fmt.Errorf("%w: codes %d and %d in one", errReply, rep.code, code)
		case len(rep.lines) == maxReplyLines:
			return rep, fmt.Errorf("%w: more than %d lines", errReply, maxReplyLines)
		}
		rep.code = code
		rep.lines = append(rep.lines, rest)
		if last {
			rep.finish()
			return rep, nil
		}
	}
}

// splitReplyLine splits "250-text", "250 text" and "250".
func splitReplyLine(line string) (code int, rest string, last, ok bool) {
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return 0, "", false, false
	}
	for _, c := range []byte(line[:3]) {
		if c < '0' || c > '9' {
			return 0, "", false, false
		}
		code = 10*code + int(c-'0')
	}
	if len(line) == 3 {
		return code, "", true, true
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, "", false, false
	}
	return code, line[4:], line[3] == ' ', true
}

// finish takes the enhanced code and the text out of the lines.
func (r *reply) finish() {
	var text strings.Builder
	for i, line := range r.lines {
		code, rest := splitEnhanced(line)
		if code != "" && code[0] == byte('0'+r.class()) { // else it is text
			line = rest
			if i == 0 {
				r.enhanced = code
			}
		}
		if line = strings.TrimSpace(line); line != "" && text.Len() < maxReplyText {
			if text.Len() > 0 {
				text.WriteByte(' ')
			}
			text.WriteString(line)
		}
	}
	r.text = printable(text.String(), maxReplyText)
}

// splitEnhanced splits "5.1.1 text" (RFC 3463 §2: one digit, then twice one to three).
func splitEnhanced(s string) (code, rest string) {
	code, rest, _ = strings.Cut(s, " ")
	parts := strings.Split(code, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || !strings.Contains("245", parts[0]) {
		return "", s
	}
	for _, p := range parts[1:] {
		if len(p) < 1 || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return "", s
		}
	}
	return code, rest
}

// printable makes one line of a stranger's text, of max octets at most: it goes into records, receipts and terminals.
func printable(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.ToValidUTF8(strings.TrimRight(s, "\r\n"), "?"))
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}
