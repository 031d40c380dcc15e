package api

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"
)

// Keys of a gin context.
const (
	keyRequest = "request" // the request's id
	keyMailbox = "mailbox" // whose password was given
)

// observe gives each request an id, logs and counts it, and turns a panic into
// an answer. Paths hold identifiers of messages, so the log names the route.
func (a *API) observe(c *gin.Context) {
	start := time.Now()
	var id [8]byte
	rand.Read(id[:])
	request := hex.EncodeToString(id[:])
	c.Set(keyRequest, request)
	c.Header("X-Request-Id", request)
	defer func() {
		p := recover()
		if p != nil && !isAbort(p) {
			a.o.Logger.Error("a request made the API panic", "request", request, "panic", p, "stack", string(debug.Stack()))
			if !c.Writer.Written() {
				fail(c, problemInternal)
			} else {
				p = http.ErrAbortHandler // the client must not take it for whole
			}
		}
		elapsed := time.Since(start)
		if a.o.Metrics != nil {
			a.o.Metrics.observe(c.Request.Method, c.FullPath(), c.Writer.Status(), elapsed)
		}
		a.o.Logger.Info("request", "request", request, "method", method(c.Request.Method), "route", c.FullPath(), "status", c.Writer.Status(),
			"bytes", max(c.Writer.Size(), 0), "elapsed", elapsed)
		a.o.Logger.Debug("request", "request", request, "peer", c.Request.RemoteAddr, "mailbox", c.GetString(keyMailbox))
		if isAbort(p) {
			panic(p)
		}
	}()
	c.Next()
}

func isAbort(p any) bool {
	err, ok := p.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// method is one of a closed set: a client may send any word.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// protect bounds what is read of a request, and sets what every answer carries.
func (a *API) protect(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if c.Request.TLS != nil && !local(c.Request.Host) {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxBody)
	c.Next()
}

// local says that a host is this machine or has no name, so that a browser told
// to insist on TLS for it would insist for other services of the machine.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return host == "localhost" || net.ParseIP(host) != nil
}
