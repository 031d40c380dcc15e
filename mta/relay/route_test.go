package relay

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/foxcpp/go-mockdns"
)

func TestParseRoutes(t *testing.T) {
	t.Parallel()
	routes, err := ParseRoutes([]string{"B.example=mx.b.example:25", "c.example=[::1]:2525", "b.example=127.0.0.1:26", "*=smart.example:587"})
	if err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string][]string{"b.example": {"mx.b.example:25", "127.0.0.1:26"}, "c.example": {"[::1]:2525"}, "x.example": {"smart.example:587"}} {
		if got := routes.of(domain); !slices.Equal(got, want) {
			t.Errorf("%s: %v", domain, got)
		}
	}
	for _, bad := range []string{"", "a", "a=b", "a=b:0", "a=b:65536", "a=:25", "=b:25", "a b=c:25", "a=b c:25", "a=b:25:26", "*.a=b:25"} {
		if r, err := ParseRoutes([]string{bad}); err == nil {
			t.Errorf("%q was read as %v", bad, r)
		}
	}
}

// lan has servers by the names and preferences of MX records.
func lan(zones map[string]mockdns.Zone, peers map[string]*peer) *network {
	n := &network{zones: zones, at: map[string]string{}}
	for ip, p := range peers {
		n.at[net.JoinHostPort(ip, "25")] = p.address
	}
	return n
}

func (n *network) tries() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.tried)
}

func TestServersOfADomain(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil)
	zones := map[string]mockdns.Zone{
		"two.example.":     {MX: []net.MX{{Host: "MX2.example.", Pref: 20}, {Host: "mx1.example.", Pref: 10}}},
		"mx1.example.":     {A: []string{"192.0.2.1"}},
		"mx2.example.":     {A: []string{"192.0.2.2"}},
		"alone.example.":   {A: []string{"192.0.2.2"}},
		"null.example.":    {MX: []net.MX{{Host: ".", Pref: 0}}, A: []string{"192.0.2.2"}},
		"nothing.example.": {TXT: []string{"x"}},
		"broken.example.":  {Err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}},
		"half.example.":    {MX: []net.MX{{Host: "gone.example.", Pref: 1}, {Host: "mx2.example.", Pref: 2}}},
		"lost.example.":    {MX: []net.MX{{Host: "gone.example.", Pref: 1}}},
		"odd.example.":     {MX: []net.MX{{Host: "not a host.", Pref: 1}}},
		"self.example.":    {MX: []net.MX{{Host: "me.example.", Pref: 1}, {Host: "mx2.example.", Pref: 2}}},
		"backup.example.":  {MX: []net.MX{{Host: "mx2.example.", Pref: 1}, {Host: "ME.example.", Pref: 2}, {Host: "mx1.example.", Pref: 2}}},
		"six.example.":     {AAAA: []string{"2001:db8::1"}, A: []string{"192.0.2.2"}},
		"me.example.":      {A: []string{"192.0.2.9"}},
	}
	for domain, c := range map[string]struct {
		state  State
		status string
		part   string
		tries  string // addresses, in order
	}{
		"two.example":     {Taken, "250", "", "192.0.2.1:25 192.0.2.2:25"},
		"TWO.Example.":    {Taken, "250", "", "192.0.2.1:25 192.0.2.2:25"},
		"alone.example":   {Taken, "250", "", "192.0.2.2:25"},
		"null.example":    {Refused, "5.1.10", "null MX", ""},
		"unknown.example": {Refused, "5.1.2", "does not exist", ""},
		"nothing.example": {Refused, "5.1.2", "does not exist", ""},
		"broken.example":  {Deferred, "4.4.3", "DNS gave no answer", ""},
		"half.example":    {Taken, "250", "", "192.0.2.2:25"},
		"lost.example":    {Deferred, "4.4.4", "no address of gone.example", ""},
		"odd.example":     {Deferred, "4.4.4", "name no server", ""},
		"self.example":    {Refused, "5.4.6", "comes back", ""},
		"backup.example":  {Taken, "250", "", "192.0.2.2:25"},
		"six.example":     {Taken, "250", "", "[2001:db8::1]:25 192.0.2.2:25"},
	} {
		n := lan(zones, map[string]*peer{"192.0.2.2": p})
		a := one(t, n.transport().Send(t.Context(), mailTo("a@"+domain), open(text)))
		a.want(t, c.state, c.status, c.part)
		if got := strings.Join(n.tries(), " "); got != c.tries && !(domain == "six.example" && strings.HasSuffix(got, "192.0.2.2:25")) {
			t.Errorf("%s: tried %s, want %s", domain, got, c.tries)
		}
	}
	// The index of providers knows better than DNS that a domain exists.
	l := certified("a@unknown.example")
	one(t, lan(zones, nil).transport().Send(t.Context(), l, open(text))).want(t, Deferred, "4.4.4", "index of providers")
	// A route goes before all that.
	n := lan(zones, nil)
	tr := n.transport()
	n.at["192.0.2.9:2525"] = p.address
	tr.Routes = Routes{"null.example": {"me.example:2525"}}
	one(t, tr.Send(t.Context(), mailTo("a@null.example"), open(text))).want(t, Taken, "250", "")
}

// A server that nobody answers for is unreachable, and so is a domain that DNS says nothing of.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	zones := map[string]mockdns.Zone{"dead.example.": {A: []string{"192.0.2.1"}}, "broken.example.": {Err: errors.New("timeout")}}
	for _, domain := range []string{"dead.example", "broken.example"} {
		r := lan(zones, nil).transport().Send(t.Context(), mailTo("a@"+domain), open(text))
		if a := one(t, r); !r.Unreachable || a.State != Deferred || strings.Contains(a.Text, "lost") {
			t.Errorf("%s: %+v", domain, r)
		}
	}
	// One domain of two is: the destination is not.
	p := newPeer(t, nil)
	zones["good.example."] = mockdns.Zone{A: []string{"192.0.2.2"}}
	r := lan(zones, map[string]*peer{"192.0.2.2": p}).transport().Send(t.Context(), mailTo("a@dead.example", "b@good.example"), open(text))
	if r.Unreachable || r.Answers[0].State != Deferred || r.Answers[1].State != Taken {
		t.Errorf("%+v", r)
	}
}

// Servers of one preference are tried in any order.
func TestEqualPreferenceIsRandom(t *testing.T) {
	t.Parallel()
	zones := map[string]mockdns.Zone{"d.example.": {MX: []net.MX{{Host: "a.example.", Pref: 5}, {Host: "b.example.", Pref: 5}, {Host: "c.example.", Pref: 1}}},
		"a.example.": {A: []string{"192.0.2.1"}}, "b.example.": {A: []string{"192.0.2.2"}}, "c.example.": {A: []string{"192.0.2.3"}}}
	orders := map[string]int{}
	for range 64 { // that all are alike has a chance of one in 2^63
		n := lan(zones, nil)
		n.transport().Send(t.Context(), mailTo("x@d.example"), open(text))
		orders[strings.Join(n.tries(), " ")]++
	}
	if len(orders) != 2 {
		t.Errorf("orders: %v", orders)
	}
	for o := range orders {
		if !strings.HasPrefix(o, "192.0.2.3:25 ") {
			t.Errorf("%s does not begin with the best", o)
		}
	}
}

// However many servers and addresses DNS names, an attempt ends.
func TestTriesAreBounded(t *testing.T) {
	t.Parallel()
	zones := map[string]mockdns.Zone{}
	var many mockdns.Zone
	for i := range 50 {
		host := fmt.Sprintf("mx%d.example.", i)
		many.MX = append(many.MX, net.MX{Host: host, Pref: uint16(i)})
		var addresses []string
		for j := range 4 {
			addresses = append(addresses, fmt.Sprintf("192.0.2.%d", (i*4+j)%250+1))
		}
		zones[host] = mockdns.Zone{A: addresses}
	}
	zones["many.example."] = many
	n := lan(zones, nil)
	n.transport().Send(t.Context(), mailTo("x@many.example"), open(text))
	if got := len(n.tries()); got != maxAddresses {
		t.Errorf("%d addresses were tried", got)
	}
}

// Domains that lead to the same servers share one transaction; others have one of their own.
func TestOneTransactionForEachRoute(t *testing.T) {
	t.Parallel()
	p, q := newPeer(t, nil), newPeer(t, nil)
	zones := map[string]mockdns.Zone{"mx.p.example.": {A: []string{"192.0.2.1"}}, "mx.q.example.": {A: []string{"192.0.2.2"}}}
	var rcpts []string
	for i := range 60 {
		domain := fmt.Sprintf("d%d.example", i)
		host := "mx.p.example."
		if i%3 == 0 {
			host = "mx.q.example."
		}
		zones[domain+"."] = mockdns.Zone{MX: []net.MX{{Host: host, Pref: uint16(10)}}}
		rcpts = append(rcpts, "a@"+domain)
	}
	n := lan(zones, map[string]*peer{"192.0.2.1": p, "192.0.2.2": q})
	r := n.transport().Send(t.Context(), mailTo(rcpts...), open(text))
	if len(r.Answers) != 60 {
		t.Fatalf("%d answers", len(r.Answers))
	}
	for i, a := range r.Answers {
		host := "mx.p.example"
		if i%3 == 0 {
			host = "mx.q.example"
		}
		if a.State != Taken || a.Host != host || a.Recipient != rcpts[i] {
			t.Errorf("%+v", a)
		}
	}
	if len(p.taken()) != 1 || len(q.taken()) != 1 || len(p.taken()[0].rcpts) != 40 {
		t.Errorf("%d and %d transactions", len(p.taken()), len(q.taken()))
	}
}
