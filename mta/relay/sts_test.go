package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/foxcpp/go-mockdns"
)

const policyText = "version: STSv1\r\nmode: enforce\r\nmx: mx.b.example\r\nmx: *.c.example\r\nmax_age: 604800\r\n"

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	p, err := parsePolicy(policyText)
	if err != nil || !p.enforce() || p.maxAge != 7*24*time.Hour {
		t.Fatalf("%+v, %v", p, err)
	}
	for host, want := range map[string]bool{"mx.b.example": true, "b.example": false, "x.mx.b.example": false, "a.c.example": true, "c.example": false, "a.a.c.example": false, "": false, "example": false} {
		if p.allows(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
	for name, s := range map[string]string{
		"unknown keys, LF": "version: STSv1\nmode: testing\nfuture: x\nmx: A.example\nmax_age: 0\n",
		"none":             "version: STSv1\nmode: none\nmax_age: 86400",
		"odd spaces":       "version:STSv1  \nmode:   enforce\nmx:\ta.example\nmax_age : 1\n\n",
		"twice":            "version: STSv1\nmode: testing\nmode: enforce\nmx: a.example\nmax_age: 1\nmax_age: x\n",
	} {
		if p, err := parsePolicy(s); err != nil || p.enforce() != (name == "odd spaces") {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for name, s := range map[string]string{
		"empty": "", "HTML": "<!DOCTYPE html>\n<html>", "version": strings.Replace(policyText, "v1", "v2", 1), "mode": strings.Replace(policyText, "enforce", "strict", 1),
		"no server": "version: STSv1\nmode: enforce\nmax_age: 1\n", "no age": "version: STSv1\nmode: none\n", "age": strings.Replace(policyText, "604800", "-1", 1),
		"long age": strings.Replace(policyText, "604800", strings.Repeat("9", 40), 1), "server": strings.Replace(policyText, "mx.b.example", "mx b", 1),
		"pattern": strings.Replace(policyText, "mx.b.example", "a.*.example", 1), "large": policyText + strings.Repeat("a: b\n", 20_000), "many": policyText + strings.Repeat("mx: a.b\n", 200),
	} {
		if p, err := parsePolicy(s); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestPolicyID(t *testing.T) {
	t.Parallel()
	for want, records := range map[string][]string{
		"20261123": {"v=STSv1; id=20261123;"}, "a1": {"x", "v=STSv1;id=a1"}, "b": {"v=STSv1 ; foo=bar; id=b; id=c"},
		"": {"v=STSv1; id=1", "v=STSv1; id=2"},
	} {
		if id, ok := stsID(records); id != want || ok != (want != "") {
			t.Errorf("%q: %q", records, id)
		}
	}
	for _, bad := range []string{"v=STSv1", "v=STSv1; id=", "v=STSv2; id=1", "v=STSv1; id=a b", "v=STSv1; id=" + strings.Repeat("1", 33), "id=1", ""} {
		if id, ok := stsID([]string{bad}); ok {
			t.Errorf("%q: %q", bad, id)
		}
	}
}

// stsLan is a domain b.example with a policy server and one mail server at 192.0.2.2.
type stsLan struct {
	*network
	mail  *peer
	roots *x509.CertPool

	mu     sync.Mutex
	text   string
	kind   string
	status int
	asked  int
	now    time.Time
}

// newSTSLan makes it; the mail server's certificate is for mailName, by an authority that counts if good.
func newSTSLan(t *testing.T, mailName string, good bool) *stsLan {
	t.Helper()
	s := &stsLan{text: policyText, kind: "text/plain; charset=utf-8", status: http.StatusOK, roots: x509.NewCertPool(), now: time.Now()}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked++
		if r.Host != "mta-sts.b.example" || r.URL.Path != "/.well-known/mta-sts.txt" {
			t.Errorf("asked for %s%s", r.Host, r.URL.Path)
		}
		w.Header().Set("Content-Type", s.kind)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, s.text)
	}))
	webCert := certificate(t, "mta-sts.b.example")
	web.TLS = &tls.Config{Certificates: []tls.Certificate{webCert}}
	web.StartTLS()
	t.Cleanup(web.Close)
	mailCert := certificate(t, mailName)
	s.roots.AddCert(webCert.Leaf)
	if good {
		s.roots.AddCert(mailCert.Leaf)
	}
	s.mail = newPeer(t, nil).withTLS(&tls.Config{Certificates: []tls.Certificate{mailCert}})
	s.network = lan(map[string]mockdns.Zone{
		"b.example.":          {MX: []net.MX{{Host: "mx.b.example.", Pref: 1}}},
		"mx.b.example.":       {A: []string{"192.0.2.2"}},
		"_mta-sts.b.example.": {TXT: []string{"v=STSv1; id=1;"}},
		"mta-sts.b.example.":  {A: []string{"192.0.2.80"}},
	}, map[string]*peer{"192.0.2.2": s.mail})
	s.at["192.0.2.80:443"] = web.Listener.Addr().String()
	return s
}

func (s *stsLan) transport() *Transport {
	tr := s.network.transport()
	tr.Policies = NewPolicies(tr.Resolver, s.network, s.roots)
	tr.Policies.now = func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now }
	return tr
}

// set changes the policy's server, or the time.
func (s *stsLan) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *stsLan) fetches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func TestPolicyIsKeptTo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mailName string
		good     bool
		change   func(*stsLan)
		state    State
		status   string
		part     string
	}{
		"good":                  {"mx.b.example", true, func(*stsLan) {}, Taken, "250", ""},
		"another name":          {"other.example", true, func(*stsLan) {}, Deferred, "4.7.5", "MTA-STS policy asks for TLS: x509"},
		"unknown authority":     {"mx.b.example", false, func(*stsLan) {}, Deferred, "4.7.5", "unknown authority"},
		"no TLS":                {"mx.b.example", true, func(s *stsLan) { s.mail.say("EHLO", "250 peer") }, Deferred, "4.7.0", "does not offer STARTTLS"},
		"TLS refused":           {"mx.b.example", true, func(s *stsLan) { s.mail.say("STARTTLS", "454 no") }, Deferred, "4.7.0", "does not start it"},
		"server is not listed":  {"mx.b.example", true, func(s *stsLan) { s.text = strings.Replace(policyText, "mx.b", "mx2.b", 1) }, Deferred, "4.7.5", "does not list"},
		"testing":               {"other.example", false, func(s *stsLan) { s.text = strings.Replace(policyText, "enforce", "testing", 1) }, Taken, "250", ""},
		"none":                  {"other.example", false, func(s *stsLan) { s.text = "version: STSv1\nmode: none\nmax_age: 1" }, Taken, "250", ""},
		"no policy":             {"other.example", false, func(s *stsLan) { delete(s.zones, "_mta-sts.b.example.") }, Taken, "250", ""},
		"policy elsewhere":      {"other.example", false, func(s *stsLan) { s.status = http.StatusFound }, Taken, "250", ""},
		"policy gone":           {"other.example", false, func(s *stsLan) { s.status = http.StatusNotFound }, Taken, "250", ""},
		"policy is HTML":        {"other.example", false, func(s *stsLan) { s.kind = "text/html" }, Taken, "250", ""},
		"policy is nonsense":    {"other.example", false, func(s *stsLan) { s.text = "hello" }, Taken, "250", ""},
		"policy server unknown": {"other.example", false, func(s *stsLan) { delete(s.zones, "mta-sts.b.example.") }, Taken, "250", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSTSLan(t, c.mailName, c.good)
			c.change(s)
			a := one(t, s.transport().Send(t.Context(), mailTo("a@b.example"), open(text)))
			a.want(t, c.state, c.status, c.part)
			if c.state == Taken && (a.Peer.TLS == "") {
				t.Error("not encrypted")
			}
			if (c.state == Taken) != (len(s.mail.taken()) == 1) || c.state != Taken && s.mail.heard("MAIL") {
				t.Errorf("%d messages arrived", len(s.mail.taken()))
			}
		})
	}
	// Certified mail goes by its own rule.
	s := newSTSLan(t, "other.example", false)
	one(t, s.transport().Send(t.Context(), certified("a@b.example"), open(text))).want(t, Taken, "250", "")
	if s.fetches() != 0 {
		t.Error("a policy was fetched for a provider")
	}
}

// A policy is fetched once, again when its id changes or its time is over, and holds while DNS or its server are silent.
func TestPolicyIsKept(t *testing.T) {
	t.Parallel()
	s := newSTSLan(t, "mx.b.example", true)
	tr := s.transport()
	policy := func(fetches int, enforced bool) {
		t.Helper()
		p := tr.Policies.policy(context.Background(), "b.example")
		if (p != nil && p.enforce()) != enforced || s.fetches() != fetches {
			t.Errorf("policy %+v after %d fetches, want %d", p, s.fetches(), fetches)
		}
	}
	record := func(txt ...string) { s.zones["_mta-sts.b.example."] = mockdns.Zone{TXT: txt} }
	policy(1, true)
	policy(1, true)
	record() // who hides the record does not get rid of the policy
	policy(1, true)
	s.set(func() { s.status = http.StatusInternalServerError })
	record("v=STSv1; id=2")
	policy(2, true) // the old one holds
	policy(2, true) // and its server is left in peace
	s.set(func() { s.now = s.now.Add(fetchAgain) })
	policy(3, true)
	s.set(func() {
		s.now, s.status, s.text = s.now.Add(fetchAgain), http.StatusOK, strings.Replace(policyText, "enforce", "none", 1)
	})
	policy(4, false)
	s.set(func() { s.text = policyText })
	policy(4, false)
	s.set(func() { s.now = s.now.Add(8 * 24 * time.Hour) }) // over
	policy(5, true)
	record()
	s.set(func() { s.now = s.now.Add(8 * 24 * time.Hour) })
	policy(5, false)
}

// What is kept is bounded.
func TestPoliciesAreBounded(t *testing.T) {
	t.Parallel()
	p := NewPolicies(&mockdns.Resolver{}, nil, nil)
	for i := range maxPolicies + 100 {
		p.entry(number(i).String(), true)
	}
	if p.entry("x.example", false) != nil || len(p.kept) != maxPolicies {
		t.Errorf("%d are kept", len(p.kept))
	}
}
