package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Dialer connects; [net.Dialer] is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Transport sends letters, one attempt at a time. Its fields are not changed once it is used; its methods may be called
// concurrently.
type Transport struct {
	Name     string // ours, that EHLO says; a server of this name is taken for ourselves
	Routes   Routes
	Resolver Resolver // nil: the system's
	Dialer   Dialer   // nil: a net.Dialer
	Port     int      // of servers that MX records name; 0: 25
	Timeouts Timeouts
	Policies *Policies // MTA-STS of ordinary domains; nil: not looked at
	DANE     *DANE     // of ordinary domains; nil: not looked at

	kept kept
}

const (
	maxHosts     = 5  // that are tried in one attempt
	maxAddresses = 10 // of all of them
	lookups      = 8  // domains of a letter that are looked up at once
)

func (t *Transport) resolver() Resolver {
	if t.Resolver != nil {
		return t.Resolver
	}
	return net.DefaultResolver
}

func (t *Transport) dialer() Dialer {
	if t.Dialer != nil {
		return t.Dialer
	}
	return new(net.Dialer)
}

func (t *Transport) port() string {
	if t.Port != 0 {
		return strconv.Itoa(t.Port)
	}
	return "25"
}

// attempt is one try to send one letter.
type attempt struct {
	*Transport
	letter  *Letter
	open    Opener
	times   Timeouts
	over    time.Time
	answers map[string]Answer // by recipient
	reached bool              // a server took up a transaction, or it was we who failed
}

// Send tries once to send a letter to every recipient that it has. Recipients whose domains lead to the same servers
// share one transaction. When ctx ends, recipients that were not answered for are left without an answer.
func (t *Transport) Send(ctx context.Context, l *Letter, open Opener) *Result {
	times := t.Timeouts.filled()
	limit := times.Session + time.Duration(l.Size/slowest)*time.Second
	a := &attempt{Transport: t, letter: l, open: open, times: times, over: time.Now().Add(limit), answers: map[string]Answer{}}
	for _, g := range a.groups(ctx) {
		if ctx.Err() != nil {
			break
		}
		a.deliver(ctx, g)
	}
	r := &Result{Unreachable: !a.reached, Time: time.Now()}
	for _, rcpt := range l.Recipients {
		if ans, ok := a.answers[rcpt]; ok {
			ans.Recipient = rcpt
			r.Answers = append(r.Answers, ans)
		}
	}
	return r
}

// group are the recipients that one transaction is for.
type group struct {
	*routed
	recipients []string
}

// groups finds the servers of all domains. Recipients that cannot be sent to are answered for.
func (a *attempt) groups(ctx context.Context) []group {
	domains := map[string][]string{}
	var order []string
	for _, rcpt := range a.letter.Recipients {
		domain, problem := checkAddress(rcpt)
		if problem != "" {
			a.reached = true
			code := "5.1.3"
			if strings.Contains(problem, "SMTPUTF8") {
				code = "5.6.7"
			}
			a.answers[rcpt] = Answer{State: Refused, Enhanced: code, Text: problem}
			continue
		}
		if domains[domain] == nil {
			order = append(order, domain)
		}
		domains[domain] = append(domains[domain], rcpt)
	}
	found := a.lookup(ctx, order)
	var all []group
	at := map[string]int{}
	for i, domain := range order {
		r := found[i]
		if r.problem != nil {
			a.settle(domains[domain], *r.problem)
			continue
		}
		key := r.key()
		if j, ok := at[key]; ok {
			all[j].recipients = append(all[j].recipients, domains[domain]...)
			continue
		}
		at[key] = len(all)
		all = append(all, group{r, slices.Clone(domains[domain])})
	}
	return all
}

// lookup finds the servers of domains, several at once: a provider's letter may have a hundred.
func (a *attempt) lookup(ctx context.Context, domains []string) []*routed {
	ctx, cancel := context.WithTimeout(ctx, a.times.Lookup)
	defer cancel()
	found := make([]*routed, len(domains))
	places := make(chan struct{}, lookups)
	var wg sync.WaitGroup
	for i, domain := range domains {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			found[i] = a.route(ctx, domain, a.letter.Certified)
		})
	}
	wg.Wait()
	return found
}

// settle gives recipients an answer.
func (a *attempt) settle(recipients []string, ans Answer) {
	for _, rcpt := range recipients {
		a.answers[rcpt] = ans
	}
}

// unsettled are those of the recipients that have no answer.
func (a *attempt) unsettled(recipients []string) []string {
	return slices.DeleteFunc(slices.Clone(recipients), func(rcpt string) bool {
		_, ok := a.answers[rcpt]
		return ok
	})
}

// deliver tries the servers of a group one after the other, until one has answered for every recipient. When none
// does, the answer is a refusal only if every one refused (RFC 5321 §5.1).
func (a *attempt) deliver(ctx context.Context, g group) {
	servers := g.shuffled()
	addresses := 0
	var last *Answer
	fail := func(ans Answer) {
		if last == nil || weight(&ans) >= weight(last) {
			last = &ans
		}
	}
	for _, s := range servers[:min(len(servers), maxHosts)] {
		found, secure, err := a.addresses(ctx, s.host)
		if err != nil {
			ans := Answer{State: Deferred, Enhanced: "4.4.3", Text: dnsText(s.host, err), Hop: Hop{Host: s.host}}
			if notFound(err) {
				ans.Enhanced, ans.Text = "4.4.4", "DNS has no address of "+s.host
			}
			fail(ans)
			continue
		}
		want, err := a.security(ctx, g.routed, s, secure)
		if err != nil {
			fail(Answer{State: Deferred, Enhanced: "4.7.5", Text: printable(err.Error(), maxReplyText), Hop: Hop{Host: s.host}})
			continue
		}
		for _, ip := range found {
			rest := a.unsettled(g.recipients)
			if addresses++; len(rest) == 0 || addresses > maxAddresses || ctx.Err() != nil || time.Now().After(a.over) {
				break
			}
			ans := a.talk(ctx, s, net.JoinHostPort(ip, s.port), want, rest)
			if ans == nil {
				return
			}
			fail(*ans)
		}
	}
	if ctx.Err() != nil {
		return
	}
	if last == nil {
		last = &Answer{State: Deferred, Enhanced: "4.4.4", Text: "there is no server to try"}
	}
	a.settle(a.unsettled(g.recipients), *last)
}

// weight says which of several servers' answers counts: that it may go later before that it never will, and then what a
// server said before that there was none.
func weight(a *Answer) (w int) {
	if a.State == Deferred {
		w = 2
	}
	if a.Peer.Address != "" {
		w++
	}
	return w
}

// addresses are the IP addresses of a host, in the resolver's order.
func (a *attempt) addresses(ctx context.Context, host string) (list []string, secure bool, err error) {
	if _, err := netip.ParseAddr(host); err == nil {
		return []string{host}, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.times.Lookup)
	defer cancel()
	if a.DANE != nil && !a.letter.Certified {
		secure = a.DANE.secureHost(ctx, host)
	}
	found, err := a.lookupIP(ctx, host)
	if err != nil {
		return nil, false, err
	}
	for _, x := range found {
		list = append(list, x.String())
	}
	return list, secure, nil
}

// security is what a connection must have.
type security struct {
	why    string // who asks for it; empty: nobody, TLS is taken where it is offered
	min    uint16 // TLS version
	verify func(tls.ConnectionState) error
}

// security says what a connection to a server of a domain must have. DANE goes before MTA-STS (RFC 8461 §2).
func (a *attempt) security(ctx context.Context, r *routed, s server, secure bool) (security, error) {
	if a.letter.Certified {
		return security{why: "certified e-mail is sent over TLS only", min: tls.VersionTLS12}, nil
	}
	if !s.mx {
		return security{min: tls.VersionTLS10}, nil
	}
	if a.DANE != nil && r.secure && secure {
		lookup, cancel := context.WithTimeout(ctx, a.times.Lookup)
		defer cancel()
		records, err := a.DANE.records(lookup, s.host, s.port)
		if err != nil {
			return security{}, fmt.Errorf("the TLSA records of %s cannot be read: %w", s.host, err)
		}
		if len(records) > 0 {
			return security{why: "DANE asks for TLS", min: tls.VersionTLS12, verify: records.verify(s.host)}, nil
		}
	}
	if p := r.policy; p != nil && p.enforce() {
		if !p.allows(s.host) {
			return security{}, fmt.Errorf("the MTA-STS policy of the domain does not list the server %s", s.host)
		}
		return security{why: "the domain's MTA-STS policy asks for TLS", min: tls.VersionTLS12, verify: a.Policies.verify(s.host)}, nil
	}
	return security{min: tls.VersionTLS10}, nil
}

// talk sends the letter to recipients over one connection. It answers for all of them and returns nil; or it returns an
// answer that concerns the server: another may be tried for those without one.
func (a *attempt) talk(ctx context.Context, s server, address string, want security, recipients []string) *Answer {
	key := keptKey{s.host, address, a.letter.Certified}
	if want.verify == nil {
		if c := a.kept.take(ctx, key, a.over); c != nil {
			if ans := a.transactions(ctx, c, recipients); ans == nil {
				a.done(c, key, want)
				return nil
			}
			c.close() // it was dead, or the server had enough of it: a new one tells
			if recipients = a.unsettled(recipients); len(recipients) == 0 || ctx.Err() != nil {
				return nil
			}
		}
	}
	ans, plain := a.connect(ctx, s, address, want, false, recipients)
	if plain { // RFC 7435: what nobody asked to be encrypted goes rather in the clear than not at all
		ans, _ = a.connect(ctx, s, address, want, true, recipients)
	}
	return ans
}

// connect is talk; plain says not to use TLS, or, returned, that it should be tried again so.
func (a *attempt) connect(ctx context.Context, s server, address string, want security, plain bool, recipients []string) (ans *Answer, tryPlain bool) {
	c, err := dial(ctx, a.dialer(), address, s.host, a.Name, a.times, a.over)
	if err != nil {
		if ctx.Err() != nil {
			return nil, false
		}
		ans := trouble("connecting to "+address, err)
		ans.Enhanced, ans.Hop = "4.4.1", Hop{Host: s.host}
		ans.Text = strings.Replace(ans.Text, ": the connection was lost", "", 1)
		return &ans, false
	}
	ready := false
	defer func() {
		if !ready {
			c.close()
		}
	}()
	failed := func(doing string, rep reply, err error) *Answer {
		ans := judged(&rep, 0)
		if err != nil {
			ans = trouble(doing, err)
		}
		ans.Hop = c.hop
		return &ans
	}
	if rep, err := c.hear(a.times.Greeting); err != nil || rep.code != 220 {
		return failed("waiting for the greeting", rep, err), false
	}
	if rep, err := c.hello(); err != nil || rep.class() != 2 {
		return failed("EHLO", rep, err), false
	}
	if !plain {
		switch offered := c.offers("STARTTLS"); {
		case offered:
			rep, err := c.say(a.times.Hello, "STARTTLS")
			if err != nil {
				return failed("STARTTLS", rep, err), want.why == ""
			}
			if rep.code != 220 {
				if want.why != "" {
					ans := failed("", rep, nil)
					ans.State, ans.Enhanced = Deferred, "4.7.0"
					ans.Text = printable(want.why+", and the server does not start it: "+rep.text, maxReplyText)
					return ans, false
				}
				break // it goes on without
			}
			if err := c.startTLS(ctx, want.min); err != nil {
				ans := failed("TLS", reply{}, err)
				ans.Enhanced, ans.Text = "4.7.5", printable("no TLS connection: "+err.Error(), maxReplyText)
				return ans, want.why == ""
			}
			if state, _ := c.state(); want.verify != nil {
				if err := want.verify(state); err != nil {
					ans := failed("TLS", reply{}, err)
					ans.Enhanced, ans.Text = "4.7.5", printable(want.why+": "+err.Error(), maxReplyText)
					return ans, false
				}
			}
			if rep, err := c.hello(); err != nil || rep.class() != 2 {
				return failed("EHLO after STARTTLS", rep, err), false
			}
		case want.why != "":
			return &Answer{State: Deferred, Enhanced: "4.7.0", Text: want.why + ", and the server does not offer STARTTLS", Hop: c.hop}, false
		}
	}
	ans = a.transactions(ctx, c, recipients)
	if ans == nil {
		ready = true
		a.done(c, keptKey{s.host, address, a.letter.Certified}, want)
	}
	return ans, false
}

// done keeps a connection for the next message, if it may be, or ends it.
func (a *attempt) done(c *session, key keptKey, want security) {
	switch {
	case !c.reusable:
		c.close() // leave was taken, or there is nobody to take it of
	case want.verify != nil:
		c.quit()
	default:
		a.kept.put(key, c)
	}
}
