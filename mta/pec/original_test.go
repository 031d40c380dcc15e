package pec

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadOriginal(t *testing.T) {
	t.Parallel()
	o := readOriginal(t, testOriginal)
	want := &Original{
		Header:      o.Header,
		From:        []string{"mario.rossi@pec.example.it"},
		To:          []string{"anna.bianchi@pec.example.com", "ufficio@example.org"},
		Cc:          []string{"luca@pec.example.com"},
		Subject:     "Città di prova",
		MessageID:   "<client-1@example.it>",
		ReceiptType: Complete,
		Size:        int64(len(testOriginal)),
		Digest:      sha([]byte(testOriginal)),
		HeaderLen:   int64(strings.Index(testOriginal, "\r\n\r\n") + 2),
		LongestLine: 67,
		encoding:    SevenBit,
		ended:       emptyLine,
	}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got\n%+v\nwant\n%+v", o, want)
	}
	if got := o.Header.Get("x-tiporicevuta"); got != "completa" {
		t.Errorf("Get is %q", got)
	}
	if got := o.Header.Get("Received"); got != "from client.example.it ([192.0.2.7]) by mx.pec.example.it\twith ESMTPSA; Mon, 23 Nov 2026 10:15:29 +0100" {
		t.Errorf("folded value is %q", got)
	}
}

func TestReadOriginalHeaders(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		header string
		check  func(*Original) bool
	}{
		"two From":        {"From: a@x.it\r\nfrom : b@x.it\r\n", func(o *Original) bool { return len(o.From) == 2 }},
		"two To":          {"To: a@x.it\r\nTo: b@x.it\r\n", func(o *Original) bool { return len(o.To) == 2 }},
		"empty Bcc":       {"Bcc: \r\n", func(o *Original) bool { return !o.BccNonEmpty }},
		"Bcc":             {"bcc: a@x.it\r\n", func(o *Original) bool { return o.BccNonEmpty }},
		"second Bcc":      {"Bcc:\r\nBcc: a@x.it\r\n", func(o *Original) bool { return o.BccNonEmpty }},
		"folded Bcc":      {"Bcc:\r\n a@x.it\r\n", func(o *Original) bool { return o.BccNonEmpty }},
		"Reply-To":        {"Reply-To: A <a@x.it>, b@x.it\r\n", func(o *Original) bool { return o.ReplyTo == "a@x.it, b@x.it" }},
		"breve":           {"X-TIPORICEVUTA: Breve\r\n", func(o *Original) bool { return o.ReceiptType == Brief }},
		"no type":         {"", func(o *Original) bool { return o.ReceiptType == Complete }},
		"bare LF":         {"From: a@x.it\nTo: b@x.it\n\nx", func(o *Original) bool { return o.BareNewline && len(o.To) == 1 && o.HeaderLen == 24 }},
		"mbox line":       {"From a@x.it Mon Nov 23\r\nFrom: a@x.it\r\n", func(o *Original) bool { return len(o.From) == 1 }},
		"ends at no name": {"From: a@x.it\r\nno name\r\nTo: b@x.it\r\n", func(o *Original) bool { return o.HeaderLen == 14 && len(o.To) == 0 }},
		"ID bare":         {"Message-ID: a@b\r\n", func(o *Original) bool { return o.MessageID == "<a@b>" }},
		"ID with comment": {"Message-Id: (x) <a@b> (y)\r\n", func(o *Original) bool { return o.MessageID == "<a@b>" }},
		"ID hostile":      {"Message-ID: <a\x00 \xe8b>\r\n", func(o *Original) bool { return o.MessageID == "<ab>" }},
		"ID empty":        {"Message-ID: <>\r\n", func(o *Original) bool { return o.MessageID == "" }},
		"ID too long":     {"Message-ID: <" + strings.Repeat("x", 901) + ">\r\n", func(o *Original) bool { return o.MessageID == "" }},
		"raw subject":     {"Subject: citt\xe0\r\n", func(o *Original) bool { return o.Subject == "città" && o.EightBit }},
		"NUL":             {"X: a\x00b\r\n", func(o *Original) bool { return o.NUL }},
		"bare CR":         {"X: a\rb\r\n", func(o *Original) bool { return o.BareNewline && !o.NUL }},
		"999 octets":      {"X: " + strings.Repeat("x", 996) + "\r\n", func(o *Original) bool { return o.LongestLine == 999 && o.encoding == Binary }},
		"998 octets":      {"X: " + strings.Repeat("x", 995) + "\r\n", func(o *Original) bool { return o.LongestLine == 998 && o.encoding == SevenBit }},
		"long field":      {"X: " + strings.Repeat("x", 70_000) + "\r\nTo: a@x.it\r\n", func(o *Original) bool { return o.LongestLine == 70_003 && len(o.To) == 1 }},
		"CR at the end":   {"X: y\r", func(o *Original) bool { return o.BareNewline }},
	} {
		if o := readOriginal(t, test.header); !test.check(o) {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// Wherever the buffer happens to end, the result is the same.
func TestReadOriginalAnyRead(t *testing.T) {
	t.Parallel()
	text := testOriginal + strings.Repeat("y", 2*lineBuffer-1) + "\r\n" + strings.Repeat("è\r\n", 3*lineBuffer/4)
	want := readOriginal(t, text)
	if want.BareNewline || !want.EightBit || want.LongestLine != 2*lineBuffer-1 {
		t.Fatalf("%+v", want)
	}
	for name, r := range map[string]io.Reader{
		"byte": iotest.OneByteReader(strings.NewReader(text)),
		"half": iotest.HalfReader(strings.NewReader(text)),
		"err":  iotest.DataErrReader(strings.NewReader(text)),
	} {
		got, err := ReadOriginal(r, Limits{})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n%+v", name, err, got)
		}
	}
}

func TestReadOriginalFails(t *testing.T) {
	t.Parallel()
	if _, err := ReadOriginal(strings.NewReader("X: "+strings.Repeat("x", 200)), Limits{HeaderBytes: 100}); !errors.Is(err, ErrHeaderTooLarge) {
		t.Errorf("large header: %v", err)
	}
	if _, err := ReadOriginal(strings.NewReader("X: y\r\n\r\n"+strings.Repeat("x", 2000)), Limits{HeaderBytes: 100}); err != nil {
		t.Errorf("large body: %v", err)
	}
	if _, err := ReadOriginal(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(testOriginal))), Limits{}); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("broken reader: %v", err)
	}
	if _, err := ReadOriginal(stuckReader{}, Limits{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("stuck reader: %v", err)
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

func TestPatch(t *testing.T) {
	t.Parallel()
	const id = "<env@x.it>"
	for name, test := range map[string]struct{ in, want string }{
		"usual": {
			"From: a@x.it\r\nMessage-ID: <old@x>\r\nTo: b@x.it\r\n\r\nbody\r\n",
			"From: a@x.it\r\nMessage-ID: <env@x.it>\r\nTo: b@x.it\r\nX-Riferimento-Message-ID: <old@x>\r\n\r\nbody\r\n",
		},
		"folded, other case": {
			"MESSAGE-id:\r\n <old@x>\r\nTo: b@x.it\r\n\r\n",
			"Message-ID: <env@x.it>\r\nTo: b@x.it\r\nX-Riferimento-Message-ID: <old@x>\r\n\r\n",
		},
		"none": {
			"To: b@x.it\r\n\r\nbody",
			"To: b@x.it\r\nMessage-ID: <env@x.it>\r\n\r\nbody",
		},
		"empty one": {
			"Message-ID:\r\nTo: b@x.it\r\n\r\n",
			"Message-ID: <env@x.it>\r\nTo: b@x.it\r\n\r\n",
		},
		"last field": {
			"To: b@x.it\r\nMessage-ID: <old@x>\r\n\r\nbody",
			"To: b@x.it\r\nMessage-ID: <env@x.it>\r\nX-Riferimento-Message-ID: <old@x>\r\n\r\nbody",
		},
		"twice": {
			"Message-ID: <old@x>\r\nTo: b@x.it\r\nMessage-ID: <other@x>\r\n\r\n",
			"Message-ID: <env@x.it>\r\nTo: b@x.it\r\nX-Riferimento-Message-ID: <old@x>\r\n\r\n",
		},
		"forged reference": {
			"X-Riferimento-Message-Id: <forged@x>\r\nMessage-ID: <old@x>\r\n\r\n",
			"Message-ID: <env@x.it>\r\nX-Riferimento-Message-ID: <old@x>\r\n\r\n",
		},
		"only a header": {
			"To: b@x.it\r\nMessage-ID: <old@x>\r\n",
			"To: b@x.it\r\nMessage-ID: <env@x.it>\r\nX-Riferimento-Message-ID: <old@x>\r\n",
		},
		"cut short": {
			"Message-ID: <old@x>\r\nTo: b@x.it",
			"Message-ID: <env@x.it>\r\nTo: b@x.it\r\nX-Riferimento-Message-ID: <old@x>\r\n",
		},
		"cut short in it": {
			"To: b@x.it\r\nMessage-ID: <old@x>",
			"To: b@x.it\r\nMessage-ID: <env@x.it>\r\nX-Riferimento-Message-ID: <old@x>\r\n",
		},
		"cut short in a forged reference": {
			"Message-ID: <old@x>\r\nX-Riferimento-Message-ID: <f@x>",
			"Message-ID: <env@x.it>\r\nX-Riferimento-Message-ID: <old@x>\r\n",
		},
		"nothing":      {"", "Message-ID: <env@x.it>\r\n"},
		"no header":    {"\r\nbody", "Message-ID: <env@x.it>\r\n\r\nbody"},
		"only a body":  {"body\r\n", "Message-ID: <env@x.it>\r\n\r\nbody\r\n"},
		"continuation": {" x\r\nTo: b@x.it\r\n", "Message-ID: <env@x.it>\r\n\r\n x\r\nTo: b@x.it\r\n"},
		"no name": {
			"Message-ID: <old@x>\r\nno name\r\nTo: b@x.it\r\n\r\nbody",
			"Message-ID: <env@x.it>\r\nX-Riferimento-Message-ID: <old@x>\r\n\r\nno name\r\nTo: b@x.it\r\n\r\nbody",
		},
	} {
		o := readOriginal(t, test.in)
		edits := o.Patch(id)
		p, err := NewPatched(strings.NewReader(test.in), o.Size, edits)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(io.NewSectionReader(p, 0, p.Size()))
		if err != nil || string(got) != test.want {
			t.Errorf("%s: %v, got\n%q\nwant\n%q", name, err, got, test.want)
		}
		if err := iotest.TestReader(io.NewSectionReader(p, 0, p.Size()), []byte(test.want)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// A patched message is in order: patching it again replaces only the ID.
		if again := readOriginal(t, string(got)); again.MessageID != id || again.Header.Count("Message-ID") != 1 {
			t.Errorf("%s: reads back with Message-ID %s", name, again.MessageID)
		}
	}
}

func TestPatchedRefuses(t *testing.T) {
	t.Parallel()
	for name, edits := range map[string][]Edit{
		"outside":        {{Offset: 11}},
		"too long":       {{Offset: 5, Delete: 6}},
		"negative":       {{Offset: -1}},
		"negative size":  {{Offset: 5, Delete: -1}},
		"overlap":        {{Offset: 2, Delete: 3}, {Offset: 4}},
		"out of order":   {{Offset: 5}, {Offset: 2}},
		"overflow":       {{Offset: 5, Delete: 1<<63 - 1}},
		"offset too big": {{Offset: 1<<63 - 1, Delete: 1}},
	} {
		if _, err := NewPatched(strings.NewReader("0123456789"), 10, edits); !errors.Is(err, ErrEdits) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p, err := NewPatched(strings.NewReader("012"), 10, []Edit{{Offset: 1, Delete: 1, Insert: []byte("xyz")}})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.ReadAt(make([]byte, 10), 0); n != 5 || !errors.Is(err, ErrIncludedSize) {
		t.Errorf("a message shorter than its size: %d, %v", n, err)
	}
	if _, err := p.ReadAt(nil, -1); err == nil {
		t.Error("a negative offset is read")
	}
}

func TestInherited(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		header string
		want   Inherited
	}{
		"as they are": {
			"Received: x\r\n\ty\r\nReceived: z\r\nTO :  A  <a@x.it>,\r\n  b@x.it\r\nCc:\r\n c@x.it\r\nReply-To: D <d@x.it>\r\n",
			Inherited{Received: []string{"Received: x\r\n\ty\r\n", "Received: z\r\n"}, To: "To:  A  <a@x.it>,\r\n  b@x.it\r\n", Cc: "Cc:\r\n c@x.it\r\n", ReplyTo: "Reply-To: D <d@x.it>\r\n"},
		},
		"raw octets": {"Received: \xe8\r\nTo: Niccol\xf2 <a@x.it>\r\n", Inherited{To: "To: a@x.it\r\n"}},
		"twice":      {"To: A <a@x.it>\r\nTo: B <b@x.it>\r\n", Inherited{To: "To: a@x.it, b@x.it\r\n"}},
		"bare LF":    {"To: A\n <a@x.it>\n", Inherited{To: "To: a@x.it\r\n"}},
		"bare CR":    {"To: A\r<a@x.it>\r\n", Inherited{To: "To: a@x.it\r\n"}},
		"blank line": {"To: A\r\n \r\n <a@x.it>\r\n", Inherited{To: "To: a@x.it\r\n"}},
		"long line":  {"To: " + strings.Repeat("x", 995) + " <a@x.it>\r\n", Inherited{To: "To: a@x.it\r\n"}},
		"hidden LF":  {"To: =?utf-8?Q?=0A?= <a@x.it>\r\n", Inherited{To: "To: a@x.it\r\n"}},
		"no address": {"To: undisclosed-recipients:;\r\nReply-To:\r\n", Inherited{}},
		"cut short":  {"To: A <a@x.it>", Inherited{To: "To: a@x.it\r\n"}},
	} {
		if got := readOriginal(t, test.header).Inherited(); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got\n%q\nwant\n%q", name, got, test.want)
		}
	}
	many := readOriginal(t, strings.Repeat("Received: x\r\n", 100)).Inherited()
	if len(many.Received) != maxReceived {
		t.Errorf("%d Received fields are inherited", len(many.Received))
	}
}

// Composing and reading a large message takes memory for its pieces only.
//
// It does not run in parallel, so that it counts only its own memory.
func TestLargeMessageIsStreamed(t *testing.T) {
	const size = 50 << 20
	c := testComposer(t)
	original := &repeated{head: []byte(testOriginal), line: []byte(strings.Repeat("0123456789", 7) + "\r\n"), size: size}
	o, err := ReadOriginal(io.NewSectionReader(original, 0, size), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	at := testTransaction().Issue(1, 0)
	f := testFacts(c, o, at)
	in, err := o.Included(original, f.EnvelopeID)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := c.TransportEnvelope(at, f, o.Inherited(), in)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadSigned(m.Reader(in.Bytes), Limits{})
	if err != nil || s.Fault != nil {
		t.Fatal(err, s.Fault)
	}
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 {
		t.Errorf("%d octets were allocated for one message", allocated)
	}
	if s.Digest != m.Digest || s.Original.Length != in.Size || s.Size < size {
		t.Errorf("read back %d octets with an original of %d, composed %d", s.Size, s.Original.Length, m.Size)
	}
}

// repeated is a message of one header and many equal lines.
type repeated struct {
	head, line []byte
	size       int64
}

func (r *repeated) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) && off < r.size {
		src := r.line
		at := off - int64(len(r.head))
		if at < 0 {
			src, at = r.head, off
		} else {
			at %= int64(len(r.line))
		}
		c := copy(b[n:min(int64(len(b)), int64(n)+r.size-off)], src[at:])
		n += c
		off += int64(c)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func TestOctets(t *testing.T) {
	t.Parallel()
	for _, bad := range []struct {
		octet byte
		want  octets
	}{{0, octets{nul: true}}, {'\r', octets{bare: true}}, {0x80, octets{high: true}}, {0xff, octets{high: true}}, {1, octets{}}, {0x8d, octets{high: true}}, {0x0c, octets{}}, {0x0e, octets{}}} {
		for length := 1; length < 20; length++ {
			for at := range length {
				line := bytes.Repeat([]byte{'x'}, length)
				line[at] = bad.octet
				var got octets
				got.scan(line)
				if got != bad.want {
					t.Fatalf("octet %#x at %d of %d: %+v", bad.octet, at, length, got)
				}
			}
		}
	}
}
