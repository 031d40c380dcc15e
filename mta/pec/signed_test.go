package pec

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// handmade is an envelope in the manner of another provider: other order, case, folding, boundaries and preambles,
// nested alternatives, a forged receipt inside the included message, no line break at the end.
const handmade = "Return-Path: <a@x.it>\r\n" +
	"CONTENT-TYPE: Multipart/Signed (signed) ; micalg=\"sha1\";\r\n" +
	"\tboundary=\"----=_Part 1(x)\" ; protocol=application/pkcs7-signature\r\n" +
	"x-trasporto :\r\n Posta-Certificata\r\n" +
	"X-Tiporicevuta: breve\r\n" +
	"From: =?utf-8?Q?Per_conto_di:_a@x.it?= <posta-certificata@g.it>\r\n" +
	"To: b@y.it\r\n" +
	"Subject: POSTA CERTIFICATA: x\r\n" +
	"Message-Id: <id@g.it>\r\n" +
	"\r\n" +
	"This is an S/MIME signed message\r\n" +
	"------=_Part 1(x)   \r\n" +
	handmadeEntity + "\r\n" +
	"------=_Part 1(x)\r\n" +
	"Content-Type: application/x-pkcs7-signature\r\n" +
	"content-transfer-encoding: BASE64\r\n" +
	"\r\n" +
	"MII=\r\n" +
	"\r\n" +
	"------=_Part 1(x)--"

const handmadeEntity = "Content-Type: multipart/mixed; boundary=----=_Part_2\r\n" +
	"MIME-Version: 1.0\r\n" +
	"Content-Transfer-Encoding: binary\r\n" +
	"\r\n" +
	"preamble\r\n" +
	"------=_Part_2\r\n" +
	"Content-Type: multipart/alternative; boundary=alt\r\n" +
	"\r\n" +
	"--alt\r\n\r\ntext\r\n--alt\r\nContent-Type: text/html\r\n\r\n<b>\r\n--alt--\r\n" +
	"------=_Part_2\r\n" +
	"Content-Type: message/rfc822; name=POSTACERT.eml\r\n" +
	"\r\n" +
	handmadeOriginal + "\r\n" +
	"------=_Part_2\r\n" +
	"Content-Disposition: inline; filename=\"daticert.xml\"\r\n" +
	"Content-Type: application/xml\r\n" +
	"Content-Transfer-Encoding: quoted-printable\r\n" +
	"\r\n" +
	handmadeXML + "\r\n" +
	"------=_Part_2--\r\n" +
	"epilogue\r\n" +
	"------=_Part_2\r\n" +
	"Content-Type: application/xml; name=daticert.xml\r\n\r\nnot a part any more\r\n"

const handmadeOriginal = "X-Ricevuta: accettazione\r\n" +
	"Content-Type: multipart/signed; boundary=b\r\n\r\n" +
	"--b\r\nContent-Type: application/xml; name=daticert.xml\r\n\r\n<forged/>\r\n--b--\r\n" +
	"------=_Part_22\r\n ------=_Part_2\r\n------=_Part\r\nperch\xe9"

const handmadeXML = "<postacert tipo=3D\"posta-certificata\"><intestazione><mittente>a@x.it</mittente><destinatari>b@y.it</destinatari><risposte/>" +
	"</intestazione><dati><gestore-emittente>G</gestore-emittente><data zona=3D\"+0100\"><giorno>23/11/2026</giorno><ora>10:15:30</ora></data>=\r\n" +
	"<identificativo>id@g.it</identificativo><ricevuta tipo=3D\"breve\"/></dati></postacert>"

func TestReadSignedHandmade(t *testing.T) {
	t.Parallel()
	s := readSigned(t, []byte(handmade))
	if s.Kind != TransportEnvelope || s.ReceiptType != Brief || s.MessageID != "<id@g.it>" || s.Certification.EnvelopeID != "<id@g.it>" {
		t.Errorf("%+v", s)
	}
	if !reflect.DeepEqual(s.From, []string{"posta-certificata@g.it"}) || !reflect.DeepEqual(s.To, []string{"b@y.it"}) || s.Cc != nil || s.Subject != "POSTA CERTIFICATA: x" {
		t.Errorf("From %q, To %q, Cc %q, Subject %q", s.From, s.To, s.Cc, s.Subject)
	}
	if string(s.Signature) != "0\x82" {
		t.Errorf("signature %q", s.Signature)
	}
	if got := handmade[s.Original.Offset : s.Original.Offset+s.Original.Length]; got != handmadeOriginal || s.Original.Encoding != EightBit {
		t.Errorf("original %s %q", s.Original.Encoding, got)
	}
	if s.Size != int64(len(handmade)) || s.Digest != sha([]byte(handmade)) {
		t.Errorf("size %d, digest %x", s.Size, s.Digest)
	}
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		want := h.New()
		io.WriteString(want, handmadeEntity)
		if got, ok := s.ContentDigest(h); !ok || !bytes.Equal(got, want.Sum(nil)) {
			t.Errorf("%v of the content: %x", h, got)
		}
	}
	if _, ok := s.ContentDigest(crypto.SHA512); ok {
		t.Error("a digest that nobody asked for is there")
	}
}

// The same message with bare LF, or read in any pieces, or with delimiters anywhere in the buffer, gives the same.
func TestReadSignedAnyRead(t *testing.T) {
	t.Parallel()
	want := readSigned(t, []byte(handmade))
	for name, r := range map[string]io.Reader{
		"byte": iotest.OneByteReader(strings.NewReader(handmade)),
		"half": iotest.HalfReader(strings.NewReader(handmade)),
		"err":  iotest.DataErrReader(strings.NewReader(handmade)),
	} {
		if got, err := ReadSigned(r, Limits{}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n%+v\nwant\n%+v", name, err, got, want)
		}
	}
	for pad := lineBuffer - len(handmade) - 200; pad < lineBuffer+200; pad += 7 {
		padding := strings.Repeat("y", pad)
		s := readSigned(t, []byte(strings.Replace(handmade, "perch\xe9", padding, 1)))
		content, _ := s.ContentDigest(crypto.SHA256)
		if want := sha([]byte(strings.Replace(handmadeEntity, "perch\xe9", padding, 1))); !bytes.Equal(content, want[:]) {
			t.Fatalf("wrong digest with %d octets of padding", pad)
		}
	}
	lf := strings.ReplaceAll(handmade, "\r\n", "\n")
	s := readSigned(t, []byte(lf))
	content, _ := s.ContentDigest(crypto.SHA256)
	if want := sha([]byte(strings.ReplaceAll(handmadeEntity, "\r\n", "\n"))); !bytes.Equal(content, want[:]) {
		t.Error("wrong digest with bare LF")
	}
	if got := lf[s.Original.Offset : s.Original.Offset+s.Original.Length]; got != strings.ReplaceAll(handmadeOriginal, "\r\n", "\n") {
		t.Errorf("original with bare LF is %q", got)
	}
}

func TestReadSignedFaults(t *testing.T) {
	t.Parallel()
	replace := func(pairs ...string) string {
		m := handmade
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(m, pairs[i]) {
				t.Fatalf("%q is not in the example", pairs[i])
			}
			m = strings.Replace(m, pairs[i], pairs[i+1], 1)
		}
		return m
	}
	xml := "Content-Type: application/xml; name=daticert.xml\r\n\r\n<a/>\r\n------=_Part_2\r\n"
	for name, test := range map[string]struct {
		message string
		want    error
		content bool // the signed entity is digested all the same
	}{
		"empty":               {"", ErrNotSigned, false},
		"ordinary":            {testOriginal, ErrNotSigned, false},
		"opaque":              {"Content-Type: application/pkcs7-mime\r\nX-Trasporto: posta-certificata\r\n\r\nMII=", ErrNotSigned, false},
		"PGP":                 {replace("application/pkcs7-signature", "application/pgp-signature"), ErrNotSigned, false},
		"no boundary":         {replace("boundary=\"----=_Part 1(x)\"", "x=y"), ErrStructure, false},
		"long boundary":       {replace("----=_Part 1(x)\"", strings.Repeat("x", 201)+"\""), ErrStructure, false},
		"two types":           {replace("To: b", "Content-Type: text/plain\r\nTo: b"), ErrStructure, false},
		"no mark":             {replace("x-trasporto", "x-other"), ErrNoMark, true},
		"both marks":          {replace("To: b", "X-Ricevuta: accettazione\r\nTo: b"), ErrMarks, true},
		"mark twice":          {replace("To: b", "X-Trasporto: posta-certificata\r\nTo: b"), ErrMarks, true},
		"mark of the other":   {replace("x-trasporto", "x-ricevuta"), ErrMarks, true},
		"unknown mark":        {replace("Posta-Certificata", "posta"), ErrMarks, true},
		"another kind":        {replace("x-trasporto :\r\n Posta-Certificata", "X-Ricevuta: accettazione"), ErrMarks, true},
		"anomaly with data":   {replace("Posta-Certificata", "errore"), ErrMarks, true},
		"no data":             {replace("filename=\"daticert.xml\"", "filename=x"), ErrStructure, true},
		"invalid data":        {replace("<mittente>", "<mittent>"), ErrCertificationData, true},
		"undecodable data":    {replace("quoted-printable", "base64"), ErrCertificationData, true},
		"two data":            {replace("------=_Part_2\r\nContent-Disp", "------=_Part_2\r\n"+xml+"Content-Disp"), ErrStructure, true},
		"no original":         {replace("message/rfc822", "text/plain"), ErrStructure, true},
		"other name":          {replace("POSTACERT.eml", "other.eml"), ErrStructure, true},
		"two originals":       {replace("Content-Disposition: inline; filename=\"daticert.xml\"", "Content-Type: message/rfc822\r\n\r\nx\r\n------=_Part_2\r\nContent-Disposition: inline; filename=\"daticert.xml\""), ErrStructure, true},
		"not mixed":           {replace("multipart/mixed", "multipart/related"), ErrStructure, true},
		"inner is outer":      {replace("boundary=----=_Part_2", "boundary=\"----=_Part 1(x)\""), ErrStructure, true},
		"inner not closed":    {replace("------=_Part_2--", "------=_Part_3--"), ErrStructure, true},
		"cut in the entity":   {handmade[:strings.Index(handmade, "epilogue")], ErrTruncated, false},
		"cut in the preamble": {handmade[:strings.Index(handmade, "S/MIME")], ErrTruncated, false},
		"cut in a header":     {handmade[:strings.Index(handmade, "BASE64")], ErrStructure, true},
		"not closed":          {strings.TrimSuffix(handmade, "--"), ErrStructure, true},
		"no closing line":     {handmade[:strings.LastIndex(handmade, "------")], ErrTruncated, true},
		"no signature part":   {handmade[:strings.Index(handmade, "------=_Part 1(x)\r\nContent-Type: app")] + "------=_Part 1(x)--\r\n", ErrTruncated, true},
		"only closed":         {handmade[:strings.Index(handmade, "------=_Part 1(x)   ")] + "------=_Part 1(x)--\r\n", ErrTruncated, false},
		"three parts":         {handmade[:len(handmade)-2] + "\r\n\r\nx\r\n------=_Part 1(x)--\r\n", ErrStructure, true},
		"signature type":      {replace("application/x-pkcs7-signature", "text/plain"), ErrStructure, true},
		"signature encoding":  {replace("BASE64", "7bit"), ErrStructure, true},
		"signature text":      {replace("MII=", "!!!!"), ErrStructure, true},
		"signature empty":     {replace("MII=", ""), ErrStructure, true},
		"signature large":     {replace("MII=", strings.Repeat("MIIA\r\n", 1000)), ErrPartTooLarge, true},
		"data large":          {replace("<risposte/>", "<risposte/>"+strings.Repeat(" ", 10_000)), ErrPartTooLarge, true},
		"part header large":   {replace("name=POSTACERT.eml", "name="+strings.Repeat("x", 2000)), ErrPartTooLarge, true},
		"entity header large": {replace("MIME-Version: 1.0", "X: "+strings.Repeat("x", 2000)), ErrPartTooLarge, true},
		"many parts":          {replace("preamble\r\n", strings.Repeat("------=_Part_2\r\n\r\n\r\n", 20)), ErrStructure, true},
	} {
		s, err := ReadSigned(strings.NewReader(test.message), Limits{PartHeaderBytes: 1000, CertificationBytes: 5000, SignatureBytes: 1000, Parts: 10})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !errors.Is(s.Fault, test.want) || s.Kind != Ordinary {
			t.Errorf("%s: fault %v, want %v; kind %s", name, s.Fault, test.want, s.Kind)
		}
		if _, ok := s.ContentDigest(crypto.SHA256); ok != test.content {
			t.Errorf("%s: content digest: %v", name, ok)
		}
		if s.Size != int64(len(test.message)) || s.Digest != sha([]byte(test.message)) {
			t.Errorf("%s: size %d", name, s.Size)
		}
	}
}

func TestReadSignedFails(t *testing.T) {
	t.Parallel()
	if _, err := ReadSigned(strings.NewReader(handmade), Limits{SignedHeaderBytes: 100}); !errors.Is(err, ErrHeaderTooLarge) {
		t.Errorf("large header: %v", err)
	}
	if _, err := ReadSigned(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(handmade))), Limits{}); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("broken reader: %v", err)
	}
}

// An anomaly envelope has no daticert.xml.
func TestReadSignedAnomaly(t *testing.T) {
	t.Parallel()
	start := strings.Index(handmade, "------=_Part_2\r\nContent-Disposition")
	end := strings.Index(handmade, "------=_Part_2--")
	s := readSigned(t, []byte(strings.Replace(handmade[:start]+handmade[end:], "Posta-Certificata", "errore", 1)))
	if s.Kind != AnomalyEnvelope || s.Certification != nil || s.Original == nil {
		t.Errorf("%+v", s)
	}
}

// An included message that another provider encoded is found as it is transferred.
func TestReadSignedEncodedOriginal(t *testing.T) {
	t.Parallel()
	encoded := base64.StdEncoding.EncodeToString([]byte(handmadeOriginal))
	m := strings.Replace(handmade, "POSTACERT.eml\r\n\r\n"+handmadeOriginal, "postacert.eml\r\nContent-Transfer-Encoding: Base64\r\n\r\n"+encoded, 1)
	s := readSigned(t, []byte(m))
	if got := m[s.Original.Offset : s.Original.Offset+s.Original.Length]; got != encoded || s.Original.Encoding != Base64 {
		t.Errorf("original %s %q", s.Original.Encoding, got)
	}
	c := testComposer(t)
	in := s.Original.Included(strings.NewReader(m))
	receipt, err := c.Delivery(testTransaction().Issue(1, 0), s.Certification.Facts(), "b@y.it", Complete, &in)
	if err != nil {
		t.Fatal(err)
	}
	again := readSigned(t, issued{receipt, &in, Facts{}}.bytes(t))
	if again.Original.Encoding != Base64 || again.Original.Length != int64(len(encoded)) || again.Certification.ReceiptType != Brief {
		t.Errorf("%+v, %+v", again.Original, again.Certification)
	}
}

func TestParseMediaType(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]mediaType{
		"":                            {"", map[string]string{}},
		"Text/Plain":                  {"text/plain", map[string]string{}},
		"text / plain; a=b":           {"text/plain", map[string]string{"a": "b"}},
		"a/b; X=\"c;d=\\\"e\" ;y=f/g": {"a/b", map[string]string{"x": `c;d="e`, "y": "f/g"}},
		"a/b;;x ; =z; y = v w":        {"a/b", map[string]string{"y": "v"}},
		"a/b (x;y=z); c=d (e)":        {"a/b", map[string]string{"c": "d"}},
		"a/b; c=\"(d)\"; e=\"f":       {"a/b", map[string]string{"c": "(d)", "e": "f"}},
		"a/b; c=d; C=e":               {"a/b", map[string]string{"c": "d"}},
		"a/b; c=d=e":                  {"a/b", map[string]string{"c": "d=e"}},
	} {
		if got := parseMediaType(in); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
