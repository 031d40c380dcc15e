package api

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"scripta/mta/mailbox"
	"scripta/register/record"
)

// Authenticator checks a mailbox's password (mta/mailbox). The login is the full
// address. An error says that it could not be checked.
type Authenticator interface {
	Verify(ctx context.Context, login, password string) (bool, error)
}

const (
	maxLogin    = 320 // bytes, RFC 5321 §4.5.3.1
	maxPassword = 1024
)

// wrongLogin does not tell which of the two is wrong, nor whether there is such
// a mailbox.
const wrongLogin = "the address or the password is wrong, or the mailbox is suspended or closed"

// authenticate admits the holder of a mailbox, by HTTP Basic (RFC 7617).
func (a *API) authenticate(c *gin.Context) {
	if c.Request.TLS == nil {
		fail(c, problemTLS)
		return
	}
	login, password, ok := c.Request.BasicAuth()
	if !ok || login == "" {
		fail(c, problemUnauthorized.with("send the mailbox's full address and its password by HTTP Basic authentication"))
		return
	}
	if len(login) > maxLogin || len(password) > maxPassword {
		fail(c, problemUnauthorized.with(wrongLogin))
		return
	}
	address := strings.ToLower(login)
	try, wait := a.o.Logins.Begin(c.Request.RemoteAddr, address, a.o.Wall())
	if wait > 0 {
		if a.o.Metrics != nil {
			a.o.Metrics.slowed.Inc()
		}
		fail(c, problemTooMany.with("too many wrong passwords").after(wait))
		return
	}
	ok, err := a.o.Auth.Verify(c.Request.Context(), login, password)
	if errors.Is(err, mailbox.ErrSuspended) {
		ok, err = false, nil
	}
	if err != nil {
		try.Forgive(false, a.o.Wall())
		a.o.Logger.Warn("a password could not be checked", "request", c.GetString(keyRequest), "err", err)
		fail(c, problemUnavailable.after(time.Second))
		return
	}
	if !ok {
		if a.o.Metrics != nil {
			a.o.Metrics.authFailures.Inc()
		}
		a.o.Logger.Debug("authentication failed", "request", c.GetString(keyRequest), "login", address, "peer", c.Request.RemoteAddr)
		fail(c, problemUnauthorized.with(wrongLogin))
		return
	}
	try.Forgive(true, a.o.Wall())
	if !a.own.enter(address) {
		fail(c, problemTooMany.with("too many requests of this mailbox at once").after(time.Second))
		return
	}
	defer a.own.leave(address)
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-c.Request.Context().Done():
		fail(c, problemUnavailable)
		return
	}
	c.Set(keyMailbox, address)
	c.Header("Cache-Control", "private, no-store")
	c.Header("Vary", "Authorization")
	c.Next()
}

// peerOf describes the connection for a record.
func peerOf(r *http.Request) record.Peer {
	p := record.Peer{Address: r.RemoteAddr}
	if r.TLS != nil {
		p.TLS, p.Cipher = tls.VersionName(r.TLS.Version), tls.CipherSuiteName(r.TLS.CipherSuite)
		if len(r.TLS.PeerCertificates) > 0 {
			sum := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
			p.Certificate = sum[:]
		}
	}
	return p
}
