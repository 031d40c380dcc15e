package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/internal/logins"
)

// What an account is over is put off with 451 and the time of room, before and
// after a restart; other accounts send, and everything accepted has its outcome.
func TestRatesOfAccounts(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia", "anna"}, func(c *config.Config) {
		c.Mail.MaxRecipients = 2
		c.Limits.MessagesPerHour, c.Limits.RecipientsPerDay = 3, 4
	})
	p.start(t)
	for i := range 3 {
		p.send(t, letter{from: address("mario"), to: []string{address("lucia")}, subject: fmt.Sprint("Messaggio ", i)})
	}
	const tooMany = "451 4.7.1 Troppi messaggi di questa casella in un'ora, riprovare tra 6"
	put := func(local string, to ...string) string {
		c := must[*client](t)(p.login(local))
		defer c.Close()
		err := c.submit(address(local), to, letter{from: address(local), to: to, subject: "Uno di troppo"}.String())
		if err != nil && refusal(err) == "" {
			t.Fatal(err)
		}
		return refusal(err)
	}
	if said := put("mario", address("lucia")); !strings.HasPrefix(said, tooMany) || !strings.Contains(said, " / Too many messages of this account in an hour, try again in 6") {
		t.Errorf("the fourth message: %q", said)
	}
	// Two recipients and two: the day is full, and a message is put off whole.
	for range 2 {
		if said := put("lucia", address("mario"), address("anna")); said != "" {
			t.Errorf("lucia: %q", said)
		}
	}
	if said := put("lucia", address("mario")); !strings.HasPrefix(said, "451 4.7.1 Troppi destinatari di questa casella in un giorno") {
		t.Errorf("a fifth recipient: %q", said)
	}
	if said := put("anna", address("mario")); said != "" {
		t.Errorf("another account: %q", said)
	}
	p.idle(t, waitMail)
	if m := p.scrape(t); m[`scripta_mta_limited_total{limit="messages_per_hour"}`] != 1 || m[`scripta_mta_limited_total{limit="recipients_per_day"}`] != 1 {
		t.Errorf("limits in metrics: %v", m)
	}
	p.stop(t)
	p.start(t)
	if said := put("mario", address("lucia")); !strings.HasPrefix(said, tooMany) {
		t.Errorf("after a restart: %q", said)
	}
	// After a crash, too, what was written down counts; and without it, or with
	// what nobody wrote, the provider starts.
	p.daemon.kill()
	p.start(t)
	if said := put("mario", address("lucia")); !strings.HasPrefix(said, tooMany) {
		t.Errorf("after a crash: %q", said)
	}
	p.stop(t)
	if err := os.WriteFile(p.dir.LimitsState(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	if said := put("mario", address("lucia")); said != "" {
		t.Errorf("counts that begin anew: %q", said)
	}
	p.idle(t, waitMail)
	p.stop(t)
	p.verifyLog(t)
}

// Wrong passwords count together wherever they are tried: both submission ports
// and the API.
func TestGuessingIsSlowedOnEveryPort(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario"}, nil)
	p.start(t)
	api := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	ask := func() int {
		req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+p.listen.HTTPS+"/v1/messages", nil))
		req.SetBasicAuth(address("mario"), "sbagliata")
		resp := must[*http.Response](t)(api.Do(req))
		resp.Body.Close()
		return resp.StatusCode
	}
	dials := []func() (*client, error){p.dial, p.dialStartTLS}
	slowed := 0
	for i := range logins.AddressBurst {
		if i%3 == 0 {
			if code := ask(); code != http.StatusUnauthorized {
				t.Fatalf("guess %d: %d", i, code)
			}
			continue
		}
		c := must[*client](t)(dials[i%3-1]())
		if said := refusal(c.auth(address("mario"), "sbagliata")); !strings.HasPrefix(said, "535 ") {
			t.Fatalf("guess %d: %q", i, said)
		}
		c.Close()
	}
	// Guessing took a while, in which some tokens came back.
	eventually(t, waitMail, "slowing on every port", func() bool {
		slowed = 0
		for _, dial := range dials {
			c := must[*client](t)(dial())
			if strings.HasPrefix(refusal(c.auth(address("mario"), "sbagliata")), "421 4.7.0 ") {
				slowed++
			}
			c.Close()
		}
		if ask() == http.StatusTooManyRequests {
			slowed++
		}
		return slowed == 3
	})
	m := p.scrape(t)
	for _, name := range []string{"scripta_mta_auth_failures_total", "scripta_mta_auth_slowed_total", "scripta_api_auth_failures_total", "scripta_api_auth_slowed_total"} {
		if m[name] < 1 {
			t.Errorf("%s is %v", name, m[name])
		}
	}
}

// dialStartTLS connects to the port that begins in clear.
func (p *provider) dialStartTLS() (*client, error) {
	conn, err := net.DialTimeout("tcp", p.listen.Submission, patience)
	if err != nil {
		return nil, err
	}
	c := &client{Conn: textproto.NewConn(conn), conn: conn}
	_, err = c.answer()
	if err == nil {
		err = c.expect(250, "EHLO client.example")
	}
	if err == nil {
		err = c.expect(220, "STARTTLS")
	}
	if err == nil {
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		c = &client{Conn: textproto.NewConn(secure), conn: secure}
		err = c.expect(250, "EHLO client.example")
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// The counts are written down within their time, not only at the end.
func TestRatesAreWrittenDown(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, func(c *config.Config) { c.Limits.MessagesPerHour = 1 })
	p.start(t)
	p.send(t, letter{from: address("mario"), to: []string{address("lucia")}, subject: "Uno"})
	eventually(t, time.Minute, "the counts on the disk", func() bool {
		b, _ := os.ReadFile(p.dir.LimitsState())
		return strings.Contains(string(b), address("mario"))
	})
	p.daemon.kill()
	p.start(t)
	c := must[*client](t)(p.login("mario"))
	defer c.Close()
	if said := refusal(c.expect(250, "MAIL FROM:<"+address("mario")+">")); !strings.HasPrefix(said, "451 4.7.1 ") {
		t.Errorf("after a crash: %q", said)
	}
}

// On port 25 an address comes, and begins transactions, so often in a minute, and
// no oftener; a network that is exempt as often as it likes.
func TestRatesOfAddresses(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario"}, func(c *config.Config) {
		c.Limits.ConnectionsPerMinute, c.Limits.TransactionsPerMinute = 3, 2
	})
	p.start(t)
	greeted := func() (*client, error) {
		conn, err := net.DialTimeout("tcp", p.listen.Incoming, patience)
		if err != nil {
			return nil, err
		}
		c := &client{Conn: textproto.NewConn(conn), conn: conn}
		if _, err = c.answer(); err == nil {
			err = c.expect(250, "EHLO mx.altro.example")
		}
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	}
	begin := func(c *client) string {
		return refusal(c.expect(250, "MAIL FROM:<qualcuno@altro.example>"))
	}
	var open []*client
	for range 3 {
		c := must[*client](t)(greeted())
		defer c.Close()
		open = append(open, c)
	}
	if _, err := greeted(); !strings.HasPrefix(refusal(err), "421 4.7.0 Troppe connessioni") {
		t.Errorf("the fourth connection: %v", err)
	}
	for i, c := range open {
		said := begin(c)
		if i < 2 && said != "" || i == 2 && !strings.HasPrefix(said, "451 4.7.1 Troppe transazioni in un minuto, riprovare tra ") {
			t.Errorf("transaction %d: %q", i+1, said)
		}
	}
	if m := p.scrape(t); m[`scripta_mta_limited_total{limit="connections_per_minute"}`] != 1 || m[`scripta_mta_limited_total{limit="transactions_per_minute"}`] != 1 {
		t.Errorf("limits in metrics: %v", m)
	}
	// The users' ports have other limits.
	for range 5 {
		must[*client](t)(p.login("mario")).Close()
	}
	p.stop(t)
	p.configure(t, func(c *config.Config) { c.Limits.Exempt = []string{"127.0.0.0/8"} })
	p.start(t)
	for i := range 6 {
		c := must[*client](t)(greeted())
		defer c.Close()
		if said := begin(c); said != "" {
			t.Errorf("exempt, transaction %d: %q", i+1, said)
		}
	}
}
