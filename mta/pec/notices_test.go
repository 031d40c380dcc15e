package pec

import (
	"bytes"
	"strings"
	"testing"
)

// The header fields and codes by which programs tell the notices apart.
func TestNotices(t *testing.T) {
	t.Parallel()
	c := testComposer(t)
	all := issueAll(t, c, testOriginal, nil)
	for name, want := range map[string]struct{ subject, security, sender, code string }{
		"non-acceptance-virus": {"AVVISO DI NON ACCETTAZIONE PER VIRUS: ", "errore", "", "5.5.1"},
		"non-delivery-virus":   {"AVVISO DI MANCATA CONSEGNA PER VIRUS: ", "errore", "", "5.5.1"},
		"virus-detection":      {"PROBLEMA DI SICUREZZA: ", "", "mario.rossi@pec.example.it", "5.5.1"},
		"delay-notice":         {"AVVISO DI MANCATA CONSEGNA PER SUP. TEMPO MASSIMO: ", "", "", "4.4.1"},
		"timeout-notice":       {"AVVISO DI MANCATA CONSEGNA PER SUP. TEMPO MASSIMO: ", "", "", TimeoutCode},
	} {
		s := readSigned(t, all[name].bytes(t))
		if got := s.Header.Get("X-VerificaSicurezza"); got != want.security {
			t.Errorf("%s: X-VerificaSicurezza %q", name, got)
		}
		if got := s.Header.Get("X-Mittente"); got != want.sender {
			t.Errorf("%s: X-Mittente %q", name, got)
		}
		if s.Subject != want.subject+"Città di prova" {
			t.Errorf("%s: subject %q", name, s.Subject)
		}
		if !strings.HasPrefix(s.Certification.Detail, want.code+" - "+c.Provider.Name+" - ") {
			t.Errorf("%s: errore-esteso %q", name, s.Certification.Detail)
		}
		if virus := want.code == "5.5.1"; virus != (s.Certification.Error == Virus) || virus != strings.Contains(s.Certification.Detail, testVirus) {
			t.Errorf("%s: errore %q, %q", name, s.Certification.Error, s.Certification.Detail)
		}
	}
}

// An anomaly envelope keeps the message whole and certifies nothing.
func TestAnomalyEnvelope(t *testing.T) {
	t.Parallel()
	c := testComposer(t)
	received := testOriginal + "perch\xc3\xa9\r\n"
	s, err := ReadSigned(strings.NewReader(received), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	in := Included{Bytes: strings.NewReader(received), Size: int64(len(received)), Encoding: EightBit}
	a := Anomaly{Sender: "mario.rossi@example.org", Recipients: []string{"anna@pec.example.it"}, Subject: s.Subject, MessageID: s.MessageID,
		Inherited: s.Inherited(), Reason: AnomalyNotSigned, ReversePath: "mario.rossi@example.org", Results: []string{"spf=pass smtp.mailfrom=example.org", "dkim=none\r\nX-Ricevuta: x"},
		Spam: &SpamMark{Score: 7.256, Spam: true, Tests: []string{"GTUBE", "X\r\nX-Ricevuta: y"}}}
	m, err := c.AnomalyEnvelope(testTransaction().Issue(9, 0), a, in)
	if err != nil {
		t.Fatal(err)
	}
	b := issued{m, &in, Facts{}}.bytes(t)
	golden(t, "anomaly-envelope.eml", b)
	got := readSigned(t, b)
	if got.Kind != AnomalyEnvelope || got.MessageID != "<client-1@example.it>" || got.Certification != nil {
		t.Errorf("read back as %s %s, %v", got.Kind, got.MessageID, got.Certification)
	}
	if !bytes.Contains(b, []byte("\r\n\r\n"+received+"\r\n--")) {
		t.Error("the message is not included as it came")
	}
	for name, want := range map[string]string{"From": `"Per conto di: mario.rossi@example.org" <posta-certificata@pec.example.it>`, "Reply-To": "mario.rossi@example.org",
		"Subject": "ANOMALIA MESSAGGIO: =?UTF-8?Q?Citt=C3=A0_di_prova?=", "Return-Path": "<mario.rossi@example.org>",
		"Authentication-Results": "pec.example.it; spf=pass smtp.mailfrom=example.org; dkim=none  X-Ricevuta: x", "X-Ricevuta": "",
		"X-Spam-Flag": "YES", "X-Spam-Score": "7.26", "X-Spam-Status": "Yes, score=7.26 tests=GTUBE,X  X-Ricevuta: y"} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("%s: %s, want %s", name, v, want)
		}
	}
	a.MessageID, a.ReversePath, a.Results, a.Spam = "", "", nil, nil
	if m, err = c.AnomalyEnvelope(testTransaction().Issue(9, 0), a, in); err != nil || m.MessageID != testTransaction().Issue(9, 0).MessageID(c.Provider) {
		t.Errorf("without a Message-ID it got %q, %v", m.MessageID, err)
	}
	if b = (issued{m, &in, Facts{}}).bytes(t); !bytes.HasPrefix(b, []byte("Return-Path: <>\r\n")) || bytes.Contains(b, []byte("Authentication-Results")) || bytes.Contains(b, []byte("X-Spam")) {
		t.Errorf("of the null sender: %.200q", b)
	}
}
