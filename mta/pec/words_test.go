package pec

import (
	"mime"
	"strings"
	"testing"
)

func TestDecodeText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                              "plain",
		"=?utf-8?Q?Citt=C3=A0_x?=":           "Città x",
		"=?UTF-8?B?Q2l0dMOg?=":               "Città",
		"=?iso-8859-1?Q?Citt=E0?=":           "Città",
		"=?ISO-8859-15?Q?=A4?=":              "€",
		"=?windows-1252?Q?=80_=93x=94?=":     "€ “x”",
		"=?utf-8*it?Q?x?=":                   "x",
		"a =?utf-8?Q?b?= c":                  "a b c",
		"=?utf-8?Q?a?= =?utf-8?Q?b?=":        "ab",
		"=?utf-8?Q?a?=\t =?iso-8859-1?Q?b?=": "ab",
		"=?utf-8?Q?a?= x =?utf-8?Q?b?=":      "a x b",
		"=?utf-8?Q?=C3?= =?utf-8?Q?=A0?=":    "à",  // split inside a character
		"=?utf-8?B?w6A=?= =?utf-8?B?w6A?=":   "àà", // padding missing
		"=?utf-8?Q?a b?=":                    "a b",
		"=?x-unknown?Q?a?= b":                "=?x-unknown?Q?a?= b",
		"=?utf-8?X?a?=":                      "=?utf-8?X?a?=",
		"=?utf-8?Q?a":                        "=?utf-8?Q?a",
		"=?utf-8?B?!!?=":                     "=?utf-8?B?!!?=",
		"=?":                                 "=?",
		"=?utf-8?Q??=":                       "",
		"=?utf-8?Q?=zz=4?=":                  "=zz=4",
		"citt\xe0 \x80":                      "città €", // raw windows-1252
		"città":                              "città",
		"=?utf-8?Q?=ff?=":                    "\uFFFD",
		"=?utf-8?Q?=0D=0ABcc:_x?=":           "\r\nBcc: x", // kept here, made harmless where it is written
		"è =?utf-8?Q?=C3=A8?=":               "è è",
	} {
		if got := decodeText(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// What goes into a Subject is what another decoder gets out of it.
func TestSubjectReadsBack(t *testing.T) {
	t.Parallel()
	for name, value := range hostile() {
		field := string(appendSubject(nil, "POSTA CERTIFICATA: ", value))
		unfolded := strings.TrimSuffix(strings.ReplaceAll(field, "\r\n ", " "), "\r\n")
		if strings.ContainsAny(unfolded, "\r\n") {
			t.Errorf("%s: does not unfold: %.300q", name, field)
		}
		for _, line := range strings.Split(field, "\r\n") {
			if limit := max(foldAt, maxChunk+1); len(line) > limit || strings.Contains(line, "=?UTF-8") && len(line) > wordLine {
				t.Errorf("%s: line of %d octets: %q", name, len(line), line)
			}
		}
		got, err := new(mime.WordDecoder).DecodeHeader(strings.TrimPrefix(unfolded, "Subject: "))
		want := "POSTA CERTIFICATA: " + strings.TrimRight(oneLine(cut(value, maxSubject)), " ")
		if err != nil || got != want {
			t.Errorf("%s: %v, got %.300q, want %.300q", name, err, got, want)
		}
		if again := decodeText(strings.TrimPrefix(unfolded, "Subject: ")); again != want {
			t.Errorf("%s: our decoder got %.300q, want %.300q", name, again, want)
		}
	}
}

func TestAddressFieldsFold(t *testing.T) {
	t.Parallel()
	list := make([]string, 50)
	for i := range list {
		list[i] = strings.Repeat("a", i+1) + "@pec.example.it"
	}
	field := string(appendAddresses(nil, "To", list))
	for _, line := range strings.Split(field, "\r\n") {
		if len(line) > foldAt+1 { // one for the comma
			t.Errorf("line of %d octets: %q", len(line), line)
		}
	}
	if got := ParseAddresses(strings.TrimPrefix(field, "To:")); strings.Join(got, " ") != strings.Join(list, " ") {
		t.Errorf("reads back as %q", got)
	}
}

func TestOnBehalfOf(t *testing.T) {
	t.Parallel()
	for sender, want := range map[string]string{
		"a@x.it":         "From: \"Per conto di: a@x.it\" <posta-certificata@x.it>\r\n",
		`"a b"@x.it`:     "From: \"Per conto di: \\\"a b\\\"@x.it\" <posta-certificata@x.it>\r\n",
		"è@x.it":         "From: =?UTF-8?B?UGVyIGNvbnRvIGRpOiDDqEB4Lml0?= <posta-certificata@x.it>\r\n",
		"=?utf-8?Q?x?=@": "From: =?UTF-8?B?UGVyIGNvbnRvIGRpOiA9P3V0Zi04P1E/eD89QA==?=\r\n <posta-certificata@x.it>\r\n",
		"mario.rossi.ufficio.protocollo@comune.example.it": "From: \"Per conto di: mario.rossi.ufficio.protocollo@comune.example.it\"\r\n <posta-certificata@x.it>\r\n",
	} {
		if got := string(appendOnBehalf(nil, sender, "posta-certificata@x.it")); got != want {
			t.Errorf("%q: got\n%s\nwant\n%s", sender, got, want)
		}
	}
}
