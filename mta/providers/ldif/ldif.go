// Package ldif reads and writes the entries of LDIF files (RFC 2849), the form in
// which the directory of providers is passed on (RFC 6109 §4.5).
//
// It reads content only: a record that changes something is refused, and so is a
// value given by reference (attr:< URL), which would let a file that comes from
// the network name files of this machine. Every input is bounded by [Limits].
// What is wrong with one entry does not touch the others. The package does no I/O.
package ldif

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Attribute is one value of an entry.
type Attribute struct {
	Type    string // as written, without options
	Options string // "binary", or several between semicolons; lower case
	Value   []byte
}

// Is says whether the attribute is of a type, by name; case does not matter.
func (a Attribute) Is(name string) bool { return strings.EqualFold(a.Type, name) }

// Entry is one entry of a directory.
type Entry struct {
	Line       int // where its dn stands, from 1; 0 if it came from elsewhere
	DN         string
	Attributes []Attribute // in their order
}

// Values returns the values of the attributes of a type, whatever their options.
func (e *Entry) Values(name string) [][]byte {
	var all [][]byte
	for _, a := range e.Attributes {
		if a.Is(name) {
			all = append(all, a.Value)
		}
	}
	return all
}

// Fault is what is wrong with one entry, which is left out.
type Fault struct {
	Line int    // where, from 1
	DN   string // of the entry, if it could be read
	Err  error
}

func (f *Fault) Error() string {
	if f.DN == "" {
		return fmt.Sprintf("line %d: %v", f.Line, f.Err)
	}
	return fmt.Sprintf("line %d: %q: %v", f.Line, f.DN, f.Err)
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// What can be wrong with an entry.
var (
	// ErrReference is a value given by a URL (RFC 2849, "<"): nothing is ever fetched.
	ErrReference = errors.New("a value given by reference (:<) is never fetched: the value itself must stand in the file")
	// ErrChange is a record that changes a directory, where its content is expected.
	ErrChange = errors.New("a change record (changetype or control), where entries are expected")
	// ErrSyntax is a line that is not LDIF.
	ErrSyntax = errors.New("not LDIF")
)

// What makes a whole file unreadable.
var (
	// ErrVersion is a version other than 1.
	ErrVersion = errors.New("ldif: a version other than 1")
	// ErrTooLarge is a file beyond the limits.
	ErrTooLarge = errors.New("ldif: the file is too large")
)

// Limits bound what is read.
type Limits struct {
	Bytes   int // of the file
	Entries int
	Values  int // attributes of an entry
	Line    int // bytes of an unfolded line
}

// DefaultLimits are far above the real directory: some dozens of providers, the
// largest with some hundred thousand domains.
func DefaultLimits() Limits {
	return Limits{Bytes: 64 << 20, Entries: 10_000, Values: 2_000_000, Line: 1 << 20}
}

// Parse reads the entries of a file, and tells of those that it left out, in the
// file's order. The values do not share memory with data. The error is that of
// the file as a whole.
func Parse(data []byte, limits Limits) ([]*Entry, []*Fault, error) {
	if len(data) > limits.Bytes {
		return nil, nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrTooLarge, len(data), limits.Bytes)
	}
	r := &reader{rest: bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), limits: limits}
	for {
		line, number, ok, err := r.line()
		switch {
		case err != nil:
			r.fail(number, err)
		case !ok:
			r.end()
			return r.entries, r.faults, nil
		case len(line) == 0:
			r.end()
		default:
			if err := r.take(line, number); err != nil {
				return nil, nil, err
			}
		}
		if len(r.entries)+len(r.faults) > limits.Entries {
			return nil, nil, fmt.Errorf("%w: more than %d entries", ErrTooLarge, limits.Entries)
		}
	}
}

// reader reads a file. entry is the one being read; faulty says that what follows,
// to the next empty line or dn, belongs to one that is left out.
type reader struct {
	rest    []byte
	number  int // lines read
	limits  Limits
	begun   bool // anything but a version was read
	entry   *Entry
	faulty  bool
	entries []*Entry
	faults  []*Fault
}

// line returns the next line that is no comment, unfolded (RFC 2849, notes 2 and 3).
func (r *reader) line() (line []byte, number int, ok bool, err error) {
	for {
		raw, ok := r.raw()
		if !ok {
			return nil, r.number, false, nil
		}
		number, comment := r.number, len(raw) > 0 && raw[0] == '#'
		line, owned := raw, false
		for len(line) > 0 && len(r.rest) > 0 && r.rest[0] == ' ' {
			more, _ := r.raw()
			switch {
			case comment || err != nil:
			case len(line)+len(more) > r.limits.Line:
				err = fmt.Errorf("%w: a line of more than %d bytes", ErrSyntax, r.limits.Line)
			default:
				if !owned {
					line, owned = bytes.Clone(line), true
				}
				line = append(line, more[1:]...)
			}
		}
		if comment {
			continue
		}
		if len(line) > r.limits.Line {
			err = fmt.Errorf("%w: a line of more than %d bytes", ErrSyntax, r.limits.Line)
		}
		return line, number, true, err
	}
}

// raw returns the next line of the file without its end, LF or CRLF.
func (r *reader) raw() ([]byte, bool) {
	if len(r.rest) == 0 {
		return nil, false
	}
	r.number++
	line, rest, _ := bytes.Cut(r.rest, []byte("\n"))
	r.rest = rest
	return bytes.TrimSuffix(line, []byte("\r")), true
}

// fail leaves out the entry that is being read.
func (r *reader) fail(number int, err error) {
	if !r.faulty {
		f := &Fault{Line: number, Err: err}
		if r.entry != nil {
			f.DN = r.entry.DN
		}
		r.faults = append(r.faults, f)
	}
	r.faulty, r.entry, r.begun = true, nil, true
}

// end ends the entry that is being read.
func (r *reader) end() {
	if r.entry != nil && !r.faulty {
		r.entries = append(r.entries, r.entry)
	}
	r.entry, r.faulty = nil, false
}

// take reads a line that is not empty.
func (r *reader) take(line []byte, number int) error {
	a, err := attribute(line)
	switch {
	case err == nil && !r.begun && a.Is("version"):
		if string(a.Value) != "1" || a.Options != "" {
			return fmt.Errorf("%w: %.20q", ErrVersion, a.Value)
		}
		r.begun = true
	case err == nil && a.Is("dn") && a.Options == "":
		// Directories in the wild lack the empty line now and then.
		r.end()
		r.begun = true
		r.entry = &Entry{Line: number, DN: string(a.Value)}
		if len(a.Value) > maxDN || !utf8.Valid(a.Value) {
			r.entry.DN = ""
			r.fail(number, fmt.Errorf("%w: a dn that is longer than %d bytes, or not UTF-8", ErrSyntax, maxDN))
		}
	case r.faulty: // the rest of an entry that is left out
	case err != nil:
		r.fail(number, err)
	case r.entry == nil:
		r.fail(number, fmt.Errorf("%w: %.40q before any dn", ErrSyntax, a.Type))
	case a.Is("changetype") || a.Is("control"):
		r.fail(number, ErrChange)
	case len(r.entry.Attributes) == r.limits.Values:
		r.fail(number, fmt.Errorf("%w: an entry of more than %d values", ErrSyntax, r.limits.Values))
	default:
		r.entry.Attributes = append(r.entry.Attributes, a)
	}
	return nil
}

const (
	maxDN   = 2048 // bytes
	maxType = 256
)

// attribute reads "type;options: value" and its forms.
func attribute(line []byte) (a Attribute, err error) {
	description, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return a, fmt.Errorf("%w: %.40q has no colon", ErrSyntax, line)
	}
	typ, options, _ := strings.Cut(string(description), ";")
	if !descriptor(typ) || !utf8.ValidString(options) || len(options) > maxType {
		return a, fmt.Errorf("%w: %.40q is no attribute", ErrSyntax, description)
	}
	a.Type, a.Options = typ, strings.ToLower(options)
	switch {
	case bytes.HasPrefix(value, []byte(":")):
		text := bytes.TrimRight(bytes.TrimLeft(value[1:], " "), " ")
		a.Value = make([]byte, base64.StdEncoding.DecodedLen(len(text)))
		n, err := base64.StdEncoding.Decode(a.Value, text)
		if err != nil {
			return a, fmt.Errorf("%w: the value of %s is not base64", ErrSyntax, a.Type)
		}
		a.Value = a.Value[:n]
	case bytes.HasPrefix(value, []byte("<")):
		return a, fmt.Errorf("%s: %w", a.Type, ErrReference)
	default:
		text := bytes.TrimLeft(value, " ")
		// Beyond RFC 2849, UTF-8 may stand unencoded: the file "is encoded using
		// the UTF-8 character set" (RFC 6109 §4.5.6).
		if !utf8.Valid(text) || bytes.ContainsAny(text, "\x00\r") {
			return a, fmt.Errorf("%w: the value of %s is not UTF-8, or holds NUL or CR", ErrSyntax, a.Type)
		}
		a.Value = bytes.Clone(text)
	}
	return a, nil
}

// descriptor says whether s is a name or an object identifier (RFC 4512 §1.4).
func descriptor(s string) bool {
	if s == "" || len(s) > maxType {
		return false
	}
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		digit := c >= '0' && c <= '9'
		if !letter && !digit && (i == 0 || c != '-' && c != '.') {
			return false
		}
	}
	return true
}
