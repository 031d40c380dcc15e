package ldif

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func text(e *Entry) string {
	s := e.DN
	for _, a := range e.Attributes {
		s += fmt.Sprintf("|%s;%s=%s", a.Type, a.Options, a.Value)
	}
	return s
}

func TestParse(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		file   string
		want   []string
		faults []error
	}{
		"plain":                {"version: 1\n\ndn: o=x\no: x\n\ndn: a=b,o=x\na: b\n", []string{"o=x|o;=x", "a=b,o=x|a;=b"}, nil},
		"no version, CRLF":     {"dn: o=x\r\no: x\r\n\r\n\r\ndn: a=b\r\na:b", []string{"o=x|o;=x", "a=b|a;=b"}, nil},
		"byte order mark":      {"\xef\xbb\xbfdn: o=x\n", []string{"o=x"}, nil},
		"folded":               {"dn: o=a\n  b\no: x\n yz\n  w\n", []string{"o=a b|o;=xyz w"}, nil},
		"base64":               {"dn:: bz3DqA==\nc;binary:: AAEC\n", []string{"o=è|c;binary=\x00\x01\x02"}, nil},
		"folded base64":        {"dn: o=x\nc;binary::\n AA\n EC\n", []string{"o=x|c;binary=\x00\x01\x02"}, nil},
		"comments":             {"# a\n  folded: one\ndn: o=x\n#o: y\n \n  z\no: x\n", []string{"o=x|o;=x"}, nil},
		"no empty line":        {"dn: o=x\no: x\ndn: o=y\no: y\n", []string{"o=x|o;=x", "o=y|o;=y"}, nil},
		"plain UTF-8":          {"dn: o=è\no: è\n", []string{"o=è|o;=è"}, nil},
		"options":              {"dn: o=x\nCert;BINARY;x-1: y\n", []string{"o=x|Cert;binary;x-1=y"}, nil},
		"empty value":          {"dn: o=x\no:\nd: \n", []string{"o=x|o;=|d;="}, nil},
		"reference":            {"dn: o=x\no:< file:///etc/passwd\nd: x\n\ndn: o=y\n", []string{"o=y"}, []error{ErrReference}},
		"reference as dn":      {"dn:< file:///etc/passwd\nd: x\n\ndn: o=y\n", []string{"o=y"}, []error{ErrReference}},
		"change":               {"dn: o=x\nchangetype: delete\n\ndn: o=y\n", []string{"o=y"}, []error{ErrChange}},
		"control":              {"dn: o=x\ncontrol: 1.2.3 true\nchangetype: delete\n\ndn: o=y\n", []string{"o=y"}, []error{ErrChange}},
		"bad base64":           {"dn: o=x\no:: a*\n\ndn: o=y\n", []string{"o=y"}, []error{ErrSyntax}},
		"no colon":             {"dn: o=x\nnonsense\n\ndn: o=y\n", []string{"o=y"}, []error{ErrSyntax}},
		"no dn":                {"o: x\nd: y\n\ndn: o=y\n", []string{"o=y"}, []error{ErrSyntax}},
		"NUL":                  {"dn: o=x\no: a\x00b\n\ndn: o=y\n", []string{"o=y"}, []error{ErrSyntax}},
		"lone CR":              {"dn: o=x\no: a\rb\n\ndn: o=y\n", []string{"o=y"}, []error{ErrSyntax}},
		"not UTF-8":            {"dn: o=x\no: \xff\n\ndn: o=y\n", []string{"o=y"}, []error{ErrSyntax}},
		"bad attribute":        {"dn: o=x\no y: z\n\ndn: o=y\n", []string{"o=y"}, []error{ErrSyntax}},
		"long dn":              {"dn: " + strings.Repeat("x", maxDN+1) + "\no: x\n\ndn: o=y\n", []string{"o=y"}, []error{ErrSyntax}},
		"long line":            {"dn: o=x\no: " + strings.Repeat("x", 5000) + "\n\ndn: o=y\n", []string{"o=y"}, []error{ErrSyntax}},
		"long folded line":     {"dn: o=x\no: x\n" + strings.Repeat(" "+strings.Repeat("x", 99)+"\n", 50) + "\ndn: o=y\n", []string{"o=y"}, []error{ErrSyntax}},
		"two faults":           {"dn: o=x\nnonsense\no:< y\n\nbad\n\ndn: o=y\n", []string{"o=y"}, []error{ErrSyntax, ErrSyntax}},
		"too many values":      {"dn: o=x\n" + strings.Repeat("o: x\n", 41) + "\ndn: o=y\n", []string{"o=y"}, []error{ErrSyntax}},
		"version in the midst": {"dn: o=x\nversion: 2\n", []string{"o=x|version;=2"}, nil},
		"empty":                {"", nil, nil},
		"space before all":     {" dn: o=x\n", nil, []error{ErrSyntax}},
	} {
		entries, faults, err := Parse([]byte(x.file), Limits{Bytes: 1 << 20, Entries: 10, Values: 40, Line: 4096})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, e := range entries {
			got = append(got, text(e))
		}
		if !reflect.DeepEqual(got, x.want) {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
		if len(faults) != len(x.faults) {
			t.Errorf("%s: faults %v, want %v", name, faults, x.faults)
			continue
		}
		for i, f := range faults {
			if !errors.Is(f, x.faults[i]) || f.Line == 0 {
				t.Errorf("%s: fault %v, want %v", name, f, x.faults[i])
			}
		}
	}
}

func TestParseRefusesFile(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]error{
		"version: 2\n\ndn: o=x\n":                 ErrVersion,
		strings.Repeat("dn: o=x\n\n", 11):         ErrTooLarge,
		strings.Repeat("nonsense\n\n", 11):        ErrTooLarge,
		"dn: o=x\no: " + strings.Repeat("x", 999): ErrTooLarge,
	} {
		if _, _, err := Parse([]byte(file), Limits{Bytes: 500, Entries: 10, Values: 10, Line: 4096}); !errors.Is(err, want) {
			t.Errorf("%.30q: %v, want %v", file, err, want)
		}
	}
}

func TestFaultSaysWhere(t *testing.T) {
	t.Parallel()
	_, faults, err := Parse([]byte("dn: o=x\n# a comment\no: y\n\ndn: o=z\no:<file:///x\n"), DefaultLimits())
	if err != nil || len(faults) != 1 || faults[0].Line != 6 || faults[0].DN != "o=z" || !strings.Contains(faults[0].Error(), "line 6") {
		t.Errorf("%v %v", faults, err)
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	e := &Entry{DN: "o=x", Attributes: []Attribute{{"a", "", []byte("plain")}, {"b", "binary", bytes.Repeat([]byte{0, 255}, 100)}, {"c", "", []byte(" x")},
		{"d", "", []byte("x ")}, {"e", "", []byte("a\nb")}, {"f", "", []byte("è")}, {"g", "", nil}, {"h", "", []byte("<x")}, {"i", "", []byte(strings.Repeat("long ", 40) + ".")}}}
	file := Encode(e, &Entry{DN: "o=è"})
	for line := range strings.Lines(string(file)) {
		if len(line) > fold+1 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	got, faults, err := Parse(file, DefaultLimits())
	if err != nil || len(faults) > 0 || len(got) != 2 || text(got[0]) != text(e) || got[1].DN != "o=è" {
		t.Errorf("%v %v\n%s", faults, err, file)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"version: 1\n\ndn: o=x\no: x\n", "dn:: bz3DqA==\r\nc;binary:: AAEC\r\n", "# a\n b\ndn: o=x\no:< file:///x\n\nchangetype: add\n",
		"dn: o=x\n y\no:\n\n\n", "dn: o=x\ndn: o=y\nb;binary::\n AA\n EC"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, _, err := Parse(data, Limits{Bytes: 1 << 16, Entries: 100, Values: 100, Line: 1 << 12})
		if err != nil {
			return
		}
		again, faults, err := Parse(Encode(entries...), DefaultLimits())
		if err != nil || len(faults) > 0 || len(again) != len(entries) {
			t.Fatalf("%d entries became %d: %v %v", len(entries), len(again), faults, err)
		}
		for i := range entries {
			if text(again[i]) != text(entries[i]) {
				t.Fatalf("%q became %q", text(entries[i]), text(again[i]))
			}
		}
	})
}
