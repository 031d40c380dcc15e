package witness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"scripta/merkle/checkpoint"
)

// Seen is what one witness saw last of a log.
type Seen struct {
	Witness string // the name of its key
	// Size is that of the last checkpoint which it says it cosigned; 0: none.
	Size uint64
	// Checkpoint is that checkpoint, signed by the log and cosigned by the witness,
	// if it shows it, as those of this program do; else nil, and Size is only its
	// word.
	Checkpoint *checkpoint.Signed
	Err        error // it couldn't be asked; the rest is then not known
}

// LatestSeen asks witnesses, all at once, how large a log was when they last
// cosigned it: a log that was restored from a backup learns so what it lost. The
// answers are in the order of the clients.
//
// Any checkpoint signed by the log serves to ask, best the latest that is left,
// or one of an empty tree. The question is an add-checkpoint from size 0: a
// witness that knows the log answers it with its size and cosigns nothing; one
// that never saw the log cosigns the checkpoint, and Size is 0. So no checkpoint
// may be shown here that must never be published.
func LatestSeen(ctx context.Context, clients []*Client, log note.Verifier, any *checkpoint.Signed) []Seen {
	all := make([]Seen, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			all[i] = c.latestSeen(ctx, log, any)
		})
	}
	wg.Wait()
	return all
}

func (c *Client) latestSeen(ctx context.Context, log note.Verifier, any *checkpoint.Signed) Seen {
	s := Seen{Witness: c.Verifier.Name()}
	status, body, err := c.post(ctx, (&Request{Note: any.Stamped()}).Bytes())
	switch {
	case err != nil:
		s.Err = err
	case status == http.StatusOK:
		_, s.Err = c.verified(any, body)
	case status == http.StatusConflict:
		if s.Size, err = parseSize(strings.TrimSuffix(string(body), "\n")); err != nil {
			s.Err = fmt.Errorf("%w: %s answers 409 without a size", ErrAnswer, s.Witness)
		}
	default:
		s.Err = fmt.Errorf("%w: %s answers %d %.200q", ErrAnswer, s.Witness, status, body)
	}
	if s.Err != nil || s.Size == 0 {
		return s
	}
	if cp, err := c.shown(ctx, log); err == nil && cp.Size >= s.Size {
		s.Size, s.Checkpoint = cp.Size, cp
	}
	return s
}

// shown gets the checkpoint that the witness shows of a log, and verifies both
// signatures.
func (c *Client) shown(ctx context.Context, log note.Verifier) (*checkpoint.Signed, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.URL, "/")+latestPath(log.Name()), nil)
	if err != nil {
		return nil, err
	}
	status, body, err := c.do(req)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("%w: %s answers %d", ErrAnswer, c.Verifier.Name(), status)
	}
	if n, err := note.Open(body, note.VerifierList(log, c.Verifier)); err != nil || len(n.Sigs) != 2 {
		return nil, fmt.Errorf("%w: %s shows a checkpoint without both signatures", ErrAnswer, c.Verifier.Name())
	}
	return checkpoint.Open(body, log)
}

// latestPath is where this program's witnesses show the last checkpoint that they
// cosigned of a log, below their prefix. The specification leaves that open.
func latestPath(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return "/" + hex.EncodeToString(sum[:]) + "/checkpoint"
}
