package config

import (
	"net"
	"strconv"
)

// Addresses are the resolved "host:port" of every service; an empty one does
// not listen.
type Addresses struct {
	Submissions string // SMTP over TLS, 465
	Submission  string // SMTP with STARTTLS, 587
	Incoming    string // SMTP from other providers, 25
	HTTPS       string // API, published log, 443
	IMAPS       string // 993; not served yet
	POP3S       string // 995; not served yet
	TSA         string // embedded time-stamp authority, 318
	Metrics     string // Prometheus, 90
}

// service is one line of the table that ties keys, ports and addresses.
type service struct {
	key     string
	port    int
	setting func(*Listen) string
	address func(*Addresses) *string
}

func services() []service {
	return []service{
		{"listen.submissions", 465, func(l *Listen) string { return l.Submissions }, func(a *Addresses) *string { return &a.Submissions }},
		{"listen.submission", 587, func(l *Listen) string { return l.Submission }, func(a *Addresses) *string { return &a.Submission }},
		{"listen.incoming", 25, func(l *Listen) string { return l.Incoming }, func(a *Addresses) *string { return &a.Incoming }},
		{"listen.https", 443, func(l *Listen) string { return l.HTTPS }, func(a *Addresses) *string { return &a.HTTPS }},
		{"listen.imaps", 993, func(l *Listen) string { return l.IMAPS }, func(a *Addresses) *string { return &a.IMAPS }},
		{"listen.pop3s", 995, func(l *Listen) string { return l.POP3S }, func(a *Addresses) *string { return &a.POP3S }},
		{"listen.tsa", 318, func(l *Listen) string { return l.TSA }, func(a *Addresses) *string { return &a.TSA }},
		{"listen.metrics", 90, func(l *Listen) string { return l.Metrics }, func(a *Addresses) *string { return &a.Metrics }},
	}
}

// Addresses resolves every service: its own setting, or host and port base,
// or nothing when it is off.
func (l *Listen) Addresses() Addresses {
	var a Addresses
	for _, s := range services() {
		switch v := s.setting(l); v {
		case Closed:
		case "":
			*s.address(&a) = net.JoinHostPort(l.Host, strconv.Itoa(l.PortBase+s.port))
		default:
			*s.address(&a) = v
		}
	}
	return a
}
