// Package senderauth finds out what the sender of ordinary mail can show for
// himself: SPF (RFC 7208), DKIM (RFC 6376) and DMARC (RFC 7489). The results are
// told to the reader of the anomaly envelope (RFC 8601); they decide nothing.
// Certified mail has its signature, and is never asked about.
//
// Everything comes from DNS, within a bounded time: what is not answered is a
// temperror, and the message goes on.
package senderauth

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"blitiri.com.ar/go/spf"
	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-msgauth/dmarc"
	"golang.org/x/net/publicsuffix"
)

// Resolver is what is asked; [net.Resolver] is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// Sender is who handed a message in.
type Sender struct {
	IP          net.IP
	Helo        string
	ReversePath string   // "" is the null one
	From        []string // addresses of the header
}

const (
	timeout       = 10 * time.Second // for all questions about a message
	maxSignatures = 5                // of DKIM; further ones are passed over
)

// results of a method, as RFC 8601 §2.7 calls them.
const (
	pass      = "pass"
	fail      = "fail"
	none      = "none"
	temperror = "temperror"
	permerror = "permerror"
)

// Check returns one result for each method and signature, in the form of the
// methods of an Authentication-Results field. It reads the message to its end.
func Check(ctx context.Context, r Resolver, s Sender, message io.Reader) []string {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	spfResult, spfDomain, text := checkSPF(ctx, r, s)
	all := []string{text}
	var signers []string // domains with a good signature
	for _, v := range checkDKIM(ctx, r, message) {
		all = append(all, v.text)
		if v.result == pass {
			signers = append(signers, v.domain)
		}
	}
	if spfResult != pass {
		spfDomain = ""
	}
	return append(all, checkDMARC(ctx, r, s.From, spfDomain, signers))
}

// checkSPF asks about the reverse path, or the HELO when that is null.
func checkSPF(ctx context.Context, r Resolver, s Sender) (result, domain, text string) {
	property := "smtp.mailfrom="
	_, domain, ok := strings.Cut(s.ReversePath, "@")
	if !ok {
		property, domain = "smtp.helo=", s.Helo
	}
	if s.IP == nil || domain == "" {
		return none, "", "spf=" + none
	}
	got, _ := spf.CheckHostWithSender(s.IP, s.Helo, s.ReversePath, spf.WithContext(ctx), spf.WithResolver(r))
	result = string(got)
	if ctx.Err() != nil && result != pass && result != fail {
		result = temperror
	}
	return result, domain, "spf=" + result + " " + property + word(domain)
}

// signature is what became of one DKIM signature.
type signature struct{ result, domain, text string }

func checkDKIM(ctx context.Context, r Resolver, message io.Reader) []signature {
	found, err := dkim.VerifyWithOptions(message, &dkim.VerifyOptions{MaxVerifications: maxSignatures,
		LookupTXT: func(domain string) ([]string, error) { return r.LookupTXT(ctx, domain) }})
	if len(found) == 0 {
		result := none
		if err != nil && !errors.Is(err, dkim.ErrTooManySignatures) {
			result = permerror
		}
		return []signature{{result: result, text: "dkim=" + result}}
	}
	var all []signature
	for _, v := range found {
		result := pass
		switch {
		case v.Err == nil:
		case dkim.IsTempFail(v.Err), ctx.Err() != nil:
			result = temperror
		case dkim.IsPermFail(v.Err):
			result = permerror
		default:
			result = fail
		}
		all = append(all, signature{result, v.Domain, "dkim=" + result + " header.d=" + word(v.Domain)})
	}
	return all
}

// checkDMARC asks for the policy of the domain that the header says the message is
// from, and whether SPF or DKIM speak for it.
func checkDMARC(ctx context.Context, r Resolver, from []string, spfDomain string, signers []string) string {
	if len(from) != 1 {
		return "dmarc=" + permerror
	}
	_, domain, ok := strings.Cut(from[0], "@")
	if !ok {
		return "dmarc=" + permerror
	}
	tell := func(result string) string { return "dmarc=" + result + " header.from=" + word(domain) }
	lookup := &dmarc.LookupOptions{LookupTXT: func(d string) ([]string, error) { return r.LookupTXT(ctx, d) }}
	policy, err := dmarc.LookupWithOptions(domain, lookup)
	if org := organization(domain); errors.Is(err, dmarc.ErrNoPolicy) && org != strings.ToLower(domain) {
		policy, err = dmarc.LookupWithOptions(org, lookup)
	}
	switch {
	case errors.Is(err, dmarc.ErrNoPolicy):
		return tell(none)
	case err != nil && (dmarc.IsTempFail(err) || ctx.Err() != nil):
		return tell(temperror)
	case err != nil:
		return tell(permerror)
	}
	if spfDomain != "" && aligned(spfDomain, domain, policy.SPFAlignment) {
		return tell(pass)
	}
	for _, d := range signers {
		if aligned(d, domain, policy.DKIMAlignment) {
			return tell(pass)
		}
	}
	return tell(fail) + " policy.published-domain-policy=" + word(string(policy.Policy))
}

// aligned says whether one domain speaks for another (RFC 7489 §3.1).
func aligned(a, b string, mode dmarc.AlignmentMode) bool {
	if mode == dmarc.AlignmentStrict {
		return strings.EqualFold(a, b)
	}
	return organization(a) == organization(b)
}

// organization is the organizational domain of one.
func organization(domain string) string {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if org, err := publicsuffix.EffectiveTLDPlusOne(domain); err == nil {
		return org
	}
	return domain
}

// word is what may stand as a value: a domain as it should be, and nothing that
// would read as another result.
func word(s string) string {
	const most = 255
	if s == "" || len(s) > most || strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._[]:", r)
	}) {
		return "invalid"
	}
	return s
}
