package pec

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"
)

// Bounds of what Brief looks into. A message beyond them is left whole, which certifies more than was asked for.
const (
	briefDepth = 16  // multiparts inside one another
	briefParts = 512 // parts that are replaced
)

// Brief returns the edits that make an included original the one of a brief delivery receipt (RFC 6109 section 3.3.2.2):
// every part with a file name, and every attached message, gives way to a text file named after it with the suffix
// ".hash", which holds the SHA-1 of the part's content as transferred, in 40 hexadecimal digits. Of an original that is
// multipart/signed the signature stays; one that is a CMS object (application/pkcs7-mime) stays whole, as does one whose
// parts cannot be told apart within bounds, or that another provider encoded as a whole.
//
// The edits are in the original's coordinates, ascending and not overlapping. The error is that of reading.
func (i Included) Brief() ([]Edit, error) {
	if i.Encoding == Base64 || i.Encoding == QuotedPrintable {
		return nil, nil
	}
	w := briefWalker{lines: newLineReader(io.NewSectionReader(i.Bytes, 0, i.Size))}
	w.header.limit = DefaultLimits().HeaderBytes
	for !w.whole {
		frag, first, err := w.lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("couldn't read the original for a brief receipt: %w", err)
		}
		w.line(frag, first)
		w.lastBreak = breakLen(frag)
	}
	w.end()
	if w.whole {
		return nil, nil
	}
	return w.edits, nil
}

// briefContainer is a multipart that the walker is in.
type briefContainer struct {
	boundary string
	digest   bool // its parts are messages unless they say otherwise
	signed   bool // the original itself is multipart/signed
	parts    int
}

// briefWalker reads a message once, descends into its multiparts and hashes what is to be replaced.
type briefWalker struct {
	lines     *lineReader
	header    headerReader
	inHeader  bool // of a part; the first header is the message's own
	began     bool // the message's header has ended
	lastBreak int
	whole     bool // leave the message as it is

	open  []briefContainer
	start int64 // where the part began, with its header
	name  string
	sum   hash.Hash // nil when the part stays
	body  int64     // where its body began
	edits []Edit
}

func (w *briefWalker) line(frag []byte, first bool) {
	if first && w.began && len(frag) > 2 && frag[0] == '-' && frag[1] == '-' {
		for n := len(w.open) - 1; n >= 0; n-- {
			if is, closing := delimits(frag, w.open[n].boundary); is {
				w.delimiter(n, closing)
				return
			}
		}
	}
	if w.began && !w.inHeader {
		return
	}
	taken, err := w.header.add(frag, first)
	switch {
	case err != nil:
		w.whole = true
	case !taken:
		w.whole = true // programs differ about where such a header ends
	case w.header.ended != openHeader:
		w.endHeader(w.lines.off)
	}
}

// delimiter acts on a delimiter of the n-th open multipart, which ends those inside it.
func (w *briefWalker) delimiter(n int, closing bool) {
	if w.inHeader {
		w.endHeader(w.lines.fragmentOffset())
	}
	w.endPart(w.lines.fragmentOffset() - int64(w.lastBreak))
	w.open = w.open[:n+1]
	if closing {
		w.open = w.open[:n]
		return
	}
	w.open[n].parts++
	w.start, w.inHeader = w.lines.off, true
	w.header = headerReader{limit: DefaultLimits().PartHeaderBytes}
}

// endHeader decides about the part whose header ended; its body begins at offset body.
func (w *briefWalker) endHeader(body int64) {
	h := w.header.Header
	message := !w.began // it is the message's own header
	w.began, w.inHeader = true, false
	t := parseMediaType(h.Get("Content-Type"))
	if t.value == "" && len(w.open) > 0 && w.open[len(w.open)-1].digest {
		t.value = "message/rfc822"
	}
	name, named := partName(&h, t)
	signature := len(w.open) == 1 && w.open[0].signed && w.open[0].parts == 2
	boundary := t.params["boundary"]
	switch {
	case strings.HasPrefix(t.value, "multipart/") && boundary != "" && len(boundary) <= maxBoundary:
		if len(w.open) == briefDepth {
			w.whole = true
		}
		w.open = append(w.open, briefContainer{boundary: boundary, digest: t.value == "multipart/digest", signed: message && t.value == "multipart/signed"})
		return
	case message && (t.value == "application/pkcs7-mime" || t.value == "application/x-pkcs7-mime"):
		w.whole = true
		return
	case signature && strings.HasSuffix(t.value, "pkcs7-signature"):
		return
	case t.value == "message/rfc822":
		if name == "" {
			name = "messaggio.eml"
		}
	case !named:
		return
	}
	if message { // its whole body is a file: the header stays, but for what describes the body
		w.replaceFields(&h, body, name)
	}
	w.name, w.body, w.sum = name, body, sha1.New()
	w.lines.beginRegion(w.sum)
}

// replaceFields replaces the fields of the message's own header that describe its body.
func (w *briefWalker) replaceFields(h *Header, body int64, name string) {
	for _, f := range h.fields {
		if len(h.raw[f.start:f.name]) > len("Content-") && strings.EqualFold(string(h.raw[f.start:f.start+len("Content-")]), "Content-") {
			w.edits = append(w.edits, Edit{Offset: int64(f.start), Delete: int64(f.end - f.start)})
		}
	}
	w.edits = append(w.edits, Edit{Offset: int64(len(h.raw)), Insert: appendHashHeader(nil, name)})
	w.start = body
}

// endPart acts on the end of a part's body, at offset end.
func (w *briefWalker) endPart(end int64) {
	if w.sum == nil {
		return
	}
	end = max(end, w.body)
	w.lines.endRegion(int(w.lines.fragmentOffset() - end))
	if len(w.edits) >= briefParts {
		w.whole = true
		return
	}
	var insert []byte
	if w.start != w.body { // not the message's own body
		insert = append(appendHashHeader(nil, w.name), "\r\n"...)
	}
	insert = hex.AppendEncode(insert, w.sum.Sum(nil))
	w.edits = append(w.edits, Edit{Offset: w.start, Delete: end - w.start, Insert: insert})
	w.sum = nil
}

// end acts on the end of the message. What is not closed ends there.
func (w *briefWalker) end() {
	if !w.began || w.inHeader || w.sum == nil {
		return
	}
	// All of the last line belongs to the part.
	w.lines.take(0, false)
	w.endPart(w.lines.off)
}

// appendHashHeader appends the fields that describe a hash file.
func appendHashHeader(b []byte, name string) []byte {
	file := fileName(name + ".hash")
	b = append(b, "Content-Type: text/plain; charset=us-ascii;\r\n name"...)
	b = append(b, file...)
	b = append(b, "\r\nContent-Transfer-Encoding: 7bit\r\nContent-Disposition: attachment;\r\n filename"...)
	b = append(b, file...)
	return append(b, "\r\n"...)
}

// maxFileName bounds a file name, octets.
const maxFileName = 200

// fileName returns a parameter's value with its equals sign, in the form of RFC 2231 section 4 when it needs one.
func fileName(name string) string {
	if len(name) > maxFileName {
		keep := name[strings.LastIndexByte(name, '.'):] // ".hash"
		name = cut(name, maxFileName-len(keep)) + keep
	}
	if isPrintable(name) && !strings.ContainsAny(name, `"\`) && !strings.Contains(name, "=?") {
		return `="` + name + `"`
	}
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	b.WriteString("*=UTF-8''")
	for _, c := range []byte(name) {
		if isAlnum(c) || c == '.' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}

// partName returns the file name of a part, decoded, from filename or name; named says whether it has either, in any form.
func partName(h *Header, t mediaType) (name string, named bool) {
	disposition := parseMediaType(h.Get("Content-Disposition"))
	for _, p := range []struct {
		of    mediaType
		param string
	}{{disposition, "filename"}, {t, "name"}} {
		if v, ok := parameter(p.of.params, p.param); ok && !named {
			name, named = oneLine(v), true
		}
	}
	name = strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r < ' ' {
			return '_'
		}
		return r
	}, name)
	if named && strings.Trim(name, " .") == "" {
		name = "allegato"
	}
	return name, named
}

// parameter returns a parameter's value decoded: plain, with encoded words against RFC 2047 section 5, or in the extended
// and continued forms of RFC 2231.
func parameter(params map[string]string, name string) (string, bool) {
	if v, ok := params[name+"*"]; ok {
		return extendedValue(v), true
	}
	if v, ok := params[name]; ok {
		return decodeText(v), true
	}
	var b strings.Builder
	extended := false
	for n := range 100 {
		key := fmt.Sprintf("%s*%d", name, n)
		v, ok := params[key]
		if !ok {
			if v, ok = params[key+"*"]; ok {
				extended = true
			}
		}
		if !ok {
			if n == 0 {
				return "", false
			}
			break
		}
		b.WriteString(v)
	}
	if extended {
		return extendedValue(b.String()), true
	}
	return b.String(), true
}

// extendedValue decodes charset'language'percent-encoded (RFC 2231 section 4).
func extendedValue(v string) string {
	charset, rest, ok := strings.Cut(v, "'")
	if !ok {
		charset, rest = "", v
	} else if _, after, ok := strings.Cut(rest, "'"); ok {
		rest = after
	}
	b := make([]byte, 0, len(rest))
	for i := 0; i < len(rest); i++ {
		if rest[i] == '%' && i+2 < len(rest) {
			if d, err := hex.DecodeString(rest[i+1 : i+3]); err == nil {
				b = append(b, d[0])
				i += 2
				continue
			}
		}
		b = append(b, rest[i])
	}
	if c := strings.ToLower(charset); c == "iso-8859-1" || c == "windows-1252" || c == "latin1" {
		r := make([]rune, len(b))
		for i, c := range b {
			r[i] = rune(c)
		}
		return string(r)
	}
	return strings.ToValidUTF8(string(b), "_")
}
