package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"scripta/register/record"
)

// description is the parsed openapi.yaml.
var description = sync.OnceValues(func() (d map[string]any, err error) {
	err = yaml.Unmarshal(openAPI, &d)
	return d, err
})

func described(t *testing.T) map[string]any {
	t.Helper()
	d, err := description()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The description names every route of the API and of the metrics, and no other.
func TestDescriptionIsComplete(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var routes, paths []string
	for _, r := range f.engine.Routes() {
		p := strings.Replace(r.Path, "/scripta/0001/", "/scripta/{log}/", 1)
		p = regexp.MustCompile(`[:*](\w+)`).ReplaceAllString(p, "{$1}")
		routes = append(routes, strings.ToLower(r.Method)+" "+p)
	}
	routes = append(routes, "get /metrics") // NewMetrics's, on a port of its own
	for p, item := range described(t)["paths"].(map[string]any) {
		for verb := range item.(map[string]any) {
			if slices.Contains([]string{"get", "head", "post", "put", "patch", "delete"}, verb) {
				paths = append(paths, verb+" "+p)
			}
		}
	}
	slices.Sort(routes)
	slices.Sort(paths)
	if !slices.Equal(routes, paths) {
		t.Errorf("routes    %q\ndescribed %q", routes, paths)
	}
	w := httptest.NewRecorder()
	NewMetrics(Sources{}).Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Errorf("/metrics answers %d", w.Code)
	}
}

// Every problem's type is described, and no other.
func TestProblemsAreDescribed(t *testing.T) {
	t.Parallel()
	var have []string
	for _, p := range []problem{problemParameter, problemBody, problemUnauthorized, problemTLS, problemNotFound, problemNotKept, problemRefused, problemMethod,
		problemNotReady, problemTooLarge, problemMediaType, problemTooMany, problemInternal, problemUnavailable} {
		have = append(have, p.Type)
	}
	var want []string
	for _, v := range schemaOf(t, "Problem")["properties"].(map[string]any)["type"].(map[string]any)["enum"].([]any) {
		want = append(want, v.(string))
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("problems  %q\ndescribed %q", have, want)
	}
}

// Every kind that a list can be asked for is described, and no other.
func TestKindsAreDescribed(t *testing.T) {
	t.Parallel()
	var have, want []string
	for k := record.Kind(0); k < 0x100; k++ {
		if k.Known() && eventOfMessage(k) {
			have = append(have, k.String())
		}
	}
	list := described(t)["paths"].(map[string]any)["/v1/messages"].(map[string]any)["get"].(map[string]any)
	for _, p := range list["parameters"].([]any) {
		if p := p.(map[string]any); p["name"] == "kind" {
			for _, v := range p["schema"].(map[string]any)["enum"].([]any) {
				want = append(want, v.(string))
			}
		}
	}
	if !slices.Equal(have, want) {
		t.Errorf("kinds     %q\ndescribed %q", have, want)
	}
}

func schemaOf(t *testing.T, name string) map[string]any {
	t.Helper()
	s, ok := described(t)["components"].(map[string]any)["schemas"].(map[string]any)[name].(map[string]any)
	if !ok {
		t.Fatalf("no schema %s", name)
	}
	return s
}

// checkSchema fails when a JSON document is not what a schema describes.
func checkSchema(t *testing.T, name string, doc []byte) {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v: %s", name, err, doc)
	}
	c := &schemaCheck{t: t}
	c.check(name, schemaOf(t, name), v)
	if c.problems != nil {
		t.Errorf("the answer is not as described: %s\n%s", strings.Join(c.problems, "; "), doc)
	}
}

// schemaCheck knows the part of JSON Schema that the description uses.
type schemaCheck struct {
	t        *testing.T
	problems []string
}

func (c *schemaCheck) bad(at, format string, args ...any) {
	c.problems = append(c.problems, at+": "+fmt.Sprintf(format, args...))
}

func (c *schemaCheck) resolve(s map[string]any) map[string]any {
	if ref, ok := s["$ref"].(string); ok {
		return schemaOf(c.t, strings.TrimPrefix(ref, "#/components/schemas/"))
	}
	return s
}

func (c *schemaCheck) check(at string, s map[string]any, v any) {
	s = c.resolve(s)
	known := map[string]bool{}
	c.properties(at, s, v, known)
	if object, ok := v.(map[string]any); ok {
		_, free := s["additionalProperties"].(map[string]any)
		for name := range object {
			if !known[name] && !free {
				c.bad(at, "%s is not described", name)
			}
		}
	}
	switch s["type"] {
	case "string":
		text, ok := v.(string)
		if !ok {
			c.bad(at, "%v is no string", v)
			return
		}
		if s["format"] == "date-time" {
			if _, err := time.Parse(time.RFC3339, text); err != nil {
				c.bad(at, "%v", err)
			}
		}
		if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(text) {
			c.bad(at, "%q does not match %s", text, p)
		}
		if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, any(text)) {
			c.bad(at, "%q is not one of %v", text, enum)
		}
	case "integer":
		if n, ok := v.(json.Number); !ok {
			c.bad(at, "%v is no number", v)
		} else if _, err := n.Int64(); err != nil {
			c.bad(at, "%v", err)
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			c.bad(at, "%v is no boolean", v)
		}
	case "array":
		items, ok := v.([]any)
		if !ok {
			c.bad(at, "%v is no array", v)
		}
		for i, item := range items {
			c.check(fmt.Sprintf("%s[%d]", at, i), s["items"].(map[string]any), item)
		}
	}
}

// properties checks an object's properties against a schema and those that it
// builds on, and notes which it knows.
func (c *schemaCheck) properties(at string, s map[string]any, v any, known map[string]bool) {
	all, _ := s["allOf"].([]any)
	for _, part := range all {
		c.properties(at, c.resolve(part.(map[string]any)), v, known)
	}
	if s["type"] != "object" && all == nil {
		return
	}
	object, ok := v.(map[string]any)
	if !ok {
		c.bad(at, "%v is no object", v)
		return
	}
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, ok := object[name.(string)]; !ok {
			c.bad(at, "%s is missing", name)
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for name, p := range properties {
		known[name] = true
		if value, ok := object[name]; ok {
			c.check(at+"."+name, p.(map[string]any), value)
		}
	}
}
