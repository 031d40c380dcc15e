package cms

import "errors"

// What a verification can find wrong. Every error of Verify and VerifyAttached wraps
// one of these, with the detail in the text, but for a Policy without a time.
var (
	// ErrTooLarge is an input above the limit of the function that was called.
	ErrTooLarge = errors.New("cms: input too large")
	// ErrMalformed is an input that is not the ASN.1 structure it should be.
	ErrMalformed = errors.New("cms: malformed")
	// ErrTrailing is an input that goes on after the end of the structure.
	ErrTrailing = errors.New("cms: trailing bytes")
	// ErrNotSignedData is well-formed CMS of another content type.
	ErrNotSignedData = errors.New("cms: not SignedData")
	// ErrNotDetached is a signature that carries its content where it must not.
	ErrNotDetached = errors.New("cms: content is inside the signature")
	// ErrNoContent is a signature without content where it must carry it.
	ErrNoContent = errors.New("cms: no content inside the signature")
	// ErrSignerCount is a SignedData with no signer, or with more than one.
	ErrSignerCount = errors.New("cms: not exactly one signer")
	// ErrSignerID is a signer named by key identifier and not by issuer and serial.
	ErrSignerID = errors.New("cms: signer is not named by issuer and serial number")
	// ErrNoCertificate is a signer whose certificate is not at hand.
	ErrNoCertificate = errors.New("cms: no certificate for the signer")
	// ErrNoSignedAttributes is a signature made over the bare content.
	ErrNoSignedAttributes = errors.New("cms: no signed attributes")
	// ErrAttribute is a signed attribute that is missing, repeated or malformed.
	ErrAttribute = errors.New("cms: bad signed attribute")
	// ErrContentType is a content type, or a content-type attribute, that is not the expected one.
	ErrContentType = errors.New("cms: wrong content type")
	// ErrNoDigest is a hash under which the caller has no digest of the content.
	ErrNoDigest = errors.New("cms: no digest of the content under this hash")
	// ErrMessageDigest is a content that is not the one that was signed.
	ErrMessageDigest = errors.New("cms: content does not match the signed digest")
	// ErrSigningCertificate is a signing-certificate attribute that names another certificate (RFC 5035 §3).
	ErrSigningCertificate = errors.New("cms: signing-certificate attribute names another certificate")
	// ErrNoSigningCertificate is the absence of that attribute where the policy requires it.
	ErrNoSigningCertificate = errors.New("cms: no signing-certificate attribute")
	// ErrAlgorithm is an algorithm this package does not know, or a combination it refuses.
	ErrAlgorithm = errors.New("cms: unsupported algorithm")
	// ErrWeakDigest is SHA-1 where the policy does not allow it.
	ErrWeakDigest = errors.New("cms: SHA-1 is not allowed")
	// ErrWeakKey is an RSA key under 2048 bits, or a curve under 256 bits, in the signer or its chain.
	ErrWeakKey = errors.New("cms: key too weak")
	// ErrSignature is a signature that does not verify.
	ErrSignature = errors.New("cms: signature does not verify")
	// ErrExpired is a signer's certificate that is not valid at Policy.At: expired, or not valid yet.
	ErrExpired = errors.New("cms: certificate not valid at this time")
	// ErrUsage is a certificate issued for another use.
	ErrUsage = errors.New("cms: certificate not issued for this use")
	// ErrUntrusted is any other failure to reach one of the trusted roots, an expired issuer included.
	ErrUntrusted = errors.New("cms: certificate does not lead to a trusted root")
)
