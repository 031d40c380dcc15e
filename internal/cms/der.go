package cms

import (
	"crypto"
	"encoding/asn1"
)

// Tags that this package writes.
const (
	tagInteger     = 0x02
	tagOctets      = 0x04
	tagOID         = 0x06
	tagSequence    = 0x30
	tagSet         = 0x31
	tagContext0    = 0xA0 // [0], constructed
	tagConstructed = 0x20 // bit of a tag
	tagOctetsBER   = tagOctets | tagConstructed
)

// headerLen returns the length of the DER tag and length of n content bytes.
func headerLen(n int) int {
	l := 2
	if n >= 0x80 {
		for ; n > 0; n >>= 8 {
			l++
		}
	}
	return l
}

// tlvLen returns the length of an element with n content bytes.
func tlvLen(n int) int { return headerLen(n) + n }

// appendHeader appends the tag and DER length of n content bytes.
func appendHeader(dst []byte, tag byte, n int) []byte {
	dst = append(dst, tag)
	if n < 0x80 {
		return append(dst, byte(n))
	}
	l := headerLen(n) - 2
	dst = append(dst, 0x80|byte(l))
	for l--; l >= 0; l-- {
		dst = append(dst, byte(n>>(8*l)))
	}
	return dst
}

// tlv builds one element around the parts.
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := appendHeader(make([]byte, 0, tlvLen(n)), tag, n)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// oid is an object identifier as its DER content bytes, which makes it a
// constant that can be compared and copied without encoding anything.
type oid string

const (
	oidData               oid = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"         // 1.2.840.113549.1.7.1
	oidSignedData         oid = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"         // 1.2.840.113549.1.7.2
	oidContentType        oid = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03"         // 1.2.840.113549.1.9.3
	oidMessageDigest      oid = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04"         // 1.2.840.113549.1.9.4
	oidSigningTime        oid = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x05"         // 1.2.840.113549.1.9.5
	oidSigningCertificate oid = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x02\x0c" // 1.2.840.113549.1.9.16.2.12
	oidSigningCertV2      oid = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x02\x2f" // 1.2.840.113549.1.9.16.2.47
	oidRSA                oid = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"         // 1.2.840.113549.1.1.1
	oidMGF1               oid = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08"         // 1.2.840.113549.1.1.8
	oidPSS                oid = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a"         // 1.2.840.113549.1.1.10
	oidSHA1               oid = "\x2b\x0e\x03\x02\x1a"                         // 1.3.14.3.2.26
	oidSHA256             oid = "\x60\x86\x48\x01\x65\x03\x04\x02\x01"         // 2.16.840.1.101.3.4.2.1
	oidSHA384             oid = "\x60\x86\x48\x01\x65\x03\x04\x02\x02"         // 2.16.840.1.101.3.4.2.2
	oidSHA512             oid = "\x60\x86\x48\x01\x65\x03\x04\x02\x03"         // 2.16.840.1.101.3.4.2.3
	oidECDSASHA256        oid = "\x2a\x86\x48\xce\x3d\x04\x03\x02"             // 1.2.840.10045.4.3.2
)

func (o oid) der() []byte { return tlv(tagOID, []byte(o)) }

func (o oid) String() string {
	var id asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(o.der(), &id); err != nil {
		return "invalid object identifier"
	}
	return id.String()
}

// idData returns id-data as encoding/asn1 has it.
func idData() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1} }

// hashOf returns the hash that a digest algorithm identifier names, or 0.
func hashOf(o oid) crypto.Hash {
	switch o {
	case oidSHA1:
		return crypto.SHA1
	case oidSHA256:
		return crypto.SHA256
	case oidSHA384:
		return crypto.SHA384
	case oidSHA512:
		return crypto.SHA512
	}
	return 0
}
