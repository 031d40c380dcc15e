package pec

import "encoding/binary"

// Encoding is the Content-Transfer-Encoding of a MIME part (RFC 2045 section 6), in lower case.
type Encoding string

// The encodings a part can have on the wire. Composite parts are issued with the first three only; the last two appear
// when another provider encoded an included message against RFC 2046 section 5.2.1, and its bytes are carried on.
const (
	SevenBit        Encoding = "7bit"
	EightBit        Encoding = "8bit"
	Binary          Encoding = "binary"
	Base64          Encoding = "base64"
	QuotedPrintable Encoding = "quoted-printable"
)

// maxLine is the longest line, without its line break, that 7bit and 8bit data may have (RFC 5322 section 2.1.1).
const maxLine = 998

// octets tells what transfer encoding some data needs, from all its fragments in order.
type octets struct {
	high    bool  // an octet of 0x80 or more
	nul     bool  // a NUL
	bare    bool  // a CR or LF outside of a CRLF
	longest int64 // longest line without its line break
	current int64 // length so far of the line being read
}

// add takes the next fragment as lineReader gives it.
func (o *octets) add(frag []byte) {
	n := breakLen(frag)
	if n == 1 {
		o.bare = true
	}
	line := frag[:len(frag)-n]
	o.current += int64(len(line))
	if o.current > o.longest {
		o.longest = o.current
	}
	if n > 0 {
		o.current = 0
	}
	o.scan(line)
}

// scan looks for high octets, NUL and CR, eight octets at a time: bodies of 50 MB pass here.
func (o *octets) scan(b []byte) {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
		crs   = 0x0d0d0d0d0d0d0d0d
	)
	var high, zero, cr uint64
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		y := x ^ crs
		high |= x
		zero |= (x - ones) &^ x
		cr |= (y - ones) &^ y
	}
	for _, c := range b {
		o.high = o.high || c >= 0x80
		o.nul = o.nul || c == 0
		o.bare = o.bare || c == '\r'
	}
	o.high = o.high || high&highs != 0
	o.nul = o.nul || zero&highs != 0
	o.bare = o.bare || cr&highs != 0
}

// encoding is the weakest encoding under which the data may travel as it is.
func (o *octets) encoding() Encoding {
	switch {
	case o.longest > maxLine || o.nul || o.bare:
		return Binary
	case o.high:
		return EightBit
	}
	return SevenBit
}
