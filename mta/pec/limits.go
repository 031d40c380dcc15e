package pec

import "errors"

// ErrHeaderTooLarge is returned when the header of a message is longer than Limits allows.
var ErrHeaderTooLarge = errors.New("pec: message header is too large")

// Limits bounds what the parsers keep in memory. All sizes are octets. A field that is zero or negative takes its value
// from DefaultLimits.
type Limits struct {
	// HeaderBytes bounds the header of a submitted message (ReadOriginal).
	HeaderBytes int
	// SignedHeaderBytes bounds the top-level header of a received PEC message (ReadSigned). It is larger than
	// HeaderBytes because an envelope inherits fields of the original's header and adds its own.
	SignedHeaderBytes int
	// PartHeaderBytes bounds the header of one MIME part.
	PartHeaderBytes int
	// Parts bounds how many parts the signed entity has.
	Parts int
	// CertificationBytes bounds daticert.xml, both as transferred and as decoded.
	CertificationBytes int
	// SignatureBytes bounds smime.p7s as transferred.
	SignatureBytes int
}

// DefaultLimits returns the limits of a provider in production: far above what honest messages need, far below what
// would hurt.
func DefaultLimits() Limits {
	return Limits{
		HeaderBytes:        128 << 10,
		SignedHeaderBytes:  256 << 10,
		PartHeaderBytes:    16 << 10,
		Parts:              64,
		CertificationBytes: 3 << 20,
		SignatureBytes:     512 << 10,
	}
}

// orDefault returns l with every unset field taken from DefaultLimits.
func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	set(&l.HeaderBytes, d.HeaderBytes)
	set(&l.SignedHeaderBytes, d.SignedHeaderBytes)
	set(&l.PartHeaderBytes, d.PartHeaderBytes)
	set(&l.Parts, d.Parts)
	set(&l.CertificationBytes, d.CertificationBytes)
	set(&l.SignatureBytes, d.SignatureBytes)
	return l
}
