package pec

import (
	"bytes"
	"crypto"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from the golden file; got\n%s", name, got)
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	c := testComposer(t)
	for name, m := range issueAll(t, c, testOriginal, nil) {
		b := m.bytes(t)
		golden(t, name+".eml", b)
		golden(t, name+".xml", readSigned(t, b).Certification.XML())
	}
	latin := strings.ReplaceAll(testOriginal, "us-ascii", "utf-8") + "perché no: senza fine riga"
	m := issueAll(t, c, latin, func(f *Facts) { f.Subject = "Привет, мир" })["transport-envelope"]
	golden(t, "transport-envelope-8bit.eml", m.bytes(t))
}

// The same transaction gives the same bytes, another gives none of its identifiers.
func TestRerunIsIdentical(t *testing.T) {
	t.Parallel()
	c := testComposer(t)
	first, second := issueAll(t, c, testOriginal, nil), issueAll(t, c, testOriginal, nil)
	ids := map[string]bool{}
	for name, m := range first {
		if !bytes.Equal(m.bytes(t), second[name].bytes(t)) {
			t.Errorf("%s differs when it is composed again", name)
		}
		ids[m.MessageID] = true
	}
	if len(ids) != len(first) {
		t.Errorf("%d Message-IDs for %d messages", len(ids), len(first))
	}
	at := testTransaction().Issue(1, 2)
	if at.boundary("outer") == at.boundary("inner") {
		t.Error("both boundaries are the same")
	}
}

// What is composed reads back: kinds, digests, certification data, the included bytes.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	c := testComposer(t)
	originals := map[string]string{
		"plain":            testOriginal,
		"no final newline": strings.TrimSuffix(testOriginal, "\r\n"),
		"final CR":         testOriginal + "\r",
		"only a header":    "From: a@b.it\r\nTo: c@d.it",
		"empty body":       "From: a@b.it\r\nTo: c@d.it\r\n\r\n",
		"nothing":          "",
		"8bit":             testOriginal + "perché\r\n",
		"long line":        testOriginal + strings.Repeat("x", 100_000) + "\r\n",
		"bare LF":          testOriginal + "a\nb\n",
		"MIME in it":       testOriginal + "--=_x\r\n\r\n--=_x--\r\n",
		"large":            testOriginal + strings.Repeat("0123456789012345678901234567890123456789\r\n", 5000),
	}
	for name, original := range originals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for kind, m := range issueAll(t, c, original, nil) {
				checkRoundTrip(t, kind, c, m)
			}
		})
	}
}

func checkRoundTrip(t *testing.T, name string, c *Composer, m issued) {
	t.Helper()
	b := m.bytes(t)
	s := readSigned(t, b)
	if s.Kind != m.Kind || s.MessageID != m.MessageID {
		t.Errorf("%s: read back as %s %s, composed as %s %s", name, s.Kind, s.MessageID, m.Kind, m.MessageID)
	}
	if m.Size != int64(len(b)) || s.Size != m.Size || m.Digest != sha(b) || s.Digest != m.Digest {
		t.Errorf("%s: size or digest of the whole message is wrong", name)
	}
	content, ok := s.ContentDigest(crypto.SHA256)
	if !ok || !bytes.Equal(content, m.Content[:]) {
		t.Errorf("%s: digest of the signed entity is %x, composed %x", name, content, m.Content)
	}
	der, _ := fakeSigner{}.Sign(m.Content, testTransaction().Time)
	if !bytes.Equal(s.Signature, der) {
		t.Errorf("%s: signature is %q", name, s.Signature)
	}
	wantsOriginal := name == "transport-envelope" || name == "delivery-complete" || name == "delivery-brief"
	if (s.Original != nil) != wantsOriginal || (m.Original != nil) != wantsOriginal {
		t.Fatalf("%s: original included: %v", name, s.Original)
	}
	if wantsOriginal {
		want := includedBytes(t, *m.included)
		got := b[s.Original.Offset : s.Original.Offset+s.Original.Length]
		if !bytes.Equal(got, want) {
			t.Errorf("%s: included original is\n%q\nwant\n%q", name, got, want)
		}
		if s.Original.Encoding != m.included.Encoding || m.Original.Encoding != m.included.Encoding || m.Original.Size != int64(len(want)) {
			t.Errorf("%s: encoding %s, want %s", name, s.Original.Encoding, m.included.Encoding)
		}
		if again := s.Original.Included(bytes.NewReader(b)); !bytes.Equal(includedBytes(t, again), want) {
			t.Errorf("%s: Section.Included gives other bytes", name)
		}
	}
	d := s.Certification
	if !d.Time.Equal(testTransaction().Time.Truncate(time.Second)) || d.Provider != c.Provider.Name {
		t.Errorf("%s: time %v, provider %q", name, d.Time, d.Provider)
	}
	want := m.facts
	if want.ReplyTo == "" {
		want.ReplyTo = want.Sender
	}
	if m.Kind != TransportEnvelope && m.Kind != Delivery {
		want.ReceiptType = NoReceiptType
	}
	if got := d.Facts(); !reflect.DeepEqual(got, want) {
		t.Errorf("%s: facts read back as\n%+v\nwant\n%+v", name, got, want)
	}
}

// Which elements are there, by kind.
func TestCertificationPresence(t *testing.T) {
	t.Parallel()
	all := issueAll(t, testComposer(t), testOriginal, nil)
	presence := map[string][5]bool{ // ricevuta, consegna, ricezione, errore-esteso, msgid
		"acceptance":         {false, false, false, false, true},
		"non-acceptance":     {false, false, false, true, true},
		"transport-envelope": {true, false, false, false, true},
		"take-charge":        {false, false, true, false, true},
		"delivery-complete":  {true, true, false, false, true},
		"delivery-concise":   {true, true, false, false, true},
		"non-delivery":       {false, true, false, true, true},

		"delivery-brief":       {true, true, false, false, true},
		"non-acceptance-virus": {false, false, false, true, true},
		"delay-notice":         {false, true, false, true, true},
		"timeout-notice":       {false, true, false, true, true},
		"virus-detection":      {false, true, false, true, true},
		"non-delivery-virus":   {false, true, false, true, true},
	}
	for name, want := range presence {
		d := readSigned(t, all[name].bytes(t)).Certification
		got := [5]bool{d.ReceiptType != NoReceiptType, d.Recipient != "", d.Taken != nil, d.Detail != "", d.OriginalID != ""}
		if got != want {
			t.Errorf("%s: elements %v, want %v", name, got, want)
		}
		if failing := d.Error != NoError; failing != want[3] {
			t.Errorf("%s: errore=%q", name, d.Error)
		}
	}
	if d := readSigned(t, all["non-delivery"].bytes(t)).Certification; d.Detail != "5.1.1 - Gestore di Prova S.p.A. - indirizzo non valido" || d.Error != UnknownRecipient {
		t.Errorf("non-delivery states %s %q", d.Error, d.Detail)
	}
}

func TestComposeRefuses(t *testing.T) {
	t.Parallel()
	c := testComposer(t)
	at := testTransaction().Issue(1, 0)
	o := readOriginal(t, testOriginal)
	f := testFacts(c, o, at)
	in, err := o.Included(strings.NewReader(testOriginal), f.EnvelopeID)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*Facts)) Facts { g := f; change(&g); return g }
	for name, test := range map[string]struct {
		compose func() (*Message, error)
		want    error
	}{
		"brief, no original": {func() (*Message, error) { return c.Delivery(at, f, "a@b.it", Brief, nil) }, ErrFacts},
		"no virus":           {func() (*Message, error) { return c.NonAcceptanceVirus(at, f, "") }, ErrFacts},
		"no virus found":     {func() (*Message, error) { return c.VirusDetection(at, f, "s@b.it", "a@b.it", "") }, ErrFacts},
		"no virus delivered": {func() (*Message, error) { return c.VirusNonDelivery(at, f, "a@b.it", "") }, ErrFacts},
		"late for nobody":    {func() (*Message, error) { return c.DelayNotice(at, f, "") }, ErrFacts},
		"anomaly, no reason": {func() (*Message, error) {
			return c.AnomalyEnvelope(at, Anomaly{Sender: "a@b.it", Recipients: []string{"c@d.it"}}, in)
		}, ErrFacts},
		"anomaly for nobody": {func() (*Message, error) { return c.AnomalyEnvelope(at, Anomaly{Sender: "a@b.it", Reason: "x"}, in) }, ErrFacts},
		"no signer": {func() (*Message, error) {
			return (&Composer{Provider: c.Provider, Location: c.Location}).Acceptance(at, f)
		}, ErrComposer},
		"no location": {func() (*Message, error) {
			return (&Composer{Provider: c.Provider, Signer: c.Signer}).Acceptance(at, f)
		}, ErrComposer},
		"no sender":     {func() (*Message, error) { return c.Acceptance(at, with(func(f *Facts) { f.Sender = "" })) }, ErrFacts},
		"no recipients": {func() (*Message, error) { return c.Acceptance(at, with(func(f *Facts) { f.Recipients = nil })) }, ErrFacts},
		"no envelope":   {func() (*Message, error) { return c.Acceptance(at, with(func(f *Facts) { f.EnvelopeID = "" })) }, ErrFacts},
		"hostile envelope": {func() (*Message, error) {
			return c.Acceptance(at, with(func(f *Facts) { f.EnvelopeID = "<a@b>\r\nX-Ricevuta: x" }))
		}, ErrFacts},
		"another envelope": {func() (*Message, error) {
			return c.TransportEnvelope(testTransaction().Issue(9, 9), f, Inherited{}, in)
		}, ErrFacts},
		"no original":  {func() (*Message, error) { return c.Delivery(at, f, "a@b.it", Complete, nil) }, ErrFacts},
		"no reason":    {func() (*Message, error) { return c.NonAcceptance(at, f, nil) }, ErrFacts},
		"no error":     {func() (*Message, error) { return c.NonDelivery(at, f, "a@b.it", NoError, "5.1.1") }, ErrFacts},
		"no mailbox":   {func() (*Message, error) { return c.TakeCharge(at, f, "", []string{"a@b.it"}) }, ErrFacts},
		"lost content": {func() (*Message, error) { in := in; in.Size += 9; return c.Delivery(at, f, "a@b.it", Complete, &in) }, ErrIncludedSize},
		"no signature": {func() (*Message, error) {
			return (&Composer{Provider: c.Provider, Signer: brokenSigner{}, Location: c.Location}).Acceptance(at, f)
		}, errBroken},
	} {
		if m, err := test.compose(); !errors.Is(err, test.want) || m != nil {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

var errBroken = errors.New("the key is gone")

type brokenSigner struct{}

func (brokenSigner) Sign([32]byte, time.Time) ([]byte, error) { return nil, errBroken }

func TestMessageReader(t *testing.T) {
	t.Parallel()
	m := issueAll(t, testComposer(t), testOriginal, nil)["transport-envelope"]
	want := m.bytes(t)
	if err := iotest.TestReader(m.reader(), want); err != nil {
		t.Error(err)
	}
	var b bytes.Buffer
	if n, err := m.reader().(io.WriterTo).WriteTo(&b); err != nil || n != m.Size || !bytes.Equal(b.Bytes(), want) {
		t.Errorf("WriteTo wrote %d octets, %v", n, err)
	}
	short := strings.NewReader(testOriginal[:100])
	if _, err := io.Copy(io.Discard, m.Reader(short)); !errors.Is(err, ErrIncludedSize) {
		t.Errorf("WriteTo of a shorter original: %v", err)
	}
	if _, err := io.Copy(io.Discard, onlyReader{m.Reader(short)}); !errors.Is(err, ErrIncludedSize) {
		t.Errorf("Read of a shorter original: %v", err)
	}
}

// The texts arrive as they are in the table.
func TestTexts(t *testing.T) {
	t.Parallel()
	all := issueAll(t, testComposer(t), testOriginal, nil)
	want := map[string]string{
		"acceptance": `Ricevuta di accettazione
Il giorno 23/11/2026 alle ore 10:15:30 (+0100) il messaggio
"Città di prova" proveniente da "mario.rossi@pec.example.it"
ed indirizzato a:
anna.bianchi@pec.example.com ("posta certificata")
ufficio@example.org ("posta ordinaria")
luca@pec.example.com ("posta certificata")
è stato accettato dal sistema ed inoltrato.
Identificativo messaggio: ID
`,
		"transport-envelope": `Messaggio di posta certificata
Il giorno 23/11/2026 alle ore 10:15:30 (+0100) il messaggio
"Città di prova" è stato inviato da "mario.rossi@pec.example.it"
indirizzato a:
anna.bianchi@pec.example.com
ufficio@example.org
luca@pec.example.com
Il messaggio originale è incluso in allegato.
Identificativo messaggio: ID
`,
		"delivery-concise": `Ricevuta sintetica di avvenuta consegna
Il giorno 23/11/2026 alle ore 10:15:30 (+0100) il messaggio
"Città di prova" proveniente da "mario.rossi@pec.example.it"
ed indirizzato a "anna.bianchi@pec.example.com"
è stato consegnato nella casella di destinazione.
Identificativo messaggio: ID
`,
		"non-delivery": `Avviso di mancata consegna
Il giorno 23/11/2026 alle ore 10:15:30 (+0100) nel messaggio
"Città di prova" proveniente da "mario.rossi@pec.example.it"
e destinato all'utente "anna.bianchi@pec.example.com"
è stato rilevato un errore 5.1.1 - Gestore di Prova S.p.A. - indirizzo non valido.
Il messaggio è stato rifiutato dal sistema.
Identificativo messaggio: ID
`,
		"non-acceptance": `Errore nell'accettazione del messaggio
Il giorno 23/11/2026 alle ore 10:15:30 (+0100) nel messaggio
"Città di prova" proveniente da "mario.rossi@pec.example.it"
ed indirizzato a:
anna.bianchi@pec.example.com
ufficio@example.org
luca@pec.example.com
è stato rilevato un problema che ne impedisce l'accettazione
a causa delle seguenti anomalie:
- l'indirizzo email x@example.org non appare nei campi To o Cc;
- il campo Bcc contiene un valore.
Il messaggio non è stato accettato.
Identificativo messaggio: ID
`,
		"take-charge": `Ricevuta di presa in carico
Il giorno 23/11/2026 alle ore 10:15:30 (+0100) il messaggio
"Città di prova" proveniente da "mario.rossi@pec.example.it"
ed indirizzato a:
anna.bianchi@pec.example.com
luca@pec.example.com
è stato accettato dal sistema.
Identificativo messaggio: ID
`,
	}
	trees := pythonTrees(t, all)
	for name, text := range want {
		text = strings.ReplaceAll(text, "ID\n", bare(all[name].facts.EnvelopeID)+"\n")
		tree := trees[name]
		if got := strings.ReplaceAll(tree.Parts[0].Text, "\r\n", "\n"); got != text {
			t.Errorf("%s reads\n%s\nwant\n%s", name, got, text)
		}
	}
}

// Every daticert.xml is valid against the DTD.
func TestCertificationIsValid(t *testing.T) {
	t.Parallel()
	c := testComposer(t)
	noID := strings.Replace(testOriginal, "Message-ID: <client-1@example.it>\r\n", "", 1)
	for _, original := range []string{testOriginal, noID, ""} {
		for name, m := range issueAll(t, c, original, nil) {
			validate(t, name, readSigned(t, m.bytes(t)).Certification.XML())
		}
	}
	// The DTD is really applied: it refuses what has no recipients.
	invalid := (&CertificationData{Kind: Acceptance, Sender: "a@x.it", EnvelopeID: "<id@x.it>"}).XML()
	if out, err := run(t, invalid, "xmllint", "--noout", "--nonet", "--dtdvalid", dtdPath, "-"); err == nil {
		t.Errorf("the DTD accepts no recipients\n%s", out)
	}
}

var dtdPath = filepath.Join("..", "..", "testdata", "daticert.dtd")

func validate(t *testing.T, name string, document []byte) {
	t.Helper()
	if out, err := run(t, document, "xmllint", "--noout", "--nonet", "--dtdvalid", dtdPath, "-"); err != nil {
		t.Errorf("%s: %v\n%s\n%s", name, err, out, document)
	}
}
