package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/merkle/checkpoint"
)

var (
	// ErrFork says that the witness cosigned a history of this log that the
	// checkpoint does not continue.
	ErrFork = errors.New("witness: it cosigned another history of this log")
	// ErrAhead says that the witness cosigned a larger tree than this: the log
	// was rolled back, or someone else has its key.
	ErrAhead = errors.New("witness: it cosigned a later checkpoint than the log has")
	// ErrAnswer is any other refusal, or an answer without a good cosignature.
	ErrAnswer = errors.New("witness: did not cosign")
)

// maxAnswer bounds the bytes that are read of an answer.
const maxAnswer = 64 << 10

// askTime bounds the asking of one witness about one checkpoint.
const askTime = 10 * time.Second

// Consistency proves that a log's tree of size1 is a prefix of that of size2.
type Consistency func(ctx context.Context, size1, size2 uint64) ([][32]byte, error)

// Client asks one witness. It is not for concurrent use.
type Client struct {
	URL      string        // the prefix, without /add-checkpoint
	Verifier note.Verifier // of the witness
	HTTP     *http.Client  // http.DefaultClient if nil

	size uint64 // what the witness cosigned last, as far as is known
}

// Cosign asks for the cosignature of a checkpoint and returns its line, verified.
// The errors are ErrFork, ErrAhead and ErrAnswer, besides those of the proof and
// of the network.
func (c *Client) Cosign(ctx context.Context, cp *checkpoint.Signed, prove Consistency) (line []byte, err error) {
	from := c.size
	if from > cp.Size {
		from = 0 // ask what the witness has, rather than trust this memory
	}
	// The second try has the size that the witness told; a third one is for a
	// witness that someone else asked in between.
	for range 3 {
		proof, err := prove(ctx, from, cp.Size)
		if err != nil {
			return nil, err
		}
		status, body, err := c.post(ctx, (&Request{Old: from, Proof: proof, Note: cp.Stamped()}).Bytes())
		if err != nil {
			return nil, err
		}
		switch status {
		case http.StatusOK:
			if line, err = c.verified(cp, body); err == nil {
				c.size = cp.Size
			}
			return line, err
		case http.StatusUnprocessableEntity:
			return nil, fmt.Errorf("%w: %s refuses the proof from %d to %d leaves", ErrFork, c.Verifier.Name(), from, cp.Size)
		case http.StatusConflict:
		default:
			return nil, fmt.Errorf("%w: %s answers %d %.200q", ErrAnswer, c.Verifier.Name(), status, body)
		}
		told, err := parseSize(strings.TrimSuffix(string(body), "\n"))
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: %s answers 409 without a size", ErrAnswer, c.Verifier.Name())
		case told > cp.Size:
			return nil, fmt.Errorf("%w: %s has %d leaves, the checkpoint %d", ErrAhead, c.Verifier.Name(), told, cp.Size)
		case told == from:
			return nil, fmt.Errorf("%w: %s has another root of %d leaves", ErrFork, c.Verifier.Name(), told)
		}
		from = told
	}
	return nil, fmt.Errorf("%w: %s changes what it has", ErrAnswer, c.Verifier.Name())
}

func (c *Client) post(ctx context.Context, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+"/add-checkpoint", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	return c.do(req)
}

func (c *Client) do(req *http.Request) (int, []byte, error) {
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("couldn't ask the witness %s: %w", c.Verifier.Name(), err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, b, err
}

// verified takes the witness's own line out of an answer.
func (c *Client) verified(cp *checkpoint.Signed, lines []byte) ([]byte, error) {
	n, err := note.Open(append([]byte(cp.Text()+"\n"), lines...), note.VerifierList(c.Verifier))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrAnswer, c.Verifier.Name(), err)
	}
	return []byte(signatureLine(n.Sigs[0])), nil
}
