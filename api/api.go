package api

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"scripta/internal/logins"
	"scripta/merkle/checkpoint"
	"scripta/register"
	"scripta/register/extract"
	"scripta/register/record"
	"scripta/register/stamps"
)

// Options say what an API is made of.
type Options struct {
	Domain   string // certified mail domain
	Provider string // the provider's name
	LogKey   string // verifier key of the log (C2SP vkey), as auditors are given it
	Trial    bool   // nothing the service issues has legal value, and its page says so

	Register *register.Register
	Requests *extract.Requests
	Stamps   *stamps.Store
	Log      http.Handler // the published log, below its path (merkle.Log.Handler)
	// Past are the logs that were frozen before; they stay published below their
	// own paths.
	Past []PastLog
	// Checkpoint is what proofs lead to: the latest one that is shown, with its
	// cosignatures. If it is nil, or returns nil, that is the log's own latest.
	Checkpoint func() *checkpoint.Signed
	Auth       Authenticator
	Logins     *logins.Limiter // counts wrong passwords, with the other services that take them; its own if nil

	// Now reads the clock once, for one record. The pairs are what the record
	// says of the clock; an error refuses what would have to be recorded.
	Now func() (time.Time, []record.Pair, error)
	// Wall is the time that bounds searches and slows guessing; time.Now if nil.
	Wall func() time.Time
	// Roles are what /status reports.
	Roles []Role
	// Metrics counts requests; may be nil.
	Metrics *Metrics
	Logger  *slog.Logger
}

// API answers HTTP requests. It is safe for concurrent use.
type API struct {
	o      Options
	engine *gin.Engine
	slots  chan struct{} // holds one element for each holder's request that is being answered
	proofs chan struct{} // the same for each proof that is being made
	own    *inFlight     // holders' requests that are being answered, by mailbox
	page   []byte        // the landing page

	pastPaths map[string]string // of frozen logs, by origin
}

const (
	// requestsAtOnce bounds the holders' requests that are being answered; others
	// wait.
	requestsAtOnce = 256
	// requestsPerMailbox bounds those of one mailbox; others are refused.
	requestsPerMailbox = 8
	// maxBody bounds what is read of a request's body, bytes.
	maxBody = 8 << 10
)

// New makes an API.
func New(o Options) (*API, error) {
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if o.Logins == nil {
		o.Logins = logins.New()
	}
	path, err := logPath(o.Register.Origin(), o.Domain)
	if err != nil {
		return nil, err
	}
	past := map[string]string{}
	for _, p := range o.Past {
		if past[p.Origin], err = logPath(p.Origin, o.Domain); err != nil {
			return nil, err
		}
	}
	a := &API{o: o, pastPaths: past, slots: make(chan struct{}, requestsAtOnce), proofs: make(chan struct{}, proofsAtOnce), own: newInFlight(requestsPerMailbox)}
	if a.page, err = landingPage(o, path); err != nil {
		return nil, err
	}
	gin.SetMode(gin.ReleaseMode) // gin prints its routes to standard output otherwise
	e := gin.New()
	// An identifier may hold a slash, as %2F, and a plus, which gin would take for
	// a space: identifier unescapes it.
	e.UseEscapedPath, e.UnescapePathValues = true, false
	e.RedirectTrailingSlash = false
	e.HandleMethodNotAllowed = true
	e.ForwardedByClientIP = false
	if err := e.SetTrustedProxies(nil); err != nil {
		return nil, err
	}
	e.Use(a.observe, a.protect)
	e.NoRoute(func(c *gin.Context) {
		fail(c, problemNotFound.with("there is nothing at this path; /openapi.yaml tells what there is"))
	})
	e.NoMethod(func(c *gin.Context) { fail(c, problemMethod) })
	a.engine = e
	a.public(path)
	a.private()
	return a, nil
}

// logPath is where the log is published: its origin without the domain.
func logPath(origin, domain string) (string, error) {
	rest, ok := strings.CutPrefix(origin, domain+"/")
	if !ok || rest == "" || strings.ContainsAny(rest, ":*?#%") {
		return "", errors.New("api: the log's origin does not begin with the domain")
	}
	return "/" + rest, nil
}

// public routes need no password.
func (a *API) public(logPath string) {
	e := a.engine
	both := func(path string, h ...gin.HandlerFunc) {
		e.GET(path, h...)
		e.HEAD(path, h...)
	}
	both("/", a.landing)
	both("/openapi.yaml", serveOpenAPI)
	both("/log.vkey", a.logKey)
	both("/status", a.status)
	both("/v1/records/:index/proof", a.recordProof)
	both("/v1/log/consistency", a.consistencyProof)
	for _, prefix := range []string{"", logPath} {
		log := mountLog(prefix, a.o.Log)
		both(prefix+"/checkpoint", log)
		both(prefix+"/tile/*path", log)
		both(prefix+"/timestamp/:file", a.timestamp(a.o.Stamps))
	}
	for _, p := range a.o.Past {
		prefix := a.pastPaths[p.Origin]
		log := mountLog(prefix, p.Log)
		both(prefix+"/checkpoint", log)
		both(prefix+"/tile/*path", log)
		both(prefix+"/timestamp/:file", a.timestamp(p.Stamps))
		both(prefix+"/known-checkpoint", func(c *gin.Context) {
			forAnybody(c)
			if len(p.Known) == 0 {
				fail(c, problemNotFound)
				return
			}
			answer(c, "text/plain; charset=utf-8", "public, max-age=3600", p.Known)
		})
	}
}

// PastLog is a log that was frozen when a rollback was accepted.
type PastLog struct {
	Origin string
	Log    http.Handler // the published log, below its path, up to what is left of it
	Stamps *stamps.Store
	Known  []byte // the last checkpoint that it is known to have published, a signed note; empty: none is known
}

// private routes are a mailbox's own.
func (a *API) private() {
	v1 := a.engine.Group("/v1", a.authenticate)
	v1.GET("/messages", a.listMessages)
	v1.GET("/messages/:id", a.getMessage)
	v1.GET("/receipts/:id", a.getReceipt)
	v1.POST("/extracts", a.askExtract)
	v1.GET("/extracts", a.listExtracts)
	v1.GET("/extracts/:id", a.getExtract)
	v1.GET("/extracts/:id/file", a.getExtractFile)
}

// Handler answers every path of the API.
func (a *API) Handler() http.Handler { return a.engine }
