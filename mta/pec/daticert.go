package pec

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Recipient is an address a message was sent to. It is certified when its domain is in the index of providers, whether
// or not the mailbox exists.
type Recipient struct {
	Address   string
	Certified bool
}

// CertificationData is the content of daticert.xml (RFC 6109 section 4.4): what a PEC message certifies, for programs. An
// empty field is an element that is not there, but Sender, ReplyTo, Provider, EnvelopeID and Time are always written.
//
// Message-IDs have their angle brackets here, although "identificativo" has none on the wire.
type CertificationData struct {
	Kind        Kind        // tipo
	Error       ErrorKind   // errore; empty is NoError
	Sender      string      // mittente
	Recipients  []Recipient // destinatari: all of the original's, at least one
	ReplyTo     string      // risposte; some providers leave it empty
	Subject     string      // oggetto, decoded
	Provider    string      // gestore-emittente: the name of the provider that issued this message
	Time        time.Time   // data: to the second, in legal time when issued
	EnvelopeID  string      // identificativo: the Message-ID of the transport envelope
	OriginalID  string      // msgid: the Message-ID that the sender's program had given, as received
	ReceiptType ReceiptType // ricevuta: the type the sender asked for; in envelopes and delivery receipts
	Recipient   string      // consegna: the recipient this message is about; in receipts about one
	Taken       []string    // ricezione: the recipients taken in charge; in take-charges
	Detail      string      // errore-esteso
}

// Facts returns what the receipts about an envelope with these data need.
func (d *CertificationData) Facts() Facts {
	return Facts{
		Sender:      d.Sender,
		Recipients:  d.Recipients,
		ReplyTo:     d.ReplyTo,
		Subject:     d.Subject,
		OriginalID:  cleanMessageID(d.OriginalID),
		EnvelopeID:  cleanMessageID(d.EnvelopeID),
		ReceiptType: d.ReceiptType,
	}
}

// XML returns daticert.xml: UTF-8, lines ending in LF, indented by four spaces, no DOCTYPE, in the order of the DTD.
// Time is written in its own location. Characters that XML cannot hold become U+FFFD, line breaks and other controls
// become spaces, and values lose surrounding white space.
func (d *CertificationData) XML() []byte {
	return d.appendXML(make([]byte, 0, 1024+128*len(d.Recipients)+2*len(d.Subject)), stampOf(d.Time, d.Time.Location()))
}

func (d *CertificationData) appendXML(b []byte, when stamp) []byte {
	errore := d.Error
	if errore == "" {
		errore = NoError
	}
	b = append(b, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"...)
	b = append(b, `<postacert tipo="`...)
	b = appendXMLText(b, d.Kind.marks().tipo)
	b = append(b, `" errore="`...)
	b = appendXMLText(b, string(errore))
	b = append(b, "\">\n    <intestazione>\n"...)
	b = appendElement(b, "mittente", d.Sender)
	for _, r := range d.Recipients {
		if r.Certified {
			b = append(b, `        <destinatari tipo="certificato">`...)
		} else {
			b = append(b, `        <destinatari tipo="esterno">`...)
		}
		b = appendXMLText(b, r.Address)
		b = append(b, "</destinatari>\n"...)
	}
	b = appendElement(b, "risposte", d.ReplyTo)
	b = appendOptional(b, "oggetto", d.Subject)
	b = append(b, "    </intestazione>\n    <dati>\n"...)
	b = appendElement(b, "gestore-emittente", d.Provider)
	b = append(b, `        <data zona="`...)
	b = append(b, when.zone...)
	b = append(b, "\">\n    "...)
	b = appendElement(b, "giorno", when.day)
	b = append(b, "    "...)
	b = appendElement(b, "ora", when.clock)
	b = append(b, "        </data>\n"...)
	b = appendElement(b, "identificativo", bare(d.EnvelopeID))
	b = appendOptional(b, "msgid", d.OriginalID)
	if d.ReceiptType != NoReceiptType {
		b = append(b, `        <ricevuta tipo="`...)
		b = append(b, d.ReceiptType.String()...)
		b = append(b, "\"/>\n"...)
	}
	b = appendOptional(b, "consegna", d.Recipient)
	for _, r := range d.Taken {
		b = appendElement(b, "ricezione", r)
	}
	b = appendOptional(b, "errore-esteso", d.Detail)
	return append(b, "    </dati>\n</postacert>\n"...)
}

// appendElement appends an element of the second level.
func appendElement(b []byte, name, value string) []byte {
	b = append(b, "        <"...)
	b = append(b, name...)
	b = append(b, '>')
	b = appendXMLText(b, value)
	b = append(b, "</"...)
	b = append(b, name...)
	return append(b, ">\n"...)
}

func appendOptional(b []byte, name, value string) []byte {
	if strings.Trim(value, xmlSpace) == "" {
		return b
	}
	return appendElement(b, name, value)
}

// appendXMLText appends s as character data that is also valid in an attribute.
func appendXMLText(b []byte, s string) []byte {
	s = strings.Trim(s, xmlSpace)
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == '\ufffe' || r == '\uffff' {
				r = utf8.RuneError
			}
			b = utf8.AppendRune(b, r)
			i += n
			continue
		}
		switch {
		case c == '&':
			b = append(b, "&amp;"...)
		case c == '<':
			b = append(b, "&lt;"...)
		case c == '>':
			b = append(b, "&gt;"...)
		case c == '"':
			b = append(b, "&quot;"...)
		case c == '\t', c == '\n', c == '\r':
			b = append(b, ' ')
		case c < ' ':
			b = append(b, "\uFFFD"...)
		default:
			b = append(b, c)
		}
		i++
	}
	return b
}

// xmlSpace is the white space of XML.
const xmlSpace = " \t\r\n"
