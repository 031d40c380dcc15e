package senderauth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/foxcpp/go-mockdns"
)

// signed returns a message with a DKIM signature of a domain, and the key's record.
func signed(t testing.TB, domain, message string) (string, mockdns.Zone) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := dkim.Sign(&b, strings.NewReader(message), &dkim.SignOptions{Domain: domain, Selector: "s", Signer: key}); err != nil {
		t.Fatal(err)
	}
	return b.String(), mockdns.Zone{TXT: []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)}}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const plain = "From: anna@a.example\r\nTo: b@pec.example\r\nSubject: x\r\n\r\nciao\r\n"
	good, key := signed(t, "a.example", plain)
	zones := func(change func(map[string]mockdns.Zone)) *mockdns.Resolver {
		z := map[string]mockdns.Zone{
			"a.example.":              {TXT: []string{"v=spf1 ip4:192.0.2.1 -all"}},
			"_dmarc.a.example.":       {TXT: []string{"v=DMARC1; p=reject"}},
			"s._domainkey.a.example.": key,
			"mx.a.example.":           {TXT: []string{"v=spf1 ip4:192.0.2.1 -all"}},
			"other.example.":          {TXT: []string{"v=spf1 ip4:192.0.2.1 -all"}},
			"strict.example.":         {TXT: []string{"v=spf1 +all"}},
			"_dmarc.strict.example.":  {TXT: []string{"v=DMARC1; p=none; aspf=s"}},
			"mail.strict.example.":    {TXT: []string{"v=spf1 +all"}},
		}
		if change != nil {
			change(z)
		}
		return &mockdns.Resolver{Zones: z}
	}
	from := func(a string) Sender {
		_, _, _ = strings.Cut(a, "@")
		return Sender{IP: net.ParseIP("192.0.2.1"), Helo: "mx.a.example", ReversePath: a, From: []string{a}}
	}
	elsewhere := from("anna@a.example")
	elsewhere.IP = net.ParseIP("192.0.2.9")
	bounce := from("")
	bounce.From = []string{"mailer@a.example"}
	unaligned := from("x@other.example")
	unaligned.From = []string{"anna@a.example"}
	sub := from("x@mail.strict.example")
	sub.From = []string{"x@strict.example"}
	two := from("anna@a.example")
	two.From = []string{"a@a.example", "b@a.example"}
	hostile := from("a@x.example;spf=pass")
	for name, x := range map[string]struct {
		s    Sender
		msg  string
		dns  Resolver
		want []string
	}{
		"all good":    {from("anna@a.example"), good, zones(nil), []string{"spf=pass smtp.mailfrom=a.example", "dkim=pass header.d=a.example", "dmarc=pass header.from=a.example"}},
		"SPF alone":   {from("anna@a.example"), plain, zones(nil), []string{"spf=pass smtp.mailfrom=a.example", "dkim=none", "dmarc=pass header.from=a.example"}},
		"DKIM alone":  {elsewhere, good, zones(nil), []string{"spf=fail smtp.mailfrom=a.example", "dkim=pass header.d=a.example", "dmarc=pass header.from=a.example"}},
		"nothing":     {elsewhere, plain, zones(nil), []string{"spf=fail smtp.mailfrom=a.example", "dkim=none", "dmarc=fail header.from=a.example policy.published-domain-policy=reject"}},
		"changed":     {elsewhere, strings.Replace(good, "ciao", "CIAO", 1), zones(nil), []string{"spf=fail smtp.mailfrom=a.example", "dkim=fail header.d=a.example", "dmarc=fail header.from=a.example policy.published-domain-policy=reject"}},
		"bounce":      {bounce, plain, zones(nil), []string{"spf=pass smtp.helo=mx.a.example", "dkim=none", "dmarc=pass header.from=a.example"}},
		"not aligned": {unaligned, plain, zones(nil), []string{"spf=pass smtp.mailfrom=other.example", "dkim=none", "dmarc=fail header.from=a.example policy.published-domain-policy=reject"}},
		"strictly":    {sub, plain, zones(nil), []string{"spf=pass smtp.mailfrom=mail.strict.example", "dkim=none", "dmarc=fail header.from=strict.example policy.published-domain-policy=none"}},
		"no records":  {from("x@none.example"), plain, zones(nil), []string{"spf=none smtp.mailfrom=none.example", "dkim=none", "dmarc=none header.from=none.example"}},
		"no key":      {from("anna@a.example"), good, zones(func(z map[string]mockdns.Zone) { delete(z, "s._domainkey.a.example.") }), []string{"spf=pass smtp.mailfrom=a.example", "dkim=permerror header.d=a.example", "dmarc=pass header.from=a.example"}},
		"DNS is down": {from("anna@a.example"), good, zones(func(z map[string]mockdns.Zone) {
			for n := range z {
				z[n] = mockdns.Zone{Err: &net.DNSError{Err: "down", IsTemporary: true}}
			}
		}), []string{"spf=temperror smtp.mailfrom=a.example", "dkim=temperror header.d=a.example", "dmarc=temperror header.from=a.example"}},
		"two authors":    {two, plain, zones(nil), []string{"spf=pass smtp.mailfrom=a.example", "dkim=none", "dmarc=permerror"}},
		"no peer":        {Sender{}, plain, zones(nil), []string{"spf=none", "dkim=none", "dmarc=permerror"}},
		"hostile domain": {hostile, plain, zones(nil), []string{"spf=none smtp.mailfrom=invalid", "dkim=none", "dmarc=none header.from=invalid"}},
	} {
		if got := Check(t.Context(), x.dns, x.s, strings.NewReader(x.msg)); !slices.Equal(got, x.want) {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

// silent never answers.
type silent struct{}

func (silent) LookupTXT(ctx context.Context, _ string) ([]string, error) { return nil, wait(ctx) }
func (silent) LookupMX(ctx context.Context, _ string) ([]*net.MX, error) { return nil, wait(ctx) }
func (silent) LookupIPAddr(ctx context.Context, _ string) ([]net.IPAddr, error) {
	return nil, wait(ctx)
}
func (silent) LookupAddr(ctx context.Context, _ string) ([]string, error) { return nil, wait(ctx) }

func wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// DNS that never answers costs a bounded time, and the message goes on.
func TestSilentDNS(t *testing.T) {
	t.Parallel()
	msg, _ := signed(t, "a.example", "From: anna@a.example\r\n\r\nx\r\n")
	synctest.Test(t, func(t *testing.T) {
		got := Check(t.Context(), silent{}, Sender{IP: net.ParseIP("192.0.2.1"), Helo: "h", ReversePath: "anna@a.example", From: []string{"anna@a.example"}}, strings.NewReader(msg))
		for _, r := range got {
			if !strings.Contains(r, "="+temperror) {
				t.Errorf("%q", got)
			}
		}
		if len(got) != 3 {
			t.Errorf("%q", got)
		}
	})
}

// FuzzCheck reads any message and any records: it ends, and each result is one.
func FuzzCheck(f *testing.F) {
	msg, key := signed(f, "a.example", "From: anna@a.example\r\n\r\nx\r\n")
	f.Add(msg, "v=spf1 include:a.example -all", key.TXT[0], "v=DMARC1; p=reject")
	f.Add("DKIM-Signature: v=1; d=;\r\n\r\n", "v=spf1 exists:%{i}.%{d} ptr mx/0", "p=", "v=DMARC1")
	f.Fuzz(func(t *testing.T, msg, spf, key, policy string) {
		r := &mockdns.Resolver{Zones: map[string]mockdns.Zone{"a.example.": {TXT: []string{spf}}, "s._domainkey.a.example.": {TXT: []string{key}}, "_dmarc.a.example.": {TXT: []string{policy}}}}
		for _, got := range Check(t.Context(), r, Sender{IP: net.ParseIP("192.0.2.1"), Helo: "h", ReversePath: "anna@a.example", From: []string{"anna@a.example"}}, strings.NewReader(msg)) {
			if strings.ContainsAny(got, ";\r\n()\"") || strings.Count(got, "=") > 3 {
				t.Fatalf("%q", got)
			}
		}
	})
}
