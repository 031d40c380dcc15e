package pec

import (
	"strings"
	"unicode/utf8"
)

// textFacts are the values for the placeholders of a wording.
type textFacts struct {
	when       stamp
	facts      *Facts
	recipients []Recipient // the recipients that the text lists
	recipient  string      // the recipient that it is about
	errore     string
	errori     []string // errore, where it is a list
}

// render fills the placeholders of a text in one pass, so that nothing inside a value is taken for a placeholder.
func render(text string, v *textFacts) []byte {
	b := make([]byte, 0, len(text)+len(v.facts.Subject)+64*len(v.recipients)+512)
	for {
		open := strings.IndexByte(text, '{')
		if open < 0 {
			return append(b, text...)
		}
		b = append(b, text[:open]...)
		text = text[open+1:]
		end := strings.IndexByte(text, '}')
		b = v.append(b, text[:end])
		text = text[end+1:]
	}
}

// append appends the value of one placeholder.
func (v *textFacts) append(b []byte, placeholder string) []byte {
	switch placeholder {
	case "giorno":
		return append(b, v.when.day...)
	case "ora":
		return append(b, v.when.clock...)
	case "zona":
		return append(b, v.when.zone...)
	case "oggetto":
		return append(b, oneLine(v.facts.Subject)...)
	case "mittente":
		return append(b, oneLine(v.facts.Sender)...)
	case "dest":
		return append(b, oneLine(v.recipient)...)
	case "errore":
		return append(b, oneLine(v.errore)...)
	case "errori":
		for i, e := range v.errori {
			if i > 0 {
				b = append(b, ";\n"...)
			}
			b = append(b, "- "...)
			b = append(b, oneLine(e)...)
		}
		return append(b, '.')
	case "identificativo":
		return append(b, bare(v.facts.EnvelopeID)...)
	case "destinatari", "destinatari-tipo":
		for i, r := range v.recipients {
			if i > 0 {
				b = append(b, '\n')
			}
			b = append(b, oneLine(r.Address)...)
			if placeholder == "destinatari" {
				continue
			}
			b = append(b, " ("...)
			if r.Certified {
				b = append(b, certifiedRecipient...)
			} else {
				b = append(b, ordinaryRecipient...)
			}
			b = append(b, ')')
		}
	}
	return b
}

// appendTextPart appends the text/plain part, header and body: ISO-8859-1 as RFC 6109 section 4.3.1 asks, or UTF-8
// when the text has characters outside of it, quoted-printable in both cases.
func appendTextPart(b []byte, text []byte) []byte {
	charset := "utf-8"
	if latin, ok := toLatin1(text); ok {
		charset, text = "iso-8859-1", latin
	}
	b = append(b, "Content-Type: text/plain; charset="...)
	b = append(b, charset...)
	b = append(b, "\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"...)
	return appendQuotedPrintable(b, text)
}

// toLatin1 converts UTF-8 to ISO-8859-1.
func toLatin1(text []byte) (latin []byte, ok bool) {
	latin = make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		r, n := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(text[i:])
		}
		if r > 0xff {
			return nil, false
		}
		latin = append(latin, byte(r))
		i += n
	}
	return latin, true
}

// appendQuotedPrintable appends text, whose lines end in LF, in quoted-printable (RFC 2045 section 6.7) with CRLF.
//
// At the beginning of a line it also encodes "-", "." and the "F" of "From ": so no line can be taken for a MIME
// delimiter, for the end of SMTP data or for an mbox separator, whatever a subject holds.
func appendQuotedPrintable(b, text []byte) []byte {
	const hexDigits = "0123456789ABCDEF"
	const width = 75 // of 76, because a soft break takes one
	col := 0
	for i, c := range text {
		if c == '\n' {
			b = append(b, "\r\n"...)
			col = 0
			continue
		}
		last := i+1 == len(text) || text[i+1] == '\n'
		literal := c > ' ' && c <= '~' && c != '=' || c == ' ' && !last
		size := 1
		if !literal {
			size = 3
		}
		if col+size > width {
			b = append(b, "=\r\n"...)
			col = 0
		}
		if col == 0 && (c == '-' || c == '.' || c == 'F' && strings.HasPrefix(string(text[i:min(len(text), i+5)]), "From ")) {
			literal, size = false, 3
		}
		if literal {
			b = append(b, c)
		} else {
			b = append(b, '=', hexDigits[c>>4], hexDigits[c&15])
		}
		col += size
	}
	return b
}
