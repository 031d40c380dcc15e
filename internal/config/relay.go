package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Relay says how messages go to other mail servers.
type Relay struct {
	Hostname       string   `toml:"hostname" doc:"Name of this machine that EHLO says, as DNS and other servers know it; empty = the domain"`
	Routes         []string `toml:"routes" doc:"Servers to be used instead of a domain's MX records, \"domain=host:port\" each; \"*=host:port\" is for every other domain"`
	Ordinary       bool     `toml:"ordinary" doc:"Take messages for recipients of ordinary mail, too, and send them to their servers; those of certified mail are always taken"`
	Sessions       int      `toml:"sessions" range:"1..10000" doc:"Messages sent at once, in all; ordinary domains have three quarters of them"`
	PerDestination int      `toml:"per_destination" range:"1..1000" doc:"Messages sent at once to one provider, or one ordinary domain"`
	FirstDelay     Duration `toml:"first_delay" range:"100ms..1h" doc:"Time until a message that was put off is tried again; it doubles each time"`
	MaxDelay       Duration `toml:"max_delay" range:"100ms..6h" doc:"Longest time between two attempts"`
	Limit          Duration `toml:"limit" range:"1m..24h" doc:"After so long a message is given up and its sender told; RFC 6109 §2.2.2 says 24h, and shorter is for tests. Receipts are tried for 5 days"`
	ConnectTimeout Duration `toml:"connect_timeout" range:"1s..5m" doc:"How long a server may take to accept a connection; the other times are those of RFC 5321 §4.5.3.2"`
	Resolver       string   `toml:"resolver" doc:"DNS server, IP:port; empty = the system's"`
	MTASTS         bool     `toml:"mta_sts" doc:"Keep to the MTA-STS policies of ordinary domains (RFC 8461)"`
	DANE           bool     `toml:"dane" doc:"Keep to the TLSA records of ordinary domains (RFC 7672); resolver must be a validating one on this machine, whose word is taken for DNSSEC"`
}

func defaultRelay() Relay {
	return Relay{
		Routes:         []string{},
		Sessions:       64,
		PerDestination: 8,
		FirstDelay:     Duration{Duration: time.Minute},
		MaxDelay:       Duration{Duration: 30 * time.Minute},
		Limit:          Duration{Duration: 24 * time.Hour},
		ConnectTimeout: Duration{Duration: 30 * time.Second},
		MTASTS:         true,
	}
}

// RelayHostname is the name that EHLO says.
func (c *Config) RelayHostname() string {
	if c.Relay.Hostname != "" {
		return c.Relay.Hostname
	}
	return c.Domain
}

func (c *Config) checkRelay(wrong func(key, problem, fix string)) {
	r := &c.Relay
	if r.Hostname != "" && !hostname(r.Hostname) {
		wrong("relay.hostname", "not a host name", `write this machine's name in DNS, such as "mx.example.it", or ""`)
	}
	for _, s := range r.Routes {
		domain, server, ok := strings.Cut(s, "=")
		host, port, err := net.SplitHostPort(server)
		_, notIP := netip.ParseAddr(host)
		p, perr := strconv.ParseUint(port, 10, 16)
		if !ok || err != nil || perr != nil || p == 0 || notIP != nil && !hostname(host) || domain != "*" && !hostname(domain) {
			wrong("relay.routes", quote(s)+" is not a route", `write "domain=host:port", such as "example.it=mx.example.it:25"`)
		}
	}
	if r.MaxDelay.Duration < r.FirstDelay.Duration {
		wrong("relay.max_delay", "shorter than first_delay", "write at least "+quote(r.FirstDelay.String()))
	}
	host, _, _ := net.SplitHostPort(r.Resolver)
	switch {
	case r.Resolver != "" && !hostPort(r.Resolver):
		wrong("relay.resolver", "not an address", `write IP:port, such as "127.0.0.1:53", or ""`)
	case r.DANE && !loopback(host):
		wrong("relay.dane", "whether DNSSEC proved an answer is the resolver's word, which anybody between could change", `write a validating resolver on this machine into resolver, such as "127.0.0.1:53", or dane = false`)
	}
}
