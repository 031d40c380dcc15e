package pec

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Original is what is known of a submitted message after reading it once: its header and figures about its octets.
// Addresses are addr-specs; see ParseAddresses.
type Original struct {
	Header Header

	From, To, Cc []string
	BccNonEmpty  bool   // some Bcc field has a value, which PEC does not admit (RFC 6109 section 3.1.1)
	ReplyTo      string // the addr-specs of Reply-To, separated by ", "; empty when there is none
	Subject      string // decoded to UTF-8
	MessageID    string // with angle brackets; empty when there is none, or none that fits on a line
	ReceiptType  ReceiptType

	Size        int64    // octets of the whole message
	Digest      [32]byte // SHA-256 of the whole message
	HeaderLen   int64    // octets of the header, without the empty line that ends it
	LongestLine int64    // octets of the longest line, without its line break
	EightBit    bool     // there is an octet of 0x80 or more
	NUL         bool     // there is a NUL
	BareNewline bool     // there is a CR or LF outside of a CRLF: refuse, a relay would change it under the signature

	encoding Encoding
	ended    headerEnd
}

// ReadOriginal reads a submitted message to its end, keeping only its header. It fails with ErrHeaderTooLarge, or with
// what the reader fails with; any other content is read as well as it can be. The header ends at the first line that
// is neither a field nor a continuation of one, normally the empty one.
func ReadOriginal(r io.Reader, lim Limits) (*Original, error) {
	lim = lim.orDefault()
	lines := newLineReader(r)
	header := headerReader{limit: lim.HeaderBytes}
	var body octets
	for {
		frag, first, err := lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("couldn't read the original message: %w", err)
		}
		body.add(frag)
		if header.ended == openHeader {
			if _, err := header.add(frag, first); err != nil {
				return nil, err
			}
		}
	}
	o := &Original{
		Header:      header.Header,
		Size:        lines.size,
		HeaderLen:   int64(len(header.raw)),
		LongestLine: body.longest,
		EightBit:    body.high,
		NUL:         body.nul,
		BareNewline: body.bare,
		encoding:    body.encoding(),
		ended:       header.ended,
	}
	lines.sum.Sum(o.Digest[:0])
	o.readFields()
	return o, nil
}

func (o *Original) readFields() {
	h := &o.Header
	o.From = h.addresses("From")
	o.To = h.addresses("To")
	o.Cc = h.addresses("Cc")
	o.ReplyTo = strings.Join(h.addresses("Reply-To"), ", ")
	o.BccNonEmpty = strings.Join(h.Values("Bcc"), "") != ""
	o.Subject = decodeText(h.Get("Subject"))
	o.MessageID = cleanMessageID(h.Get("Message-ID"))
	o.ReceiptType = ParseReceiptType(h.Get("X-TipoRicevuta"))
}

// addresses returns the addr-specs of all fields of that name: a header with two From fields has the authors of both.
func (h *Header) addresses(name string) []string {
	var all []string
	for _, v := range h.Values(name) {
		all = append(all, ParseAddresses(v)...)
	}
	return all
}

// Inherited are the fields of an original's header that its envelope carries on (RFC 6109 section 3.1.5), each with its
// name and line break. Return-Path is not among them: the last server writes it (RFC 5321 section 4.4).
type Inherited struct {
	Received []string
	ReplyTo  string
	To, Cc   string
}

// Most of what an envelope inherits of Received fields: they grow with every hop, and a loop must not grow the header.
const maxReceived = 30

// Inherited returns those fields as they stand in the original. A field that comes twice, or holds what may not travel
// in a header (raw octets of 0x80 or more, controls even if encoded, a line over 998 octets), is written anew from its
// addresses; such a Received is dropped.
func (o *Original) Inherited() Inherited { return o.Header.inherited() }

func (h *Header) inherited() Inherited {
	var in Inherited
	for i := range h.fields {
		if h.is(i, "Received") && len(in.Received) < maxReceived {
			if line := h.inherit(i, "Received"); line != "" {
				in.Received = append(in.Received, line)
			}
		}
	}
	in.ReplyTo = h.inheritAddresses("Reply-To")
	in.To = h.inheritAddresses("To")
	in.Cc = h.inheritAddresses("Cc")
	return in
}

func (in *Inherited) size() int {
	n := len(in.ReplyTo) + len(in.To) + len(in.Cc)
	for _, r := range in.Received {
		n += len(r)
	}
	return n
}

// inheritAddresses returns the only field of that name as it is, or one made from its addresses, or nothing when it has
// none.
func (h *Header) inheritAddresses(name string) string {
	addresses := h.addresses(name)
	if len(addresses) == 0 {
		return ""
	}
	if h.Count(name) == 1 {
		for i := range h.fields {
			if h.is(i, name) {
				if line := h.inherit(i, name); line != "" {
					return line
				}
			}
		}
	}
	return string(appendAddresses(nil, name, addresses))
}

// inherit returns field i under its canonical name with its value as it is, empty when it may not travel so.
func (h *Header) inherit(i int, name string) string {
	value := h.rawValue(i)
	if breakLen(value) != 2 || hidesControl(h.value(i)) {
		return ""
	}
	value = value[:len(value)-2]
	width, text := len(name)+1, true // text: the line is not all white space
	for j := 0; j < len(value); j++ {
		switch c := value[j]; {
		case c == '\r': // rawValue folds only before white space, so only the LF is left to check
			if !text || j+1 == len(value) || value[j+1] != '\n' {
				return ""
			}
			j++
			width, text = 0, false
		case c == ' ' || c == '\t':
			width++
		case c > ' ' && c <= '~':
			width++
			text = true
		default:
			return ""
		}
		if width > maxLine {
			return ""
		}
	}
	if !text {
		return ""
	}
	return name + ":" + string(value) + "\r\n"
}

// hidesControl says whether an encoded word in a value decodes to a control character, such as a line break.
func hidesControl(value string) bool {
	return strings.Contains(value, "=?") &&
		strings.ContainsFunc(decodeText(value), func(r rune) bool { return unicode.IsControl(r) && r != '\t' })
}
