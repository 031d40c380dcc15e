package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Limits on keys. Above maxRSABits a verification costs milliseconds, which a
// stranger could make us spend.
const (
	minRSABits   = 2048
	maxRSABits   = 8192
	minCurveBits = 256
)

// checkKey refuses keys that are weak, absurd or of a kind that is not used here.
func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		switch n := k.N.BitLen(); {
		case n < minRSABits:
			return fmt.Errorf("%w: RSA of %d bits", ErrWeakKey, n)
		case n > maxRSABits:
			return fmt.Errorf("%w: RSA of %d bits", ErrAlgorithm, n)
		}
	case *ecdsa.PublicKey:
		if n := k.Curve.Params().BitSize; n < minCurveBits {
			return fmt.Errorf("%w: curve of %d bits", ErrWeakKey, n)
		}
	default:
		return fmt.Errorf("%w: key %T", ErrAlgorithm, key)
	}
	return nil
}

// scheme is a signature algorithm as its identifier names it; hash is 0 where
// the identifier leaves it to the digest algorithm.
type scheme struct {
	hash crypto.Hash
	kind schemeKind
}

type schemeKind int

const (
	pkcs1v15 schemeKind = iota + 1
	pss
	ecdsaDER
)

func schemeOf(o oid) scheme {
	switch o {
	case oidRSA:
		return scheme{0, pkcs1v15}
	case oidPSS:
		return scheme{0, pss}
	case "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05": // sha1WithRSAEncryption
		return scheme{crypto.SHA1, pkcs1v15}
	case "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b": // sha256WithRSAEncryption
		return scheme{crypto.SHA256, pkcs1v15}
	case "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c": // sha384WithRSAEncryption
		return scheme{crypto.SHA384, pkcs1v15}
	case "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d": // sha512WithRSAEncryption
		return scheme{crypto.SHA512, pkcs1v15}
	case "\x2a\x86\x48\xce\x3d\x04\x01": // ecdsa-with-SHA1
		return scheme{crypto.SHA1, ecdsaDER}
	case oidECDSASHA256:
		return scheme{crypto.SHA256, ecdsaDER}
	case "\x2a\x86\x48\xce\x3d\x04\x03\x03": // ecdsa-with-SHA384
		return scheme{crypto.SHA384, ecdsaDER}
	case "\x2a\x86\x48\xce\x3d\x04\x03\x04": // ecdsa-with-SHA512
		return scheme{crypto.SHA512, ecdsaDER}
	}
	return scheme{}
}

// verifyAttributes checks the signature over the attributes. The signature's
// hash must be that of the content (RFC 8933 §3): two hashes would let a
// signer's weaker one decide.
func verifyAttributes(cert *x509.Certificate, si *signerInfo, hash crypto.Hash) error {
	s := schemeOf(si.algorithm.oid)
	if s.kind == 0 || (s.hash != 0 && s.hash != hash) {
		return fmt.Errorf("%w: signature %v with digest %v", ErrAlgorithm, si.algorithm.oid, hash)
	}
	var check func(digest []byte) bool
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		switch s.kind {
		case pkcs1v15:
			check = func(digest []byte) bool { return rsa.VerifyPKCS1v15(key, hash, digest, si.signature) == nil }
		case pss:
			salt, err := pssSalt(si.algorithm.parameters, hash)
			if err != nil {
				return err
			}
			opts := &rsa.PSSOptions{SaltLength: salt, Hash: hash}
			check = func(digest []byte) bool { return rsa.VerifyPSS(key, hash, digest, si.signature, opts) == nil }
		}
	case *ecdsa.PublicKey:
		if s.kind == ecdsaDER {
			check = func(digest []byte) bool { return ecdsa.VerifyASN1(key, digest, si.signature) }
		}
	}
	if check == nil {
		return fmt.Errorf("%w: signature %v with a key %T", ErrAlgorithm, si.algorithm.oid, cert.PublicKey)
	}
	digest := func(set []byte) []byte {
		h := hash.New()
		h.Write(appendHeader(nil, tagSet, len(set)))
		h.Write(set)
		return h.Sum(nil)
	}
	if check(digest(si.attributes)) {
		return nil
	}
	// Some signers hash the set in DER order and send it in another.
	if sorted := sortSet(si.attributes); sorted != nil && check(digest(sorted)) {
		return nil
	}
	return ErrSignature
}

// pssSalt reads RSASSA-PSS-params (RFC 4055 §3.1) and returns the length of the
// salt. Hash and mask hash must be that of the content (RFC 8933 §3, RFC 4056 §3).
func pssSalt(params cryptobyte.String, hash crypto.Hash) (int, error) {
	bad := fmt.Errorf("%w: RSASSA-PSS parameters malformed", ErrAlgorithm)
	var seq, field cryptobyte.String
	var present bool
	if !params.ReadASN1(&seq, cbasn1.SEQUENCE) || !params.Empty() {
		return 0, bad
	}
	// Every field defaults to what goes with SHA-1.
	hashAlg, maskHash := algorithm{oid: oidSHA1}, algorithm{oid: oidSHA1}
	salt, trailer := 20, 1
	if !seq.ReadOptionalASN1(&field, &present, context0) || (present && (!readAlgorithm(&field, &hashAlg) || !field.Empty())) {
		return 0, bad
	}
	if !seq.ReadOptionalASN1(&field, &present, context1) {
		return 0, bad
	}
	if present {
		var mask algorithm
		if !readAlgorithm(&field, &mask) || !field.Empty() || mask.oid != oidMGF1 ||
			!readAlgorithm(&mask.parameters, &maskHash) || !mask.parameters.Empty() {
			return 0, bad
		}
	}
	if !seq.ReadOptionalASN1(&field, &present, context2) || (present && (!field.ReadASN1Integer(&salt) || !field.Empty())) {
		return 0, bad
	}
	if !seq.ReadOptionalASN1(&field, &present, context3) || (present && (!field.ReadASN1Integer(&trailer) || !field.Empty())) || !seq.Empty() {
		return 0, bad
	}
	if hashOf(hashAlg.oid) != hash || hashOf(maskHash.oid) != hash || salt < 0 || salt > maxRSABits/8 || trailer != 1 {
		return 0, fmt.Errorf("%w: RSASSA-PSS with hash %v, mask hash %v, salt of %d bytes", ErrAlgorithm, hashAlg.oid, maskHash.oid, salt)
	}
	return salt, nil
}
