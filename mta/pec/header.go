package pec

import (
	"bytes"
	"strings"
)

// Header is the header of a message, kept as it was received.
type Header struct {
	raw    []byte
	fields []field
}

// field is one header field: raw[start:end] with its continuation lines and last line break, its name being
// raw[start:name] and its value raw[colon+1:end].
type field struct{ start, name, colon, end int }

// Get returns the value of the first field of that name (in any case), unfolded and trimmed, otherwise as received;
// it is empty when there is none.
func (h *Header) Get(name string) string {
	for i := range h.fields {
		if h.is(i, name) {
			return h.value(i)
		}
	}
	return ""
}

// Values returns the values of all fields of that name in order, each like Get.
func (h *Header) Values(name string) []string {
	var values []string
	for i := range h.fields {
		if h.is(i, name) {
			values = append(values, h.value(i))
		}
	}
	return values
}

// Count says how many fields of that name there are.
func (h *Header) Count(name string) int {
	n := 0
	for i := range h.fields {
		if h.is(i, name) {
			n++
		}
	}
	return n
}

func (h *Header) is(i int, name string) bool {
	f := h.fields[i]
	return f.name-f.start == len(name) && strings.EqualFold(string(h.raw[f.start:f.name]), name)
}

// rawValue is what stands after the colon, with folding and the last line break.
func (h *Header) rawValue(i int) []byte {
	return h.raw[h.fields[i].colon+1 : h.fields[i].end]
}

func (h *Header) value(i int) string {
	v := bytes.Trim(h.rawValue(i), " \t\r\n")
	if bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0 {
		return string(v)
	}
	unfolded := make([]byte, 0, len(v))
	for _, c := range v {
		if c != '\r' && c != '\n' {
			unfolded = append(unfolded, c)
		}
	}
	return string(unfolded)
}

// headerEnd says what ended a header.
type headerEnd uint8

const (
	openHeader      headerEnd = iota // nothing yet, or the end of the data
	emptyLine                        // the empty line that RFC 5322 asks for
	lineWithoutName                  // a line that is no field and continues none
)

// headerReader collects a header line by line.
//
// A line that is neither a field nor a continuation ends the header, as in Postfix: whatever a reader downstream does
// with such a line, it agrees with us about the fields before it.
type headerReader struct {
	Header
	limit int
	ended headerEnd
}

// add takes the next fragment. It returns false when the fragment is not part of the header but the first of the body
// (ended is then lineWithoutName); the empty line counts as taken.
func (r *headerReader) add(frag []byte, first bool) (taken bool, err error) {
	if first {
		switch name, colon := fieldName(frag); {
		case len(frag) == breakLen(frag):
			r.ended = emptyLine
			return true, nil
		case colon > 0:
			at := len(r.raw)
			r.fields = append(r.fields, field{start: at, name: at + name, colon: at + colon})
		case len(r.raw) == 0 && isMboxFrom(frag):
			// Left over from an mbox file: kept, but no field.
		case len(r.fields) > 0 && (frag[0] == ' ' || frag[0] == '\t'):
		default:
			r.ended = lineWithoutName
			return false, nil
		}
	}
	if len(r.raw)+len(frag) > r.limit {
		return true, ErrHeaderTooLarge
	}
	r.raw = append(r.raw, frag...)
	if n := len(r.fields); n > 0 {
		r.fields[n-1].end = len(r.raw)
	}
	return true, nil
}

// fieldName returns the length of the field name that line begins with and the index of its colon, 0 and 0 when it
// begins with none. White space before the colon is tolerated (RFC 5322 section 4.5).
func fieldName(line []byte) (name, colon int) {
	for name < len(line) && line[name] > ' ' && line[name] < 0x7f && line[name] != ':' {
		name++
	}
	for colon = name; colon < len(line) && (line[colon] == ' ' || line[colon] == '\t'); colon++ {
	}
	if name == 0 || colon == len(line) || line[colon] != ':' {
		return 0, 0
	}
	return name, colon
}

func isMboxFrom(line []byte) bool {
	return bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))
}
