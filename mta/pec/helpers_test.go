package pec

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
)

// fakeSigner signs with a text that says what was signed, so that golden files stay the same.
type fakeSigner struct{}

func (fakeSigner) Sign(digest [32]byte, at time.Time) ([]byte, error) {
	return fmt.Appendf(nil, "not a CMS signature, made by a test\nsha256 %s\nat %s\n", hex.EncodeToString(digest[:]), at.UTC().Format(time.RFC3339)), nil
}

func testComposer(tb testing.TB) *Composer {
	tb.Helper()
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		tb.Fatal(err)
	}
	return &Composer{
		Provider: Provider{Name: "Gestore di Prova S.p.A.", Domain: "pec.example.it", ServiceAddress: "posta-certificata@pec.example.it"},
		Signer:   fakeSigner{},
		Location: rome,
	}
}

func testTransaction() Transaction {
	var t Transaction
	copy(t.ID[:], "0123456789abcdef")
	t.Time = time.Date(2026, 11, 23, 9, 15, 30, 123456789, time.UTC)
	return t
}

// testOriginal is a plain message as a mail program submits it.
const testOriginal = "Received: from client.example.it ([192.0.2.7]) by mx.pec.example.it\r\n" +
	"\twith ESMTPSA; Mon, 23 Nov 2026 10:15:29 +0100\r\n" +
	"Date: Mon, 23 Nov 2026 10:15:28 +0100\r\n" +
	"From: Mario Rossi <mario.rossi@pec.example.it>\r\n" +
	"To: \"Bianchi, Anna\" <anna.bianchi@pec.example.com>,\r\n" +
	" Ufficio <ufficio@example.org>\r\n" +
	"Cc: Luca <luca@pec.example.com>\r\n" +
	"Message-ID: <client-1@example.it>\r\n" +
	"Subject: =?utf-8?Q?Citt=C3=A0_di_prova?=\r\n" +
	"X-TipoRicevuta: completa\r\n" +
	"MIME-Version: 1.0\r\n" +
	"Content-Type: text/plain; charset=us-ascii\r\n" +
	"\r\n" +
	"Buongiorno,\r\n" +
	"questo e' un messaggio di prova.\r\n" +
	"\r\n" +
	"-- \r\n" +
	"Mario\r\n"

func readOriginal(tb testing.TB, text string) *Original {
	tb.Helper()
	o, err := ReadOriginal(strings.NewReader(text), Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

func testFacts(c *Composer, o *Original, at Issue) Facts {
	return Facts{
		Sender: "mario.rossi@pec.example.it",
		Recipients: []Recipient{
			{Address: "anna.bianchi@pec.example.com", Certified: true},
			{Address: "ufficio@example.org"},
			{Address: "luca@pec.example.com", Certified: true},
		},
		ReplyTo:     o.ReplyTo,
		Subject:     o.Subject,
		OriginalID:  o.MessageID,
		EnvelopeID:  at.MessageID(c.Provider),
		ReceiptType: o.ReceiptType,
	}
}

// issued is a composed message and its included original.
type issued struct {
	*Message
	included *Included
	facts    Facts
}

func (i issued) bytes(tb testing.TB) []byte {
	tb.Helper()
	b, err := io.ReadAll(i.reader())
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func (i issued) reader() io.Reader {
	if i.included == nil {
		return i.Reader(nil)
	}
	return i.Reader(i.included.Bytes)
}

// includedBytes returns the bytes of postacert.eml.
func includedBytes(tb testing.TB, in Included) []byte {
	tb.Helper()
	b, err := io.ReadAll(io.NewSectionReader(in.Bytes, 0, in.Size))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// issueAll composes one message of every type for an original. change may alter the facts first.
func issueAll(tb testing.TB, c *Composer, original string, change func(*Facts)) map[string]issued {
	tb.Helper()
	tx := testTransaction()
	o := readOriginal(tb, original)
	f := testFacts(c, o, tx.Issue(1, 0))
	if change != nil {
		change(&f)
	}
	in, err := o.Included(strings.NewReader(original), f.EnvelopeID)
	if err != nil {
		tb.Fatal(err)
	}
	recipient := f.Recipients[0].Address
	all := map[string]issued{}
	add := func(name string, included *Included, m *Message, err error) {
		tb.Helper()
		if err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
		all[name] = issued{m, included, f}
	}
	m, err := c.Acceptance(tx.Issue(2, 0), f)
	add("acceptance", nil, m, err)
	m, err = c.NonAcceptance(tx.Issue(3, 0), f, []string{ReasonRecipientNotListed("x@example.org"), ReasonBcc})
	add("non-acceptance", nil, m, err)
	m, err = c.TransportEnvelope(tx.Issue(1, 0), f, o.Inherited(), in)
	add("transport-envelope", &in, m, err)
	m, err = c.TakeCharge(tx.Issue(4, 0), f, "ricevute@pec.example.net", []string{recipient, f.Recipients[len(f.Recipients)-1].Address})
	add("take-charge", nil, m, err)
	m, err = c.Delivery(tx.Issue(5, 0), f, recipient, Complete, &in)
	add("delivery-complete", &in, m, err)
	m, err = c.Delivery(tx.Issue(5, 1), f, recipient, Concise, &in)
	add("delivery-concise", nil, m, err)
	m, err = c.NonDelivery(tx.Issue(6, 0), f, recipient, UnknownRecipient, InvalidAddress().Extended(c.Provider.Name))
	add("non-delivery", nil, m, err)
	edits, err := in.Brief()
	if err != nil {
		tb.Fatal(err)
	}
	short, err := in.Edited(edits)
	if err != nil {
		tb.Fatal(err)
	}
	m, err = c.Delivery(tx.Issue(5, 2), f, recipient, Brief, &short)
	add("delivery-brief", &short, m, err)
	m, err = c.NonAcceptanceVirus(tx.Issue(3, 1), f, testVirus)
	add("non-acceptance-virus", nil, m, err)
	m, err = c.DelayNotice(tx.Issue(7, 0), f, recipient)
	add("delay-notice", nil, m, err)
	m, err = c.TimeoutNotice(tx.Issue(7, 1), f, recipient)
	add("timeout-notice", nil, m, err)
	m, err = c.VirusDetection(tx.Issue(8, 0), f, "ricevute@pec.example.net", recipient, testVirus)
	add("virus-detection", nil, m, err)
	m, err = c.VirusNonDelivery(tx.Issue(6, 1), f, recipient, testVirus)
	add("non-delivery-virus", nil, m, err)
	return all
}

// testVirus is what a scanner calls the test file that every scanner finds.
const testVirus = "Eicar-Test-Signature"

// readSigned reads a message that must be a correct PEC message.
func readSigned(tb testing.TB, b []byte) *Signed {
	tb.Helper()
	s, err := ReadSigned(bytes.NewReader(b), Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	if s.Fault != nil {
		tb.Fatalf("fault: %v\n%.3000s", s.Fault, b)
	}
	return s
}

func sha(b []byte) [32]byte { return sha256.Sum256(b) }

// run runs a program and returns its output. Where the program is missing the test is skipped, or fails under
// CI_STRICT=1.
func run(tb testing.TB, stdin []byte, program string, args ...string) (string, error) {
	tb.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI_STRICT") == "1" {
			tb.Fatalf("%s is not installed", program)
		}
		tb.Skipf("%s is not installed", program)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
