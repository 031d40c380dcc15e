package api

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// Role is a part of the service that can fail by itself. Check returns why it
// does, or nil; it is called at every request for /status and must be quick.
type Role struct {
	Name  string
	Check func() error
}

// serviceStatus is the answer of GET /status.
type serviceStatus struct {
	Status string       `json:"status"` // ok or failing
	Roles  []roleStatus `json:"roles"`
}

type roleStatus struct {
	Name   string `json:"name"`
	Status string `json:"status"`
}

const (
	statusOK      = "ok"
	statusFailing = "failing"
)

// status answers GET /status: 200 when every role is healthy, else 503. Why one
// is not is for the log: anybody may ask here.
func (a *API) status(c *gin.Context) {
	s, code := serviceStatus{Status: statusOK, Roles: []roleStatus{}}, http.StatusOK
	for _, r := range a.o.Roles {
		one := roleStatus{r.Name, statusOK}
		if err := r.Check(); err != nil {
			a.o.Logger.Warn("a role is not healthy", "role", r.Name, "err", err, "request", c.GetString(keyRequest))
			one.Status, s.Status, code = statusFailing, statusFailing, http.StatusServiceUnavailable
		}
		s.Roles = append(s.Roles, one)
	}
	c.Header("Cache-Control", "no-store")
	writeJSON(c, code, s)
}
