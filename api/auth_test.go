package api

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/internal/logins"
)

// privatePaths are one path for each private route.
func (f *fixture) privateRequests() (all []request) {
	for _, r := range f.engine.Routes() {
		if public := slices.Contains([]string{"/v1/records/:index/proof", "/v1/log/consistency"}, r.Path); strings.HasPrefix(r.Path, "/v1/") && !public {
			all = append(all, request{method: r.Method, path: strings.ReplaceAll(r.Path, ":id", "0123456789abcdef0123456789abcdef")})
		}
	}
	return all
}

func TestPrivateRoutesNeedAPassword(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	routes := f.privateRequests()
	if len(routes) != 7 {
		t.Errorf("%d private routes", len(routes))
	}
	for i, r := range routes {
		r.remote = fmt.Sprintf("192.0.2.%d:1", i) // each its own failures
		for _, c := range []struct{ mailbox, password string }{
			{"", ""}, {anna, "wrong"}, {anna, "bruno-pw"}, {"nobody@pec.example", "x"}, {"anna", "anna-pw"}, {strings.Repeat("a", 400) + "@pec.example", "x"}, {anna, strings.Repeat("a", 2000)},
		} {
			r.mailbox, r.password = c.mailbox, c.password
			w := f.do(r)
			f.wantProblem(w, 401, "unauthorized")
			missing := strings.Contains(w.Body.String(), "HTTP Basic")
			wrong := strings.Contains(w.Body.String(), "the address or the password is wrong")
			if missing != (c.mailbox == "") || wrong == missing {
				t.Errorf("%.20q: %s", c.mailbox, w.Body)
			}
			if !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic realm=") {
				t.Errorf("WWW-Authenticate %q", w.Header().Get("WWW-Authenticate"))
			}
		}
		calls := f.auth.calls.Load()
		r.mailbox, r.password, r.plain = anna, "anna-pw", true
		f.wantProblem(f.do(r), 403, "tls-required")
		if f.auth.calls.Load() != calls {
			t.Error("a password that came in clear was looked at")
		}
		r.plain, r.header = false, http.Header{"Authorization": {"Bearer abc"}}
		r.mailbox = ""
		f.wantProblem(f.do(r), 401, "unauthorized")
	}
}

func TestGuessingIsSlowed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.submit(1, start, anna, bruno)
	good := request{path: "/v1/messages", mailbox: anna, remote: "[2001:db8:1:2:3::4]:55"}
	bad := good
	bad.password = "wrong"
	for i := range logins.AddressBurst {
		bad.mailbox = fmt.Sprintf("box%d@pec.example", i) // whatever account
		bad.remote = fmt.Sprintf("[2001:db8:1:2::%x]:99", i+1)
		f.wantProblem(f.do(bad), 401, "unauthorized")
	}
	calls := f.auth.calls.Load()
	w := f.do(bad)
	f.wantProblem(w, 429, "too-many-requests")
	if w.Header().Get("Retry-After") != "6" || f.auth.calls.Load() != calls {
		t.Errorf("Retry-After %q, %d passwords checked", w.Header().Get("Retry-After"), f.auth.calls.Load()-calls)
	}
	f.wantProblem(f.do(good), 429, "too-many-requests") // the same network
	good.remote = "[2001:db8:1:3::4]:55"
	if w := f.do(good); w.Code != 200 {
		t.Errorf("another network: %d", w.Code)
	}
	good.remote = bad.remote
	f.set(f.wall().Add(logins.AddressRefill))
	if w := f.do(good); w.Code != 200 {
		t.Errorf("after the wait: %d", w.Code)
	}
	if w := f.do(good); w.Code != 200 { // a right password costs nothing
		t.Errorf("and again: %d", w.Code)
	}
}

// Many addresses that try one account are stopped, and its holder is not where he
// was let in before.
func TestDistributedGuessing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.submit(1, start, anna, bruno)
	home := request{path: "/v1/messages", mailbox: anna, remote: "203.0.113.1:1"}
	if w := f.do(home); w.Code != 200 {
		t.Fatal(w.Code)
	}
	refused := 0
	for i := range logins.AccountBurst + 10 {
		w := f.do(request{path: "/v1/messages", mailbox: "ANNA@pec.example", password: "wrong", remote: fmt.Sprintf("198.51.%d.%d:1", i/200, i%200)})
		if w.Code == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused != 10 {
		t.Errorf("%d attempts refused", refused)
	}
	if w := f.do(home); w.Code != 200 {
		t.Errorf("the holder at home: %d", w.Code)
	}
	if w := f.do(request{path: "/v1/messages", mailbox: bruno, remote: "198.51.0.1:1"}); w.Code != 200 {
		t.Errorf("another account: %d", w.Code)
	}
}

func TestRequestsOfAMailboxAtOnce(t *testing.T) {
	t.Parallel()
	f := newInFlight(2)
	for i, c := range []struct {
		key  string
		want bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}} {
		if f.enter(c.key) != c.want {
			t.Errorf("request %d: not %v", i, c.want)
		}
	}
	f.leave("a")
	if !f.enter("a") {
		t.Error("a place that was left is not free")
	}
	f.leave("a")
	f.leave("a")
	f.leave("b")
	if len(f.n) != 0 {
		t.Errorf("%v", f.n)
	}
}

// No parameter makes the API fail, or say more than that it is wrong.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.submit(1, start, anna, bruno)
	f.set(start.Add(time.Hour))
	for _, q := range []string{"limit=0", "limit=-1", "limit=201", "limit=1e1", "limit=99999999999999999999", "limit=", "limit=1&limit=1", "cursor=", "cursor=AAAA", "cursor=" + strings.Repeat("A", 5000),
		"cursor=..%2F..%2Fetc", "from=yesterday", "from=2026-13-01T00:00:00Z", "from=2026-11-01T00:00:00+01:00", "from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "to=0001-01-01T00:00:00Z",
		"from=-0001-01-01T00:00:00Z", "counterpart=", "counterpart=a", "counterpart=a%00@b", "counterpart=a%0d%0a@b", "counterpart=" + strings.Repeat("a", 400) + "@b", "counterpart=%ff@b",
		"subject=", "subject=a+b", "subject=%ff", "subject=" + strings.Repeat("ab+", 400), "subject=ab&subject=cd", "kind=", "kind=Delivered", "kind=extract-asked", "kind=started", "kind=1",
		"message_id=", "message_id=a%20b", "message_id=%3C%3E", "message_id=" + strings.Repeat("a", 999), "receipt_id=", "receipt_id=%00", "identifier=a@b",
		"mailbox=bruno@pec.example", "FROM=2026-11-01T00:00:00Z", "%zz=1", "a=%", "x;y=1", "constructor[prototype]=1"} {
		f.wantProblem(f.do(request{path: "/v1/messages?" + q, mailbox: anna}), 400, "bad-parameter")
	}
	for _, p := range []string{"/v1/messages/%00", "/v1/messages/a%0d%0ab", "/v1/messages/%20", "/v1/messages/%ff", "/v1/messages/%3C%3E", "/v1/messages/" + strings.Repeat("a", 999), "/v1/receipts/%00", "/v1/receipts/a%20b"} {
		f.wantProblem(f.do(request{path: p, mailbox: anna}), 400, "bad-parameter")
	}
	for _, p := range []string{"/v1", "/v1/", "/v1/messages/", "/v1/messages/a/b", "/v1/messages/..%2f..%2fetc%2fpasswd", "/v1/messages/*", "/v1/extracts/..", "/v1/extracts/ABCDEF", "/v1/extracts/" + strings.Repeat("0", 32),
		"/v1/extracts/" + strings.Repeat("0", 32) + "/file", "/v1/extracts/x/file", "/v2/messages", "/V1/messages", "/etc/passwd", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
		"/tile/0/000", "/tile/../checkpoint", "/tile/", "/tile", "/tile/entries/999", "/timestamp/", "/timestamp/5", "/timestamp/5.tsr", "/timestamp/05.tsr", "/timestamp/+5.tsr", "/timestamp/5.tsq", "/timestamp/..%2f5.tsr",
		"/timestamp/99999999999999999999.tsr", "/scripta/0002/checkpoint", "/scripta/0001/", "/scripta/", "/checkpoint/", "/metrics", "/debug/pprof/"} {
		f.wantProblem(f.do(request{path: p, mailbox: anna}), 404, "not-found")
	}
	for _, r := range []request{{method: "DELETE", path: "/v1/messages"}, {method: "PUT", path: "/v1/extracts"}, {method: "POST", path: "/checkpoint"}, {method: "TRACE", path: "/"}, {method: "HEAD", path: "/v1/messages"}} {
		w := f.do(r)
		if r.method == "HEAD" {
			if w.Code != 405 || w.Body.Len() != 0 {
				t.Errorf("%s %s: %d", r.method, r.path, w.Code)
			}
			continue
		}
		f.wantProblem(w, 405, "method-not-allowed")
	}
	if strings.Contains(f.logged.String(), "level=ERROR") {
		t.Errorf("an error was logged: %s", f.logged)
	}
}

// The log names routes and request ids, never mailboxes and identifiers.
func TestLogHoldsNoPersonalData(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.submit(1, start, anna, bruno)
	f.set(start.Add(time.Hour))
	for _, r := range []request{{path: "/v1/messages?counterpart=" + bruno, mailbox: anna}, {path: messageHref(m.id()), mailbox: anna}, {path: receiptHref(m.id()), mailbox: anna},
		{path: receiptHref(m.id()), mailbox: carla}, {path: "/v1/messages", mailbox: anna, password: "sesame"}} {
		f.do(r)
	}
	said := f.logged.String()
	for _, secret := range []string{"anna", "bruno", "carla", "opec.1", "sesame", "192.0.2."} {
		if strings.Contains(said, secret) {
			t.Errorf("the log tells of %q:\n%s", secret, said)
		}
	}
	if strings.Count(said, "msg=request ") != 5 || !strings.Contains(said, "route=/v1/messages/:id ") {
		t.Errorf("%s", said)
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, r := range []request{{path: "/"}, {path: "/status"}, {path: "/nothing"}, {path: "/v1/messages", mailbox: anna}, {path: "/v1/messages"}, {path: "/checkpoint"}} {
		h := f.do(r).Header()
		if h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("X-Request-Id") == "" ||
			h.Get("Strict-Transport-Security") == "" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Server") != "" {
			t.Errorf("%s: %v", r.path, h)
		}
		if cached := h.Get("Cache-Control"); strings.HasPrefix(r.path, "/v1") && !strings.Contains(cached, "no-store") {
			t.Errorf("%s: Cache-Control %q", r.path, cached)
		}
	}
	for host, want := range map[string]bool{"localhost": true, "localhost:10443": true, "127.0.0.1:10443": true, "[::1]:443": true, "::1": true, "pec.example": false, "pec.example:443": false} {
		if local(host) != want {
			t.Errorf("local(%q) is %v", host, !want)
		}
	}
}

// A panic becomes an answer, or cuts the connection; it never ends the process,
// nor leaves a place taken.
func TestPanicIsAnswered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.o.Requests = nil // whatever uses it panics
	for range requestsPerMailbox + 1 {
		f.wantProblem(f.do(request{path: "/v1/extracts", mailbox: anna}), 500, "internal")
	}
	if !strings.Contains(f.logged.String(), "panic") || len(f.own.n) != 0 || len(f.slots) != 0 {
		t.Errorf("%s", f.logged)
	}
}

// The whole way over TLS, with the server's limits.
func TestServer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.submit(1, start, anna, bruno)
	f.set(start.Add(time.Hour))
	ts := httptest.NewUnstartedServer(nil)
	var said bytes.Buffer
	ts.Config = NewServer(f.Handler(), nil, slog.New(slog.NewTextHandler(&said, nil)))
	ts.EnableHTTP2 = true
	ts.StartTLS()
	defer ts.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), "GET", ts.URL+receiptHref(m.id()), nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.SetBasicAuth(anna, "anna-pw")
			resp, err := ts.Client().Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			var body bytes.Buffer
			if _, err := body.ReadFrom(resp.Body); err != nil || resp.StatusCode != 200 || !bytes.Equal(body.Bytes(), m.bytes[m.id()]) {
				t.Errorf("%d, %d bytes, %v", resp.StatusCode, body.Len(), err)
			}
			if resp.ProtoMajor != 2 || resp.Header.Get("Strict-Transport-Security") != "" {
				t.Errorf("%s, %v", resp.Proto, resp.Header)
			}
		})
	}
	wg.Wait()
	req, err := http.NewRequestWithContext(t.Context(), "GET", ts.URL+"/", nil)
	f.must(err)
	req.Header.Set("X-Long", strings.Repeat("a", 2*maxHeader))
	if resp, err := ts.Client().Do(req); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("headers of %d bytes: %d", 2*maxHeader, resp.StatusCode)
		}
	}
}
