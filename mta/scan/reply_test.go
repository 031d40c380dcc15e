package scan

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func FuzzReply(f *testing.F) {
	for _, s := range []string{"stream: OK", "stream: Win.Test.EICAR_HDB-1 FOUND", "stream:  FOUND", "INSTREAM size limit exceeded. ERROR", "", "stream: a\r\nb FOUND"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		virus, err := parseReply(s)
		if err == nil && virus == "" && s != "stream: OK" {
			t.Errorf("%q counts as clean", s)
		}
		if len(virus) > maxVirusName || strings.ContainsFunc(virus, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q gives the name %q", s, virus)
		}
	})
}

func FuzzVersion(f *testing.F) {
	for _, s := range []string{"ClamAV 1.4.6", "ClamAV 1.4.6/27450/Mon Nov 10 09:15:00 2025", "ClamAV 1.4.6/27450/", "ClamAV 1.4.6/x/Mon Nov 10 09:15:00 2025", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := parseVersion(s, time.UTC)
		if err != nil && v != (Version{}) {
			t.Errorf("%q: %+v with %v", s, v, err)
		}
		if len(v.Signatures(time.Unix(0, 0))) > 128 || len(v.Engine) > 64 {
			t.Errorf("%q: too long: %+v", s, v)
		}
	})
}

func TestVersion(t *testing.T) {
	t.Parallel()
	v, err := parseVersion("ClamAV 1.4.6/27450/Mon Nov 10 09:15:00 2025", time.FixedZone("", 3600))
	if err != nil || v != (Version{"ClamAV 1.4.6", "27450", time.Date(2025, 11, 10, 8, 15, 0, 0, time.UTC)}) {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := parseVersion("ClamAV 1.4.6", time.UTC); err != nil || v != (Version{Engine: "ClamAV 1.4.6"}) {
		t.Errorf("local signatures only: %+v, %v", v, err)
	}
	for _, bad := range []string{"", "ClamAV", "PONG", "ClamAV 1/2", "ClamAV 1/2/3", "ClamAV 1.4.6/abc/Mon Nov 10 09:15:00 2025"} {
		if v, err := parseVersion(bad, time.UTC); err == nil {
			t.Errorf("%q gives %+v", bad, v)
		}
	}
}

func FuzzSpam(f *testing.F) {
	for _, s := range []string{`{"score":15.0,"required_score":15.0,"action":"reject","symbols":{"GTUBE":{"name":"GTUBE"}}}`, `{"score":null}`, `{`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSpam(b)
		if (s == nil) == (err == nil) {
			t.Fatalf("%q: %+v, %v", b, s, err)
		}
		if s == nil {
			return
		}
		if len(s.Symbols) > maxSymbols || len(s.Action) > maxSymbol {
			t.Errorf("%q: too long: %+v", b, s)
		}
		for _, w := range append(s.Symbols, s.Action) {
			if strings.ContainsAny(w, "\r\n\x00,;") {
				t.Errorf("%q gives %q", b, w)
			}
		}
	})
}

// The stream is the command, chunks after their lengths and an empty one, whatever
// the size, and whatever the buffer held before.
func TestStream(t *testing.T) {
	t.Parallel()
	c := &clamd{}
	for _, size := range []int{chunkBytes + 1, 0, 1, chunkBytes - 1, chunkBytes, 2 * chunkBytes, 2*chunkBytes + 7, 0} {
		content := bytes.Repeat([]byte{'x', 0, 0xff}, size/3+1)[:size]
		var sent bytes.Buffer
		if sendErr, readErr := c.send(&sent, iotest.HalfReader(bytes.NewReader(content))); sendErr != nil || readErr != nil {
			t.Fatal(sendErr, readErr)
		}
		rest, ok := bytes.CutPrefix(sent.Bytes(), []byte("zINSTREAM\x00"))
		if !ok {
			t.Fatalf("%d octets: begins with %q", size, sent.Bytes()[:10])
		}
		var got []byte
		for {
			if len(rest) < 4 {
				t.Fatalf("%d octets: no end", size)
			}
			n := int(binary.BigEndian.Uint32(rest))
			if rest = rest[4:]; n == 0 {
				break
			}
			got, rest = append(got, rest[:n]...), rest[n:]
		}
		if !bytes.Equal(got, content) || len(rest) != 0 {
			t.Errorf("%d octets: %d arrive, %d behind the end", size, len(got), len(rest))
		}
	}
}
