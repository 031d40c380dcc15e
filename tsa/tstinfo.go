package tsa

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	context0 = cbasn1.Tag(0).ContextSpecific().Constructed()
	context1 = cbasn1.Tag(1).ContextSpecific().Constructed()
	context4 = cbasn1.Tag(4).ContextSpecific().Constructed()
	millis   = cbasn1.Tag(0).ContextSpecific()
	micros   = cbasn1.Tag(1).ContextSpecific()
)

func oidTSTInfo() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
}

const (
	oidQCStatements = "1.3.6.1.5.5.7.1.3" // RFC 3739 §3.2.6
	oidQualifiedTST = "0.4.0.19422.1.1"   // esi4-qtstStatement-1, EN 319 422 §9.1
)

// errLeapSecond is a time that Go cannot express.
var errLeapSecond = errors.New("stamped in a leap second, which cannot be represented: ask for another stamp a second later")

// imprint is a MessageImprint (RFC 3161 §2.4.1): a digest and its hash, which is
// 0 if unknown. A token repeats the request's imprint, so its bytes are kept.
type imprint struct {
	raw    []byte
	hash   crypto.Hash
	digest []byte
}

func readImprint(s *cryptobyte.String, out *imprint) bool {
	var raw, seq, alg, digest cryptobyte.String
	var id asn1.ObjectIdentifier
	if !s.ReadASN1Element(&raw, cbasn1.SEQUENCE) {
		return false
	}
	out.raw = raw
	if !raw.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&id) ||
		!alg.SkipOptionalASN1(cbasn1.NULL) || !alg.Empty() || !seq.ReadASN1(&digest, cbasn1.OCTET_STRING) || !seq.Empty() {
		return false
	}
	out.digest = digest
	switch id.String() {
	case "2.16.840.1.101.3.4.2.1":
		out.hash = crypto.SHA256
	case "2.16.840.1.101.3.4.2.2":
		out.hash = crypto.SHA384
	case "2.16.840.1.101.3.4.2.3":
		out.hash = crypto.SHA512
	}
	return true
}

// tstInfo is a TSTInfo (RFC 3161 §2.4.2).
type tstInfo struct {
	policy    asn1.ObjectIdentifier
	imprint   imprint
	serial    *big.Int
	time      time.Time
	accuracy  *time.Duration // nil if not stated
	ordering  bool
	nonce     *big.Int // nil if absent
	tsa       []byte   // encoded Name of the authority, nil if absent; not kept by parseTSTInfo
	qualified bool     // qcStatements with esi4-qtstStatement-1; never written
}

// marshal encodes the TSTInfo; fractions of a second are dropped.
func (t *tstInfo) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1ObjectIdentifier(t.policy)
		b.AddBytes(t.imprint.raw)
		b.AddASN1BigInt(t.serial)
		b.AddASN1GeneralizedTime(t.time.UTC())
		if t.accuracy != nil {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				us := (*t.accuracy + time.Microsecond - 1).Microseconds() // never finer than it is
				if s := us / 1e6; s > 0 {
					b.AddASN1Int64(s)
				}
				if ms := us / 1000 % 1000; ms > 0 {
					b.AddASN1Int64WithTag(ms, millis)
				}
				if us %= 1000; us > 0 {
					b.AddASN1Int64WithTag(us, micros)
				}
			})
		}
		if t.ordering {
			b.AddASN1Boolean(true)
		}
		if t.nonce != nil {
			b.AddASN1BigInt(t.nonce)
		}
		if t.tsa != nil {
			b.AddASN1(context0, func(b *cryptobyte.Builder) {
				b.AddASN1(context4, func(b *cryptobyte.Builder) { b.AddBytes(t.tsa) })
			})
		}
	})
	return b.Bytes()
}

// parseTSTInfo reads a TSTInfo to its last byte.
func parseTSTInfo(der []byte) (*tstInfo, error) {
	t := &tstInfo{serial: new(big.Int)}
	input := cryptobyte.String(der)
	var body, field cryptobyte.String
	var present bool
	var version int
	if !input.ReadASN1(&body, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, errors.New("TSTInfo is not one DER sequence")
	}
	if !body.ReadASN1Integer(&version) || version != 1 {
		return nil, errors.New("TSTInfo is not of version 1")
	}
	if !body.ReadASN1ObjectIdentifier(&t.policy) || !readImprint(&body, &t.imprint) || !body.ReadASN1Integer(t.serial) {
		return nil, errors.New("policy, imprint or serial number malformed")
	}
	if !body.ReadASN1(&field, cbasn1.GeneralizedTime) {
		return nil, errors.New("no genTime")
	}
	var err error
	if t.time, err = parseGenTime(string(field)); err != nil {
		return nil, err
	}
	if body.PeekASN1Tag(cbasn1.SEQUENCE) {
		if t.accuracy, err = readAccuracy(&body); err != nil {
			return nil, err
		}
	}
	if body.PeekASN1Tag(cbasn1.BOOLEAN) && !body.ReadASN1Boolean(&t.ordering) {
		return nil, errors.New("ordering malformed")
	}
	if body.PeekASN1Tag(cbasn1.INTEGER) {
		t.nonce = new(big.Int)
		if !body.ReadASN1Integer(t.nonce) {
			return nil, errors.New("nonce malformed")
		}
	}
	if !body.SkipOptionalASN1(context0) || !body.ReadOptionalASN1(&field, &present, context1) || !body.Empty() {
		return nil, errors.New("TSTInfo malformed after the nonce")
	}
	if present {
		if t.qualified, err = readExtensions(field); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// parseGenTime reads YYYYMMDDhhmmss[.fraction]Z, the only form RFC 3161 allows.
func parseGenTime(s string) (time.Time, error) {
	t, err := time.Parse("20060102150405Z", s)
	if err == nil && !strings.Contains(s, ",") { // which time.Parse takes for a decimal point
		return t, nil
	}
	if len(s) >= 15 && s[12:14] == "60" {
		return t, errLeapSecond
	}
	return t, fmt.Errorf("genTime %q malformed", s)
}

func readAccuracy(s *cryptobyte.String) (*time.Duration, error) {
	var seq cryptobyte.String
	var seconds, ms, us int64
	ok := s.ReadASN1(&seq, cbasn1.SEQUENCE)
	if ok && seq.PeekASN1Tag(cbasn1.INTEGER) {
		ok = seq.ReadASN1Integer(&seconds)
	}
	if ok && seq.PeekASN1Tag(millis) {
		ok = seq.ReadASN1Int64WithTag(&ms, millis)
	}
	if ok && seq.PeekASN1Tag(micros) {
		ok = seq.ReadASN1Int64WithTag(&us, micros)
	}
	if !ok || !seq.Empty() || seconds < 0 || seconds > 1e9 || ms < 0 || ms > 999 || us < 0 || us > 999 {
		return nil, errors.New("accuracy malformed")
	}
	d := time.Duration(seconds)*time.Second + time.Duration(ms)*time.Millisecond + time.Duration(us)*time.Microsecond
	return &d, nil
}

// readExtensions reports whether one of the extensions states that the token
// is qualified. A critical extension that is not understood spoils the token.
func readExtensions(s cryptobyte.String) (qualified bool, err error) {
	for !s.Empty() {
		var ext, value cryptobyte.String
		var id asn1.ObjectIdentifier
		critical := false
		if !s.ReadASN1(&ext, cbasn1.SEQUENCE) || !ext.ReadASN1ObjectIdentifier(&id) ||
			(ext.PeekASN1Tag(cbasn1.BOOLEAN) && !ext.ReadASN1Boolean(&critical)) ||
			!ext.ReadASN1(&value, cbasn1.OCTET_STRING) || !ext.Empty() {
			return false, errors.New("extensions malformed")
		}
		if id.String() != oidQCStatements {
			if critical {
				return false, fmt.Errorf("critical extension %v is unknown", id)
			}
			continue
		}
		var statements cryptobyte.String
		if !value.ReadASN1(&statements, cbasn1.SEQUENCE) || !value.Empty() {
			return false, errors.New("qcStatements malformed")
		}
		for !statements.Empty() {
			var statement cryptobyte.String
			var id asn1.ObjectIdentifier
			if !statements.ReadASN1(&statement, cbasn1.SEQUENCE) || !statement.ReadASN1ObjectIdentifier(&id) {
				return false, errors.New("qcStatements malformed")
			}
			qualified = qualified || id.String() == oidQualifiedTST
		}
	}
	return qualified, nil
}
