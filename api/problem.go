package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"scripta/internal/keys"
	"scripta/register"
	"scripta/tsa/clock"
)

// problem is what goes wrong, as clients are told (RFC 9457). The type and the
// title stay the same for ever; the detail is for one case.
type problem struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail,omitempty"`
	Request string `json:"request,omitempty"` // id under which the log tells more

	retryAfter time.Duration
}

func (p problem) with(detail string) problem    { p.Detail = detail; return p }
func (p problem) after(d time.Duration) problem { p.retryAfter = d; return p }
func newProblem(name, title string, code int) problem {
	return problem{Type: problemPrefix + name, Title: title, Status: code}
}

// problemPrefix begins the type of every problem.
const problemPrefix = "urn:scripta:problem:"

// Every problem that the API answers with.
var (
	problemParameter    = newProblem("bad-parameter", "A parameter is not valid", http.StatusBadRequest)
	problemBody         = newProblem("bad-body", "The body is not valid", http.StatusBadRequest)
	problemUnauthorized = newProblem("unauthorized", "A mailbox's address and password are needed", http.StatusUnauthorized)
	problemTLS          = newProblem("tls-required", "Passwords are taken over TLS only", http.StatusForbidden)
	problemNotFound     = newProblem("not-found", "There is no such thing", http.StatusNotFound)
	problemNotKept      = newProblem("not-kept", "The message was issued, but its bytes are not kept here", http.StatusNotFound)
	problemRefused      = newProblem("extract-refused", "The request ended without a file", http.StatusNotFound)
	problemMethod       = newProblem("method-not-allowed", "The method is not allowed here", http.StatusMethodNotAllowed)
	problemNotReady     = newProblem("not-ready", "The file is not produced yet", http.StatusConflict)
	problemTooLarge     = newProblem("too-large", "The body is too large", http.StatusRequestEntityTooLarge)
	problemMediaType    = newProblem("media-type", "The body must be application/json", http.StatusUnsupportedMediaType)
	problemTooMany      = newProblem("too-many-requests", "Too many requests", http.StatusTooManyRequests)
	problemInternal     = newProblem("internal", "Something went wrong on our side", http.StatusInternalServerError)
	problemUnavailable  = newProblem("unavailable", "The service cannot answer now", http.StatusServiceUnavailable)
)

// fail answers with a problem and ends the request.
func fail(c *gin.Context, p problem) {
	p.Request = c.GetString(keyRequest)
	h := c.Writer.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="scripta", charset="UTF-8"`)
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.retryAfter+time.Second-1)/time.Second)))
	}
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // of strings and numbers
	}
	c.Status(p.Status)
	c.Abort()
	if c.Request.Method == http.MethodHead {
		c.Writer.WriteHeaderNow()
		return
	}
	_, _ = c.Writer.Write(append(body, '\n')) // an error is the client's
}

// failed answers for an error that a client cannot help, and logs it.
func (a *API) failed(c *gin.Context, err error) {
	log := a.o.Logger.With("request", c.GetString(keyRequest), "route", c.FullPath())
	month := (*keys.MonthError)(nil)
	switch {
	case c.Request.Context().Err() != nil: // the client is gone
		log.Debug("a request was given up", "err", err)
		fail(c, problemUnavailable)
	case errors.Is(err, clock.ErrUntrusted), errors.As(err, &month):
		log.Error("a request was refused because nothing can be recorded now", "err", err)
		fail(c, problemUnavailable.with("the time is not known well enough to record this").after(time.Minute))
	case errors.Is(err, register.ErrStopped), errors.Is(err, register.ErrBusy), errors.Is(err, syscall.ENOSPC), errors.Is(err, context.DeadlineExceeded):
		log.Error("a request could not be answered", "err", err)
		fail(c, problemUnavailable.after(time.Minute))
	default:
		log.Error("a request failed", "err", err)
		fail(c, problemInternal)
	}
}
