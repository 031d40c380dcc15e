package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"scripta/mta/pec"
)

// many are n addresses of mailboxes that need not exist.
func many(n int) (all []string) {
	for i := range n {
		all = append(all, address(fmt.Sprintf("utente%03d", i)))
	}
	return all
}

// delivered is what comes of a message from mario to lucia.
var delivered = []arrival{{"mario", pec.Acceptance, nil}, {"lucia", pec.TransportEnvelope, unchanged}, {"mario", pec.Delivery, unchanged}}

// conciseTo is the same with a delivery receipt that lacks the original.
func conciseTo(local string) []arrival {
	return []arrival{{"mario", pec.Acceptance, nil}, {local, pec.TransportEnvelope, unchanged}, {"mario", pec.Delivery, concise}}
}

// notDelivered is what comes of a message that a mailbox does not get.
func notDelivered(code string, errore pec.ErrorKind) []arrival {
	return []arrival{{"mario", pec.Acceptance, nil}, {"mario", pec.NonDelivery, func(t *testing.T, _ *provider, _ string, m *mail) {
		if c := m.Certification; !strings.HasPrefix(c.Detail, code+" - ") || c.Error != errore {
			t.Errorf("non-delivery because of %q, %q", c.Error, c.Detail)
		}
	}}}
}

// unchanged checks that the message is included octet for octet, but for its
// Message-ID and the X-Riferimento-Message-ID that ends its header.
func unchanged(t *testing.T, _ *provider, sent string, m *mail) {
	t.Helper()
	if m.Original == nil {
		t.Fatalf("a message %v without the original", m.Kind)
	}
	got := m.original(t)
	head, body, _ := bytes.Cut(got, []byte("\r\n\r\n"))
	sentHead, sentBody, _ := strings.Cut(sent, "\r\n\r\n")
	if string(body) != sentBody {
		t.Errorf("the body came through as %.200q", body)
	}
	var kept []string
	for _, line := range strings.Split(string(head), "\r\n") {
		if !strings.HasPrefix(line, "Message-ID:") && !strings.HasPrefix(line, "X-Riferimento-Message-ID:") {
			kept = append(kept, line)
		}
	}
	var want []string
	for _, line := range strings.Split(sentHead, "\r\n") {
		if !strings.HasPrefix(line, "Message-ID:") {
			want = append(want, line)
		}
	}
	if g, w := strings.Join(kept, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("the header came through as\n%.500s\nwant\n%.500s", g, w)
	}
}

func concise(t *testing.T, _ *provider, _ string, m *mail) {
	t.Helper()
	if m.Original != nil {
		t.Error("a concise delivery receipt includes the original")
	}
}

// contract is a file that is sent.
const contract = "%PDF-1.4 il contratto"

// brief checks that the included message has the hash of the file in its place.
func brief(t *testing.T, _ *provider, _ string, m *mail) {
	t.Helper()
	sum := sha1.Sum([]byte(contract))
	original := m.original(t)
	for _, want := range []string{"Ecco il contratto.", `name="contratto.pdf.hash"`, hex.EncodeToString(sum[:])} {
		if !bytes.Contains(original, []byte(want)) {
			t.Errorf("a brief delivery receipt does not hold %q", want)
		}
	}
	if bytes.Contains(original, []byte(contract)) {
		t.Error("a brief delivery receipt holds the file")
	}
}

// encodedAs8Bit checks that raw octets are labelled as what they are.
func encodedAs8Bit(t *testing.T, p *provider, sent string, m *mail) {
	t.Helper()
	unchanged(t, p, sent, m)
	if head := strings.ToLower(m.part(t)); !strings.Contains(head, "\r\ncontent-transfer-encoding: 8bit") {
		t.Errorf("the included message is labelled %q", head)
	}
}

var (
	toLucia  = []string{address("lucia")}
	eightBit = []arrival{{"mario", pec.Acceptance, nil}, {"lucia", pec.TransportEnvelope, encodedAs8Bit}, {"mario", pec.Delivery, encodedAs8Bit}}
)

// oddLetters are answered 250.
var oddLetters = []oddLetter{
	{name: "Bcc", letter: letter{to: toLucia, more: "Bcc: " + address("piena") + "\r\n"}, reason: pec.ReasonBcc},
	{name: "empty Bcc", letter: letter{to: toLucia, more: "Bcc: \r\n"}, want: delivered},
	{name: "From differs", letter: letter{from: address("lucia"), to: toLucia}, reason: pec.ReasonSenderNotFrom(address("mario"))},
	{name: "no From", letter: letter{from: "(nessuno)", to: toLucia}, reason: pec.ReasonNoFrom},
	{name: "recipient in neither To nor Cc", letter: letter{to: toLucia}, rcpt: []string{address("lucia"), address("piena")},
		reason: pec.ReasonRecipientNotListed(address("piena"))},
	{name: "no valid To", letter: letter{to: []string{"undisclosed-recipients:;"}}, rcpt: toLucia, reason: pec.ReasonNoTo},
	{name: "two reasons", letter: letter{to: toLucia, more: "Bcc: x@y.example\r\n"}, rcpt: []string{address("piena")}, reason: "; " + pec.ReasonBcc},
	{name: "501 recipients", letter: letter{to: many(501)}, reason: "il numero dei destinatari (501) supera il limite di 500"},
	{name: "size times recipients", letter: letter{to: many(30), body: strings.Repeat(strings.Repeat("z", 70)+"\r\n", 1200)}, reason: pec.ReasonTooLarge},
	{name: "unknown mailbox", letter: letter{to: []string{address("nessuno")}}, want: notDelivered("5.1.1", pec.UnknownRecipient)},
	{name: "full mailbox", letter: letter{to: []string{address("piena")}}, want: notDelivered("5.2.2", pec.OtherError)},
	{name: "receipts for a full mailbox", letter: letter{from: address("piena"), to: toLucia},
		want: []arrival{{"piena", pec.Acceptance, nil}, {"lucia", pec.TransportEnvelope, unchanged}, {"piena", pec.Delivery, unchanged}}},
	{name: "only in Cc", letter: letter{to: []string{"luigi@altrove.example"}, cc: toLucia}, rcpt: toLucia, want: conciseTo("lucia")},
	{name: "X-TipoRicevuta sintetica", letter: letter{to: toLucia, more: "X-TipoRicevuta: sintetica\r\n"}, want: conciseTo("lucia")},
	{name: "X-TipoRicevuta breve", letter: letter{to: toLucia, more: "X-TipoRicevuta: breve\r\nContent-Type: multipart/mixed; boundary=X\r\n",
		body: "--X\r\n\r\nEcco il contratto.\r\n--X\r\nContent-Type: application/pdf; name=contratto.pdf\r\n\r\n" + contract + "\r\n--X--\r\n"},
		want: []arrival{{"mario", pec.Acceptance, nil}, {"lucia", pec.TransportEnvelope, unchanged}, {"mario", pec.Delivery, brief}}},
	{name: "8-bit body", letter: letter{to: toLucia, more: "Content-Type: text/plain; charset=iso-8859-1\r\n", body: "perch\xe9 no\r\n\xff\xfe\r\n"}, want: eightBit},
	{name: "long line", letter: letter{to: toLucia, body: strings.Repeat("lunga ", 3000) + "\r\n"}, want: delivered},
	{name: "no Message-ID", letter: letter{to: toLucia}, want: delivered},
	{name: "two Message-IDs", letter: letter{to: toLucia, more: "Message-ID: <uno@x.example>\r\nMessage-ID: <due@x.example>\r\n"}, want: delivered},
	{name: "lines that begin with dots", letter: letter{to: toLucia, body: "Ecco:\r\n.\r\n..\r\n.fine\r\n"}, want: delivered},
	{name: "no body", letter: letter{to: toLucia, body: "\r\n"}, want: delivered},
	{name: "to himself", letter: letter{to: []string{address("mario")}},
		want: []arrival{{"mario", pec.Acceptance, nil}, {"mario", pec.TransportEnvelope, unchanged}, {"mario", pec.Delivery, unchanged}}},
	{name: "recipient given twice, in two cases", letter: letter{to: []string{address("lucia"), "LUCIA@" + strings.ToUpper(testDomain)}}, want: delivered},
	{name: "marks of a receipt", letter: letter{to: toLucia, id: "<falsa@x.example>",
		more: "X-Ricevuta: avvenuta-consegna\r\nX-Trasporto: posta-certificata\r\nX-Riferimento-Message-ID: <altro@x.example>\r\n"},
		want: []arrival{{"mario", pec.Acceptance, nil}, {"lucia", pec.TransportEnvelope, nil}, {"mario", pec.Delivery, nil}}},
}
