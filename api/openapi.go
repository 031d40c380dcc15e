package api

import (
	_ "embed"

	"github.com/gin-gonic/gin"
)

//go:embed openapi.yaml
var openAPI []byte

// serveOpenAPI answers GET /openapi.yaml.
func serveOpenAPI(c *gin.Context) {
	forAnybody(c)
	answer(c, "application/yaml", "public, max-age=3600", openAPI) // RFC 9512
}
