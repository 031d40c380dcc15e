package tsa

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"mime"
	"net/http"
	"time"

	"github.com/digitorus/timestamp"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"scripta/internal/cms"
)

// maxQuery is the largest request an Authority reads, in bytes; usual ones have under 100.
const maxQuery = 16 << 10

// AuthorityConfig is what an Authority is made of.
type AuthorityConfig struct {
	// Key signs the tokens: RSA of at least 2048 bits, or ECDSA from P-256.
	Key crypto.Signer
	// Certificate is the key's, for time stamps only (RFC 3161 §2.3). Its subject
	// is in every token and should say that this is not a qualified service.
	Certificate *x509.Certificate
	// Chain follows the certificate in the tokens.
	Chain []*x509.Certificate
	// Policy is the policy that tokens are issued under.
	Policy asn1.ObjectIdentifier
	// Accuracy is stated in the tokens; 0 is one second. It must cover the
	// clock's error, and the fraction of a second that a token's time leaves out.
	Accuracy time.Duration
	// Now tells the time, or why it is not known well enough to stamp.
	Now func() (time.Time, error)
	// Log hears of requests that were not granted; nil is silence.
	Log *slog.Logger
}

// Authority is a time-stamping authority for quickstarts and tests. It is not a
// qualified one, and its tokens have no legal value: they never carry the
// statement of EN 319 422 §9.1, whatever the configuration.
//
// It answers RFC 3161 requests by HTTP POST. Imprints must be SHA-256, SHA-384
// or SHA-512; serial numbers are 160 random bits; times are whole seconds of
// UTC. It keeps no state and is safe for concurrent use.
type Authority struct {
	cfg    AuthorityConfig
	signer *cms.Signer
}

// NewAuthority checks that the parts fit together: the key, its certificate's
// use and its chain.
func NewAuthority(cfg AuthorityConfig) (*Authority, error) {
	if cfg.Now == nil || len(cfg.Policy) < 2 || cfg.Accuracy < 0 {
		return nil, errors.New("tsa: an authority needs a clock, a policy and an accuracy")
	}
	if cfg.Accuracy == 0 {
		cfg.Accuracy = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	signer, err := cms.NewSigner(cfg.Key, cfg.Certificate, cfg.Chain...)
	if err != nil {
		return nil, fmt.Errorf("tsa: authority: %w", err)
	}
	if err := checkUsage(cfg.Certificate); err != nil {
		return nil, err
	}
	return &Authority{cfg: cfg, signer: signer}, nil
}

// ServeHTTP answers one request (RFC 3161 §3.4). A refusal is a time-stamp
// reply, too, with HTTP status 200; other statuses mean that the request was
// none.
func (a *Authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST a time-stamp request", http.StatusMethodNotAllowed)
		return
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != typeQuery {
		http.Error(w, "the content type must be "+typeQuery, http.StatusUnsupportedMediaType)
		return
	}
	query, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuery))
	if err != nil {
		status := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the request could not be read", status)
		return
	}
	reply, err := a.Respond(query)
	if err != nil {
		a.cfg.Log.WarnContext(r.Context(), "time stamp refused", "reason", err)
	}
	w.Header().Set("Content-Type", typeReply)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(reply) // the client is gone if this fails
}

// Respond answers a TimeStampReq with a TimeStampResp. The error, if any, says
// why the reply is a rejection; there is a reply in any case.
func (a *Authority) Respond(query []byte) ([]byte, error) {
	token, failure, err := a.stamp(query)
	if err == nil {
		var reply []byte
		if reply, err = grant(token); err == nil {
			return reply, nil
		}
		failure = timestamp.SystemFailure
	}
	reply, encodeErr := refuse(failure)
	return reply, errors.Join(err, encodeErr)
}

// stamp returns a token, or what to tell the client and why.
func (a *Authority) stamp(query []byte) ([]byte, timestamp.FailureInfo, error) {
	req, failure, err := parseRequest(query)
	if err != nil {
		return nil, failure, err
	}
	if req.policy != nil && !req.policy.Equal(a.cfg.Policy) {
		return nil, timestamp.UnacceptedPolicy, fmt.Errorf("policy %v asked for", req.policy)
	}
	now, err := a.cfg.Now()
	if err != nil {
		return nil, timestamp.TimeNotAvailable, err
	}
	now = now.UTC().Truncate(time.Second)
	if now.Before(a.cfg.Certificate.NotBefore) || now.After(a.cfg.Certificate.NotAfter) {
		return nil, timestamp.SystemFailure, fmt.Errorf("the authority's certificate is not valid at %s: renew it, or set the clock", now.Format(time.RFC3339))
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 160))
	if err != nil {
		return nil, timestamp.SystemFailure, fmt.Errorf("make a serial number: %w", err)
	}
	info, err := (&tstInfo{
		policy: a.cfg.Policy, imprint: req.imprint, serial: serial, time: now,
		accuracy: &a.cfg.Accuracy, nonce: req.nonce, tsa: a.cfg.Certificate.RawSubject,
	}).marshal()
	if err != nil {
		return nil, timestamp.SystemFailure, fmt.Errorf("encode TSTInfo: %w", err)
	}
	token, err := a.signer.Encapsulate(oidTSTInfo(), info, now, req.certificates)
	if err != nil {
		return nil, timestamp.SystemFailure, err
	}
	return token, 0, nil
}

// request is a TimeStampReq (RFC 3161 §2.4.1).
type request struct {
	imprint      imprint
	policy       asn1.ObjectIdentifier // nil if any will do
	nonce        *big.Int              // nil if absent
	certificates bool                  // the token shall carry them
}

// parseRequest reads a request, or says what is wrong with it.
func parseRequest(der []byte) (*request, timestamp.FailureInfo, error) {
	bad := errors.New("request malformed")
	input := cryptobyte.String(der)
	var body cryptobyte.String
	var version int
	var r request
	if !input.ReadASN1(&body, cbasn1.SEQUENCE) || !input.Empty() || !body.ReadASN1Integer(&version) {
		return nil, timestamp.BadDataFormat, bad
	}
	if version != 1 {
		return nil, timestamp.BadRequest, fmt.Errorf("request of version %d", version)
	}
	if !readImprint(&body, &r.imprint) {
		return nil, timestamp.BadDataFormat, bad
	}
	if body.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER) && !body.ReadASN1ObjectIdentifier(&r.policy) {
		return nil, timestamp.BadDataFormat, bad
	}
	if body.PeekASN1Tag(cbasn1.INTEGER) {
		r.nonce = new(big.Int)
		if !body.ReadASN1Integer(r.nonce) {
			return nil, timestamp.BadDataFormat, bad
		}
	}
	if body.PeekASN1Tag(cbasn1.BOOLEAN) && !body.ReadASN1Boolean(&r.certificates) {
		return nil, timestamp.BadDataFormat, bad
	}
	hasExtensions := body.PeekASN1Tag(context0)
	if !body.SkipOptionalASN1(context0) || !body.Empty() {
		return nil, timestamp.BadDataFormat, bad
	}
	switch {
	case r.imprint.hash == 0:
		return nil, timestamp.BadAlgorithm, errors.New("imprint of a hash that is not accepted")
	case len(r.imprint.digest) != r.imprint.hash.Size():
		return nil, timestamp.BadDataFormat, fmt.Errorf("imprint of %d bytes for %v", len(r.imprint.digest), r.imprint.hash)
	case hasExtensions:
		return nil, timestamp.UnacceptedExtension, errors.New("request with extensions")
	}
	return &r, 0, nil
}
