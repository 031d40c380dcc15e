package api

import (
	"errors"
	"net/url"
	"strconv"

	"github.com/gin-gonic/gin"

	"scripta/merkle"
	"scripta/merkle/checkpoint"
)

const (
	// proofsAtOnce bounds the proofs that are being made.
	proofsAtOnce = 64
	// proofAge: a proof stays good; a later one is of a larger tree.
	proofAge = "public, max-age=60"

	proofMedia = "text/plain; charset=utf-8"
)

// published is the checkpoint that the log shows, nil if there is none yet.
func (a *API) published() *checkpoint.Signed {
	if a.o.Checkpoint != nil {
		if cp := a.o.Checkpoint(); cp != nil {
			return cp
		}
	}
	return a.o.Register.Log().Checkpoint()
}

// proving waits for its turn to make a proof; false if the client is gone.
func (a *API) proving(c *gin.Context) bool {
	select {
	case a.proofs <- struct{}{}:
		return true
	case <-c.Request.Context().Done():
		fail(c, problemUnavailable)
		return false
	}
}

// recordProof answers GET /v1/records/{index}/proof: that the published log has
// its leaf (c2sp.org/tlog-proof). Nothing in it is personal: a leaf is a
// commitment, and whose record it is only the record tells.
func (a *API) recordProof(c *gin.Context) {
	forAnybody(c)
	if !a.proving(c) {
		return
	}
	defer func() { <-a.proofs }()
	index, ok := number(c.Param("index"))
	cp := a.published()
	if !ok || cp == nil || index >= cp.Size {
		fail(c, problemNotFound)
		return
	}
	hashes, err := a.o.Register.Log().Inclusion(c.Request.Context(), index, cp.Size)
	if err != nil {
		a.failedProof(c, err)
		return
	}
	p := &checkpoint.Proof{Index: index, Hashes: hashes, Note: cp.Note}
	c.Header("Content-Disposition", `attachment; filename="`+strconv.FormatUint(index, 10)+`.tlog-proof"`)
	answer(c, proofMedia, proofAge, p.Text())
}

// consistencyProof answers GET /v1/log/consistency?from=&to=: the hashes which
// prove that the tree of the one size is a prefix of that of the other, as
// c2sp.org/tlog-witness writes them.
func (a *API) consistencyProof(c *gin.Context) {
	forAnybody(c)
	from, to, err := parseSizes(c.Request.URL.RawQuery)
	if err != nil {
		fail(c, problemParameter.with(err.Error()))
		return
	}
	if !a.proving(c) {
		return
	}
	defer func() { <-a.proofs }()
	if cp := a.published(); cp == nil || to > cp.Size {
		fail(c, problemNotFound)
		return
	}
	hashes, err := a.o.Register.Log().Consistency(c.Request.Context(), from, to)
	if err != nil {
		a.failedProof(c, err)
		return
	}
	answer(c, proofMedia, immutable, checkpoint.AppendHashes(nil, hashes))
}

func (a *API) failedProof(c *gin.Context, err error) {
	if errors.Is(err, merkle.ErrFatal) || errors.Is(err, merkle.ErrClosed) {
		fail(c, problemUnavailable)
		return
	}
	a.failed(c, err)
}

// parseSizes reads the query of a consistency proof: two sizes, ascending.
func parseSizes(raw string) (from, to uint64, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return 0, 0, badParameter("string", "it is not percent-encoded correctly")
	}
	for name, v := range values {
		if name != "from" && name != "to" {
			return 0, 0, badParameter(printable(name), "there is no such parameter")
		}
		if len(v) != 1 {
			return 0, 0, badParameter(name, "it stands there more than once")
		}
	}
	var ok bool
	if from, ok = number(values.Get("from")); !ok {
		return 0, 0, badParameter("from", "it must be a number of leaves")
	}
	if to, ok = number(values.Get("to")); !ok || to < from {
		return 0, 0, badParameter("to", "it must be a number of leaves, not below from")
	}
	return from, to, nil
}

// number reads a decimal number in its one spelling.
func number(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return n, err == nil && strconv.FormatUint(n, 10) == s
}
