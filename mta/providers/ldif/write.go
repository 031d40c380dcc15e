package ldif

import (
	"bytes"
	"encoding/base64"
)

// fold is the length of the lines that are written, in bytes.
const fold = 76

// Encode writes entries as an LDIF file with lines ended by LF. Values that are not
// plain ASCII, and those with options, are in base64. There is no version line, as
// in the examples of RFC 6109 §4.5.10: slapadd 2.5 takes it for an attribute.
func Encode(entries ...*Entry) []byte {
	var b bytes.Buffer
	for i, e := range entries {
		if i > 0 {
			b.WriteByte('\n')
		}
		write(&b, "dn", []byte(e.DN), false)
		for _, a := range e.Attributes {
			name := a.Type
			if a.Options != "" {
				name += ";" + a.Options
			}
			write(&b, name, a.Value, a.Options != "")
		}
	}
	return b.Bytes()
}

func write(b *bytes.Buffer, name string, value []byte, encode bool) {
	line := []byte(name)
	if encode || !safe(value) {
		line = append(line, ":: "...)
		line = base64.StdEncoding.AppendEncode(line, value)
	} else {
		line = append(line, ": "...)
		line = append(line, value...)
	}
	for width := fold; len(line) > width; width = fold - 1 {
		b.Write(line[:width])
		b.WriteString("\n ")
		line = line[width:]
	}
	b.Write(line)
	b.WriteByte('\n')
}

// safe says whether a value is a SAFE-STRING (RFC 2849) that does not end in a
// space, which a mail system may cut off.
func safe(value []byte) bool {
	if len(value) == 0 {
		return true
	}
	if c := value[0]; c == ' ' || c == ':' || c == '<' || value[len(value)-1] == ' ' {
		return false
	}
	for _, c := range value {
		if c == 0 || c == '\n' || c == '\r' || c >= 0x80 {
			return false
		}
	}
	return true
}
