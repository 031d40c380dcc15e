package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/mta/pec"
	"scripta/mta/providers/slapdtest"
	"scripta/register/record"
)

// duo is two providers that know each other by the index: a has it by LDAP, b as
// a signed file. Mail between them passes a wire each way.
type duo struct {
	a, b   *provider
	ab, ba *wire // from a to b, from b to a
	index  *indexAuthority
	slapd  *slapdtest.Server // where a has it from
	roots  string            // file of what signatures of both lead to
	sent   string            // folder of the letters as they were handed in

	postfix *postfix    // of the ordinary domain, nil without one
	scans   []*provider // who looks for viruses
}

const (
	duoA = "pec.alfa.example"
	duoB = "pec.beta.example"

	fullBox = "piena"   // mailbox of both that takes nothing
	noBox   = "nessuno" // mailbox of neither
)

// duoAccounts are who writes and reads.
var duoAccounts = map[string][]string{duoA: {"anna", "aldo", "alba"}, duoB: {"bice", "bruno", "berta"}}

// duoOptions say what is special about two providers.
type duoOptions struct {
	ordinary []string // mailboxes of a Postfix for the ordinary domain; none: no Postfix
	edit     func(*config.Config)
}

// newDuo makes both providers. Neither is started.
func newDuo(t *testing.T, o duoOptions) *duo {
	t.Helper()
	d := &duo{sent: t.TempDir(), roots: filepath.Join(t.TempDir(), "roots.pem")}
	for _, x := range []struct {
		p      **provider
		domain string
	}{{&d.a, duoA}, {&d.b, duoB}} {
		*x.p = newProviderOf(t, filepath.Join(t.TempDir(), "pec"), x.domain, "Gestore "+x.domain, append(slices.Clip(duoAccounts[x.domain]), fullBox), func(c *config.Config) {
			c.Listen.Incoming = "" // open
			if o.edit != nil {
				o.edit(c)
			}
		})
		(*x.p).setQuota(t, fullBox, 4000)
	}
	d.index = newIndexAuthority(t, d.a, d.b)
	d.ab, d.ba = newWire(t, d.b.listen.Incoming), newWire(t, d.a.listen.Incoming)
	if o.ordinary != nil {
		d.postfix = startPostfix(t, o.ordinary, map[string]string{duoA: d.a.listen.Incoming, duoB: d.b.listen.Incoming})
	}
	d.connect(t)
	return d
}

// start runs both, and waits until they know the index: until then they take no
// message.
func (d *duo) start(t *testing.T) {
	t.Helper()
	for _, p := range d.both() {
		p.start(t)
	}
	for _, p := range d.both() {
		eventually(t, patience, p.domain+" knows the index", func() bool {
			_, out := p.scripta(t, "status")
			return providersKnown.MatchString(out)
		})
	}
}

var providersKnown = regexp.MustCompile(`ok +providers +2 records`)

// of is the provider of an address, nil for an ordinary one.
func (d *duo) of(address string) *provider {
	switch _, domain, _ := strings.Cut(address, "@"); strings.ToLower(domain) {
	case duoA:
		return d.a
	case duoB:
		return d.b
	}
	return nil
}

// send hands a letter in at its author's provider, and keeps it.
func (d *duo) send(t *testing.T, l letter) {
	t.Helper()
	f := must[*os.File](t)(os.CreateTemp(d.sent, "*.eml"))
	_, err := f.WriteString(l.String())
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	d.of(l.from).send(t, l)
}

// outcomes are what must be seen of an accepted letter in the mailboxes of both
// providers.
func (d *duo) outcomes(l letter) []sighting {
	sender := d.of(l.from)
	if l.infected && slices.Contains(d.scans, sender) {
		return []sighting{{box: l.from, what: pec.NonAcceptance.String() + " virus", id: l.id}}
	}
	all := []sighting{{box: l.from, what: pec.Acceptance.String(), id: l.id}}
	asked := pec.Complete
	if _, value, ok := strings.Cut(l.more, "X-TipoRicevuta: "); ok {
		value, _, _ = strings.Cut(value, "\r\n")
		asked = pec.ParseReceiptType(value)
	}
	for _, r := range l.recipients() {
		p := d.of(r)
		if p == nil {
			continue
		}
		local, _, _ := strings.Cut(r, "@")
		all = append(all, sighting{box: sender.address("posta-certificata"), what: pec.TakeCharge.String(), id: l.id, who: r})
		switch {
		case l.infected && slices.Contains(d.scans, p):
			all = append(all, sighting{box: sender.address("posta-certificata"), what: pec.VirusDetection.String() + " virus", id: l.id, who: r},
				sighting{box: l.from, what: pec.NonDelivery.String() + " 5.5.1 virus", id: l.id, who: r})
		case slices.Contains(duoAccounts[p.domain], local) || slices.Contains(p.crowd, local):
			all = append(all, sighting{box: r, what: pec.TransportEnvelope.String(), id: l.id},
				sighting{box: l.from, what: pec.Delivery.String() + " " + asked.For(r, l.to, l.cc).String(), id: l.id, who: r})
		case local == fullBox:
			all = append(all, sighting{box: l.from, what: pec.NonDelivery.String() + " 5.2.2", id: l.id, who: r})
		default:
			all = append(all, sighting{box: l.from, what: pec.NonDelivery.String() + " 5.1.1", id: l.id, who: r})
		}
	}
	return all
}

// stop stops both, compares their registers and verifies their logs.
func (d *duo) stop(t *testing.T) [][]*record.Record {
	t.Helper()
	for _, p := range d.both() {
		p.stop(t)
		p.noLeftOvers(t)
	}
	all := registersAgree(t, d.a, d.b)
	for _, p := range d.both() {
		p.verifyLog(t)
	}
	return all
}

func (d *duo) both() []*provider { return []*provider{d.a, d.b} }

// quiet waits until nothing is under way at either, nor between them: what one has
// finished may have begun something at the other.
func (d *duo) quiet(t *testing.T, long time.Duration) {
	t.Helper()
	for range 2 {
		for _, p := range d.both() {
			p.idle(t, long)
			last := ""
			deadline := time.Now().Add(long)
			eventually(t, long+time.Minute, "status", func() bool {
				if _, last = p.scripta(t, "status"); time.Now().After(deadline) {
					t.Fatalf("%s is not done within %v:\n%s\n%s", p.domain, long, last, p.command(t, "queue", "list"))
				}
				return nothingLeft.MatchString(last)
			})
		}
	}
}

var nothingLeft = regexp.MustCompile(`pipeline +0 messages under way, 0 wait for other providers, 0 to be sent`)

// connect tells both where the other is and what the index says.
func (d *duo) connect(t *testing.T) {
	t.Helper()
	var all []byte
	for _, p := range d.both() {
		all = append(all, must[[]byte](t)(os.ReadFile(p.dir.PublicCA()))...)
	}
	if err := os.WriteFile(d.roots, all, 0o600); err != nil {
		t.Fatal(err)
	}
	d.slapd = slapdtest.Start(t, slapdtest.Options{LDIF: d.index.ldif})
	for _, x := range []struct {
		p     *provider
		other string
		wire  *wire
		index string
	}{{d.a, duoB, d.ab, d.slapd.URL}, {d.b, duoA, d.ba, d.index.file()}} {
		x.p.configure(t, func(c *config.Config) {
			c.Index.Source = x.index
			if x.index == d.index.file() {
				c.Index.Signers, c.Index.Roots = []string{d.index.fingerprint(t)}, d.index.certificate()
			}
			c.Incoming.TrustedCA, c.Incoming.Revocation, c.Incoming.Authenticate = d.roots, "off", false
			c.Limits.Exempt = []string{"127.0.0.0/8"}
			c.Limits.MessagesPerHour, c.Limits.RecipientsPerDay = 0, 0
			c.Relay.Routes = []string{x.other + "=" + x.wire.address()}
			if d.postfix != nil {
				c.Relay.Ordinary = true
				c.Relay.Routes = append(c.Relay.Routes, ordinaryDomain+"="+d.postfix.address)
			}
			c.Relay.FirstDelay.Duration, c.Relay.MaxDelay.Duration = 100*time.Millisecond, 2*time.Second
			c.Relay.ConnectTimeout.Duration = time.Second
		})
	}
}
