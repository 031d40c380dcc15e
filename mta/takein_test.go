package mta

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"context"
	"scripta/internal/cms/cmstest"
	"scripta/internal/durable"
	"scripta/mta/pec"
	"scripta/mta/rates"
	"scripta/mta/revocation"
	"scripta/register"
	"scripta/register/record"
)

// indefinite is DER with an outer length as a streaming signer writes it.
func indefinite(der []byte) []byte {
	var body []byte
	switch n := int(der[1]); {
	case n < 0x80:
		body = der[2:]
	default:
		body = der[2+n&0x7f:]
	}
	return append(append([]byte{der[0], 0x80}, body...), 0, 0)
}

// opensslSigned signs an entity as another provider's program does.
func (f *foreign) opensslSigned(t *testing.T, entity string, args ...string) []byte {
	t.Helper()
	program := cmstest.Program(t, "openssl")
	in := cmstest.WriteFile(t, "entity", []byte(entity))
	out := filepath.Join(t.TempDir(), "out.p7s")
	args = append([]string{"cms", "-sign", "-binary", "-in", in, "-signer", cmstest.WritePEM(t, f.cert), "-inkey", cmstest.WriteKey(t, cmstest.RSA(t)),
		"-certfile", cmstest.WritePEM(t, f.ca.Intermediate), "-outform", "DER", "-out", out}, args...)
	if b, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, b)
	}
	der, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Each message is taken for what it is, whatever form its provider gives it and
// whatever it says of itself.
func TestClasses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta S.p.A.", "beta.example"))
	c := w.join(newForeign(t, "Gamma S.p.A.", "gamma.example"))
	stranger := newForeign(t, "Nessuno", "nessuno.example")
	expired := w.join(newForeign(t, "Scaduto", "scaduto.example", func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Hour) }))
	untrusted := newForeign(t, "Altra radice", "altra.example")
	w.foreign = append(w.foreign, untrusted) // in the index, and its root is not trusted
	forServers := w.join(newForeign(t, "Server", "server.example", func(x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }))
	w.incoming = Incoming{AllowSHA1: true, Ordinary: func(string) bool { return true }}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	lucia := "lucia@" + domain
	good := func() []byte { return b.envelope("prova", lucia) }
	replace := func(msg []byte, old, new string) []byte {
		t.Helper()
		if !strings.Contains(string(msg), old) {
			t.Fatalf("%q is not in the message", old)
		}
		return []byte(strings.Replace(string(msg), old, new, 1))
	}
	inHeader := func(msg []byte, field string) []byte { return append([]byte(field+"\r\n"), msg...) }
	receipt, err := b.composer.Delivery(b.issue(), b.facts("m1@"+domain), b.at("anna"), pec.Concise, nil)
	delivered := b.bytes(receipt, nil, err)
	second, err := b.composer.Delivery(b.issue(), b.facts("m2@"+domain), b.at("anna"), pec.Concise, nil)
	delivered2 := b.bytes(second, nil, err)
	charge, err := b.composer.TakeCharge(b.issue(), b.facts("m1@"+domain), "posta-certificata@"+domain, []string{b.at("anna")})
	taken := b.bytes(charge, nil, err)
	anomaly, err := b.composer.AnomalyEnvelope(b.issue(), pec.Anomaly{Sender: "x@y.example", Recipients: []string{lucia}, Reason: "x"}, pec.Included{Bytes: strings.NewReader("a"), Size: 1})
	anomalous := b.bytes(anomaly, strings.NewReader("a"), err)
	ours := "<m1@" + domain + ">"

	for name, x := range map[string]struct {
		from string
		msg  []byte
		want class
		why  string // in the reason
	}{
		"envelope": {b.at("anna"), good(), isEnvelope, ""},
		"receipt":  {b.at("posta-certificata"), delivered, isNotification, ""},
		"charge":   {b.at("posta-certificata"), taken, isNotification, ""},
		// Forms in the wild.
		"BER": {b.at("anna"), b.withSignature(good(), func(_ string, der []byte) []byte { return indefinite(der) }), isEnvelope, ""},
		"SHA-1": {b.at("anna"), replace(b.withSignature(good(), func(entity string, _ []byte) []byte { return b.opensslSigned(t, entity, "-md", "sha1") }), "micalg=sha-256", "micalg=sha1"),
			isEnvelope, ""},
		"header case": {b.at("anna"), replace(replace(good(), "X-TipoRicevuta", "X-Tiporicevuta"), "X-Trasporto: ", "x-trasporto:  "), isEnvelope, ""},
		"DOCTYPE": {b.at("anna"), b.resigned(good(), daticert(func(x string) string {
			return strings.Replace(x, "?>\n", "?>\n<!DOCTYPE postacert SYSTEM \"http://127.0.0.1:9/x.dtd\">\n", 1)
		})), isEnvelope, ""},
		"no risposte":   {b.at("anna"), b.resigned(good(), daticert(func(x string) string { return strings.Replace(x, "<risposte>"+b.at("anna"), "<risposte>", 1) })), isEnvelope, ""},
		"REM field":     {b.at("posta-certificata"), inHeader(delivered2, "X-REM-Subject: REM ContentConsignment: x"), isNotification, ""},
		"sender's case": {"ANNA@Beta.example", good(), isEnvelope, ""},
		// Not from the PEC network, whatever it says.
		"plain":          {b.at("anna"), []byte("From: anna@beta.example\r\nSubject: x\r\n\r\nx\r\n"), isOrdinary, "not signed"},
		"plain, marked":  {b.at("anna"), []byte("From: posta-certificata@beta.example\r\nX-Ricevuta: avvenuta-consegna\r\nX-Trasporto: posta-certificata\r\n\r\nx\r\n"), isOrdinary, "not signed"},
		"nobody":         {"x@nessuno.example", stranger.envelope("x", lucia), isOrdinary, "no provider of the index"},
		"untrusted root": {untrusted.at("anna"), untrusted.envelope("x", lucia), isOrdinary, "trusted root"},
		"expired":        {expired.at("anna"), expired.envelope("x", lucia), isOrdinary, "not valid at this time"},
		"of servers":     {forServers.at("anna"), forServers.envelope("x", lucia), isOrdinary, "not issued for this use"},
		"changed":        {b.at("anna"), replace(good(), "Messaggio di posta", "Messaggio di pasta"), isOrdinary, "does not match"},
		"borrowed signature": {b.at("anna"), b.withSignature(c.envelope("x", lucia), func(string, []byte) []byte {
			s, _ := pec.ReadSigned(strings.NewReader(string(good())), pec.Limits{})
			return s.Signature
		}), isOrdinary, "does not match"},
		"rubbish signature": {b.at("anna"), b.withSignature(good(), func(string, []byte) []byte { return []byte("0\x80rubbish") }), isOrdinary, "malformed"},
		// A provider signed it, and it is neither envelope nor notification.
		"no mark":          {b.at("anna"), replace(good(), "X-Trasporto: posta-certificata\r\n", ""), isMalformed, "no PEC field"},
		"two marks":        {b.at("anna"), inHeader(good(), "X-Ricevuta: avvenuta-consegna"), isMalformed, "contradictory"},
		"another mark":     {b.at("anna"), replace(good(), "X-Trasporto: posta-certificata", "X-Ricevuta: avvenuta-consegna"), isMalformed, "contradictory"},
		"From":             {b.at("anna"), replace(good(), "<posta-certificata@beta.example>", "<posta-certificata@gamma.example>"), isMalformed, "not the signer"},
		"two From":         {b.at("anna"), inHeader(good(), "From: posta-certificata@beta.example"), isMalformed, "not the signer"},
		"Message-ID":       {b.at("anna"), replace(good(), "Message-ID: <", "Message-ID: <x"), isMalformed, "not the one that it certifies"},
		"reverse path":     {b.at("bruno"), good(), isMalformed, "reverse path"},
		"null sender":      {"", good(), isMalformed, "reverse path"},
		"recipient":        {b.at("anna"), b.envelope("x", "mario@"+domain), isMalformed, "does not certify"},
		"another's domain": {c.at("anna"), b.resigned(good(), daticert(func(x string) string { return strings.ReplaceAll(x, "anna@beta.example", "anna@gamma.example") })), isMalformed, "not the provider"},
		"no daticert":      {b.at("anna"), b.resigned(good(), func(e string) string { return strings.ReplaceAll(e, "daticert.xml", "altro.xml") }), isMalformed, "daticert"},
		"bad daticert":     {b.at("anna"), b.resigned(good(), daticert(func(x string) string { return x[:len(x)/2] })), isMalformed, "daticert"},
		"anomaly envelope": {b.at("anna"), anomalous, isMalformed, "anomaly envelope"},
		"no Message-ID":    {b.at("posta-certificata"), replace(delivered, "Message-ID: <", "X-Id: <"), isMalformed, "no Message-ID"},
	} {
		got, err := p.come(x.from, x.msg, lucia)
		if err != nil || got == nil {
			t.Errorf("%s: %v %v", name, got, err)
			continue
		}
		reason := ""
		for _, d := range got.Detail {
			if d.Name == "reason" {
				reason = d.Value
			}
		}
		if got.Class != x.want || !strings.Contains(reason, x.why) || (x.why == "") != (reason == "") {
			t.Errorf("%s: class %s (%s), want %s (%s)", name, got.Class, reason, x.want, x.why)
		}
		if wantSigner := got.Class != isOrdinary; (got.Provider != "") != wantSigner || got.Certification != nil && got.Class != isEnvelope && got.Class != isNotification {
			t.Errorf("%s: provider %q, certification %v", name, got.Provider, got.Certification != nil)
		}
		if name == "SHA-1" && !slices.Contains(got.Detail, record.Pair{Name: "signature", Value: "SHA-1"}) {
			t.Errorf("SHA-1 is not recorded: %v", got.Detail)
		}
		if name == "charge" && (len(got.Vouched) != 1 || got.Service != b.entry.ServiceAddress) {
			t.Errorf("take-charge: vouched %q, service %q", got.Vouched, got.Service)
		}
		if got.Class != isEnvelope && got.Class != isNotification {
			// What is not certified writes into no history.
			if rec := got.first(p.Pipeline, [16]byte{1}).Record; rec.MessageID == trimID(ours) || rec.MessageID == trimID(got.Message.MessageID) {
				t.Errorf("%s: recorded under %q", name, rec.MessageID)
			}
		}
	}
	// By policy a signature under SHA-1 is none.
	p.incoming.AllowSHA1 = false
	msg := replace(b.withSignature(good(), func(entity string, _ []byte) []byte { return b.opensslSigned(t, entity, "-md", "sha1") }), "micalg=sha-256", "micalg=sha1")
	if got, err := p.come(b.at("anna"), msg, lucia); err != nil || got.Class != isOrdinary {
		t.Errorf("SHA-1 where it does not count: %+v, %v", got, err)
	}
	// Receipts of one provider say nothing about another's recipients.
	facts := b.facts("m1@" + domain)
	facts.Recipients[0].Address = c.at("anna")
	m, err := b.composer.Delivery(b.issue(), facts, c.at("anna"), pec.Concise, nil)
	if got, err := p.come(b.at("posta-certificata"), b.bytes(m, nil, err), "mario@"+domain); err != nil || got.Class != isNotification || len(got.Vouched) != 0 {
		t.Errorf("a receipt about a stranger: %+v, %v", got, err)
	}
}

// oracle answers about revocation.
type oracle struct{ revocation.Status }

func (o oracle) Check(context.Context, []*x509.Certificate, time.Time) revocation.Status {
	return o.Status
}

func TestRevocationPolicy(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		policy RevocationPolicy
		state  revocation.State
		want   class // "": put off
	}{
		{RevocationOff, revocation.Revoked, isEnvelope}, {RevocationSoft, revocation.Good, isEnvelope}, {RevocationSoft, revocation.Revoked, isOrdinary},
		{RevocationSoft, revocation.Unknown, isEnvelope}, {RevocationSoft, revocation.Unstated, isEnvelope}, {RevocationHard, revocation.Good, isEnvelope},
		{RevocationHard, revocation.Revoked, isOrdinary}, {RevocationHard, revocation.Unknown, ""}, {RevocationHard, revocation.Unstated, isOrdinary},
	} {
		w := newWorld(t)
		b := w.join(newForeign(t, "Beta", "beta.example"))
		w.incoming = Incoming{Revocation: x.policy, Revoked: oracle{revocation.Status{State: x.state}}, Ordinary: func(string) bool { return true }}
		p, err := w.begin(durable.OS)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.come(b.at("anna"), b.envelope("x", "lucia@"+domain), "lucia@"+domain)
		switch {
		case x.want == "":
			if !errors.Is(err, errRevocationUnknown) || replyFor(err, p.Pipeline.log) != error(replyNoRevocation) {
				t.Errorf("policy %d, %v: %v, %v", x.policy, x.state, got, err)
			}
		case err != nil || got.Class != x.want || !slices.ContainsFunc(got.Detail, func(d record.Pair) bool { return d.Name == "revocation" }):
			t.Errorf("policy %d, %v: %+v, %v; want %s", x.policy, x.state, got, err, x.want)
		}
		if err := p.end(); err != nil {
			t.Error(err)
		}
	}
}

// The same message comes once, whoever sends it again, when and how often at once.
func TestDuplicates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.odd = true // another provider uses an identifier twice
	b := w.join(newForeign(t, "Beta", "beta.example"))
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	lucia, mario := "lucia@"+domain, "mario@"+domain
	msg := b.envelope("prova", lucia, mario)
	m, err := b.composer.Delivery(b.issue(), b.facts("m1@"+domain), b.at("anna"), pec.Concise, nil)
	receipt := b.bytes(m, nil, err)
	service := b.at("posta-certificata")
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		taken = map[string]int{}
	)
	for range 8 {
		wg.Go(func() {
			for name, send := range map[string]func() (*reception, error){
				"envelope": func() (*reception, error) { return p.come(b.at("anna"), msg, lucia) },
				"receipt":  func() (*reception, error) { return p.come(service, receipt, mario) },
			} {
				r, err := send()
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				if r != nil {
					taken[name]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if taken["envelope"] != 1 || taken["receipt"] != 1 {
		t.Errorf("taken: %v", taken)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	// After a restart, too; and for another recipient it is not the same.
	if p, err = w.begin(durable.OS); err != nil {
		t.Fatal(err)
	}
	defer p.end()
	if r, err := p.come(b.at("anna"), msg, lucia); err != nil || r != nil {
		t.Errorf("again after a restart: %v %v", r, err)
	}
	if r, err := p.come(service, receipt, mario); err != nil || r != nil {
		t.Errorf("the receipt again: %v %v", r, err)
	}
	if r, err := p.come(b.at("anna"), msg, lucia, mario); err != nil || r == nil || !slices.Equal(r.Recipients, []string{mario}) {
		t.Errorf("with another recipient: %+v %v", r, err)
	}
	if r, err := p.come(service, receipt, lucia); err != nil || r == nil {
		t.Errorf("the receipt for another mailbox: %+v %v", r, err)
	}
	// The Message-ID of a receipt is not signed.
	if r, err := p.come(service, regexp.MustCompile(`(?i)Message-ID: <[^>]*>`).ReplaceAll(receipt, []byte("Message-ID: <another@beta.example>")), mario); err != nil || r != nil {
		t.Errorf("the receipt again, under another identifier: %+v %v", r, err)
	}
	// The same identifier over something else is another message.
	other := b.resigned(msg, func(e string) string { return strings.Replace(e, "inviato", "spedito", 1) })
	if r, err := p.come(b.at("anna"), other, lucia); err != nil || r == nil {
		t.Errorf("something else: %+v %v", r, err)
	}
}

// What a provider signed is no proof that he sends it: only what is new, and of no use
// to anybody else, spares an address the limits.
func TestWhoIsSparedTheLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.odd = true // a receipt about no message
	b := w.join(newForeign(t, "Beta", "beta.example"))
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	spared := func(msg []byte, from, to string) bool {
		t.Helper()
		p.rates = rates.New(rates.Limits{TransactionsPerMinute: 1})
		if _, err := p.come(from, msg, to); err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		return errors.Join(p.rates.Transaction("192.0.2.1:25", now), p.rates.Transaction("192.0.2.1:25", now)) == nil
	}
	lucia, mario, service := "lucia@"+domain, "mario@"+domain, b.at("posta-certificata")
	receipt := func(id string) []byte {
		m, err := b.composer.Delivery(b.issue(), b.facts(id), b.at("anna"), pec.Concise, nil)
		return b.bytes(m, nil, err)
	}
	envelope := b.envelope("prova", lucia)
	if !spared(envelope, b.at("anna"), lucia) {
		t.Error("an envelope does not spare its sender the limits")
	}
	if spared(envelope, b.at("anna"), lucia) {
		t.Error("an envelope spares who sends it again")
	}
	if spared(b.envelope("altra", lucia), "x@y.example", lucia) {
		t.Error("an envelope spares who is not its sender")
	}
	if spared(receipt("m1@"+domain), service, mario) {
		t.Error("a receipt that nobody waits for spares who sends it")
	}
	s, err := p.send("one", listed(b.at("anna")), b.at("anna"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if !spared(receipt(trimID(s.envelopeID(p.Pipeline, p.txOf(s)))), service, mario) {
		t.Error("a receipt does not spare its provider the limits")
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
}

// While it is in doubt whether a message is safe, who sends it again is put off;
// then he hears that it was taken.
func TestDuplicateInDoubt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	lucia := "lucia@" + domain
	msg := b.envelope("prova", lucia)
	s, err := pec.ReadSigned(bytes.NewReader(msg), pec.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	content, _ := s.ContentDigest(crypto.SHA256)
	first, err := p.coming.begin(t.Context(), string(content))
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error)
	go func() {
		_, err := p.come(b.at("anna"), msg, lucia)
		waits <- err
	}()
	first.doubt()
	first.end(false)
	for _, err := range []error{<-waits, func() error { _, err := p.come(b.at("anna"), msg, lucia); return err }()} {
		if !errors.Is(err, errComing) || replyFor(err, p.Pipeline.log) != error(replyBusy) {
			t.Errorf("in doubt: %v", err)
		}
	}
	first.end(true)
	if r, err := p.come(b.at("anna"), msg, lucia); err != nil || r == nil {
		t.Errorf("afterwards: %v %v", r, err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if n := len(p.coming.all); n != 0 {
		t.Errorf("%d are kept", n)
	}
}

// Who gets what is no certified mail: the mailbox's switch decides, and nobody is
// told a lie.
func TestSwitch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	w.incoming = Incoming{Ordinary: func(a string) bool { return strings.HasPrefix(a, "lucia@") || strings.HasPrefix(a, "piena@") }}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	at := func(l string) string { return l + "@" + domain }
	plain := []byte("From: x@y.example\r\nMessage-ID: <one@client>\r\nSubject: x\r\n\r\n" + strings.Repeat("x\r\n", 100))
	malformed := b.resigned(b.envelope("x", at("mario")), func(e string) string { return strings.ReplaceAll(e, "daticert.xml", "x.xml") })
	m, err := b.composer.Delivery(b.issue(), b.facts("m1@"+domain), b.at("anna"), pec.Concise, nil)
	receipt := b.bytes(m, nil, err)
	for name, x := range map[string]struct {
		from string
		msg  []byte
		to   []string
		want []string
		err  *smtp.SMTPError
	}{
		"accepted":         {"x@y.example", plain, []string{at("lucia")}, []string{at("lucia")}, nil},
		"PEC, unsigned":    {b.at("anna"), plain, []string{at("mario")}, nil, replyNotCertified},
		"PEC, one accepts": {b.at("anna"), plain, []string{at("mario"), at("lucia"), at("nessuno")}, []string{at("lucia")}, nil},
		"PEC, nobody":      {b.at("anna"), plain, []string{at("nessuno")}, nil, replyNoMailbox},
		"full":             {"x@y.example", plain, []string{at("piena")}, nil, replyMailboxFull},
		"full, one is not": {"x@y.example", plain, []string{at("piena"), at("lucia")}, []string{at("lucia"), at("piena")}, nil},
		"receipt, full":    {b.at("anna"), receipt, []string{at("piena")}, nil, replyMailboxFull},
		"bounce":           {"", plain, []string{at("mario")}, nil, replyNotCertified},
		"malformed":        {b.at("anna"), malformed, []string{at("mario")}, []string{at("mario")}, nil},
		"malformed, gone":  {b.at("anna"), malformed, []string{at("nessuno")}, nil, replyNoMailbox},
		"empty":            {"x@y.example", nil, []string{at("lucia")}, nil, replyEmpty},
	} {
		got, err := p.come(x.from, x.msg, x.to...)
		switch {
		case x.err != nil:
			if err != error(x.err) {
				t.Errorf("%s: %v, %v; want %v", name, got, err, x.err)
			}
		case err != nil || !slices.Equal(got.Recipients, x.want):
			t.Errorf("%s: %+v, %v; want %q", name, got, err, x.want)
		}
	}
	// Whoever was refused for the switch has a record, up to a bound.
	count := func() (n int) {
		err := p.register.Search(t.Context(), register.Query{Mailbox: at("mario"), Kinds: []record.Kind{record.OrdinaryRefused}}, time.Now().Add(24*time.Hour), func(*register.Found) bool { n++; return true })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(); n != 3 {
		t.Errorf("%d refusals are recorded", n)
	}
	for range 2 * refusalsAnHour {
		p.ordinaryRefused(t.Context(), &transit{from: "x@y.example"}, replyOrdinary, "", at("mario"))
	}
	if n := count(); n != refusalsAnHour {
		t.Errorf("%d refusals are recorded of a flood", n)
	}
}
