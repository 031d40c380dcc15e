package pec

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Errors of composing. They mean a mistake of the caller, never a property of somebody's message.
var (
	// ErrComposer says that a Composer lacks something it needs, or that its domain or address is malformed.
	ErrComposer = errors.New("pec: composer is not configured")
	// ErrFacts says that Facts lack a sender, a recipient or a valid envelope ID.
	ErrFacts = errors.New("pec: facts are incomplete")
)

// Provider is the provider that issues.
type Provider struct {
	Name           string // gestore-emittente
	Domain         string // of its Message-IDs
	ServiceAddress string // "posta-certificata@" and Domain: the From, which the signing certificate must name
}

// Signer makes the signature of an issued message: a CMS SignedData in DER, detached, over content with that SHA-256
// digest, with that signing time. It is called from many goroutines.
type Signer interface {
	Sign(digest [32]byte, at time.Time) (der []byte, err error)
}

// Composer builds the messages of a provider. It is safe for concurrent use when its Signer is.
type Composer struct {
	Provider Provider
	Signer   Signer
	// Location is where legal time is: Europe/Rome.
	Location *time.Location
}

// Facts are what a message is about, common to all that is issued for one original.
type Facts struct {
	Sender      string      // the reverse path of the original (RFC 6109 section 2.1)
	Recipients  []Recipient // all its forward paths, at least one
	ReplyTo     string      // its Reply-To; empty means the sender
	Subject     string      // decoded
	OriginalID  string      // its own Message-ID, with angle brackets; empty when it had none
	EnvelopeID  string      // the Message-ID of its transport envelope, with angle brackets
	ReceiptType ReceiptType // what its sender asked for
}

// Included is an original to include: the bytes of postacert.eml, and the transfer encoding they need. See
// Original.Included, and Signed.Original for one that came in an envelope.
type Included struct {
	Bytes    io.ReaderAt
	Size     int64
	Encoding Encoding
}

// draft is a message being composed: what its header and its parts say.
type draft struct {
	issue    Issue
	facts    *Facts
	kind     Kind
	when     stamp
	wording  wording
	to       string // addressee of a receipt
	text     textFacts
	data     CertificationData
	included *Included
	id       string // the Message-ID, if it is not that of the issue
}

// draft checks what every message needs and fills in what every message says.
func (c *Composer) draft(at Issue, f *Facts, kind Kind) (*draft, error) {
	_, _, ok := splitAddress(c.Provider.ServiceAddress)
	if !ok || c.Signer == nil || c.Location == nil || !isDomain(c.Provider.Domain) {
		return nil, ErrComposer
	}
	if strings.Trim(f.Sender, xmlSpace) == "" || len(f.Recipients) == 0 {
		return nil, fmt.Errorf("%w: sender or recipients are missing", ErrFacts)
	}
	if f.EnvelopeID == "" || cleanMessageID(f.EnvelopeID) != f.EnvelopeID {
		return nil, fmt.Errorf("%w: invalid envelope ID %.80q", ErrFacts, f.EnvelopeID)
	}
	d := &draft{issue: at, facts: f, kind: kind, when: stampOf(at.Time, c.Location), to: f.Sender}
	d.wording = texts(kind, plain)
	d.text = textFacts{when: d.when, facts: f, recipients: f.Recipients}
	d.data = CertificationData{
		Kind:       kind,
		Sender:     f.Sender,
		Recipients: f.Recipients,
		ReplyTo:    f.ReplyTo,
		Subject:    f.Subject,
		Provider:   c.Provider.Name,
		EnvelopeID: f.EnvelopeID,
		OriginalID: cleanMessageID(f.OriginalID),
	}
	if d.data.ReplyTo == "" {
		d.data.ReplyTo = f.Sender
	}
	return d, nil
}

// about makes d a message about one recipient.
func (d *draft) about(recipient string) {
	d.text.recipient, d.data.Recipient = recipient, recipient
}

// failing makes d a message that states an error.
func (d *draft) failing(errore ErrorKind, detail string) {
	d.data.Error, d.data.Detail, d.text.errore = errore, detail, detail
}

// issueReceipt puts the header of a receipt in front and issues d.
func (c *Composer) issueReceipt(d *draft) (*Message, error) {
	b := make([]byte, 0, d.sizeHint())
	b = appendField(b, "Date", d.when.date)
	b = appendField(b, "From", c.Provider.ServiceAddress)
	b = appendAddresses(b, "To", []string{d.to})
	return c.issue(d, b)
}

// sizeHint is about how long everything but the included original will be, the signature with it.
func (d *draft) sizeHint() int {
	return 10<<10 + 5*len(d.facts.Subject) + 320*len(d.facts.Recipients)
}

// issue completes the header that b begins with, adds the signed entity and signs it:
//
//	multipart/signed
//	  multipart/mixed
//	    text/plain
//	    application/xml; name="daticert.xml"     not in an anomaly envelope
//	    message/rfc822; name="postacert.eml"     if an original is included
//	  application/x-pkcs7-signature; name="smime.p7s"
func (c *Composer) issue(d *draft, b []byte) (*Message, error) {
	outer, inner := d.issue.boundary("outer"), d.issue.boundary("inner")
	m := &Message{Kind: d.kind, MessageID: d.id}
	if m.MessageID == "" {
		m.MessageID = d.issue.MessageID(c.Provider)
	}
	marks := d.kind.marks()

	b = appendField(b, "Message-ID", m.MessageID)
	b = appendSubject(b, d.wording.subject, d.facts.Subject)
	b = appendField(b, "MIME-Version", "1.0")
	b = append(b, "Content-Type: multipart/signed; protocol=\"application/x-pkcs7-signature\";\r\n micalg=sha-256; boundary=\""+outer+"\"\r\n"...)
	b = appendTransferEncoding(b, d.included)
	b = appendField(b, marks.field, marks.value)
	if d.kind == TransportEnvelope {
		b = appendField(b, "X-TipoRicevuta", d.facts.ReceiptType.String())
	}
	switch {
	case d.kind == VirusDetection:
		b = appendAddresses(b, "X-Mittente", []string{d.facts.Sender})
	case d.data.Error == Virus:
		b = appendField(b, "X-VerificaSicurezza", "errore")
	}
	if d.data.OriginalID != "" {
		b = appendField(b, "X-Riferimento-Message-ID", d.data.OriginalID)
	}
	b = append(b, "\r\n--"+outer+"\r\n"...)
	entity := len(b)

	b = append(b, "Content-Type: multipart/mixed; boundary=\""+inner+"\"\r\n"...)
	b = appendTransferEncoding(b, d.included)
	b = append(b, "\r\n--"+inner+"\r\n"...)
	b = appendTextPart(b, render(d.wording.text, &d.text))
	name := "messaggio.eml" // what an anomaly envelope includes certifies nothing
	if d.kind != AnomalyEnvelope {
		name = "postacert.eml"
		b = append(b, "\r\n--"+inner+"\r\n"...)
		b = appendCertificationPart(b, d.data.appendXML(nil, d.when))
	}
	if d.included != nil {
		b = append(b, "\r\n--"+inner+"\r\n"...)
		b = append(b, "Content-Type: message/rfc822; name=\""+name+"\"\r\nContent-Disposition: inline; filename=\""+name+"\"\r\n"...)
		b = appendField(b, "Content-Transfer-Encoding", string(d.included.encoding()))
		b = append(b, "\r\n"...)
	}
	// The CRLF before a delimiter belongs to the delimiter. So the entity ends with the CRLF after the inner closing
	// delimiter, and one more CRLF stands before the outer one; an original without a final CRLF stays as it is.
	end := "\r\n--" + inner + "--\r\n"
	return c.sign(d, m, b, entity, end, outer)
}

// sign ends the message. One pass over the included original feeds both digests.
func (c *Composer) sign(d *draft, m *Message, b []byte, entity int, end, outer string) (*Message, error) {
	whole, content := sha256.New(), sha256.New()
	content.Write(b[entity:])
	if d.included != nil {
		whole.Write(b)
		m.Prefix, m.Original = b, &Enclosed{Size: d.included.Size, Encoding: d.included.encoding()}
		if _, err := copyIncluded(io.MultiWriter(whole, content), d.included.Bytes, 0, d.included.Size); err != nil {
			return nil, err
		}
		b = make([]byte, 0, 8<<10)
	}
	io.WriteString(content, end)
	content.Sum(m.Content[:0])
	der, err := c.Signer.Sign(m.Content, d.issue.Time)
	if err != nil {
		return nil, fmt.Errorf("couldn't sign %s %s: %w", d.kind, m.MessageID, err)
	}

	b = append(b, end...)
	b = append(b, "\r\n--"+outer+"\r\n"...)
	b = append(b, "Content-Type: application/x-pkcs7-signature; name=\"smime.p7s\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"smime.p7s\"\r\n\r\n"...)
	b = appendBase64(b, der)
	b = append(b, "\r\n--"+outer+"--\r\n"...)
	whole.Write(b)
	whole.Sum(m.Digest[:0])
	if m.Original != nil {
		m.Suffix = b
		m.Size = m.Original.Size
	} else {
		m.Prefix = b
	}
	m.Size += int64(len(m.Prefix) + len(m.Suffix))
	return m, nil
}

// appendTransferEncoding labels a multipart. It needs a label when a part inside is not 7bit (RFC 2045 section 6.4).
func appendTransferEncoding(b []byte, included *Included) []byte {
	if included == nil {
		return b
	}
	switch e := included.encoding(); e {
	case EightBit, Binary:
		return appendField(b, "Content-Transfer-Encoding", string(e))
	}
	return b
}

// encoding is the label of the part; an unset or unknown one counts as binary, which promises nothing.
func (i *Included) encoding() Encoding {
	switch i.Encoding {
	case SevenBit, EightBit, Binary, Base64, QuotedPrintable:
		return i.Encoding
	}
	return Binary
}

// appendCertificationPart appends the part with daticert.xml, header and body without its last line break.
func appendCertificationPart(b, document []byte) []byte {
	b = append(b, "Content-Type: application/xml; name=\"daticert.xml\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: inline; filename=\"daticert.xml\"\r\n\r\n"...)
	return appendBase64(b, document)
}

// appendBase64 appends data in base64, in lines of 76 characters; the last line has no line break.
func appendBase64(b, data []byte) []byte {
	const perLine = 57
	for len(data) > perLine {
		b = base64.StdEncoding.AppendEncode(b, data[:perLine])
		b = append(b, "\r\n"...)
		data = data[perLine:]
	}
	return base64.StdEncoding.AppendEncode(b, data)
}
