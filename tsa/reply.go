package tsa

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"github.com/digitorus/timestamp"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"scripta/internal/cms"
)

// MaxReply is the largest reply or token, in bytes, that is read. Real ones have 2 to 8 KiB.
const MaxReply = 1 << 20

// tokenOf returns the token inside a TimeStampResp, or the bare token it was
// given, as DER. A refusal is a [RejectedError]; both kinds of failure come as
// a [CheckError].
func tokenOf(b []byte) ([]byte, error) {
	der, err := cms.DER(b, MaxReply)
	if err != nil {
		return nil, &CheckError{CheckFormat, err}
	}
	input := cryptobyte.String(der)
	var reply, info cryptobyte.String
	if !input.ReadASN1(&reply, cbasn1.SEQUENCE) {
		return nil, failed(CheckFormat, "neither a reply nor a token")
	}
	if reply.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER) {
		return der, nil // ContentInfo: a bare token
	}
	var status int
	if !reply.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1Integer(&status) {
		return nil, failed(CheckFormat, "neither a reply nor a token")
	}
	switch timestamp.Status(status) {
	case timestamp.Granted, timestamp.GrantedWithMods:
	default:
		return nil, &CheckError{CheckStatus, rejection(status, info)}
	}
	if reply.Empty() {
		return nil, &CheckError{CheckFormat, errors.New("granted, but there is no token")}
	}
	return reply, nil
}

// rejection reads the rest of a PKIStatusInfo, as far as it is readable.
func rejection(status int, info cryptobyte.String) *RejectedError {
	e := &RejectedError{Status: timestamp.Status(status), Failure: timestamp.UnknownFailureInfo}
	var texts cryptobyte.String
	var present bool
	if info.ReadOptionalASN1(&texts, &present, cbasn1.SEQUENCE) && present {
		var all []string
		for !texts.Empty() {
			var text cryptobyte.String
			if !texts.ReadASN1(&text, cbasn1.UTF8String) {
				break
			}
			all = append(all, string(text))
		}
		e.Text = excerpt(strings.Join(all, "; "))
	}
	var bits asn1.BitString
	if info.PeekASN1Tag(cbasn1.BIT_STRING) && info.ReadASN1BitString(&bits) {
		for _, f := range []timestamp.FailureInfo{
			timestamp.BadAlgorithm, timestamp.BadRequest, timestamp.BadDataFormat, timestamp.TimeNotAvailable,
			timestamp.UnacceptedPolicy, timestamp.UnacceptedExtension, timestamp.AddInfoNotAvailable, timestamp.SystemFailure,
		} {
			if bits.At(int(f)) == 1 {
				e.Failure = f
				break
			}
		}
	}
	return e
}

// grant encodes the TimeStampResp of a token.
func grant(token []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(timestamp.Granted)) })
		b.AddBytes(token)
	})
	return b.Bytes()
}

// refuse encodes the TimeStampResp of a rejection.
func refuse(failure timestamp.FailureInfo) ([]byte, error) {
	der, err := timestamp.CreateErrorResponse(timestamp.Rejection, failure)
	if err != nil {
		return nil, fmt.Errorf("tsa: encode a rejection: %w", err)
	}
	return der, nil
}
