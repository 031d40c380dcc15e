package providers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"scripta/internal/cms"
)

// maxFile is the largest directory that is read, in bytes.
const maxFile = cms.MaxAttached

// Source is where the directory comes from.
type Source interface {
	// Fetch returns what the source has now, of at most maxFile bytes. It may
	// return [ErrUnchanged] if that is what the validators were given for.
	Fetch(ctx context.Context, last Validators) (*Content, error)
	// Signed says whether contents are signed LDIF files (.p7m), or bare LDIF from
	// a server that was authenticated.
	Signed() bool
	// String names the source to people, without secrets.
	String() string
}

// Validators tell a content of a source from an earlier one (RFC 9110 §8.8).
type Validators struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

// Content is what a source has.
type Content struct {
	Data []byte
	Validators
}

// ErrUnchanged says that the source has what it had.
var ErrUnchanged = errors.New("the directory is unchanged")

// errTooLarge says that a source has more than is read.
var errTooLarge = fmt.Errorf("the directory is larger than %d MiB", maxFile>>20)

// File is a signed LDIF file on this machine, put there by somebody else.
type File struct{ Path string }

// Fetch implements Source.
func (f File) Fetch(context.Context, Validators) (*Content, error) {
	in, err := os.Open(f.Path)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the directory: %w", err)
	}
	defer in.Close()
	data, err := readBounded(in)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the directory %s: %w", f.Path, err)
	}
	return &Content{Data: data}, nil
}

// Signed implements Source.
func (f File) Signed() bool { return true }

func (f File) String() string { return f.Path }

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errTooLarge
	}
	return data, err
}

// fetchTime bounds one attempt to get the directory.
const fetchTime = 5 * time.Minute

// HTTPS is a signed LDIF file on a server that asks for a client's certificate
// (RFC 6109 §5.6).
type HTTPS struct {
	URL string
	// TLS makes the client's side anew for each attempt, so that a certificate that
	// was renewed is used.
	TLS func() (*tls.Config, error)
}

// Fetch implements Source. Redirections are refused: nobody else than the server
// that was configured is asked.
func (h HTTPS) Fetch(ctx context.Context, last Validators) (*Content, error) {
	config, err := h.TLS()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("couldn't ask for the directory: %w", err)
	}
	if last.ETag != "" {
		req.Header.Set("If-None-Match", last.ETag)
	}
	if last.LastModified != "" {
		req.Header.Set("If-Modified-Since", last.LastModified)
	}
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, DisableCompression: true, DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("couldn't get the directory: %w", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && last != Validators{}:
		return nil, ErrUnchanged
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("couldn't get the directory: %s answers %s", req.URL.Redacted(), resp.Status)
	case resp.ContentLength > maxFile:
		return nil, errTooLarge
	}
	data, err := readBounded(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("couldn't get the directory: %w", err)
	}
	return &Content{data, Validators{bounded(resp.Header.Get("ETag")), bounded(resp.Header.Get("Last-Modified"))}}, nil
}

// bounded drops a header that is no reasonable validator.
func bounded(s string) string {
	if len(s) > 256 {
		return ""
	}
	return s
}

// Signed implements Source.
func (h HTTPS) Signed() bool { return true }

func (h HTTPS) String() string { return h.URL }
