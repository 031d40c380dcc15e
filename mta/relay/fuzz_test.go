package relay

import (
	"bufio"
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"
)

// Whatever a server says, a reply is bounded, printable, and nothing is read beyond it.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250-2.1.0 b\r\n250 c\r\n", "550 5.1.1 no\nrest", "220", "99 x\r\n", "250-x\r\n550 y\r\n", "250\r\n", "250-\xff\x00\r\n250 \x1b[0m\r\n", "354 go\r\n.", strings.Repeat("250-x\r\n", 200)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), maxReplyLine)
		rep, err := readReply(r)
		if err != nil {
			return
		}
		if rep.code < 200 || rep.code > 599 || len(rep.lines) == 0 || len(rep.lines) > maxReplyLines {
			t.Fatalf("%d with %d lines", rep.code, len(rep.lines))
		}
		if len(rep.text) > maxReplyText || strings.ContainsFunc(rep.text, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("its text is %q", rep.text)
		}
		if rep.enhanced != "" && int(rep.enhanced[0]-'0') != rep.class() {
			t.Errorf("%d with %s", rep.code, rep.enhanced)
		}
		n := 0
		for range rep.lines {
			i := bytes.IndexByte(data[n:], '\n')
			if i < 0 {
				t.Fatalf("more lines than there are")
			}
			n += i + 1
		}
		rest, _ := r.Peek(r.Buffered())
		if !bytes.HasPrefix(data[n:], rest) && !bytes.HasSuffix(data, rest) {
			t.Errorf("what follows the reply was read")
		}
	})
}

// What is sent reads back to the same octets, as one message; what would not is not ended.
func FuzzOctets(f *testing.F) {
	for _, s := range []string{text, "", ".\r\n", "a\n.\r\n", "\r\n.\r\n.", "a\r\n.\rb\r\n", "..\r\n", "\x00\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		var out bytes.Buffer
		err := copyMessage(bufio.NewWriterSize(&out, 64), bytes.NewReader(message), int64(len(message)))
		read := bufio.NewReader(bytes.NewReader(out.Bytes()))
		got, whole := readData(read)
		if err != nil {
			if whole || !errors.Is(err, errOctets) {
				t.Fatalf("refused (%v), and yet ended: %q", err, out.Bytes())
			}
			return
		}
		if !whole || !bytes.Equal(got, message) || read.Buffered() > 0 {
			t.Errorf("sent %q\nas   %q\nread %q", message, out.Bytes(), got)
		}
		plain := strings.ReplaceAll(out.String(), "\r\n", "")
		if strings.ContainsAny(plain, "\r\n\x00") {
			t.Errorf("bare line ends in %q", out.Bytes())
		}
	})
}

// A policy, and the id of one, is bounded; a policy allows no server that it does not name.
func FuzzPolicy(f *testing.F) {
	for _, s := range []string{policyText, "version: STSv1\nmode: none\nmax_age: 1", "version: STSv1\r\nmode: testing\r\nmx: *.b.example\r\nmax_age: 31557600\r\nx: y\r\n", "mx:", ":", "mode:enforce:x"} {
		f.Add(s, "mx.b.example")
	}
	f.Add("v=STSv1; id=20261123T1;", "v=spf1 -all")
	f.Fuzz(func(t *testing.T, s, host string) {
		if id, ok := stsID([]string{s, host}); ok && (id == "" || len(id) > 32) {
			t.Errorf("the id is %q", id)
		}
		p, err := parsePolicy(s)
		if err != nil {
			return
		}
		if p.maxAge < 0 || p.maxAge > longestAge || len(p.mx) > maxMXs || p.enforce() && len(p.mx) == 0 {
			t.Fatalf("%+v", p)
		}
		_, parent, _ := strings.Cut(host, ".")
		if p.allows(host) && !strings.Contains(strings.ToLower(s), host) && !strings.Contains(strings.ToLower(s), "*."+parent) {
			t.Errorf("%q allows %q", s, host)
		}
	})
}
