package pec

import (
	"bytes"
	"crypto"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// addGolden adds the golden messages to a corpus.
func addGolden(f *testing.F, suffix string) {
	paths, err := filepath.Glob(filepath.Join("testdata", "golden", "*"+suffix))
	if err != nil || len(paths) == 0 {
		f.Fatal("no golden files", err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// Any message can be read, patched and read again; then it has the envelope's Message-ID.
func FuzzReadOriginal(f *testing.F) {
	f.Add([]byte(testOriginal))
	f.Add([]byte("From x\r\nMessage-ID:\r\n <a>\r\nMessage-ID: b"))
	f.Add([]byte(" x\r\nTo: y\n\nz\r"))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ReadOriginal(bytes.NewReader(b), Limits{HeaderBytes: 1 << 12})
		if err != nil {
			return
		}
		if half, err := ReadOriginal(iotest.HalfReader(bytes.NewReader(b)), Limits{HeaderBytes: 1 << 12}); err != nil || !reflect.DeepEqual(o, half) {
			t.Fatalf("read in halves: %v\n%+v\n%+v", err, half, o)
		}
		if o.Size != int64(len(b)) || o.Digest != sha(b) || o.HeaderLen > o.Size || !utf8.ValidString(o.Subject) {
			t.Fatalf("%+v", o)
		}
		in, err := o.Included(bytes.NewReader(b), "<env@x.it>")
		if err != nil {
			t.Fatal(err)
		}
		patched := includedBytes(t, in)
		again, err := ReadOriginal(bytes.NewReader(patched), Limits{})
		if err != nil || again.MessageID != "<env@x.it>" || again.Header.Count("Message-ID") != 1 {
			t.Fatalf("%v, %q", err, patched)
		}
		if got := again.Header.Get("X-Riferimento-Message-ID"); got != o.MessageID || again.Header.Count("X-Riferimento-Message-ID") > 1 {
			t.Fatalf("reference %q, want %q", got, o.MessageID)
		}
		if !reflect.DeepEqual(o.To, again.To) || o.Subject != again.Subject || !bytes.HasSuffix(patched, b[o.HeaderLen:]) {
			t.Fatalf("patching altered the message: %q", patched)
		}
	})
}

// Any message can be read, in any pieces, and what is reported of it is inside of it.
func FuzzReadSigned(f *testing.F) {
	addGolden(f, ".eml")
	f.Add([]byte(handmade))
	f.Fuzz(func(t *testing.T, b []byte) {
		lim := Limits{SignedHeaderBytes: 1 << 12, PartHeaderBytes: 1 << 10, CertificationBytes: 1 << 13, SignatureBytes: 1 << 12, Parts: 8}
		s, err := ReadSigned(bytes.NewReader(b), lim)
		if err != nil {
			return
		}
		if half, err := ReadSigned(iotest.HalfReader(bytes.NewReader(b)), lim); err != nil || half.Fault == nil != (s.Fault == nil) || !reflect.DeepEqual(s.digests, half.digests) || !reflect.DeepEqual(s.Original, half.Original) {
			t.Fatalf("read in halves: %v\n%+v\n%+v", err, half, s)
		}
		if s.Size != int64(len(b)) || s.Digest != sha(b) {
			t.Fatalf("size %d", s.Size)
		}
		if o := s.Original; o != nil && (o.Offset < 0 || o.Length < 0 || o.Offset+o.Length > s.Size) {
			t.Fatalf("original at %+v of %d", o, s.Size)
		}
		if s.Fault != nil && s.Kind != Ordinary {
			t.Fatalf("%s with fault %v", s.Kind, s.Fault)
		}
		if s.Fault == nil && (s.Kind == Ordinary || len(s.Signature) == 0 || s.Certification == nil && s.Kind != AnomalyEnvelope) {
			t.Fatalf("no fault, but %+v", s)
		}
	})
}

// Whatever is enclosed and whatever it is called, the envelope reads back with exactly those bytes.
func FuzzCompose(f *testing.F) {
	for _, value := range hostile() {
		f.Add([]byte(testOriginal), cut(value, 2000), cut(value, 2000))
	}
	f.Add([]byte("x\r\n\r\n--=_al7iaf9uj0pjils5bkmp6i7tejb5s29c--"), "", "a@x.it")
	c := testComposer(f)
	f.Fuzz(func(t *testing.T, b []byte, subject, address string) {
		o, err := ReadOriginal(bytes.NewReader(b), Limits{})
		if err != nil || strings.Trim(address, xmlSpace) == "" {
			return
		}
		at := testTransaction().Issue(1, 0)
		if strings.Contains(string(b), at.boundary("outer")) || strings.Contains(string(b), at.boundary("inner")) {
			return // nobody can know them
		}
		facts := Facts{Sender: address, Recipients: []Recipient{{Address: address}}, Subject: subject, OriginalID: o.MessageID, EnvelopeID: at.MessageID(c.Provider)}
		in, err := o.Included(bytes.NewReader(b), facts.EnvelopeID)
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.TransportEnvelope(at, facts, o.Inherited(), in)
		if err != nil {
			t.Fatal(err)
		}
		message, err := io.ReadAll(m.Reader(in.Bytes))
		if err != nil {
			t.Fatal(err)
		}
		checkHeader(t, "transport-envelope", message)
		s := readSigned(t, message)
		// The label may promise less than what is left after a Message-ID with raw octets is cut out.
		order := []Encoding{SevenBit, EightBit, Binary}
		if got := message[s.Original.Offset : s.Original.Offset+s.Original.Length]; !bytes.Equal(got, includedBytes(t, in)) || slices.Index(order, s.Original.Encoding) > slices.Index(order, in.Encoding) {
			t.Fatalf("the original reads back as %s %q", s.Original.Encoding, got)
		}
		content, _ := s.ContentDigest(crypto.SHA256)
		if !bytes.Equal(content, m.Content[:]) || s.Digest != m.Digest || s.Size != m.Size {
			t.Fatal("digests differ")
		}
		if s.Certification.Subject != xmlValue(subject) || s.Certification.Sender != xmlValue(address) {
			t.Fatalf("%+v", s.Certification)
		}
	})
}

// What parses, reads back from its own XML.
func FuzzParseCertificationData(f *testing.F) {
	addGolden(f, ".xml")
	f.Add([]byte(foreign))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseCertificationData(b, Limits{CertificationBytes: 1 << 14})
		if err != nil {
			return
		}
		again, err := ParseCertificationData(d.XML(), Limits{})
		if err != nil {
			t.Fatalf("%v\n%s", err, d.XML())
		}
		if !again.Time.Equal(d.Time) {
			t.Fatalf("time %v, was %v", again.Time, d.Time)
		}
		if !bytes.Equal(again.XML(), d.XML()) {
			t.Fatalf("got\n%s\nwant\n%s", again.XML(), d.XML())
		}
	})
}

// What is taken for an address is one, and is taken for the same again.
func FuzzParseAddresses(f *testing.F) {
	f.Add(`"Rossi, Mario" <a@x.it>, B (c@y.it) <b@y.it>; G: "x y"@z.it;`)
	f.Add(`<@r.it:a@[1.2.3.4]>,=?utf-8?Q?x@y.it?= <"a\"b"@x.it`)
	f.Fuzz(func(t *testing.T, value string) {
		list := ParseAddresses(value)
		for _, a := range list {
			if !SameAddress(a, a) || !isPrintable(a) || len(a) > maxAddress {
				t.Fatalf("%q is no address", a)
			}
		}
		field := string(appendAddresses(nil, "To", list))
		if again := ParseAddresses(strings.TrimPrefix(field, "To:")); strings.Join(again, "\x00") != strings.Join(list, "\x00") {
			t.Fatalf("%q was %q", again, list)
		}
	})
}

// Decoded text is UTF-8.
func FuzzDecodeText(f *testing.F) {
	f.Add("=?utf-8?Q?Citt=C3=A0?= =?iso-8859-1?B?6A==?= x\xe8")
	f.Fuzz(func(t *testing.T, value string) {
		if got := decodeText(value); !utf8.ValidString(got) {
			t.Fatalf("%q gives %q", value, got)
		}
	})
}
