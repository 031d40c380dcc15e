package pec

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// lines joins lines with CRLF.
func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n" }

func sha1Hex(s string) string {
	sum := sha1.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// hashPart is what a part with that name, with its equals sign, and content gives way to.
func hashPart(name, content string) string {
	return lines("Content-Type: text/plain; charset=us-ascii;", " name"+name, "Content-Transfer-Encoding: 7bit", "Content-Disposition: attachment;", " filename"+name, "", sha1Hex(content))
}

func briefOf(t *testing.T, original string) string {
	t.Helper()
	in := Included{Bytes: strings.NewReader(original), Size: int64(len(original))}
	edits, err := in.Brief()
	if err != nil {
		t.Fatal(err)
	}
	short, err := in.Edited(edits)
	if err != nil {
		t.Fatalf("%v: %+v", err, edits)
	}
	return string(includedBytes(t, short))
}

func TestBrief(t *testing.T) {
	t.Parallel()
	mixed := lines("From: a@b.it", "Content-Type: multipart/mixed; boundary=X", "", "preamble", "--X")
	text := lines("Content-Type: text/plain", "", "testo", "--X")
	pdf := "JVBERi0xLjQK\r\nJVBERi0xLjQK"
	for name, x := range map[string]struct{ original, want string }{
		"plain text": {lines("From: a@b.it", "", "testo"), lines("From: a@b.it", "", "testo")},
		"attachment": {
			mixed + text + lines("Content-Type: application/pdf; name=\"uno.pdf\"", "Content-Transfer-Encoding: base64", "", pdf, "--X--", "end"),
			mixed + text + hashPart(`="uno.pdf.hash"`, pdf) + lines("--X--", "end"),
		},
		"name only in the disposition": {
			mixed + lines("Content-Disposition: inline; filename=a.txt", "", "x", "--X--"),
			mixed + hashPart(`="a.txt.hash"`, "x") + lines("--X--"),
		},
		"encoded names": {
			mixed + lines("Content-Type: text/plain; name*=iso-8859-1''citt%E0.txt", "", "x", "--X", "Content-Type: text/plain; name=\"=?utf-8?Q?perch=C3=A9?=\"", "", "y", "--X",
				"Content-Disposition: attachment; filename*0=\"lungo \"; filename*1=nome", "", "z", "--X--"),
			mixed + hashPart("*=UTF-8''citt%C3%A0.txt.hash", "x") + lines("--X") + hashPart("*=UTF-8''perch%C3%A9.hash", "y") + lines("--X") + hashPart(`="lungo nome.hash"`, "z") + lines("--X--"),
		},
		"hostile name": {
			mixed + lines("Content-Disposition: attachment; filename=\"../a\\\"\"", "", "x", "--X--"),
			mixed + hashPart("*=UTF-8''.._a%22.hash", "x") + lines("--X--"),
		},
		"attached message": {
			mixed + lines("Content-Type: message/rfc822", "", "From: x@y.it", "", "--X", "", "inner", "--X--"),
			mixed + hashPart(`="messaggio.eml.hash"`, "From: x@y.it\r\n") + lines("--X", "", "inner", "--X--"),
		},
		"digest": {
			lines("Content-Type: multipart/digest; boundary=D", "", "--D", "", "From: x@y.it", "", "a", "--D--"),
			lines("Content-Type: multipart/digest; boundary=D", "", "--D") + hashPart(`="messaggio.eml.hash"`, "From: x@y.it\r\n\r\na") + lines("--D--"),
		},
		"alternative inside mixed": {
			mixed + lines("Content-Type: multipart/alternative; boundary=Y", "", "--Y", "", "t", "--Y", "Content-Type: image/png; name=i.png", "", "i", "--Y--", "--X", "Content-Type: a/b; name=n", "", "n", "--X--"),
			mixed + lines("Content-Type: multipart/alternative; boundary=Y", "", "--Y", "", "t", "--Y") + hashPart(`="i.png.hash"`, "i") + lines("--Y--", "--X") + hashPart(`="n.hash"`, "n") + lines("--X--"),
		},
		"signed": {
			lines("Content-Type: multipart/signed; boundary=S; protocol=\"application/pkcs7-signature\"", "", "--S", "Content-Type: application/zip; name=z.zip", "", "z", "--S",
				"Content-Type: application/pkcs7-signature; name=smime.p7s", "", "MII", "--S--"),
			lines("Content-Type: multipart/signed; boundary=S; protocol=\"application/pkcs7-signature\"", "", "--S") + hashPart(`="z.zip.hash"`, "z") +
				lines("--S", "Content-Type: application/pkcs7-signature; name=smime.p7s", "", "MII", "--S--"),
		},
		"CMS object": {lines("Content-Type: application/pkcs7-mime; name=smime.p7m", "", "MII"), lines("Content-Type: application/pkcs7-mime; name=smime.p7m", "", "MII")},
		"the message is a file": {
			lines("From: a@b.it", "Content-Type: application/pdf; name=uno.pdf", "Subject: s", "Content-Transfer-Encoding: base64", "", pdf),
			lines("From: a@b.it", "Subject: s") + strings.Replace(hashPart(`="uno.pdf.hash"`, pdf+"\r\n"), sha1Hex(pdf+"\r\n")+"\r\n", sha1Hex(pdf+"\r\n"), 1),
		},
		"not closed": {
			mixed + lines("Content-Type: a/b; name=n", "", "x"),
			mixed + strings.TrimSuffix(hashPart(`="n.hash"`, "x\r\n"), "\r\n"),
		},
		"empty part": {
			mixed + lines("Content-Type: a/b; name=n", "", "--X--"),
			mixed + strings.TrimSuffix(hashPart(`="n.hash"`, ""), "\r\n") + lines("--X--"),
		},
		"a part without end of header":            {mixed + lines("Content-Type: a/b; name=n", "--X--"), mixed + strings.TrimSuffix(hashPart(`="n.hash"`, ""), "\r\n") + lines("--X--")},
		"a header that programs read differently": {mixed + lines("Content-Type: a/b; name=n", "no field", "x", "--X--"), mixed + lines("Content-Type: a/b; name=n", "no field", "x", "--X--")},
	} {
		if got := briefOf(t, x.original); got != x.want {
			t.Errorf("%s:\n%q\nwant\n%q", name, got, x.want)
		}
	}
}

// Beyond its bounds the original stays whole, and large parts cost no memory.
func TestBriefBounds(t *testing.T) {
	t.Parallel()
	var deep, many strings.Builder
	for i := range 2 * briefDepth {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	deep.WriteString("Content-Type: a/b; name=n\r\n\r\nx")
	many.WriteString("Content-Type: multipart/mixed; boundary=X\r\n\r\n")
	for range 2 * briefParts {
		many.WriteString("--X\r\nContent-Type: a/b; name=n\r\n\r\nx\r\n")
	}
	for name, original := range map[string]string{"deep": deep.String(), "many": many.String()} {
		if got := briefOf(t, original); got != original {
			t.Errorf("%s: it was changed", name)
		}
	}
	large := strings.Repeat("0123456789abcdef\r\n", 200_000)
	if got, want := briefOf(t, "Content-Type: a/b; name=n\r\n\r\n"+large), sha1Hex(large); !strings.HasSuffix(got, "\r\n\r\n"+want) {
		t.Errorf("large part: %.300q", got)
	}
}

// Whatever the original, the edits fit it, and what they give is not longer than a hash file for each part more.
func FuzzBrief(f *testing.F) {
	addGolden(f, ".eml")
	f.Add([]byte("Content-Type: multipart/mixed; boundary=X\r\n\r\n--X\r\nContent-Type: a/b; name=n\r\n\r\nx\r\n--X--\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := Included{Bytes: bytes.NewReader(b), Size: int64(len(b))}
		edits, err := in.Brief()
		if err != nil {
			t.Fatal(err)
		}
		short, err := in.Edited(edits)
		if err != nil {
			t.Fatalf("%v: %+v", err, edits)
		}
		if most := int64(len(b) + len(edits)*(4*maxFileName*3)); short.Size > most {
			t.Fatalf("%d octets became %d with %d edits", len(b), short.Size, len(edits))
		}
	})
}
