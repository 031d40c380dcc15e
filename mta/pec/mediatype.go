package pec

import "strings"

// mediaType is a parsed Content-Type or Content-Disposition: the type in lower case, and its parameters.
type mediaType struct {
	value  string
	params map[string]string // names in lower case; the first of each counts
}

// parseMediaType reads what mail programs write rather than what RFC 2045 allows: unquoted values may hold any character
// but white space and semicolons, comments are skipped, an empty parameter is passed over. RFC 2231 forms are not needed
// for the names that PEC fixes.
func parseMediaType(v string) mediaType {
	v = dropComments(v)
	m := mediaType{params: map[string]string{}}
	value, rest, _ := strings.Cut(v, ";")
	m.value = strings.ToLower(strings.Join(strings.Fields(value), ""))
	for rest != "" {
		var name, value string
		rest = strings.TrimLeft(rest, " \t;")
		eq := strings.IndexAny(rest, "=;")
		if eq < 0 {
			break
		}
		name = strings.ToLower(strings.TrimSpace(rest[:eq]))
		if rest[eq] == ';' {
			rest = rest[eq+1:]
			continue
		}
		value, rest = parameterValue(strings.TrimLeft(rest[eq+1:], " \t"))
		if _, twice := m.params[name]; !twice && name != "" {
			m.params[name] = value
		}
	}
	return m
}

// parameterValue takes a value, quoted or not, off the front of s.
func parameterValue(s string) (value, rest string) {
	if s == "" || s[0] != '"' {
		end := strings.IndexAny(s, "; \t")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:]
	}
	b := make([]byte, 0, 64)
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return string(b), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b = append(b, s[i])
	}
	return string(b), ""
}

// dropComments removes comments, which are parentheses outside of quotes.
func dropComments(v string) string {
	if !strings.Contains(v, "(") {
		return v
	}
	b := make([]byte, 0, len(v))
	depth, quoted := 0, false
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case c == '\\' && i+1 < len(v) && (quoted || depth > 0):
			if depth == 0 {
				b = append(b, c, v[i+1])
			}
			i++
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
			continue
		case c == ')' && depth > 0:
			depth--
			continue
		}
		if depth == 0 {
			b = append(b, c)
		}
	}
	return string(b)
}
