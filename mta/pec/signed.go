package pec

import (
	"bytes"
	"crypto"
	_ "crypto/sha1"   // registers crypto.SHA1: providers still sent SHA-1 signatures in December 2024
	_ "crypto/sha512" // registers crypto.SHA384 and crypto.SHA512
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime/quotedprintable"
	"strings"
)

// Faults: why a received message is no correct PEC message. Signed.Fault wraps one of them, or ErrCertificationData.
var (
	// ErrNotSigned says that the message is not multipart/signed with a PKCS #7 signature: ordinary mail.
	ErrNotSigned = errors.New("pec: the message is not signed")
	// ErrNoMark says that the message is signed but bears neither X-Ricevuta nor X-Trasporto: ordinary signed mail.
	ErrNoMark = errors.New("pec: the message has no PEC field")
	// ErrMarks says that X-Ricevuta and X-Trasporto exclude one another, come twice, have an unknown value, or
	// contradict daticert.xml.
	ErrMarks = errors.New("pec: the message's PEC fields are contradictory")
	// ErrStructure says that the MIME tree is not that of a PEC message.
	ErrStructure = errors.New("pec: the message has not the parts of a PEC message")
	// ErrTruncated says that the message ends before its parts do.
	ErrTruncated = errors.New("pec: the message is cut short")
	// ErrPartTooLarge says that a part is larger than Limits allows.
	ErrPartTooLarge = errors.New("pec: a part of the message is too large")
)

// Signed is what is known of a received message after reading it once. Nothing in it has been verified: its signature has
// to be, over Digest, before anything else is believed. The fields of the header are not even under the signature; those
// of Certification are.
type Signed struct {
	// Fault says why the message is no correct PEC message, nil when it is one. The fields below hold what could be
	// read all the same, for an anomaly envelope to report.
	Fault error
	// Kind is the kind of PEC message, Ordinary whenever there is a Fault.
	Kind Kind

	Header       Header
	From, To, Cc []string // addr-specs
	Subject      string   // decoded to UTF-8
	MessageID    string   // with angle brackets, empty when there is none
	ReceiptType  ReceiptType

	// Signature is smime.p7s, in DER or BER.
	Signature []byte
	// Certification is daticert.xml; nil in an anomaly envelope, which has none.
	Certification *CertificationData
	// Original is where postacert.eml is; nil when there is none.
	Original *Section

	Size   int64    // octets of the whole message
	Digest [32]byte // SHA-256 of the whole message

	digests map[crypto.Hash][]byte
}

// Section is a run of octets of a message: the body of the part that holds postacert.eml, as transferred.
type Section struct {
	Offset, Length int64
	Encoding       Encoding // what its octets need, whatever its label says; Base64 or QuotedPrintable when so labelled
}

// Included returns the section of the message whose bytes message holds, to be included in a delivery receipt.
func (s *Section) Included(message io.ReaderAt) Included {
	return Included{Bytes: io.NewSectionReader(message, s.Offset, s.Length), Size: s.Length, Encoding: s.Encoding}
}

// Inherited returns what an anomaly envelope inherits of the message (RFC 6109 section 3.2.2), as Original.Inherited does.
func (s *Signed) Inherited() Inherited { return s.Header.inherited() }

// ContentDigest returns the digest of the signed entity, its exact octets on the wire: with SHA-256 always, with SHA-1,
// SHA-384 or SHA-512 when the message's micalg names it, or none of these. It returns false for any other, and when there
// is no signed entity.
func (s *Signed) ContentDigest(h crypto.Hash) ([]byte, bool) {
	d, ok := s.digests[h]
	return d, ok
}

// ReadSigned reads a received message to its end, in bounded memory. It fails with ErrHeaderTooLarge, or with what the
// reader fails with; anything wrong with the message as a PEC message is its Fault.
//
// The signed entity runs from after the first outer delimiter to before the line break of the second (RFC 1847 section
// 2.1); so the line break after the inner closing delimiter is in it, the next one is not. Only the direct parts of the
// signed multipart/mixed count: a receipt inside an included message is content.
func ReadSigned(r io.Reader, lim Limits) (*Signed, error) {
	p := signedParser{
		lim:    lim.orDefault(),
		lines:  newLineReader(r),
		signed: &Signed{digests: map[crypto.Hash][]byte{}},
	}
	p.header.limit = p.lim.SignedHeaderBytes
	for {
		frag, first, err := p.lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("couldn't read the received message: %w", err)
		}
		if err := p.line(frag, first); err != nil {
			return nil, err
		}
		p.lastBreak = breakLen(frag)
	}
	p.end()
	s := p.signed
	s.Size = p.lines.size
	p.lines.sum.Sum(s.Digest[:0])
	return s, nil
}

// readHeader reads the fields of the top level.
func (s *Signed) readHeader(h Header) {
	s.Header = h
	s.From = h.addresses("From")
	s.To = h.addresses("To")
	s.Cc = h.addresses("Cc")
	s.Subject = decodeText(h.Get("Subject"))
	s.MessageID = cleanMessageID(h.Get("Message-ID"))
	s.ReceiptType = ParseReceiptType(h.Get("X-TipoRicevuta"))
}

// mark returns the kind that the top level claims.
func (s *Signed) mark() (Kind, error) {
	receipts, envelopes := s.Header.Values(receiptField), s.Header.Values(envelopeField)
	switch {
	case len(receipts)+len(envelopes) == 0:
		return Ordinary, ErrNoMark
	case len(receipts)+len(envelopes) > 1:
		return Ordinary, fmt.Errorf("%w: X-Ricevuta %d times, X-Trasporto %d times", ErrMarks, len(receipts), len(envelopes))
	}
	field, value := receiptField, append(receipts, envelopes...)[0]
	if len(envelopes) == 1 {
		field = envelopeField
	}
	k := findKind(func(m marks) bool { return m.field == field && strings.EqualFold(m.value, value) })
	if k == Ordinary {
		return k, fmt.Errorf("%w: %s: %.40q", ErrMarks, field, value)
	}
	return k, nil
}

// multiHash feeds one content to several digests.
type multiHash map[crypto.Hash]hash.Hash

// Write implements io.Writer.
func (m multiHash) Write(b []byte) (int, error) {
	for _, h := range m {
		h.Write(b)
	}
	return len(b), nil
}

// contentHashes returns the digests that a micalg parameter asks for, and SHA-256; all that are known when it names
// none of them, since the signature itself says which it needs.
func contentHashes(micalg string) multiHash {
	m := multiHash{crypto.SHA256: crypto.SHA256.New()}
	unknown := true
	for _, name := range strings.FieldsFunc(strings.ToLower(micalg), func(r rune) bool { return r == ',' || r == ' ' }) {
		switch strings.ReplaceAll(name, "-", "") {
		case "sha1":
			m[crypto.SHA1] = crypto.SHA1.New()
		case "sha256":
		case "sha384":
			m[crypto.SHA384] = crypto.SHA384.New()
		case "sha512":
			m[crypto.SHA512] = crypto.SHA512.New()
		default:
			continue
		}
		unknown = false
	}
	if unknown {
		m[crypto.SHA1], m[crypto.SHA384], m[crypto.SHA512] = crypto.SHA1.New(), crypto.SHA384.New(), crypto.SHA512.New()
	}
	return m
}

// decodeBody undoes a transfer encoding.
func decodeBody(body []byte, e Encoding) ([]byte, error) {
	switch e {
	case Base64:
		compact := make([]byte, 0, len(body))
		for _, c := range body {
			if c > ' ' {
				compact = append(compact, c)
			}
		}
		return base64.StdEncoding.AppendDecode(nil, compact)
	case QuotedPrintable:
		return io.ReadAll(quotedprintable.NewReader(bytes.NewReader(body)))
	}
	return body, nil
}
