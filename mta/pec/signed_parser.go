package pec

import (
	"bytes"
	"crypto"
	"fmt"
	"strings"
)

// place is where in the message the parser is.
type place uint8

const (
	inHeader          place = iota // the top-level header
	inPreamble                     // before the first outer delimiter
	inEntityHeader                 // the header of the signed entity
	inEntity                       // the signed entity outside of its parts
	inPartHeader                   // the header of a part of the signed entity
	inPart                         // the body of one
	inSignatureHeader              // the header of the signature part
	inSignature                    // the body of it
	inRest                         // what no longer matters
)

// partKind is what a part of the signed entity is to us.
type partKind uint8

const (
	otherPart partKind = iota
	certificationPart
	originalPart
)

// maxBoundary is the longest boundary that is followed; RFC 2046 section 5.1.1 allows 70 characters.
const maxBoundary = 200

// signedParser reads a message line by line, once. Its depth is fixed: message, signed entity, part.
type signedParser struct {
	lim    Limits
	lines  *lineReader
	signed *Signed

	place        place
	header       headerReader // of whatever header is being read
	outer, inner string       // boundaries, empty when not known
	lastBreak    int          // length of the line break before the current line

	hashes      multiHash
	innerClosed bool
	parts       int

	part         partKind
	partEncoding Encoding
	partStart    int64
	octets       octets // of the original
	body         []byte // of daticert.xml or of the signature, as transferred

	certification         []byte // daticert.xml
	certifications        int
	originals, signatures int
}

// fault keeps the first reason why the message is no correct PEC message.
func (p *signedParser) fault(kind error, format string, args ...any) {
	if p.signed.Fault == nil {
		p.signed.Fault = fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...))
	}
}

// line takes the next line, or fragment of one. The error is one that ends the reading.
func (p *signedParser) line(frag []byte, first bool) error {
	if first && p.place != inHeader && len(frag) > 2 && frag[0] == '-' && frag[1] == '-' {
		if is, closing := delimits(frag, p.outer); is {
			p.outerDelimiter(closing)
			return nil
		}
		if p.place >= inEntityHeader && p.place <= inPart && !p.innerClosed {
			if is, closing := delimits(frag, p.inner); is {
				p.innerDelimiter(closing)
				return nil
			}
		}
	}
	switch p.place {
	case inHeader, inEntityHeader, inPartHeader, inSignatureHeader:
		return p.headerLine(frag, first)
	case inPart:
		p.partLine(frag)
	case inSignature:
		p.collect(frag, p.lim.SignatureBytes)
	}
	return nil
}

// delimits says whether line is a delimiter of that boundary, and the closing one. White space may follow.
func delimits(line []byte, boundary string) (is, closing bool) {
	if boundary == "" || len(line) < 2+len(boundary) || string(line[2:2+len(boundary)]) != boundary {
		return false, false
	}
	rest := bytes.TrimRight(line[2+len(boundary):], " \t\r\n")
	return len(rest) == 0 || string(rest) == "--", len(rest) > 0
}

// headerLine reads the header of the message or of a part.
func (p *signedParser) headerLine(frag []byte, first bool) error {
	taken, err := p.header.add(frag, first)
	if err != nil {
		if p.place == inHeader {
			return err
		}
		p.fault(ErrPartTooLarge, "the header of a part has more than %d octets", p.header.limit)
		if p.place == inSignatureHeader {
			p.place = inRest
		} else { // look into no more parts, but go on to the end of what is signed
			p.place, p.innerClosed = inEntity, true
		}
		return nil
	}
	if p.header.ended == openHeader {
		return nil
	}
	at := p.lines.off
	if !taken {
		at = p.lines.fragmentOffset()
	}
	p.endHeader(at)
	if !taken {
		return p.line(frag, first)
	}
	return nil
}

// endHeader acts on a header that is complete; its body begins at offset body.
func (p *signedParser) endHeader(body int64) {
	h := p.header.Header
	p.header = headerReader{limit: p.lim.PartHeaderBytes}
	switch p.place {
	case inHeader:
		p.messageHeader(h)
	case inEntityHeader:
		p.entityHeader(h)
	case inPartHeader:
		p.partHeader(h, body)
	case inSignatureHeader:
		p.signatureHeader(h)
	}
}

func (p *signedParser) messageHeader(h Header) {
	p.signed.readHeader(h)
	p.place = inRest
	t := parseMediaType(h.Get("Content-Type"))
	protocol := strings.ToLower(t.params["protocol"])
	switch boundary := t.params["boundary"]; {
	case h.Count("Content-Type") > 1:
		p.fault(ErrStructure, "there are several Content-Type fields")
	case t.value != "multipart/signed":
		p.fault(ErrNotSigned, "its type is %.80q", t.value)
	case protocol != "application/x-pkcs7-signature" && protocol != "application/pkcs7-signature":
		p.fault(ErrNotSigned, "its signature is %.80q", protocol)
	case boundary == "" || len(boundary) > maxBoundary:
		p.fault(ErrStructure, "it has no usable boundary")
	default:
		p.outer = boundary
		p.hashes = contentHashes(t.params["micalg"])
		p.place = inPreamble
	}
}

func (p *signedParser) entityHeader(h Header) {
	p.place = inEntity
	t := parseMediaType(h.Get("Content-Type"))
	switch boundary := t.params["boundary"]; {
	case t.value != "multipart/mixed" || h.Count("Content-Type") != 1:
		p.fault(ErrStructure, "what is signed is %.80q", t.value)
	case boundary == "" || len(boundary) > maxBoundary || boundary == p.outer:
		p.fault(ErrStructure, "what is signed has no usable boundary")
	default:
		p.inner = boundary
	}
}

func (p *signedParser) partHeader(h Header, body int64) {
	p.place = inPart
	p.part, p.partStart, p.body = otherPart, body, nil
	p.partEncoding = encodingOf(h)
	t := parseMediaType(h.Get("Content-Type"))
	name := t.params["name"]
	if name == "" {
		name = parseMediaType(h.Get("Content-Disposition")).params["filename"]
	}
	switch {
	case strings.EqualFold(name, "daticert.xml"):
		p.part = certificationPart
		if p.certifications++; p.certifications > 1 {
			p.fault(ErrStructure, "there are several daticert.xml")
		}
	case t.value == "message/rfc822" && (name == "" || strings.EqualFold(name, "postacert.eml")):
		p.part = originalPart
		p.octets = octets{}
		if p.originals++; p.originals > 1 {
			p.fault(ErrStructure, "there are several postacert.eml")
		}
	}
}

func (p *signedParser) signatureHeader(h Header) {
	p.place = inSignature
	p.body = nil
	p.partEncoding = encodingOf(h)
	switch t := parseMediaType(h.Get("Content-Type")).value; t {
	case "application/x-pkcs7-signature", "application/pkcs7-signature":
	default:
		p.fault(ErrStructure, "the signature part is %.80q", t)
	}
}

func encodingOf(h Header) Encoding {
	return Encoding(strings.ToLower(strings.TrimSpace(dropComments(h.Get("Content-Transfer-Encoding")))))
}

// partLine takes a line of the body of a part.
func (p *signedParser) partLine(frag []byte) {
	switch p.part {
	case certificationPart:
		p.collect(frag, p.lim.CertificationBytes)
	case originalPart:
		p.octets.add(frag)
	}
}

// collect keeps a fragment of a bounded body; a body that is too large is passed over.
func (p *signedParser) collect(frag []byte, limit int) {
	if len(p.body)+len(frag) <= limit {
		p.body = append(p.body, frag...)
		return
	}
	p.fault(ErrPartTooLarge, "it has more than %d octets", limit)
	p.body, p.part = nil, otherPart
	if p.place == inSignature {
		p.place = inRest
	}
}

// outerDelimiter acts on a delimiter of multipart/signed. The line break before it belongs to it.
func (p *signedParser) outerDelimiter(closing bool) {
	switch p.place {
	case inPreamble:
		if closing {
			p.fault(ErrTruncated, "it has no parts")
			p.place = inRest
			return
		}
		p.lines.beginRegion(p.hashes)
		p.header = headerReader{limit: p.lim.PartHeaderBytes}
		p.place = inEntityHeader
	case inEntityHeader, inEntity, inPartHeader, inPart:
		p.lines.endRegion(p.lastBreak)
		for h, sum := range p.hashes {
			p.signed.digests[h] = sum.Sum(nil)
		}
		if !p.innerClosed {
			p.endPart()
			p.fault(ErrStructure, "the signed parts are not closed")
		}
		p.header = headerReader{limit: p.lim.PartHeaderBytes}
		p.place = inSignatureHeader
		if closing {
			p.fault(ErrTruncated, "it has no signature part")
			p.place = inRest
		}
	case inSignatureHeader, inSignature:
		p.endSignature()
		if !closing {
			p.fault(ErrStructure, "a part follows the signature")
		}
		p.place = inRest
	}
}

// innerDelimiter acts on a delimiter of the signed multipart/mixed.
func (p *signedParser) innerDelimiter(closing bool) {
	p.endPart()
	p.place = inEntity
	p.innerClosed = closing
	if closing {
		return
	}
	if p.parts++; p.parts > p.lim.Parts {
		p.fault(ErrStructure, "it has more than %d parts", p.lim.Parts)
		p.innerClosed = true
		return
	}
	p.header = headerReader{limit: p.lim.PartHeaderBytes}
	p.place = inPartHeader
}

// endPart acts on the end of the current part, whose last line break belongs to the delimiter that ended it.
func (p *signedParser) endPart() {
	if p.place == inPartHeader {
		p.endHeader(p.lines.fragmentOffset())
	}
	if p.place != inPart {
		return
	}
	length := max(0, p.lines.fragmentOffset()-int64(p.lastBreak)-p.partStart)
	switch {
	case p.part == certificationPart && p.certifications == 1:
		var err error
		if p.certification, err = decodeBody(p.body[:min(int64(len(p.body)), length)], p.partEncoding); err != nil {
			p.fault(ErrCertificationData, "%v", err)
		}
		p.body = nil
	case p.part == originalPart && p.originals == 1:
		s := &Section{Offset: p.partStart, Length: length, Encoding: p.octets.encoding()}
		if p.partEncoding == Base64 || p.partEncoding == QuotedPrintable {
			s.Encoding = p.partEncoding
		}
		p.signed.Original = s
	}
}

// endSignature acts on the end of the signature part.
func (p *signedParser) endSignature() {
	if p.place == inSignatureHeader {
		p.endHeader(0)
	}
	p.signatures++
	encoding := p.partEncoding
	if encoding != Base64 {
		p.fault(ErrStructure, "the signature is encoded as %.40q", string(encoding))
		return
	}
	der, err := decodeBody(p.body, encoding)
	p.body = nil
	if err != nil || len(der) == 0 {
		p.fault(ErrStructure, "the signature is not in base64")
		return
	}
	p.signed.Signature = der
}

// end acts on the end of the message and judges the whole.
func (p *signedParser) end() {
	switch p.place {
	case inHeader:
		p.endHeader(p.lines.off)
	case inSignatureHeader, inSignature:
		p.endSignature()
	}
	s := p.signed
	if p.outer != "" && p.place != inRest {
		p.fault(ErrTruncated, "its closing delimiter is missing")
	}
	if s.Fault == nil && (p.signatures != 1 || s.digests[crypto.SHA256] == nil) {
		p.fault(ErrStructure, "it has no signature")
	}
	p.judge()
}

// judge compares what the header claims with what is signed.
func (p *signedParser) judge() {
	s := p.signed
	if p.certification != nil {
		c, err := ParseCertificationData(p.certification, p.lim)
		if s.Certification = c; err != nil && s.Fault == nil {
			s.Fault = err
		}
	}
	if s.Fault != nil {
		return
	}
	kind, err := s.mark()
	if err != nil {
		s.Fault = err
		return
	}
	switch {
	case kind == AnomalyEnvelope && s.Certification != nil:
		p.fault(ErrMarks, "an anomaly envelope has a daticert.xml")
	case kind == AnomalyEnvelope:
	case s.Certification == nil:
		p.fault(ErrStructure, "there is no daticert.xml")
	case s.Certification.Kind != kind:
		p.fault(ErrMarks, "the header says %s and daticert.xml %s", kind, s.Certification.Kind)
	case kind == TransportEnvelope && s.Original == nil:
		p.fault(ErrStructure, "there is no postacert.eml")
	}
	if s.Fault == nil {
		s.Kind = kind
	}
}
