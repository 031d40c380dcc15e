package pec

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/internal/cms"
	"scripta/internal/cms/cmstest"
)

// report is what testdata/check_mailbox.py says of a message.
type report struct {
	File, Kind, Variant, Signer, Subject string
	Certified                            *struct{ Identificativo, Msgid, Consegna, Errore string }
	Original                             *struct{ Compared *string }
	Problems                             []string
}

// mailboxChecker runs testdata/check_mailbox.py with a signer that it trusts.
type mailboxChecker struct {
	composer *Composer
	roots    string
}

func newMailboxChecker(t *testing.T) *mailboxChecker {
	t.Helper()
	for _, program := range []string{"python3", "openssl", "xmllint"} {
		cmstest.Program(t, program)
	}
	ca, key := cmstest.New(t), cmstest.RSA(t)
	c := testComposer(t)
	leaf := ca.Issue(t, key.Public(), func(x *x509.Certificate) { x.EmailAddresses = []string{c.Provider.ServiceAddress} })
	signer, err := cms.NewSigner(key, leaf, ca.Intermediate)
	if err != nil {
		t.Fatal(err)
	}
	c.Signer = signer
	return &mailboxChecker{c, cmstest.WritePEM(t, ca.Root)}
}

// check returns the report about each message, by its name. Each has a mailbox of
// its own, the part of its name before a slash.
func (m *mailboxChecker) check(t *testing.T, messages map[string][]byte, originals ...string) map[string]report {
	t.Helper()
	box := t.TempDir()
	boxes := map[string]bool{}
	for name, b := range messages {
		folder, file, ok := strings.Cut(name, "/")
		if !ok {
			file = name
		}
		folder = filepath.Join(box, folder)
		boxes[folder] = true
		if err := os.MkdirAll(filepath.Join(folder, "new"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "new", file), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{filepath.Join("..", "..", "testdata", "check_mailbox.py"), "--ca", m.roots}
	for _, text := range originals {
		args = append(args, "--originals", cmstest.WriteFile(t, "original.eml", []byte(text)))
	}
	cmd := exec.Command("python3", append(args, slices.Collect(maps.Keys(boxes))...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	reports, bad := map[string]report{}, false
	for line := range bytes.Lines(out) {
		var r report
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		reports[filepath.Base(r.File)] = r
		bad = bad || len(r.Problems) > 0
	}
	if stderr.Len() > 0 || len(reports) != len(messages) || (err != nil) != bad {
		t.Fatalf("%d reports about %d messages, %v: %s", len(reports), len(messages), err, &stderr)
	}
	return reports
}

func bytesOf(t *testing.T, all map[string]issued) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for name, m := range all {
		out[name] = m.bytes(t)
	}
	return out
}

// withAttachments is an original with files, one in a nested multipart, and an attached message.
const withAttachments = "From: mario.rossi@pec.example.it\r\nTo: anna.bianchi@pec.example.com\r\nMessage-ID: <allegati@example.it>\r\nSubject: Allegati\r\n" +
	"Content-Type: multipart/mixed; boundary=X\r\n\r\npreambolo\r\n--X\r\nContent-Type: multipart/alternative; boundary=Y\r\n\r\n--Y\r\n\r\ntesto\r\n--Y\r\nContent-Type: text/html; name=\"a b.html\"\r\n\r\n<b>x</b>\r\n--Y--\r\n" +
	"--X\r\nContent-Type: application/pdf; name=uno.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjQK\r\nJVBERi0xLjQK\r\n--X\r\nContent-Type: message/rfc822\r\n\r\nX-Ricevuta: accettazione\r\n\r\ndentro\r\n--X--\r\n"

// An independent reader finds nothing wrong with any message that we issue, and takes each for what it is.
func TestIndependentReaderAccepts(t *testing.T) {
	t.Parallel()
	m := newMailboxChecker(t)
	kinds := map[string]string{ // kind, variant, what the original is compared with
		"acceptance": "accettazione||", "non-acceptance": "non-accettazione||", "non-acceptance-virus": "non-accettazione|virus|",
		"transport-envelope": "posta-certificata||original", "take-charge": "presa-in-carico||", "delivery-complete": "avvenuta-consegna|completa|original",
		"delivery-concise": "avvenuta-consegna|sintetica|", "delivery-brief": "avvenuta-consegna|completa|original", "non-delivery": "errore-consegna||",
		"non-delivery-virus": "errore-consegna|virus|", "delay-notice": "preavviso-errore-consegna|12h|", "timeout-notice": "preavviso-errore-consegna|24h|",
		"virus-detection": "rilevazione-virus|virus|", "anomaly": "errore||",
	}
	for name, original := range map[string]string{
		"plain": testOriginal, "no final newline": strings.TrimSuffix(testOriginal, "\r\n"), "8bit": testOriginal + "perché\r\n", "long line": testOriginal + strings.Repeat("x", 3000),
		"brief": strings.Replace(withAttachments, "Subject:", "X-TipoRicevuta: breve\r\nSubject:", 1), "long subject": strings.Replace(testOriginal, "Subject: ", "Subject: "+strings.Repeat("parola ", 2000), 1),
		"signed": "Message-ID: <firmato@x.it>\r\nX-TipoRicevuta: breve\r\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=S\r\n\r\n--S\r\nContent-Type: text/plain; name=a.txt\r\n\r\nx\r\n" +
			"--S\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\n\r\nMII=\r\n--S--\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := issueAll(t, m.composer, original, nil)
			a := Anomaly{Sender: "x@example.org", Recipients: []string{"anna@pec.example.it"}, Subject: "Ciao", MessageID: "<a@b.it>", Reason: AnomalyNotSigned}
			in := Included{Bytes: strings.NewReader(original), Size: int64(len(original)), Encoding: EightBit}
			anomaly, err := m.composer.AnomalyEnvelope(testTransaction().Issue(9, 0), a, in)
			if err != nil {
				t.Fatal(err)
			}
			all["anomaly"] = issued{anomaly, &in, Facts{}}
			for file, r := range m.check(t, bytesOf(t, all), original) {
				if len(r.Problems) > 0 {
					t.Errorf("%s: %q", file, r.Problems)
				}
				compared := ""
				if r.Original != nil && r.Original.Compared != nil {
					compared = *r.Original.Compared
				}
				want := kinds[file]
				if file == "delivery-brief" && strings.Contains(original, "breve") {
					want = "avvenuta-consegna|breve|original"
				}
				if got := fmt.Sprintf("%s|%s|%s", r.Kind, r.Variant, compared); got != want || r.Signer != m.composer.Provider.ServiceAddress {
					t.Errorf("%s: %s of %s, want %s", file, got, r.Signer, want)
				}
				if (r.Certified == nil) != (file == "anomaly") {
					t.Errorf("%s: %+v", file, r.Certified)
				}
			}
			// Without what the author sent, receipts are compared with the envelope.
			for file, r := range m.check(t, bytesOf(t, all)) {
				if delivery := r.Kind == "avvenuta-consegna" && r.Variant != "sintetica"; len(r.Problems) > 0 || delivery && (r.Original.Compared == nil || *r.Original.Compared != "envelope") {
					t.Errorf("%s: %q, %+v", file, r.Problems, r.Original)
				}
			}
		})
	}
}

// resigned replaces text in the signed entity of a message and signs it anew.
func resigned(t *testing.T, c *Composer, message []byte, old, with string) []byte {
	t.Helper()
	s := string(message)
	_, outer, ok := strings.Cut(s, "; boundary=\"")
	outer, _, _ = strings.Cut(outer, "\"")
	parts := strings.Split(s, "\r\n--"+outer)
	if !ok || len(parts) != 4 || !strings.Contains(parts[1], old) {
		t.Fatalf("%q is not in the signed entity", old)
	}
	entity := strings.TrimPrefix(strings.Replace(parts[1], old, with, 1), "\r\n")
	der, err := c.Signer.Sign(sha256.Sum256([]byte(entity)), testTransaction().Time)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(parts[2], "\r\n\r\n")
	return []byte(parts[0] + "\r\n--" + outer + "\r\n" + entity + "\r\n--" + outer + head + "\r\n\r\n" + string(appendBase64(nil, der)) + "\r\n--" + outer + parts[3])
}

// recertified replaces text in daticert.xml of a message and signs it anew.
func recertified(t *testing.T, c *Composer, message []byte, old, with string) []byte {
	t.Helper()
	s := readSigned(t, message)
	xml := s.Certification.XML()
	encoded := string(appendBase64(nil, xml))
	if !bytes.Contains(message, []byte(encoded)) || !bytes.Contains(xml, []byte(old)) {
		t.Fatalf("%q is not in the certification data", old)
	}
	return resigned(t, c, message, encoded, string(appendBase64(nil, bytes.Replace(xml, []byte(old), []byte(with), 1))))
}

// What is wrong with a message is found by an independent reader, one thing at a time.
func TestIndependentReaderRefuses(t *testing.T) {
	t.Parallel()
	m := newMailboxChecker(t)
	c := m.composer
	original := strings.Replace(withAttachments, "Subject:", "X-TipoRicevuta: breve\r\nSubject:", 1)
	all := bytesOf(t, issueAll(t, c, original, nil))
	header := func(old, with string) func([]byte) []byte {
		return func(b []byte) []byte {
			head, body, _ := bytes.Cut(b, []byte("\r\n\r\n"))
			if !bytes.Contains(head, []byte(old)) {
				t.Fatalf("%q is not in the header", old)
			}
			return append(append(bytes.Replace(head, []byte(old), []byte(with), 1), "\r\n\r\n"...), body...)
		}
	}
	signed := func(old, with string) func([]byte) []byte {
		return func(b []byte) []byte { return resigned(t, c, b, old, with) }
	}
	xml := func(old, with string) func([]byte) []byte {
		return func(b []byte) []byte { return recertified(t, c, b, old, with) }
	}
	inner := readSigned(t, all["acceptance"])
	sha1Pdf := sha1Hex("JVBERi0xLjQK\r\nJVBERi0xLjQK")
	tests := []struct {
		kind    string
		corrupt func([]byte) []byte
		want    string
	}{
		{"acceptance", func(b []byte) []byte { return bytes.Replace(b, []byte("Identificativo"), []byte("identificativo"), 1) }, "signature does not verify"},
		{"acceptance", func(b []byte) []byte { return b[:len(b)/2] }, "not closed"},
		{"acceptance", func([]byte) []byte { return []byte(testOriginal) }, "not signed"},
		{"acceptance", func([]byte) []byte { return nil }, "not signed"},
		{"acceptance", header("posta-certificata@pec.example.it", "posta-certificata@altro.example.it"), "the certificate is for"},
		{"acceptance", header("X-Ricevuta: accettazione", "X-Ricevuta: presa-in-carico"), "type in header and daticert.xml"},
		{"acceptance", header("X-Ricevuta: accettazione", "X-Ricevuta: x"), "X-Ricevuta or X-Trasporto"},
		{"acceptance", header("X-Ricevuta: accettazione", "X-Other: accettazione"), "X-Ricevuta or X-Trasporto"},
		{"acceptance", header("X-Ricevuta: accettazione", "X-Ricevuta: accettazione\r\nX-Trasporto: posta-certificata"), "marked 2 times"},
		{"acceptance", header("X-Ricevuta: accettazione", "X-Trasporto: accettazione"), "X-Trasporto is"},
		{"acceptance", header("Subject: ACCETTAZIONE: ", "Subject: CONSEGNA: "), "does not begin with"},
		{"acceptance", header("ACCETTAZIONE: Allegati", "ACCETTAZIONE: Altro"), "oggetto"},
		{"acceptance", header("To: mario.rossi@", "To: luigi@"), "not for the sender"},
		{"acceptance", header("To: mario.rossi@", "X-To: mario.rossi@"), "0 fields To"},
		{"acceptance", header("10:15:30", "10:15:31"), "Date and data"},
		{"acceptance", header("X-Riferimento-Message-ID: <allegati@", "X-Riferimento-Message-ID: <altro@"), "X-Riferimento-Message-ID and msgid"},
		{"acceptance", header("Message-ID: ", "Message-ID: <uno@x.it>\r\nMessage-ID: "), "2 fields Message-ID"},
		{"acceptance", signed("Identificativo messaggio:", "Messaggio:\r\n\r\n--nulla\r\n\r\nIdentificativo:"), ""}, // a text is free
		{"acceptance", signed("name=\"daticert.xml\"", "name=\"dati.xml\""), ""},                                    // the disposition names it
		{"acceptance", signed("filename=\"daticert.xml\"", "filename=\"dati.xml\""), "0 daticert.xml"},
		{"acceptance", signed("multipart/mixed", "multipart/related"), "not multipart/mixed"},
		{"acceptance", xml("tipo=\"accettazione\"", "tipo=\"posta-certificata\""), "type in header"},
		{"acceptance", xml("<mittente>", "<mittente><!-- x --></mittente><mittente>"), "daticert.xml: "},
		{"acceptance", xml("<risposte>", "<oggetto>x</oggetto><risposte>"), "daticert.xml: "},
		{"acceptance", xml("<mittente>mario", "<mittente>luigi"), "not for the sender"},
		{"acceptance", xml("<intestazione>", "<altro/><intestazione>"), "daticert.xml: "},
		{"acceptance", xml("<identificativo>"+bare(inner.Certification.EnvelopeID), "<identificativo>altro@x"), "the text does not say"},
		{"acceptance", xml("errore=\"nessuno\"", "errore=\"altro\""), "errore is"},
		{"acceptance", xml("</msgid>", "</msgid><consegna>anna.bianchi@pec.example.com</consegna>"), "daticert.xml has consegna"},
		{"acceptance", xml("</msgid>", "</msgid><errore-esteso>5.1.1 - x - y</errore-esteso>"), "errore-esteso"},
		{"acceptance", xml("<postacert", "<!DOCTYPE postacert [<!ENTITY e \"x\">]><postacert"), "declares entities"},
		{"transport-envelope", header("Message-ID: <", "Message-ID: <x"), "Message-ID and identificativo"},
		{"transport-envelope", header("Per conto di: mario", "Per conto di: luigi"), "the name in From"},
		{"transport-envelope", header("X-TipoRicevuta: breve", "X-TipoRicevuta: completa"), "X-TipoRicevuta and ricevuta"},
		{"transport-envelope", signed("testo", "Testo"), "postacert.eml is not the original"},
		{"transport-envelope", signed("Subject: Allegati", "Subject: Altro"), "postacert.eml is not the original"},
		{"transport-envelope", signed("X-Riferimento-Message-ID: <allegati@", "X-Riferimento-Message-ID: <a@"), "postacert.eml refers to"},
		{"transport-envelope", signed("filename=\"postacert.eml\"", "filename=\"altro.eml\""), "not called postacert.eml"},
		{"delivery-brief", signed(sha1Pdf, sha1Hex("x")), "the hash of 'uno.pdf'"},
		{"delivery-brief", signed("filename=\"uno.pdf.hash\"", "filename=\"uno.pdf\""), "is still there"},
		{"delivery-brief", signed("testo", "Testo"), "was changed"},
		{"delivery-complete", signed("JVBERi0xLjQK", "JVBERi0xLjQL"), "is still there"},
		{"delivery-complete", xml("<consegna>anna.bianchi@", "<consegna>altri@"), "no certified recipient"},
		{"delivery-complete", xml("<consegna>anna.bianchi@pec.example.com</consegna>", ""), "no consegna"},
		{"delivery-complete", xml("<ricevuta tipo=\"breve\"/>", ""), "no ricevuta"},
		{"delivery-concise", xml("<ricevuta tipo=\"breve\"/>", "<ricevuta tipo=\"altra\"/>"), "daticert.xml: "},
		{"take-charge", xml("<ricezione>luca@", "<ricezione>anna.bianchi@"), "taken in charge twice"},
		{"take-charge", xml("<ricezione>luca@", "<ricezione>altri@"), "no certified recipient"},
		{"non-delivery", xml("5.1.1 - ", "5.1.1, "), "errore-esteso is"},
		{"non-delivery", header("X-Ricevuta", "X-VerificaSicurezza: errore\r\nX-Ricevuta"), "X-VerificaSicurezza and errore differ"},
		{"non-delivery-virus", header("X-VerificaSicurezza", "X-Altro"), "X-VerificaSicurezza and errore differ"},
		{"non-acceptance-virus", header("PER VIRUS: ", ": "), "does not begin with"},
		{"virus-detection", header("X-Mittente: mario", "X-Mittente: luigi"), "X-Mittente and mittente"},
		{"virus-detection", xml("errore=\"virus\"", "errore=\"altro\""), "errore is"},
		{"delay-notice", header("SUP. TEMPO", "SUP TEMPO"), "does not begin with"},
	}
	messages := map[string][]byte{"twice/1": all["acceptance"], "twice/2": all["acceptance"]}
	for i, x := range tests {
		messages[fmt.Sprintf("%02d %s", i, x.kind)] = x.corrupt(all[x.kind])
	}
	reports := m.check(t, messages, original)
	for i, x := range tests {
		name := fmt.Sprintf("%02d %s", i, x.kind)
		problems := reports[name].Problems
		if x.want == "" && len(problems) > 0 || x.want != "" && !strings.Contains(strings.Join(problems, "\n"), x.want) {
			t.Errorf("%s: problems %q, want %q", name, problems, x.want)
		}
	}
	if n := len(reports["1"].Problems) + len(reports["2"].Problems); n != 1 {
		t.Errorf("the same message twice in a mailbox has %d problems", n)
	}
}

// One changed bit anywhere under the signature is found, whatever it hits.
func TestIndependentReaderFindsAnyBit(t *testing.T) {
	t.Parallel()
	m := newMailboxChecker(t)
	all := bytesOf(t, issueAll(t, m.composer, withAttachments, nil))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	messages := map[string][]byte{}
	for kind, b := range all {
		begin := bytes.Index(b, []byte("Content-Type: multipart/mixed"))
		end := bytes.LastIndex(b, []byte("\r\n\r\n--=_"))
		for range 3 {
			changed, at := bytes.Clone(b), begin+random.IntN(end-begin)
			changed[at] ^= 1 << random.IntN(8)
			messages[fmt.Sprintf("%s %d", kind, at)] = changed
		}
	}
	for name, r := range m.check(t, messages) {
		if len(r.Problems) == 0 {
			t.Errorf("%s: nothing is found", name)
		}
	}
}
