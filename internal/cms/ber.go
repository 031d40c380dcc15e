package cms

import "fmt"

// maxDepth is how deep elements may nest. A signature with a time-stamp token
// among its unsigned attributes reaches about 26.
const maxDepth = 64

// DER rewrites one BER element with definite, minimal lengths and undivided
// octet strings, which is how encoding/asn1 wants it and what signed
// attributes are hashed as (RFC 5652 §5.4). DER comes back byte for byte. It
// does not sort sets and does not look into primitive values.
//
// The work is linear in the input for a given depth of nesting, and the depth
// is bounded. Errors: [ErrTooLarge] above limit bytes, [ErrMalformed],
// [ErrTrailing].
func DER(ber []byte, limit int) ([]byte, error) {
	if len(ber) > limit {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(ber), limit)
	}
	out, rest, err := transcode(make([]byte, 0, len(ber)), ber, 0)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d after the structure", ErrTrailing, len(rest))
	}
	return out, nil
}

// transcode appends the first element of in to out and returns what follows it.
func transcode(out, in []byte, depth int) (_, rest []byte, err error) {
	e, rest, err := readElement(in)
	if err != nil {
		return nil, nil, err
	}
	if e.tag&tagConstructed == 0 {
		out = appendHeader(out, e.tag, len(e.body))
		return append(out, e.body...), rest, nil
	}
	tag := e.tag
	if tag == tagOctetsBER {
		tag = tagOctets
	}
	// The header is guessed from what the input says; only where its length
	// turns out different (indefinite or padded lengths) the content moves.
	guess := headerLen(len(e.body))
	start := len(out)
	out = append(out, make([]byte, guess)...)
	out, rest, err = transcodeContent(out, e, rest, depth+1)
	if err != nil {
		return nil, nil, err
	}
	n := len(out) - start - guess
	if h := headerLen(n); h > guess {
		out = append(out, make([]byte, h-guess)...)
		copy(out[start+h:], out[start+guess:start+guess+n])
	} else if h < guess {
		copy(out[start+h:], out[start+guess:])
		out = out[:start+h+n]
	}
	appendHeader(out[:start], tag, n)
	return out, rest, nil
}

// transcodeContent appends the elements inside e, a constructed one; after is
// what follows it. The segments of an octet string are appended bare.
func transcodeContent(out []byte, e element, after []byte, depth int) (_, rest []byte, err error) {
	if depth > maxDepth {
		return nil, nil, fmt.Errorf("%w: nested deeper than %d", ErrMalformed, maxDepth)
	}
	in := e.body
	for {
		if e.indefinite {
			if len(in) >= 2 && in[0] == 0 && in[1] == 0 {
				return out, in[2:], nil
			}
		} else if len(in) == 0 {
			return out, after, nil
		}
		if e.tag != tagOctetsBER {
			if out, in, err = transcode(out, in, depth); err != nil {
				return nil, nil, err
			}
			continue
		}
		segment, next, err := readElement(in)
		switch {
		case err != nil:
			return nil, nil, err
		case segment.tag == tagOctets:
			out, in = append(out, segment.body...), next
		case segment.tag == tagOctetsBER:
			if out, in, err = transcodeContent(out, segment, next, depth+1); err != nil {
				return nil, nil, err
			}
		default:
			return nil, nil, fmt.Errorf("%w: octet string holds tag %#02x", ErrMalformed, segment.tag)
		}
	}
}

// element is the head of a BER element. If indefinite, body runs to the end of
// the input and the content ends at the first end-of-contents within.
type element struct {
	tag        byte
	indefinite bool
	body       []byte
}

func readElement(in []byte) (e element, rest []byte, err error) {
	if len(in) < 2 {
		return e, nil, fmt.Errorf("%w: truncated", ErrMalformed)
	}
	e.tag = in[0]
	if e.tag == 0 || e.tag&0x1F == 0x1F {
		return e, nil, fmt.Errorf("%w: unexpected tag %#02x", ErrMalformed, e.tag)
	}
	l, in := int(in[1]), in[2:]
	switch {
	case l < 0x80:
	case l == 0x80:
		if e.tag&tagConstructed == 0 {
			return e, nil, fmt.Errorf("%w: primitive of indefinite length", ErrMalformed)
		}
		e.indefinite, e.body = true, in
		return e, nil, nil
	default:
		octets := l & 0x7F
		if octets > 4 || octets > len(in) {
			return e, nil, fmt.Errorf("%w: length out of bounds", ErrMalformed)
		}
		l = 0
		for _, b := range in[:octets] {
			l = l<<8 | int(b)
		}
		in = in[octets:]
	}
	if l < 0 || l > len(in) {
		return e, nil, fmt.Errorf("%w: truncated", ErrMalformed)
	}
	e.body = in[:l]
	return e, in[l:], nil
}
