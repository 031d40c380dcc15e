package api

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"scripta/merkle/checkpoint"
	"scripta/mta"
)

func TestPublishedLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.submit(1, start, anna, bruno)
	cp, err := f.log.Publish(t.Context())
	f.must(err)
	reply := f.stamp(cp)
	f.must(os.WriteFile(filepath.Join(f.dir, "stamps", "4.txt"), cp.Stamped(), 0o600)) // its reply did not come
	for _, prefix := range []string{"", "/scripta/0001"} {
		for _, c := range []struct {
			path, media, caching, body string
		}{
			{"/checkpoint", "text/plain; charset=utf-8", "public, max-age=2", string(cp.Note)},
			{"/tile/0/000.p/3", "application/octet-stream", immutable, ""},
			{"/tile/entries/000.p/3", "application/octet-stream", immutable, ""},
			{"/timestamp/3.tsr", "application/timestamp-reply", immutable, string(reply)},
			{"/timestamp/3.txt", "text/plain; charset=utf-8", immutable, string(cp.Stamped())},
		} {
			w := f.do(request{path: prefix + c.path})
			h := w.Header()
			if w.Code != 200 || h.Get("Content-Type") != c.media || h.Get("Cache-Control") != c.caching || w.Body.Len() == 0 || c.body != "" && w.Body.String() != c.body {
				t.Errorf("%s%s: %d %v %q", prefix, c.path, w.Code, h, w.Body)
			}
			if h.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s: a verifier in a browser may not read it", c.path)
			}
			if w := f.do(request{method: http.MethodHead, path: prefix + c.path}); w.Code != 200 {
				t.Errorf("HEAD %s: %d", c.path, w.Code)
			}
		}
		for _, path := range []string{"/tile/0/000", "/tile/0/000.p/4", "/tile/1/000", "/tile/x", "/timestamp/4.txt", "/timestamp/4.tsr", "/timestamp/03.tsr", "/timestamp/3.tsr.txt", "/timestamp/3"} {
			w := f.do(request{path: prefix + path})
			f.wantProblem(w, 404, "not-found")
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s: what is not there yet is cached", path)
			}
		}
	}
	// What the disk made of it is not served.
	for i := range reply {
		changed := bytes.Clone(reply)
		changed[i] ^= 1 << (i % 8)
		f.must(os.WriteFile(filepath.Join(f.dir, "stamps", "3.tsr"), changed, 0o600))
		f.wantProblem(f.do(request{path: "/timestamp/3.tsr"}), 500, "internal")
	}
	if w := f.do(request{path: "/log.vkey"}); w.Body.String() != f.o.LogKey+"\n" {
		t.Errorf("%s", w.Body)
	}
}

func TestLogPath(t *testing.T) {
	t.Parallel()
	if p, err := logPath("pec.example/scripta/0f1e2d3c", "pec.example"); err != nil || p != "/scripta/0f1e2d3c" {
		t.Errorf("%q, %v", p, err)
	}
	for _, origin := range []string{"pec.example", "pec.example/", "other.example/scripta/1", "pec.example.evil/scripta/1", "pec.example/:id", "pec.example/*x"} {
		if p, err := logPath(origin, "pec.example"); err == nil {
			t.Errorf("%q gives %q", origin, p)
		}
	}
}

func TestLandingPage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.do(request{path: "/"})
	body := w.Body.String()
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(body, "Prova &lt;SpA&gt;") || !strings.Contains(body, "valore legale") ||
		strings.Index(body, "Servizio di posta") > strings.Index(body, "Certified e-mail") {
		t.Errorf("%d %v %s", w.Code, w.Header(), body)
	}
	if strings.Contains(body, "http") || strings.Contains(body, "src=") {
		t.Error("the page loads something from elsewhere")
	}
	if strings.Contains(body, "SERVIZIO DI PROVA") {
		t.Error("a service with qualified time stamps is said to be a trial")
	}
	trial, err := landingPage(Options{Provider: "Prova", Trial: true}, "/scripta/0001")
	if err != nil || !strings.Contains(string(trial), "SERVIZIO DI PROVA, SENZA VALORE LEGALE") || !strings.Contains(string(trial), "<style>"+landingStyle+"</style>") {
		t.Errorf("the page of a trial: %v %s", err, trial)
	}
	links := regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(body, -1)
	if len(links) < 5 {
		t.Errorf("%d links", len(links))
	}
	for _, l := range links {
		if w := f.do(request{path: l[1]}); w.Code != 200 {
			t.Errorf("%s: %d", l[1], w.Code)
		}
	}
	if w := f.do(request{path: "/openapi.yaml"}); w.Header().Get("Content-Type") != "application/yaml" || !strings.HasPrefix(w.Body.String(), "openapi: 3.1") {
		t.Errorf("%v", w.Header())
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var failing error
	f.o.Roles = []Role{{"register", func() error { return nil }}, {"time stamps", func() error { return failing }}}
	var s serviceStatus
	f.get("", "/status", "Status", &s)
	if s.Status != "ok" || len(s.Roles) != 2 {
		t.Errorf("%+v", s)
	}
	failing = errors.New("the password of tsa.example was refused")
	w := f.do(request{path: "/status"})
	f.decode(w, "Status", &s)
	if w.Code != 503 || s.Status != "failing" || s.Roles[0].Status != "ok" || s.Roles[1] != (roleStatus{"time stamps", "failing"}) || strings.Contains(w.Body.String(), "password") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.submit(1, start, anna, bruno)
	_, err := f.log.Publish(t.Context())
	f.must(err)
	mail := &mta.Metrics{}
	mail.Accepted.Store(7)
	m := NewMetrics(Sources{
		Register: f.register.Metrics(), Waiting: f.register.Waiting, MTA: mail, LogSize: f.log.Size, Checkpoint: f.log.Checkpoint, Published: func() time.Time { return time.Now().Add(-time.Minute) },
		Stamps: func() (uint64, uint64) { return 5, 2 }, StampedTo: func() (uint64, bool) { return 0, false },
		Clock: func() (time.Duration, bool) { return 250 * time.Millisecond, true }, Backlog: func() mta.Backlog { return mta.Backlog{Waiting: 4, Failing: 2, Oldest: time.Now().Add(-time.Minute)} },
		Extracts: func() (int, int, uint64) { return 3, 1, 9 }, FreeBytes: func() (int64, error) { return 0, errors.New("no") },
	})
	f.o.Metrics = m
	f.do(request{path: "/v1/messages/none@pec.example", mailbox: anna})
	f.do(request{path: "/v1/messages", mailbox: anna, password: "wrong"})
	f.do(request{path: "/some/secret/path"})
	f.do(request{method: "BREW", path: "/pot"})
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body := w.Body.String()
	for _, line := range []string{"scripta_register_records_total 3", "scripta_mta_messages_accepted_total 7", "scripta_log_leaves 3", "scripta_register_refused_total 0",
		"scripta_register_append_seconds_count 1", `scripta_register_append_seconds_bucket{le="+Inf"} 1`, "scripta_register_commit_records_sum 3", "scripta_register_waiting_records 0", "scripta_register_waiting_bytes 0", "scripta_log_checkpoint_leaves 3", "scripta_tsa_granted_total 5",
		"scripta_tsa_failed_total 2", "scripta_clock_bound_seconds 0.25", "scripta_clock_traceable 1", "scripta_spool_waiting_messages 4", "scripta_spool_failing_messages 2", "scripta_extracts_open 3", "scripta_extracts_late 1",
		"scripta_extracts_failures_total 9", "scripta_disk_free_bytes -1", "scripta_api_auth_failures_total 1", `scripta_api_requests_total{method="GET",route="/v1/messages/:id",status="404"} 1`,
		`scripta_api_requests_total{method="other",route="",status="404"} 1`} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	for _, age := range []string{"log_checkpoint_age", "spool_oldest"} {
		if !regexp.MustCompile(`\nscripta_` + age + `_seconds 6[0-9]`).MatchString(body) {
			t.Errorf("no %s", age)
		}
	}
	for _, secret := range []string{"secret", "BREW", "anna", "none@"} {
		if strings.Contains(body, secret) {
			t.Errorf("the metrics tell of %q", secret)
		}
	}
	for _, name := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)`).FindAllStringSubmatch(body, -1) {
		if !regexp.MustCompile(`^(scripta|go|process)_`).MatchString(name[1]) || name[2] == "counter" && !strings.HasSuffix(name[1], "_total") {
			t.Errorf("%s %s", name[2], name[1])
		}
	}
	for _, path := range []string{"/", "/metrics/", "/debug/pprof/"} {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	// Without sources there is nothing but the API's own.
	w = httptest.NewRecorder()
	NewMetrics(Sources{Checkpoint: func() *checkpoint.Signed { return nil }}).Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 || strings.Contains(w.Body.String(), "scripta_mta") {
		t.Errorf("%d", w.Code)
	}
}
