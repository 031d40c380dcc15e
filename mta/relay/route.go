package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Resolver asks DNS; [net.Resolver] is one.
type Resolver interface {
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Routes say which servers take the mail of a domain, in the order in which they are tried, instead of its MX records.
// The domain "*" stands for every domain without a route of its own.
type Routes map[string][]string

// ParseRoutes reads routes as configuration has them, "domain=host:port" each. A domain that is named several times has
// several servers.
func ParseRoutes(list []string) (Routes, error) {
	routes := Routes{}
	for _, s := range list {
		domain, server, ok := strings.Cut(s, "=")
		host, port, err := net.SplitHostPort(server)
		_, notIP := netip.ParseAddr(host)
		p, perr := strconv.ParseUint(port, 10, 16)
		domain = strings.ToLower(domain)
		if !ok || err != nil || perr != nil || p == 0 || notIP != nil && !hostname(host) || domain != "*" && !hostname(domain) {
			return nil, fmt.Errorf(`%.200q is not a route: write "domain=host:port", such as "example.it=mx.example.it:25"`, s)
		}
		routes[domain] = append(routes[domain], net.JoinHostPort(host, port))
	}
	return routes, nil
}

// of returns the domain's route, or nil.
func (r Routes) of(domain string) []string {
	if s := r[domain]; s != nil {
		return s
	}
	return r["*"]
}

// server is one that takes mail of a domain.
type server struct {
	host string // name, or IP address of a route
	port string
	pref uint16
	mx   bool // from DNS: policies of the domain apply
}

// routed are the servers of a domain.
type routed struct {
	servers []server // sorted by preference and name
	policy  *stsPolicy
	secure  bool // DNS proved the MX records (RFC 7672 §2.2.1)
	problem *Answer
}

// key is equal for domains whose mail one transaction can carry.
func (r *routed) key() string {
	var b strings.Builder
	for _, s := range r.servers {
		fmt.Fprintf(&b, "%d %s %s %t\n", s.pref, s.host, s.port, s.mx)
	}
	if r.policy != nil {
		fmt.Fprintf(&b, "%s %q", r.policy.mode, r.policy.mx)
	}
	fmt.Fprint(&b, r.secure)
	return b.String()
}

// shuffled returns the servers in the order in which they are tried: by preference, those of the same one at random
// (RFC 5321 §5.1).
func (r *routed) shuffled() []server {
	s := slices.Clone(r.servers)
	rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	slices.SortStableFunc(s, func(a, b server) int { return cmp.Compare(a.pref, b.pref) })
	return s
}

// route finds the servers of a domain: those configured, then those of its MX records, then the domain itself
// (RFC 5321 §5.1).
func (t *Transport) route(ctx context.Context, domain string, certified bool) *routed {
	if list := t.Routes.of(domain); list != nil {
		r := new(routed)
		for i, s := range list {
			host, port, _ := net.SplitHostPort(s)
			r.servers = append(r.servers, server{host: host, port: port, pref: uint16(i)})
		}
		return r
	}
	mxs, secure, err := t.lookupMX(ctx, domain)
	if len(mxs) == 0 && err != nil && !notFound(err) { // some are returned beside an error about others
		return &routed{problem: &Answer{State: Deferred, Enhanced: "4.4.3", Text: dnsText(domain, err)}}
	}
	if len(mxs) == 1 && strings.TrimSuffix(mxs[0].Host, ".") == "" { // RFC 7505
		return &routed{problem: &Answer{State: Refused, Enhanced: "5.1.10", Text: "the domain " + domain + " accepts no mail (null MX)"}}
	}
	r := &routed{secure: secure}
	for _, mx := range mxs {
		if host := strings.ToLower(strings.TrimSuffix(mx.Host, ".")); hostname(host) {
			r.servers = append(r.servers, server{host: host, port: t.port(), pref: mx.Pref, mx: true})
		}
	}
	if len(mxs) > 0 && len(r.servers) == 0 {
		return &routed{problem: &Answer{State: Deferred, Enhanced: "4.4.4", Text: "the MX records of " + domain + " name no server"}}
	}
	if len(mxs) == 0 {
		if _, err := t.lookupIP(ctx, domain); err != nil {
			return &routed{problem: noAddress(domain, certified, err)}
		}
		r.servers = []server{{host: domain, port: t.port(), mx: true}}
	}
	slices.SortFunc(r.servers, func(a, b server) int {
		return cmp.Or(cmp.Compare(a.pref, b.pref), cmp.Compare(a.host, b.host))
	})
	if i := slices.IndexFunc(r.servers, func(s server) bool { return strings.EqualFold(s.host, t.Name) }); i >= 0 {
		// We are one of its servers: only better ones than we are may be asked.
		pref := r.servers[i].pref
		r.servers = slices.DeleteFunc(r.servers, func(s server) bool { return s.pref >= pref })
		if len(r.servers) == 0 {
			return &routed{problem: &Answer{State: Refused, Enhanced: "5.4.6", Text: "the mail of " + domain + " comes back to this server: it is not one of our domains, but its MX record says so"}}
		}
	}
	if t.Policies != nil && !certified {
		r.policy = t.Policies.policy(ctx, domain)
	}
	return r
}

// noAddress judges a domain without MX records and without an address. A domain that is in the index of providers
// exists: its want in DNS is a fault that somebody mends.
func noAddress(domain string, certified bool, err error) *Answer {
	switch {
	case !notFound(err):
		return &Answer{State: Deferred, Enhanced: "4.4.3", Text: dnsText(domain, err)}
	case certified:
		return &Answer{State: Deferred, Enhanced: "4.4.4", Text: "DNS knows no server of " + domain + ", which the index of providers lists"}
	}
	return &Answer{State: Refused, Enhanced: "5.1.2", Text: "the domain " + domain + " does not exist, or takes no mail"}
}

func (t *Transport) lookupMX(ctx context.Context, domain string) (mxs []*net.MX, secure bool, err error) {
	if t.DANE != nil {
		return t.DANE.mx(ctx, domain)
	}
	mxs, err = t.resolver().LookupMX(ctx, domain)
	return mxs, false, err
}

// lookupIP returns the addresses of a host, in the resolver's order; none is an error.
func (t *Transport) lookupIP(ctx context.Context, host string) ([]net.IPAddr, error) {
	found, err := t.resolver().LookupIPAddr(ctx, host)
	if err == nil && len(found) == 0 {
		err = &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	return found, err
}

func notFound(err error) bool {
	var d *net.DNSError
	return errors.As(err, &d) && d.IsNotFound
}

func dnsText(name string, err error) string {
	var d *net.DNSError
	if errors.As(err, &d) {
		return printable("DNS gave no answer about "+name+": "+d.Err, maxReplyText)
	}
	return printable("DNS gave no answer about "+name+": "+err.Error(), maxReplyText)
}

// NewResolver asks the DNS server at address, IP:port; the system's if it is empty.
func NewResolver(address string) Resolver {
	if address == "" {
		return net.DefaultResolver
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
}
