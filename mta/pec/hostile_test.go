package pec

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// hostile values are put wherever somebody else decides what a message says.
func hostile() map[string]string {
	return map[string]string{
		"quotes":          `a" proveniente da "b\`,
		"header":          "x\r\nBcc: evil@example.org\r\n\r\nbody",
		"bare LF":         "x\nX-Ricevuta: accettazione",
		"bare CR":         "x\rX-Ricevuta: accettazione",
		"controls":        "a\x00b\x01c\x1b[31md\x7f\x85e\t",
		"XML":             `</oggetto><oggetto>x</oggetto><!DOCTYPE a [<!ENTITY b "c">]>&b;&lt;]]>`,
		"encoded word":    "=?utf-8?Q?=0D=0ABcc:_evil@example.org?= =?x",
		"long word":       strings.Repeat("x", 100_000),
		"long accents":    strings.Repeat("è", 50_000),
		"many words":      strings.Repeat("parola ", 10_000),
		"many spaces":     "a" + strings.Repeat(" ", 5_000) + "b",
		"invalid UTF-8":   "\xff\xfe citt\xe0 \xc3",
		"bidi":            "a\u202eb\u2066c\u2028d\u2029e\u200f",
		"noncharacters":   "a\ufffeb\uffffc\ufeffd",
		"delimiter":       "--=_x--",
		"dot":             ".",
		"mbox":            "From me",
		"placeholder":     "{mittente}{destinatari}{dest}{",
		"emoji":           strings.Repeat("👍🏽", 300),
		"soft break":      strings.Repeat("x", 74) + "--=_x",
		"only spaces":     "   ",
		"address":         `"a b\"c"@example.it`,
		"address and LF":  "a@example.it\r\n <b@example.it>",
		"address in name": "<a@example.it>, b@example.it",
	}
}

func TestHostileValues(t *testing.T) {
	t.Parallel()
	c := testComposer(t)
	for name, value := range hostile() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := issueAll(t, c, testOriginal, func(f *Facts) {
				f.Subject, f.ReplyTo, f.OriginalID = value, value, value
				if strings.TrimSpace(value) != "" { // a blank sender is refused
					f.Sender = value
				}
				f.Recipients = []Recipient{{Address: value, Certified: true}, {Address: "x" + value}}
			})
			trees := pythonTrees(t, all)
			for kind, m := range all {
				checkHostile(t, kind, m, value, trees[kind])
			}
		})
	}
}

// The original may be hostile, too: its own header goes into that of the envelope.
func TestHostileOriginal(t *testing.T) {
	t.Parallel()
	c := testComposer(t)
	for name, value := range hostile() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folded := strings.ReplaceAll(value, "\n", "\n ")
			folded = cut(folded, 15_000)
			original := "Received: " + folded + "\r\nFrom: " + folded + "\r\nTo: " + folded + " <a@b.it>\r\nCc: " + folded +
				"\r\nReply-To: " + folded + " <c@d.it>\r\nSubject: " + folded + "\r\nMessage-ID: " + folded + "\r\n\r\n" + value
			m := issueAll(t, c, original, nil)["transport-envelope"]
			b := m.bytes(t)
			checkHeader(t, "transport-envelope", b)
			s := readSigned(t, b)
			if got := b[s.Original.Offset : s.Original.Offset+s.Original.Length]; !bytes.Equal(got, includedBytes(t, *m.included)) {
				t.Error("the included original reads back differently")
			}
			if !strings.HasSuffix(string(b[:s.Original.Offset+s.Original.Length]), value) {
				t.Error("the body of the original was altered")
			}
			// Unmodified by RFC 6109, so what is wrong in these is the sender's.
			if tree := pythonTrees(t, map[string]issued{"": m}, "received", "to", "cc", "reply-to")[""]; len(tree.Parts) != 3 || len(tree.Defects) > 0 {
				t.Errorf("python sees %d parts, defects %q", len(tree.Parts), tree.Defects)
			}
		})
	}
}

// hostileLines is how many lines the text of each message has, whatever it says.
var hostileLines = map[string]int{"acceptance": 8, "non-acceptance": 12, "transport-envelope": 8, "take-charge": 8,
	"delivery-complete": 6, "delivery-concise": 6, "non-delivery": 7,
	"delivery-brief": 6, "non-acceptance-virus": 9, "delay-notice": 7, "timeout-notice": 6, "virus-detection": 6, "non-delivery-virus": 7}

func checkHostile(t *testing.T, kind string, m issued, value string, tree tree) {
	t.Helper()
	b := m.bytes(t)
	checkHeader(t, kind, b)
	s := readSigned(t, b)
	if got, want := s.Certification.Subject, xmlValue(value); got != want {
		t.Errorf("%s: oggetto is %.200q, want %.200q", kind, got, want)
	}
	if got, want := s.Certification.Sender, xmlValue(value); want != "" && got != want {
		t.Errorf("%s: mittente is %.200q, want %.200q", kind, got, want)
	}
	validate(t, kind, s.Certification.XML())
	parts := 2
	if m.Original != nil {
		parts = 3
	}
	if len(tree.Parts) != parts || len(tree.Defects) > 0 {
		t.Fatalf("%s: python sees %d parts, defects %q", kind, len(tree.Parts), tree.Defects)
	}
	text := strings.TrimSuffix(strings.ReplaceAll(tree.Parts[0].Text, "\r\n", "\n"), "\n")
	if lines := strings.Split(text, "\n"); len(lines) != hostileLines[kind] || strings.ContainsAny(text, "\r\x00\x1b\u2028\u202e") {
		t.Errorf("%s: the text has %d lines: %.300q", kind, len(lines), text)
	}
	if strings.Contains(value, "{") && !strings.Contains(text, value) {
		t.Errorf("%s: a value was taken for a placeholder: %q", kind, text)
	}
}

// xmlValue is how a value comes back from daticert.xml.
func xmlValue(v string) string {
	v = strings.Trim(v, " \t\r\n")
	var b strings.Builder
	for _, r := range v {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			r = ' '
		case r < ' ' || r == '\ufffe' || r == '\uffff':
			r = utf8.RuneError
		}
		b.WriteRune(r)
	}
	return b.String()
}

var fieldNames = []string{"Received", "Date", "From", "Reply-To", "To", "Cc", "Message-ID", "Subject", "MIME-Version", "Content-Type",
	"Content-Transfer-Encoding", "X-Ricevuta", "X-Trasporto", "X-TipoRicevuta", "X-Riferimento-Message-ID", "X-VerificaSicurezza", "X-Mittente"}

var headerLine = regexp.MustCompile(`^(?:([A-Za-z-]+): ?|[ \t]+)[ -~\t]*$`)

// checkHeader checks that a header has only fields that were meant, each once, in lines of at most 998 octets of
// printable ASCII.
func checkHeader(t *testing.T, kind string, message []byte) {
	t.Helper()
	header, _, _ := strings.Cut(string(message), "\r\n\r\n")
	seen := map[string]bool{}
	for _, line := range strings.Split(header, "\r\n") {
		match := headerLine.FindStringSubmatch(line)
		if match == nil || len(line) > maxLine || strings.Trim(line, " \t") == "" {
			t.Errorf("%s: header line %.200q", kind, line)
			continue
		}
		if name := match[1]; name != "" {
			if !slices.Contains(fieldNames, name) || seen[name] && name != "Received" {
				t.Errorf("%s: field %q", kind, line)
			}
			seen[name] = true
		}
	}
}
