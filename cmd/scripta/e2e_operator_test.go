package main

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/internal/keys"
)

// https asks the provider's HTTPS port for a public path.
func (p *provider) https(t *testing.T, path string) (code int) {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, Timeout: patience}
	resp, err := h.Get("https://" + p.listen.HTTPS + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// A register whose month is far from the clock's takes nothing, says so
// everywhere, and goes on when a person confirms the month that it is, and only
// that one.
func TestClockJumped(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	now := keys.MonthOf(time.Now())
	p.start(t)
	p.stop(t)
	months := must[*keys.Months](t)(keys.OpenMonths(durable.OS, p.dir.Months(), p.dir.MasterKey()))
	if err := months.Confirm(now - 5); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	advice := "scripta clock confirm --month " + now.String()
	if code, out := p.scripta(t, "status"); code != 1 || !strings.Contains(out, "FAILED register") || !strings.Contains(out, advice) {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	if code := p.https(t, "/status"); code != http.StatusServiceUnavailable {
		t.Errorf("GET /status: %d", code)
	}
	l := letter{id: "<salto@mario.example>", from: address("mario"), to: []string{address("lucia")}, subject: "Salto"}
	c := must[*client](t)(p.login("mario"))
	if err := c.submit(l.from, l.to, l.String()); !strings.HasPrefix(refusal(err), "451 ") {
		t.Errorf("a message is answered %v", err)
	}
	_ = c.Close()
	if log := p.logged(t); !strings.Contains(log, "the clock jumped, and a person must") {
		t.Errorf("the log does not tell:\n%s", log)
	}
	for _, wrong := range []keys.Month{now - 5, now + 1, now - 1, now + 120} {
		if code, out := p.scripta(t, "clock", "confirm", "--month", wrong.String()); code != 1 || !strings.Contains(out, "clock says "+now.String()+", not "+wrong.String()) {
			t.Errorf("confirming %v: exit %d\n%s", wrong, code, out)
		}
	}
	if secrets := must[[]string](t)(filepath.Glob(filepath.Join(p.dir.Months(), "2*.secret"))); len(secrets) != 2 {
		t.Errorf("refused confirmations made secrets: %v", secrets)
	}
	p.command(t, "clock", "confirm", "--month", now.String())
	p.command(t, "status")
	if code := p.https(t, "/status"); code != http.StatusOK {
		t.Errorf("GET /status: %d", code)
	}
	p.send(t, l)
	p.checkOutcome(t, l.id, l.subject)
	p.stop(t)
	if code, out := p.scripta(t, "clock", "confirm", "--month", (now + 1).String()); code != 1 {
		t.Errorf("a stopped provider takes the next month: %s", out)
	}
	p.verifyLog(t)
}

// What an operator can get wrong is answered with what to do, by every command.
func TestOperatorMistakes(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario"}, nil)
	out := func(name string) string { return filepath.Join(t.TempDir(), name) }
	commands := func() [][]string {
		return [][]string{{"serve"}, {"log", "verify"}, {"archive", "close"},
			{"extract", "--mailbox", address("mario"), "--out", out("a.zip")}, {"clock", "confirm", "--month", keys.MonthOf(time.Now()).String()}}
	}
	fails := func(t *testing.T, args []string, want string) {
		t.Helper()
		if code, text := p.scripta(t, args...); code != 1 || !strings.Contains(text, want) {
			t.Errorf("scripta %s: exit %d, %s; want %q", strings.Join(args, " "), code, text, want)
		}
	}

	before := must[[]byte](t)(os.ReadFile(p.dir.Config()))
	p.configure(t, func(c *config.Config) { c.Log.ID = "altro" })
	for _, args := range commands() {
		fails(t, args, "somebody changed domain or log.id")
	}
	if err := os.WriteFile(p.dir.Config(), before, 0o600); err != nil {
		t.Fatal(err)
	}

	folder := p.dir
	p.dir = config.Dir(t.TempDir())
	for _, args := range append(commands(), []string{"status"}, []string{"archive", "list"}, []string{"archive", "verify"}) {
		fails(t, args, "is no provider's folder")
	}
	p.dir = folder

	unlock, err := durable.Lock(p.dir.Lock())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for _, args := range commands() {
		fails(t, args, "has "+string(p.dir)+" open: scripta status --dir "+string(p.dir)+" shows it; stop it first")
	}
	fails(t, []string{"status"}, "nobody serves")
}

// Stamps that fail for a while are a warning: nothing stops. For long, they are
// a failure.
func TestStampsFail(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario"}, func(c *config.Config) {
		c.TSA.URL, c.TSA.Embedded = "http://127.0.0.1:1/", false
		c.TSA.Interval = config.Duration{Duration: 2 * time.Second}
		c.TSA.DailyCeiling = 1_000_000
	})
	p.start(t)
	warned := false
	eventually(t, time.Minute, "status FAILED", func() bool {
		code, out := p.scripta(t, "status")
		warned = warned || code == 0 && strings.Contains(out, "warn   time stamps  no time stamp since ")
		return code == 1 && strings.Contains(out, "FAILED time stamps  no time stamp since ")
	})
	if !warned {
		t.Error("no warning came before the failure")
	}
	if code, out := p.scripta(t, "status"); code != 1 || !strings.Contains(out, "warn   clock        unknown: no time sources configured (records are marked") {
		t.Errorf("exit %d\n%s", code, out)
	}
}
