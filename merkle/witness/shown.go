package witness

import (
	"net/http"
	"strconv"
	"time"

	"scripta/merkle/checkpoint"
)

// showTime is how long the latest cosigned checkpoint is shown instead of a later
// one without a quorum: longer than witnesses need, so that readers who want
// cosignatures nearly always find them, and short enough for a log without
// witnesses to stay readable.
const showTime = 30 * time.Second

// Shown is the checkpoint that readers are given: the latest one that a quorum
// cosigned, with the cosignatures; while the quorum is missing for over half a
// minute, the log's latest, without. Its size never falls.
func (g *Gatherer) Shown() *checkpoint.Signed {
	latest, cp, lack := g.opt.Log.Checkpoint(), g.cosigned.Load(), g.lacking.Load()
	if cp != nil && latest != nil && cp.Size <= latest.Size && cp.Size >= g.floor.Load() &&
		(cp.Size == latest.Size && cp.Root == latest.Root || lack == nil || g.opt.Now().Sub(lack.Since) < showTime) {
		return cp
	}
	if latest != nil {
		for was := g.floor.Load(); was < latest.Size && !g.floor.CompareAndSwap(was, latest.Size); was = g.floor.Load() {
		}
	}
	return latest
}

// Handler serves the log's files by next, which is merkle.Log's handler, and
// /checkpoint with the cosignatures, as Shown has it.
func (g *Gatherer) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/checkpoint" || r.Method != http.MethodGet && r.Method != http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		cp := g.Shown()
		if cp == nil {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*") // public for any reader, as all of the log
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "public, max-age=2")
		h.Set("Content-Length", strconv.Itoa(len(cp.Note)))
		_, _ = w.Write(cp.Note) // an error is the reader's
	})
}
