package pec

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"scripta/internal/cms"
	"scripta/internal/cms/cmstest"
)

// wild is a message as providers in production shape theirs, with names and
// addresses of our own.
type wild struct {
	header   string // all fields but Content-Type, each ending in CRLF
	micalg   string // of Content-Type, with its quotes
	protocol string // the last part of it; of the signature part too
	entity   string // fields of the signed entity beside Content-Type
	preamble string // of both multiparts
	text     string // first part, with header
	document string // daticert.xml; empty: none
	width    int    // of its base64; 0: as it is
	naming   string // how daticert.xml is named: both, type, disposition
	original string // postacert.eml
	first    bool   // postacert.eml comes before daticert.xml
	digest   string // of the signature: sha1, sha256…
	ber      bool   // indefinite lengths

	kind      Kind
	receipt   ReceiptType
	id, about string
	detail    string
	replyTo   string
}

// htmlText is text with an alternative in HTML, as half of the providers send.
const htmlText = "Content-Type: multipart/alternative; boundary=\"=_alt\"\r\n\r\n--=_alt\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
	"Ricevuta di avvenuta consegna=0D=0A\r\n--=_alt\r\nContent-Type: text/html; charset=iso-8859-1\r\n\r\n<HTML><HEAD><STYLE>p { color: red }</STYLE></HEAD><BODY>x</BODY></HTML>\r\n--=_alt--"

const plainText = "Content-Type: text/plain; charset=\"iso-8859-1\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n-- Ricevuta di accettazione --\r\nIl giorno 23/11/2026 il messaggio e' stato accettato.\r\n  -----\r\n" +
	"-----------------------------------------------------------------------------------------\r\n-- Acceptance pec notification --\r\nOn 23/11/2026 the message was accepted."

// document is a daticert.xml with what differs.
func document(tipo, errore, risposte, rest string) string {
	return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<postacert tipo=\"" + tipo + "\" errore=\"" + errore + "\">\n    <intestazione>\n        <mittente>a@pec.uno.example</mittente>\n" +
		"        <destinatari tipo=\"certificato\">b@pec.due.example</destinatari>\n        " + risposte + "\n        <oggetto>Perché?</oggetto>\n    </intestazione>\n    <dati>\n" +
		"        <gestore-emittente>UNO PEC S.p.A.</gestore-emittente>\n        <data zona=\"+0100\">\n            <giorno>23/11/2026</giorno>\n            <ora>10:15:30</ora>\n        </data>\n" +
		"        <identificativo>opec1.20261123101530.1.2.3.1@pec.uno.example</identificativo>\n        <msgid>&lt;x@client&gt;</msgid>\n" + rest + "    </dati>\n</postacert>\n"
}

const wildID = "<opec1.20261123101530.1.2.3.1@pec.uno.example>"

// forged is a receipt that somebody put inside a message.
const forged = "X-Ricevuta: avvenuta-consegna\r\nSubject: CONSEGNA: x\r\nFrom: posta-certificata@pec.uno.example\r\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=z\r\n\r\n" +
	"--z\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\nContent-Type: application/xml; name=daticert.xml\r\n\r\n<postacert tipo=\"avvenuta-consegna\"/>\r\n--y--\r\n--z\r\nContent-Type: application/pkcs7-signature\r\n\r\nMII=\r\n--z--"

func wilds() map[string]wild {
	reply := "<risposte>a@pec.uno.example</risposte>"
	opecHeader := "Subject: CONSEGNA: x\r\nX-Riferimento-Message-ID: <x@client>\r\nDate: Mon, 23 Nov 2026 10:15:30 +0100\r\nTo: a@pec.uno.example\r\nX-Ricevuta: avvenuta-consegna\r\n" +
		"From: posta-certificata@pec.uno.example\r\nMIME-Version: 1.0\r\nMessage-ID: <opec1.20261123101531.9@pec.uno.example>\r\n"
	opec := wild{header: opecHeader, micalg: "\"sha1\"", protocol: "x-pkcs7-signature", entity: "Content-Transfer-Encoding: binary\r\nMIME-Version: 1.0\r\n", preamble: "This is a multi-part message in MIME format...\r\n",
		text: htmlText, document: document("avvenuta-consegna", "nessuno", reply, "        <ricevuta tipo=\"completa\"/>\n        <consegna>b@pec.due.example</consegna>\n"), width: 60,
		original: "Message-ID: " + wildID + "\r\nX-Riferimento-Message-ID: <x@client>\r\n\r\nciao\r\n", digest: "sha1",
		kind: Delivery, receipt: Complete, id: wildID, about: "b@pec.due.example", replyTo: "a@pec.uno.example"}
	jpec := wild{header: "Date: Mon, 23 Nov 2026 10:15:30 +0100 (CET)\r\nFrom: posta-certificata@pec.uno.example\r\nTo: a@pec.uno.example\r\nMessage-ID: <jpec1.20261123101530.1.1.1.2@pec.uno.example>\r\n" +
		"Subject: =?UTF-8?Q?ACCETTAZIONE:_Perch=C3=A9=3F?=\r\nMIME-Version: 1.0\r\nX-Ricevuta: accettazione\r\nX-Riferimento-Message-ID: <x@client>\r\nX-REM-Subject: REM SubmissionAcceptance: x\r\n",
		micalg: "sha-256", protocol: "pkcs7-signature", text: plainText, document: document("accettazione", "nessuno", "<risposte/>", ""), width: 76, digest: "sha256", ber: true,
		kind: Acceptance, receipt: Complete, id: wildID}
	with := func(w wild, change func(*wild)) wild { change(&w); return w }
	return map[string]wild{
		"opec receipt": opec,
		"jpec receipt": jpec,
		"opec envelope": with(opec, func(w *wild) {
			w.header = "Received: from client (192.0.2.1) by mx.uno.example\r\n\twith ESMTP; Mon, 23 Nov 2026 10:15:29 +0100\r\nSubject: POSTA CERTIFICATA: x\r\nX-Riferimento-Message-ID: <x@client>\r\nDate: Mon, 23 Nov 2026 10:15:30 +0100\r\n" +
				"Reply-To: a@pec.uno.example\r\nTo: b@pec.due.example\r\nX-Trasporto: posta-certificata\r\nFrom: \"Per conto di: a@pec.uno.example\" <posta-certificata@pec.uno.example>\r\nX-Tiporicevuta: breve\r\nX-Mailer: x\r\n" +
				"MIME-Version: 1.0\r\nMessage-ID: " + wildID + "\r\n"
			w.document = document("posta-certificata", "nessuno", reply, "        <ricevuta tipo=\"breve\"/>\n")
			w.kind, w.receipt, w.about = TransportEnvelope, Brief, ""
		}),
		"jpec envelope": with(jpec, func(w *wild) {
			w.header = "Date: Mon, 23 Nov 2026 10:15:30 +0100\r\nFrom: \"Per conto di: a@pec.uno.example\"\r\n <posta-certificata@pec.uno.example>\r\nReply-To: a@pec.uno.example\r\nTo: b@pec.due.example\r\nMessage-ID: " + wildID + "\r\n" +
				"Subject: POSTA CERTIFICATA: x\r\nMIME-Version: 1.0\r\nX-Trasporto: posta-certificata\r\nX-TipoRicevuta: completa\r\nX-Riferimento-Message-ID: <x@client>\r\nX-Attachment: yes\r\n"
			w.document = document("posta-certificata", "nessuno", reply, "        <ricevuta tipo=\"completa\"/>\n")
			w.original, w.kind, w.receipt, w.replyTo = opec.original, TransportEnvelope, Complete, "a@pec.uno.example"
		}),
		"field names in any case": with(jpec, func(w *wild) {
			w.header = strings.NewReplacer("X-Ricevuta: accettazione", "x-RICEVUTA:Accettazione", "From:", "FROM:", "Message-ID", "Message-Id").Replace(w.header)
		}),
		"text of Sogei, SHA-1 alone named": with(opec, func(w *wild) { w.text, w.micalg = plainText, "SHA1" }),
		"micalg missing":                   with(opec, func(w *wild) { w.micalg = "" }),
		"micalg unknown":                   with(opec, func(w *wild) { w.micalg, w.digest = "md5", "sha512" }),
		"SHA-384":                          with(jpec, func(w *wild) { w.micalg, w.digest = "sha-384", "sha384" }),
		"SHA-512":                          with(jpec, func(w *wild) { w.micalg, w.digest = "sha512", "sha512" }),
		"original before data":             with(opec, func(w *wild) { w.first = true }),
		"data named in the type":           with(opec, func(w *wild) { w.naming = "type" }),
		"data named in the disposition":    with(opec, func(w *wild) { w.naming = "disposition" }),
		"data not encoded":                 with(opec, func(w *wild) { w.width = 0 }),
		"data with BOM":                    with(opec, func(w *wild) { w.document = "\ufeff" + w.document }),
		"data with DOCTYPE and style sheet": with(jpec, func(w *wild) {
			w.document = strings.ReplaceAll(strings.Replace(w.document, "?>\n", "?>\n<?xml-stylesheet type=\"text/xsl\" href=\"http://127.0.0.1:9/x.xsl\"?>\n<!DOCTYPE postacert SYSTEM \"http://127.0.0.1:9/daticert.dtd\">\n", 1), "\n", "\r\n")
		}),
		"data in windows-1252": with(jpec, func(w *wild) {
			w.document = strings.NewReplacer("UTF-8", "windows-1252", "Perché", "Perch\xe9").Replace(w.document)
		}),
		"data with attributes in single quotes": with(jpec, func(w *wild) {
			w.document = strings.ReplaceAll(w.document, "\"", "'")
		}),
		"no risposte": with(jpec, func(w *wild) { w.document = strings.Replace(w.document, "<risposte/>", "", 1) }),
		"non-delivery by commas": with(opec, func(w *wild) {
			w.header = strings.Replace(w.header, "avvenuta-consegna", "errore-consegna", 1)
			w.document = document("errore-consegna", "virus", reply, "        <consegna>b@pec.due.example</consegna>\n        <errore-esteso>5.5.1, UNO PEC S.p.A., presenza di un virus nel messaggio</errore-esteso>\n")
			w.original, w.kind, w.detail = "", NonDelivery, "5.5.1, UNO PEC S.p.A., presenza di un virus nel messaggio"
		}),
		"last notice": with(opec, func(w *wild) {
			w.header = strings.Replace(w.header, "avvenuta-consegna", "preavviso-errore-consegna", 1)
			w.document = document("preavviso-errore-consegna", "altro", reply, "        <consegna>b@pec.due.example</consegna>\n        <errore-esteso>5.4.1 - UNO PEC S.p.A. - il messaggio non è stato consegnato nelle ventiquattro ore successive al suo invio.\nSi ritiene che la spedizione debba considerarsi non andata a buon fine</errore-esteso>\n")
			w.original, w.kind = "", DelayNotice
			w.detail = "5.4.1 - UNO PEC S.p.A. - il messaggio non è stato consegnato nelle ventiquattro ore successive al suo invio.\nSi ritiene che la spedizione debba considerarsi non andata a buon fine"
		}),
		"take-charge": with(opec, func(w *wild) {
			w.header = strings.Replace(w.header, "avvenuta-consegna", "presa-in-carico", 1)
			w.document = document("presa-in-carico", "nessuno", reply, "        <ricezione>b@pec.due.example</ricezione>\n")
			w.original, w.kind, w.about = "", TakeCharge, ""
		}),
		"virus detection": with(opec, func(w *wild) {
			w.header = strings.Replace(w.header, "avvenuta-consegna", "rilevazione-virus", 1) + "X-Mittente: a@pec.uno.example\r\n"
			w.document = document("rilevazione-virus", "virus", reply, "        <consegna>b@pec.due.example</consegna>\n        <errore-esteso>Eicar-Test-Signature</errore-esteso>\n")
			w.original, w.kind, w.detail = "", VirusDetection, "Eicar-Test-Signature"
		}),
		"brief receipt": with(opec, func(w *wild) {
			w.original = "Message-ID: " + wildID + "\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\nContent-Type: text/plain; name=\"a.pdf.hash\"\r\n\r\n" + strings.Repeat("0a", 20) + "\r\n--q--\r\n"
		}),
		"receipt forged inside": with(opec, func(w *wild) { w.original = "Message-ID: " + wildID + "\r\n" + forged }),
		"receipt forged beside the data": with(opec, func(w *wild) {
			w.text = htmlText + "\r\n--INNER\r\nContent-Type: message/rfc822; name=altro.eml\r\n\r\n" + forged
		}),
		"anomaly envelope": with(opec, func(w *wild) {
			w.header = strings.Replace(strings.Replace(w.header, "X-Ricevuta: avvenuta-consegna", "X-Trasporto: errore", 1), "CONSEGNA", "ANOMALIA MESSAGGIO", 1)
			w.document, w.original, w.kind = "", forged, AnomalyEnvelope
		}),
	}
}

// build signs a message with openssl.
func (w wild) build(t *testing.T, certificate, key, chain string) []byte {
	t.Helper()
	const outer, inner = "----=_Part_1.1796998530", "----=_Part_2.1796998530"
	var data, original string
	if w.document != "" {
		body, encoding := w.document, "8bit"
		if w.width > 0 {
			encoded := base64.StdEncoding.EncodeToString([]byte(w.document))
			var lines []string
			for c := range slices.Chunk([]byte(encoded), w.width) {
				lines = append(lines, string(c))
			}
			body, encoding = strings.Join(lines, "\r\n"), "base64"
		}
		names := map[string]string{"": "Content-Type: application/xml; name=\"daticert.xml\"\r\nContent-Disposition: inline; filename=\"daticert.xml\"\r\n",
			"type": "Content-Type: application/xml;\r\n\tname=\"daticert.xml\"\r\n", "disposition": "Content-Type: application/xml\r\nContent-Disposition: inline;\r\n filename=daticert.xml\r\n"}
		data = "--" + inner + "\r\n" + names[w.naming] + "Content-Transfer-Encoding: " + encoding + "\r\n\r\n" + body + "\r\n"
	}
	if w.original != "" {
		original = "--" + inner + "\r\nContent-Type: message/rfc822; name=\"postacert.eml\"\r\nContent-Transfer-Encoding: 7bit\r\nContent-Disposition: inline; filename=\"postacert.eml\"\r\n\r\n" + w.original + "\r\n"
	}
	if w.first {
		data, original = original, data
	}
	entity := "Content-Type: multipart/mixed; boundary=\"" + inner + "\"\r\n" + w.entity + "\r\n" + w.preamble + "--" + inner + "\r\n" + strings.ReplaceAll(w.text, "INNER", inner) + "\r\n" + data + original + "--" + inner + "--\r\n"
	args := []string{"cms", "-sign", "-binary", "-md", w.digest, "-signer", certificate, "-inkey", key, "-certfile", chain, "-outform", "DER", "-in", cmstest.WriteFile(t, "entity", []byte(entity))}
	der, err := run(t, nil, "openssl", args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, der)
	}
	if w.ber {
		der = string(indefinite(t, nil, []byte(der)))
	}
	micalg := ""
	if w.micalg != "" {
		micalg = " micalg=" + w.micalg + ";"
	}
	return fmt.Appendf(nil, "%sContent-Type: multipart/signed; protocol=\"application/%s\";%s\r\n\tboundary=\"%s\"\r\n\r\n%s--%s\r\n%s\r\n--%s\r\nContent-Type: application/%s; name=\"smime.p7s\"\r\n"+
		"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"smime.p7s\"\r\n\r\n%s\r\n--%s--\r\n",
		w.header, w.protocol, micalg, outer, w.preamble, outer, entity, outer, w.protocol, appendBase64(nil, []byte(der)), outer)
}

// indefinite writes DER with indefinite lengths wherever something is inside.
func indefinite(t *testing.T, out, der []byte) []byte {
	t.Helper()
	for len(der) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			t.Fatal(err)
		}
		if der = rest; !v.IsCompound {
			out = append(out, v.FullBytes...)
			continue
		}
		out = append(indefinite(t, append(out, v.FullBytes[0], 0x80), v.Bytes), 0, 0)
	}
	return out
}

// What providers in production send reads as what it is, its signature verifies,
// and nothing inside of it speaks for the whole.
func TestSeenInTheWild(t *testing.T) {
	t.Parallel()
	ca, key := cmstest.New(t), cmstest.RSA(t)
	leaf := ca.Issue(t, key.Public(), func(c *x509.Certificate) { c.EmailAddresses = []string{"posta-certificata@pec.uno.example"} })
	certificate, keyFile, chain := cmstest.WritePEM(t, leaf), cmstest.WriteKey(t, key), cmstest.WritePEM(t, ca.Intermediate)
	policy := cms.Policy{Roots: ca.Roots, At: testTransaction().Time, EKU: x509.ExtKeyUsageEmailProtection, AllowSHA1: true}
	for name, w := range wilds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			message := w.build(t, certificate, keyFile, chain)
			s := readSigned(t, message)
			if s.Kind != w.kind || len(s.From) != 1 || s.From[0] != "posta-certificata@pec.uno.example" || s.MessageID == "" || s.ReceiptType != w.receipt && w.kind == TransportEnvelope {
				t.Errorf("read as %s, from %q, %s, receipts %s", s.Kind, s.From, s.MessageID, s.ReceiptType)
			}
			if _, err := cms.Verify(s.Signature, s.ContentDigest, policy); err != nil {
				t.Errorf("the signature: %v", err)
			}
			if (s.Original != nil) != (w.original != "") {
				t.Fatalf("original: %+v", s.Original)
			}
			if o := s.Original; o != nil && string(message[o.Offset:o.Offset+o.Length]) != w.original {
				t.Errorf("the original is %q", message[o.Offset:o.Offset+o.Length])
			}
			if w.kind == AnomalyEnvelope {
				return
			}
			d := s.Certification
			if d.Kind != w.kind || d.EnvelopeID != w.id || d.Recipient != w.about || d.Detail != w.detail || d.ReplyTo != w.replyTo || d.Subject != "Perché?" || d.OriginalID != "<x@client>" || d.Provider != "UNO PEC S.p.A." {
				t.Errorf("certified: %+v", d)
			}
			if !d.Time.Equal(testTransaction().Time.Truncate(1e9)) || len(d.Recipients) != 1 || !d.Recipients[0].Certified {
				t.Errorf("certified: %v, %v", d.Time, d.Recipients)
			}
			if w.kind == TakeCharge && !slices.Equal(d.Taken, []string{"b@pec.due.example"}) {
				t.Errorf("taken: %q", d.Taken)
			}
			// One changed octet under the signature undoes it.
			changed := readSigned(t, bytes.Replace(message, []byte("Ricevuta di"), []byte("ricevuta di"), 1))
			if _, err := cms.Verify(changed.Signature, changed.ContentDigest, policy); err == nil {
				t.Error("a changed message verifies")
			}
		})
	}
}

// A receipt that is only inside of a message, however it is dressed, is no receipt.
func TestNestedReceiptIsContent(t *testing.T) {
	t.Parallel()
	const mixed = "From: x@example.org\r\nSubject: CONSEGNA: x\r\nMessage-ID: <a@b>\r\nContent-Type: multipart/mixed; boundary=m\r\n"
	attached := "\r\n--m\r\nContent-Type: message/rfc822\r\n\r\n" + forged + "\r\n--m--\r\n"
	for name, x := range map[string]struct {
		message string
		want    error
	}{
		"forwarded as an attachment":           {mixed + attached, ErrNotSigned},
		"forwarded, marked by the forwarder":   {"X-Ricevuta: avvenuta-consegna\r\n" + mixed + attached, ErrNotSigned},
		"forwarded inside a signed message":    {"Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=s\r\n\r\n--s\r\nContent-Type: multipart/mixed; boundary=m\r\n" + attached + "\r\n--s\r\nContent-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\nMII=\r\n--s--\r\n", ErrNoMark},
		"marked after the header":              {"From: x@example.org\r\n\r\n" + forged, ErrNotSigned},
		"marked in a continued line":           {strings.Replace(forged, "X-Ricevuta", "X-Other: x\r\n X-Ricevuta", 1), ErrStructure},
		"marked as the whole and as a part":    {"X-Trasporto: posta-certificata\r\n" + strings.Replace(forged, "Content-Type: application/pkcs7-signature\r\n", "Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n", 1), ErrCertificationData},
		"a message as the whole signed entity": {"X-Ricevuta: accettazione\r\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=s\r\n\r\n--s\r\nContent-Type: message/rfc822\r\n\r\n" + forged + "\r\n--s\r\nContent-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\nMII=\r\n--s--\r\n", ErrStructure},
	} {
		s, err := ReadSigned(strings.NewReader(x.message), Limits{})
		if err != nil || s.Kind != Ordinary || !errors.Is(s.Fault, x.want) {
			t.Errorf("%s: %v, %s, %v", name, err, s.Kind, s.Fault)
		}
	}
}
