package pec

import "strings"

// maxAddress is the longest addr-spec that is taken for one: 64 octets of local part and 255 of domain (RFC 5321 section
// 4.5.3.1) with the "@".
const maxAddress = 320

// ParseAddresses returns the addr-specs in the value of an address field (From, To, Cc, Reply-To), in order, duplicates
// included. It reads lists as real mail writes them: comments, groups, quoted strings, encoded words, display names whose
// quotes are missing, semicolons instead of commas, addresses without angle brackets. What is no addr-spec of ASCII is
// left out; nothing inside a quoted display name or a comment is ever taken for an address. Where a list is ambiguous
// it returns every reading, so that a From with two authors is seen to have two.
func ParseAddresses(value string) []string {
	p := addressParser{in: value}
	return p.parse()
}

// SameAddress says whether two addr-specs name the same mailbox. PEC compares addresses without regard to case (RFC 6109
// section 2.2.1). An invalid address is the same as none, not even itself.
func SameAddress(a, b string) bool {
	n := NormalizeAddress(a)
	return n != "" && n == NormalizeAddress(b)
}

// NormalizeAddress returns the form of an addr-spec under which it is compared and indexed: without angle brackets and
// needless quotes, in lower case. It is empty when a is not a valid addr-spec.
func NormalizeAddress(a string) string {
	a = strings.Trim(a, " \t")
	if len(a) > 2 && a[0] == '<' && a[len(a)-1] == '>' {
		a = a[1 : len(a)-1]
	}
	local, domain, ok := splitAddress(a)
	if !ok {
		return ""
	}
	if local[0] != '"' && !hasUpper(a) {
		return a
	}
	return strings.ToLower(unquoteLocal(local) + "@" + domain)
}

func hasUpper(s string) bool {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return true
		}
	}
	return false
}

// splitAddress splits an addr-spec of printable ASCII and says whether it is well formed. Dots may stand anywhere in
// the local part: some hosts issue such addresses.
func splitAddress(a string) (local, domain string, ok bool) {
	at := strings.LastIndexByte(a, '@')
	if at <= 0 || len(a) > maxAddress {
		return "", "", false
	}
	local, domain = a[:at], a[at+1:]
	return local, domain, isLocal(local) && isDomain(domain)
}

func isLocal(s string) bool {
	if s[0] != '"' {
		for i := 0; i < len(s); i++ {
			if s[i] != '.' && !isAtext(s[i]) {
				return false
			}
		}
		return true
	}
	if len(s) < 3 || s[len(s)-1] != '"' {
		return false
	}
	for i := 1; i < len(s)-1; i++ {
		switch c := s[i]; {
		case c < ' ' || c > '~' || c == '"':
			return false
		case c == '\\':
			i++
			if i == len(s)-1 || s[i] < ' ' || s[i] > '~' {
				return false
			}
		}
	}
	return true
}

// unquoteLocal takes the quotes off a local part that needs none.
func unquoteLocal(s string) string {
	if s[0] != '"' {
		return s
	}
	inner := s[1 : len(s)-1]
	if !isLocal(inner) || inner[0] == '"' {
		return s
	}
	return inner
}

func isDomain(s string) bool {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		for i := 1; i < len(s)-1; i++ {
			if c := s[i]; c <= ' ' || c > '~' || c == '[' || c == ']' || c == '\\' {
				return false
			}
		}
		return true
	}
	label := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '.' && label > 0:
			label = 0
		case isAlnum(c) || c == '-' || c == '_':
			label++
		default:
			return false
		}
	}
	return label > 0
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// isAtext says whether c may stand in an atom (RFC 5322 section 3.2.3).
func isAtext(c byte) bool {
	return isAlnum(c) || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// Octets that addressParser.words uses for itself; they replace what the input had there, which is valid in no address.
const (
	quotedSpace = 0x00 // a space inside a quoted string, which does not separate words
	badOctet    = 0x01 // a control character of the input
)

// addressParser reads one address list in one pass.
type addressParser struct {
	in         string
	found      []string
	words      []byte // of the current mailbox, outside of angle brackets and comments
	angles     int    // addresses in angle brackets found for the current mailbox
	noComments bool   // an unclosed "(" was seen: from there on they are ordinary characters
	noQuotes   bool   // the same for an unclosed quote; both keep the parser linear
}

func (p *addressParser) parse() []string {
	for i := 0; i < len(p.in); {
		switch c := p.in[i]; c {
		case '(':
			i = p.comment(i)
		case '"':
			i = p.quoted(i)
		case '<':
			i = p.angle(i)
		case '[':
			i = p.literal(i)
		case ',', ';':
			p.flush()
			i++
		case ':':
			p.words = p.words[:0] // the name of a group, or "mailto:"
			i++
		case '>':
			i++
		case '\r', '\n', '\t', ' ':
			p.words = append(p.words, ' ')
			i++
		default:
			if c < ' ' {
				c = badOctet
			}
			p.words = append(p.words, c)
			i++
		}
	}
	p.flush()
	return p.found
}

// comment skips the comment that begins at i.
func (p *addressParser) comment(i int) int {
	depth := 0
	for j := i; j < len(p.in) && !p.noComments; j++ {
		switch p.in[j] {
		case '\\':
			j++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				p.words = append(p.words, ' ')
				return j + 1
			}
		}
	}
	p.noComments = true
	p.words = append(p.words, '(')
	return i + 1
}

// quoted takes the quoted string that begins at i as one word.
func (p *addressParser) quoted(i int) int {
	end := -1
	if !p.noQuotes {
		end = closingQuote(p.in, i)
	}
	if end < 0 {
		p.noQuotes = true // never closed: the display name has lost its other quote
		return i + 1
	}
	for _, c := range []byte(p.in[i : end+1]) {
		switch {
		case c == ' ':
			c = quotedSpace
		case c < ' ':
			c = badOctet
		}
		p.words = append(p.words, c)
	}
	return end + 1
}

// closingQuote returns the index of the quote that closes the one at i, -1 when there is none.
func closingQuote(s string, i int) int {
	for j := i + 1; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++
		case '"':
			return j
		}
	}
	return -1
}

// literal takes a domain literal as part of a word.
func (p *addressParser) literal(i int) int {
	const longest = 100
	window := p.in[i:min(len(p.in), i+longest)]
	end := strings.IndexByte(window, ']')
	if end < 0 {
		end = 0
	}
	p.words = append(p.words, window[:end+1]...)
	return i + end + 1
}

// angle takes the address in angle brackets that begins at i.
func (p *addressParser) angle(i int) int {
	end := i + 1
scan:
	for ; end < len(p.in); end++ {
		switch p.in[end] {
		case '>', ',', '<':
			break scan
		case '"':
			if q := closingQuote(p.in[:min(len(p.in), end+maxAddress)], end); q > 0 {
				end = q
			}
		}
	}
	a := p.in[i+1 : end]
	if len(a) > 0 && a[0] == '@' { // a source route: <@relay.example:user@example>
		if colon := strings.IndexByte(a, ':'); colon > 0 {
			a = a[colon+1:]
		}
	}
	if len(a) > 7 && strings.EqualFold(a[:7], "mailto:") {
		a = a[7:]
	}
	a = strings.Trim(a, " \t\r\n")
	if !strings.Contains(a, `"`) {
		a = joinAt(a)
	}
	if p.add(a) {
		p.angles++
	}
	if end < len(p.in) && p.in[end] == '>' {
		end++
	}
	return end
}

// flush ends the current mailbox. Without angle brackets every word with an "@" is a reading of it.
func (p *addressParser) flush() {
	if p.angles == 0 {
		for _, w := range strings.FieldsFunc(joinAt(string(p.words)), func(r rune) bool { return r == ' ' }) {
			p.add(strings.ReplaceAll(w, string(rune(quotedSpace)), " "))
		}
	}
	p.words, p.angles = p.words[:0], 0
}

// add keeps a when it is an addr-spec.
func (p *addressParser) add(a string) bool {
	local, domain, ok := splitAddress(a)
	if ok {
		p.found = append(p.found, unquoteLocal(local)+"@"+domain)
	}
	return ok
}

// joinAt removes the white space around each "@" (RFC 5322 section 4.4).
func joinAt(s string) string {
	if !strings.Contains(s, " @") && !strings.Contains(s, "@ ") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '@':
			for len(b) > 0 && b[len(b)-1] == ' ' {
				b = b[:len(b)-1]
			}
		case s[i] == ' ' && len(b) > 0 && b[len(b)-1] == '@':
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}
