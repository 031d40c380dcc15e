package api

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"scripta/register/stamps"
)

// immutable is for what never changes once it is there.
const immutable = "public, max-age=31536000, immutable"

// forAnybody lets other sites' pages read an answer: a verifier in a browser.
func forAnybody(c *gin.Context) {
	c.Header("Access-Control-Allow-Origin", "*")
	c.Header("Cross-Origin-Resource-Policy", "cross-origin")
}

// mountLog serves a published log below a path prefix.
func mountLog(prefix string, log http.Handler) gin.HandlerFunc {
	log = http.StripPrefix(prefix, log)
	return func(c *gin.Context) {
		forAnybody(c)
		w := &problemWriter{ResponseWriter: c.Writer}
		log.ServeHTTP(w, c.Request)
		switch w.failed {
		case 0:
		case http.StatusNotFound:
			fail(c, problemNotFound.with("the log has not published this"))
		case http.StatusServiceUnavailable:
			fail(c, problemUnavailable)
		default:
			fail(c, problemInternal)
		}
	}
}

// problemWriter holds an error of another handler back, for it to be answered as
// a problem.
type problemWriter struct {
	http.ResponseWriter
	failed int // its status
}

func (w *problemWriter) WriteHeader(status int) {
	if status >= 400 {
		w.failed = status
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *problemWriter) Write(p []byte) (int, error) {
	if w.failed != 0 {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// timestamp answers GET /timestamp/{size}.tsr with the time-stamp reply over the
// checkpoint of that size, and {size}.txt with the text that it covers.
func (a *API) timestamp(kept *stamps.Store) gin.HandlerFunc {
	return func(c *gin.Context) { a.answerTimestamp(c, kept) }
}

func (a *API) answerTimestamp(c *gin.Context, kept *stamps.Store) {
	forAnybody(c)
	name, ext, _ := strings.Cut(c.Param("file"), ".")
	size, err := strconv.ParseUint(name, 10, 64)
	if err != nil || strconv.FormatUint(size, 10) != name || kept == nil {
		fail(c, problemNotFound.with("there is no time stamp over a checkpoint of this size"))
		return
	}
	if ext != "tsr" && ext != "txt" {
		fail(c, problemNotFound)
		return
	}
	// Verified each time: what the disk made of it must not be taken for ours.
	st, err := kept.Get(size)
	if errors.Is(err, stamps.ErrNotFound) {
		fail(c, problemNotFound.with("there is no time stamp over a checkpoint of this size"))
		return
	} else if err != nil {
		a.failed(c, err)
		return
	}
	media, body := "application/timestamp-reply", st.Reply // RFC 3161 §3.4
	if ext == "txt" {
		media, body = "text/plain; charset=utf-8", st.Signed.Stamped()
	}
	answer(c, media, immutable, body)
}

// logKey answers GET /log.vkey.
func (a *API) logKey(c *gin.Context) {
	forAnybody(c)
	answer(c, "text/plain; charset=utf-8", "public, max-age=3600", []byte(a.o.LogKey+"\n"))
}

// answer sends a small body that anybody may keep.
func answer(c *gin.Context, media, caching string, body []byte) {
	h := c.Writer.Header()
	h.Set("Content-Type", media)
	h.Set("Cache-Control", caching)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.Status(http.StatusOK)
	_, _ = c.Writer.Write(body) // an error is the client's
}
