package cms

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

// toBER re-encodes DER as a streaming signer might: indefinite lengths
// in every structure, padded lengths elsewhere, octet strings cut in pieces.
func toBER(der []byte) []byte {
	e, rest, err := readElement(der)
	if err != nil || len(rest) > 0 {
		panic("toBER wants one DER element")
	}
	return appendBER(nil, e)
}

func appendBER(out []byte, e element) []byte {
	switch {
	case e.tag == tagOctets && len(e.body) > 1:
		half := len(e.body) / 2
		out = append(out, tagOctetsBER, 0x80)
		out = append(out, tlv(tagOctets, e.body[:half])...)
		out = append(out, tlv(tagOctetsBER, tlv(tagOctets, e.body[half:]))...)
		return append(out, 0, 0)
	case e.tag&tagConstructed == 0:
		out = append(out, e.tag, 0x84, byte(len(e.body)>>24), byte(len(e.body)>>16), byte(len(e.body)>>8), byte(len(e.body)))
		return append(out, e.body...)
	}
	out = append(out, e.tag, 0x80)
	for in := e.body; len(in) > 0; {
		child, rest, err := readElement(in)
		if err != nil {
			panic(err)
		}
		out = appendBER(out, child)
		in = rest
	}
	return append(out, 0, 0)
}

func TestDER(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("61", 300)
	for _, c := range []struct{ name, in, out string }{
		{"null", "0500", "0500"},
		{"empty sequence", "3000", "3000"},
		{"empty indefinite sequence", "30800000", "3000"},
		{"indefinite in indefinite", "30803080020101000002010200 00", "3008300302010102 0102"},
		{"padded length", "30840000000305810 0", "30020500"},
		{"two-byte length for little", "04820001ff", "0401ff"},
		{"segments", "24800401610402626300 00", "0403616263"},
		{"segments in segments", "240a 2405 0401610400 040162", "04026162"},
		{"no segments", "24800000", "0400"},
		{"a length that grows", "3080 0482012c" + long + "0000", "30820130 0482012c" + long},
		{"end of contents inside a value", "3080 0402 0000 0000", "3004 0402 0000"},
		{"context tags", "a080 8001ff 0000", "a003 8001ff"},
	} {
		in, out := unhex(t, c.in), unhex(t, c.out)
		got, err := DER(in, len(in))
		if err != nil || !bytes.Equal(got, out) {
			t.Errorf("%s: %x, %v; want %x", c.name, got, err, out)
		}
		if again, err := DER(got, len(got)); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s: DER does not stay as it is: %x, %v", c.name, again, err)
		}
	}
}

func TestDERRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"nothing", "", ErrMalformed},
		{"a tag alone", "30", ErrMalformed},
		{"truncated value", "0402 61", ErrMalformed},
		{"truncated length", "0482 01", ErrMalformed},
		{"length of five bytes", "0485 0000000001 61", ErrMalformed},
		{"length beyond int32", "04 84ffffffff 61", ErrMalformed},
		{"reserved length", "04ff", ErrMalformed},
		{"indefinite primitive", "0480 0000", ErrMalformed},
		{"no end of contents", "3080 0500", ErrMalformed},
		{"end of contents in a definite value", "3002 0000", ErrMalformed},
		{"child longer than its parent", "3003 0402 61", ErrMalformed},
		{"high tag", "1f8101 00", ErrMalformed},
		{"octet string of integers", "2403 020101", ErrMalformed},
		{"trailing", "0500 00", ErrTrailing},
		{"too large", "048180" + strings.Repeat("61", 128), ErrTooLarge},
		{"deep", strings.Repeat("3080", maxDepth+1), ErrMalformed},
		{"deep segments", strings.Repeat("2480", maxDepth+1), ErrMalformed},
	} {
		if got, err := DER(unhex(t, c.in), 2*maxDepth+2); !errors.Is(err, c.want) {
			t.Errorf("%s: %x, %v; want %v", c.name, got, err, c.want)
		}
	}
}

// The transcoders of the known libraries need seconds to hours for these.
func TestHostileNestingCostsLittle(t *testing.T) {
	t.Parallel()
	wide := append(append([]byte{0x30, 0x80}, bytes.Repeat([]byte{5, 1, 5}, MaxDetached/3-2)...), 0, 0)
	deep := bytes.Repeat([]byte{0x30, 0x80}, MaxDetached/2)
	start := time.Now()
	if _, err := DER(wide, MaxDetached); err != nil {
		t.Error(err)
	}
	if _, err := DER(deep, MaxDetached); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	// Some milliseconds; the bound only has to be far below quadratic time.
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
