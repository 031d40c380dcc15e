package tsa

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/digitorus/timestamp"
)

// Media types of RFC 3161 §3.4.
const (
	typeQuery = "application/timestamp-query"
	typeReply = "application/timestamp-reply"
)

// defaultTimeout bounds a request where the caller brings no http.Client of his own.
const defaultTimeout = 30 * time.Second

// ErrPlainPassword is a user and password that would travel without TLS.
var ErrPlainPassword = errors.New("tsa: user and password are set, but the authority's address is not https")

// Client asks one authority for time stamps over HTTP. Its fields are not
// changed while it is in use; it is then safe for concurrent use.
type Client struct {
	// URL is the authority's address. With a user it must be https, or on this machine.
	URL string
	// User and Password are sent by HTTP Basic authentication if User is not empty.
	User, Password string
	// HTTP sends the requests; nil is a client that gives up after 30 s and
	// follows no redirect.
	HTTP *http.Client
	// Policy is the policy asked for; nil leaves it to the authority.
	Policy asn1.ObjectIdentifier
}

// Response is what was sent and what came back: all three belong into evidence.
type Response struct {
	Request []byte // TimeStampReq (.tsq), DER
	Reply   []byte // TimeStampResp (.tsr), as received
	Token   []byte // the token in it (.tst), DER
}

// NewNonce returns a random 64-bit nonce for one request.
func NewNonce() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, fmt.Errorf("tsa: make a nonce: %w", err)
	}
	return n, nil
}

// EncodeRequest is what Stamp sends: the DER of a TimeStampReq (RFC 3161 §2.4.1).
func EncodeRequest(digest [32]byte, nonce *big.Int, policy asn1.ObjectIdentifier) ([]byte, error) {
	// The package's own CreateRequest, which hashes a reader, loses data and can loop for ever.
	query, err := (&timestamp.Request{
		HashAlgorithm: crypto.SHA256, HashedMessage: digest[:], Certificates: true, TSAPolicyOID: policy, Nonce: nonce,
	}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("tsa: encode the request: %w", err)
	}
	return query, nil
}

// Stamp asks for a time stamp over the SHA-256 digest, with the authority's
// certificate in it. A nil nonce sends none.
//
// The token is not verified: see [Verify]. Errors: [RejectedError] if the
// authority refuses, [HTTPError] if it does not answer with a time-stamp reply,
// [CheckError] if the reply is malformed or above [MaxReply] bytes,
// [ErrPlainPassword], and those of net/http.
func (c *Client) Stamp(ctx context.Context, digest [32]byte, nonce *big.Int) (*Response, error) {
	query, err := EncodeRequest(digest, nonce, c.Policy)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(query))
	if err != nil {
		return nil, fmt.Errorf("tsa: address of the authority: %w", err)
	}
	req.Header.Set("Content-Type", typeQuery)
	req.Header.Set("Accept", typeReply)
	if c.User != "" {
		if !private(req.URL) {
			return nil, ErrPlainPassword
		}
		req.SetBasicAuth(c.User, c.Password)
	}
	reply, err := c.do(req)
	if err != nil {
		return nil, err
	}
	token, err := tokenOf(reply)
	if rejected, ok := errors.AsType[*RejectedError](err); ok {
		return nil, rejected
	}
	if err != nil {
		return nil, err
	}
	return &Response{Request: query, Reply: reply, Token: token}, nil
}

func (c *Client) do(req *http.Request) ([]byte, error) {
	client := c.HTTP
	if client == nil {
		client = &http.Client{
			Timeout:       defaultTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("tsa: ask the authority: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxReply+1))
	if err != nil {
		return nil, fmt.Errorf("tsa: read the authority's reply: %w", err)
	}
	typ := resp.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(typ)
	if resp.StatusCode != http.StatusOK || err != nil || media != typeReply {
		return nil, &HTTPError{Status: resp.StatusCode, ContentType: excerpt(typ), Body: excerpt(string(body))}
	}
	return body, nil
}

// private reports whether a password may travel to u.
func private(u *url.URL) bool {
	if u.Scheme == "https" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
}
