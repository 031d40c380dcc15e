package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"

	"github.com/gin-gonic/gin"
)

//go:embed landing.html
var landingTemplate string

const landingStyle = "body{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;max-width:44rem;padding:0 1rem}code{overflow-wrap:anywhere}" +
	".trial{background:#fff3cd;border:.2rem solid #b00020;color:#000;padding:1rem;text-align:center}"

// landingPage makes the page at /, once.
func landingPage(o Options, logPath string) ([]byte, error) {
	t, err := template.New("landing").Parse(landingTemplate)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{"Provider": o.Provider, "Domain": o.Domain, "LogPath": logPath, "LogKey": o.LogKey, "Trial": o.Trial, "Style": template.CSS(landingStyle)})
	return b.Bytes(), err
}

// landing answers GET /. The page loads nothing; its one style is allowed by hash.
func (a *API) landing(c *gin.Context) {
	sum := sha256.Sum256([]byte(landingStyle))
	c.Header("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	answer(c, "text/html; charset=utf-8", "no-cache", a.page)
}
