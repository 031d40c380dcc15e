package scan_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/mta/scan"
	"scripta/mta/scan/rspamdtest"
)

func letter(body string) scan.Mail {
	m := "From: a@ordinary.test\r\nTo: b@pec.test\r\nSubject: x\r\nMessage-ID: <1@ordinary.test>\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n\r\n" + body + "\r\n"
	return scan.Mail{Body: strings.NewReader(m), Size: int64(len(m)), From: "a@ordinary.test", Recipients: []string{"b@pec.test", "c@pec.test"}, Peer: "192.0.2.1:4711", Helo: "mx.ordinary.test"}
}

func TestRealRspamd(t *testing.T) {
	t.Parallel()
	c := &scan.Rspamd{URL: rspamdtest.Start(t), Timeout: 30 * time.Second}
	s, err := c.Check(context.Background(), letter(rspamdtest.GTUBE()))
	if err != nil || s.Action != "reject" || s.Score < 15 || s.Required != 15 || !slices.Contains(s.Symbols, "GTUBE") {
		t.Errorf("GTUBE: %+v, %v", s, err)
	}
	s, err = c.Check(context.Background(), letter("Ci vediamo domani alle dieci."))
	if err != nil || s.Action != "no action" || s.Score >= 6 {
		t.Errorf("ham: %+v, %v", s, err)
	}
}

// What rspamd is told, and what of its answers counts.
func TestRspamdDialog(t *testing.T) {
	t.Parallel()
	answer, status := "", http.StatusOK
	var got http.Header
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r.Header, string(b)
		if r.URL.Path != "/checkv2" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	c := &scan.Rspamd{URL: server.URL + "/", Timeout: 30 * time.Second}
	answer = `{"score":7.25,"required_score":15,"action":"add header","symbols":{"B":{"score":1},"A\r\nX: y":{}}}`
	m := letter("ciao")
	m.Helo = "evil\r\nX: y"
	s, err := c.Check(context.Background(), m)
	if err != nil || s.Score != 7.25 || s.Action != "add header" || !slices.Equal(s.Symbols, []string{"A__X_ y", "B"}) {
		t.Errorf("%+v, %v", s, err)
	}
	if got.Get("From") != m.From || got.Get("IP") != "192.0.2.1" || !slices.Equal(got.Values("Rcpt"), m.Recipients) || got.Get("Helo") != "" || !strings.HasSuffix(body, "ciao\r\n") {
		t.Errorf("told %v, %q", got, body)
	}
	for name, x := range map[string]struct {
		status int
		answer string
	}{
		"error": {500, `{"score":1}`}, "nothing": {200, ""}, "no score": {200, `{"action":"reject"}`}, "no number": {200, `{"score":"1"}`},
		"beyond": {200, `{"score":1e300}`}, "long": {200, `{"score":1,"x":"` + strings.Repeat("x", 1<<20) + `"}`},
	} {
		answer, status = x.answer, x.status
		if s, err := c.Check(context.Background(), letter("x")); s != nil || !errors.Is(err, scan.ErrNoScore) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	answer, status = `{"score":1}`, 200
	if c.Err() == nil {
		t.Error("the last failure is forgotten")
	}
	if _, err := c.Check(context.Background(), letter("x")); err != nil || c.Err() != nil {
		t.Errorf("answered again: %v, %v", err, c.Err())
	}
	server.Close()
	if s, err := c.Check(context.Background(), letter("x")); s != nil || !errors.Is(err, scan.ErrNoScore) {
		t.Errorf("nobody there: %+v, %v", s, err)
	}
}
