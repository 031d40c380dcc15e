package mta

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"scripta/internal/durable"
	"scripta/mta/pec"
	"scripta/register"
	"scripta/register/record"
)

// handInAs hands a whole message in, as Mario.
func (p *process) handInAs(sender, msg string, rcpt ...string) (*submission, error) {
	return p.handIn(context.Background(), strings.NewReader(msg), sender, rcpt, "mario@"+domain, record.Peer{}, func(err error) error { return err })
}

// longRecipients are n addresses of that many octets.
func longRecipients(n, octets int, fill string) []string {
	all := make([]string, n)
	for i := range all {
		local := fmt.Sprintf("%06d", i)
		all[i] = local + strings.Repeat(fill, octets-len(local)-1-len(domain)) + "@" + domain
	}
	return all
}

// A message whose records would not fit into the log is refused before anything
// of it is durable. It once stopped the register for everybody.
func TestFactsTooLarge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	header := "From: mario@" + domain + "\r\nTo: lucia@" + domain + "\r\n"
	for name, refused := range map[string]func() error{
		"recipients": func() error {
			_, err := p.handInAs("mario@"+domain, header+"Subject: x\r\n\r\nx\r\n", longRecipients(4000, 254, "x")...)
			return err
		},
		"subject and recipients": func() error {
			_, err := p.handInAs("mario@"+domain, header+"Subject: "+strings.Repeat("\x80", 100_000)+"\r\n\r\nx\r\n", longRecipients(400, 254, "x")...)
			return err
		},
	} {
		if err := refused(); !errors.Is(err, replyFactsTooBig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := p.register.Log().Size(); n != 0 {
		t.Errorf("%d records of refused messages", n)
	}
	if p.spool.Waiting() != 0 {
		t.Error("a refused message is in the spool")
	}
	if err := p.register.Health(); err != nil {
		t.Fatalf("the register stopped: %v", err)
	}
}

// The heaviest message that is taken comes to its end, accepted or not: no record
// and no message of any step is larger than what was admitted.
func TestHeaviestFacts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	for _, x := range []struct {
		name     string
		accepted bool
		fill     string // of addresses: "&" takes five octets in daticert.xml
	}{{"accepted", true, "&"}, {"refused", false, "x"}} {
		p.limits.Recipients, p.limits.BytesTimesRecipients = 10, 1<<40
		if x.accepted {
			p.limits.Recipients = 100_000
		}
		subject := strings.Repeat("&", 120_000)
		// Few and longer than SMTP lets them be: what counts are their octets.
		const (
			octets  = 3000
			reasons = 20 * (octets + 60) // that twenty of them are not in To or Cc
		)
		n := (maxFacts - len(subject) - reasons - 1<<10) / (27 + 2*octets)
		all := longRecipients(n, octets, x.fill)
		msg := "From: mario@" + domain + "\r\nTo: lucia@" + domain + "\r\nSubject: " + subject + "\r\nMessage-ID: <" + x.name + "@client>\r\n\r\nx\r\n"
		s, err := p.handInAs("mario@"+domain, msg, all...)
		if err != nil {
			t.Fatalf("%s: %v", x.name, err)
		}
		if weight, err := s.weight(p.Pipeline); err != nil || weight > maxFacts || weight < maxFacts*9/10 {
			t.Errorf("%s: weight %d, %v: the test does not come near the bound", x.name, weight, err)
		}
		task := <-p.tasks
		if x.accepted { // as if every recipient were in To or Cc
			s.Reasons = nil
		}
		if err := p.run(context.Background(), task, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatalf("%s: taken and never carried: %v", x.name, err)
		}
		got := p.records(t, x.name)
		if want := map[bool]record.Kind{true: record.NonDeliveryIssued, false: record.NonAcceptanceIssued}[x.accepted]; got[want] != map[bool]int{true: n, false: 1}[x.accepted] {
			t.Errorf("%s: records %v", x.name, got)
		}
		largest := 0
		err = p.register.Search(t.Context(), register.Query{Identifier: x.name + "@client"}, p.clock.(*testClock).at, func(f *register.Found) bool {
			fields, err := f.Record.Fields()
			if err != nil {
				t.Error(err)
				return false
			}
			largest = max(largest, fields.Size())
			return true
		})
		if err != nil || largest > maxFacts+4<<10 {
			t.Errorf("%s: a record of %d bytes, %v", x.name, largest, err)
		}
	}
}

// A short message to very many is not accepted when its receipts, each of which
// names everybody, would fill its author's mailbox.
func TestFactsTimesRecipients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	p.limits.Recipients, p.limits.BytesTimesRecipients = 500, 50_000_000
	for n, want := range map[int]bool{100: true, 500: false} {
		all := longRecipients(n, 254, "x")
		s, err := p.handInAs("mario@"+domain, "From: mario@"+domain+"\r\nTo: "+strings.Join(all, ",\r\n ")+"\r\n\r\nx\r\n", all...)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(s.Reasons, pec.ReasonFactsTooLarge) == want {
			t.Errorf("%d recipients: %q", n, s.Reasons)
		}
	}
}

// oddOriginals are messages that are strange, and that people send.
func oddOriginals() map[string]string {
	base := "From: mario@" + domain + "\r\nTo: lucia@" + domain + "\r\n"
	long := func(n int) string { return strings.Repeat("x", n) }
	return map[string]string{
		"subject controls":   base + "Subject: =?utf-8?B?AQIDBAUGBwgLDA4fQQ==?=\r\n\r\nx\r\n",
		"subject fffe":       base + "Subject: =?utf-8?Q?=EF=BF=BE_=EF=BF=BF_=ED=A0=80?=\r\n\r\nx\r\n",
		"subject latin":      base + "Subject: \xe9\xff\x81\r\n\r\nx\r\n",
		"subject crlf":       base + "Subject: =?utf-8?Q?a=0D=0ABcc:_x@y.z?=\r\n\r\nx\r\n",
		"subject huge":       base + "Subject: " + long(120000) + "\r\n\r\nx\r\n",
		"subject huge amp":   base + "Subject: " + strings.Repeat("&<>'\"", 24000) + "\r\n\r\nx\r\n",
		"subject huge high":  base + "Subject: " + strings.Repeat("\x80", 120000) + "\r\n\r\nx\r\n",
		"subject spaces":     base + "Subject: " + strings.Repeat(" ", 5000) + "\r\n\r\nx\r\n",
		"subject cdata":      base + "Subject: ]]> <!-- & &amp; \r\n\r\nx\r\n",
		"message-id odd":     base + "Message-ID: <a b@\xff<c>d\">\r\n\r\nx\r\n",
		"message-id amp":     base + "Message-ID: <a&b'c]]>@x>\r\n\r\nx\r\n",
		"message-id long":    base + "Message-ID: <" + long(900) + ">\r\n\r\nx\r\n",
		"two message-ids":    base + "Message-ID: <a@b>\r\nMessage-ID: <c@d>\r\nX-Riferimento-Message-ID: <e@f>\r\n\r\nx\r\n",
		"reply-to":           base + "Reply-To: \"a\\\"b\" <x&y@z.it>, =?utf-8?Q?=0D=0Aq?= <r@s.it>\r\n\r\nx\r\n",
		"reply-to many":      base + "Reply-To: " + strings.Repeat("aaaaaaaaaaaaaaaaa@bbbbbbbbbbbbb.it,\r\n ", 2500) + "z@z.it\r\n\r\nx\r\n",
		"no body":            base,
		"header only, blank": base + "\r\n",
		"no final newline":   base + "\r\nabc",
		"received many":      strings.Repeat("Received: from a by b; "+long(900)+"\r\n", 100) + base + "\r\nx\r\n",
		"looks like busta":   base + "X-Trasporto: posta-certificata\r\nX-Ricevuta: accettazione\r\nContent-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\n--x--\r\n",
		"mime bomb":          base + "Content-Type: multipart/mixed; boundary=a\r\n\r\n" + strings.Repeat("--a\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n", 2000),
		"long line":          base + "\r\n" + long(500000) + "\r\n",
		"8bit":               base + "\r\n\xe9\xe8\r\n",
		"line without name":  base + "this is no field\r\nBcc: a@b.c\r\n\r\nx\r\n",
		"mbox from":          "From a b\r\n" + base + "\r\nx\r\n",
		"dashes":             base + "\r\n--\r\n--------------\r\n.\r\n..\r\nFrom x\r\n",
		"ct utf16":           base + "Content-Type: text/plain; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\nx\r\n",
		"tipo ricevuta":      base + "X-TipoRicevuta: breve\r\n\r\nx\r\n",
		"tipo ricevuta s":    base + "X-TipoRicevuta: sintetica\r\n\r\nx\r\n",
		"to comments":        "From: mario@" + domain + "\r\nTo: (a(b)c) \"x\" <LUCIA@PEC.example> (d)\r\n\r\nx\r\n",
		"to long names":      "From: mario@" + domain + "\r\nTo: " + strings.Repeat("=?utf-8?Q?=0D=0A"+long(50)+"?=\r\n ", 1000) + " <lucia@" + domain + ">\r\n\r\nx\r\n",
		"to huge":            "From: mario@" + domain + "\r\nTo: " + strings.Repeat("\""+long(60)+"\" <aaaaaaaaaaaaaaaaaa@bbbbbbbbbb.it>,\r\n ", 1000) + " <lucia@" + domain + ">\r\n\r\nx\r\n",
	}
}

// Whatever is acknowledged is carried to its end, also when its job is read from
// the spool again, and running it again changes nothing.
func TestOddOriginals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	quiet := slog.New(slog.DiscardHandler)
	originals := oddOriginals()
	taken := 0
	for _, name := range slices.Sorted(maps.Keys(originals)) {
		if _, err := p.handInAs("mario@"+domain, originals[name], "lucia@"+domain); err != nil {
			continue
		}
		taken++
		first := <-p.tasks
		again, err := decodeSubmission(first.job)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if encoded(t, p.submitted(first.work.(*submission), first.job.ID)) != encoded(t, p.submitted(again, first.job.ID)) {
			t.Errorf("%s: the record differs when the job is read again", name)
		}
		if err := p.run(context.Background(), first, quiet); err != nil {
			t.Errorf("%s: acknowledged, and never carried: %v", name, err)
			continue
		}
		if err := p.carry(context.Background(), &task{job: first.job, work: again, rerun: true}, quiet); err != nil {
			t.Errorf("%s: run again: %v", name, err)
		}
	}
	if taken < len(originals)/2 {
		t.Errorf("only %d of %d were taken", taken, len(originals))
	}
	if got := w.mailboxOf("mario"); got[pec.Acceptance]+got[pec.NonAcceptance] != taken {
		t.Errorf("%d messages were taken, and mario has %v", taken, got)
	}
}

func encoded(t *testing.T, r *record.Record) string {
	t.Helper()
	f, err := r.Fields()
	if err != nil {
		t.Fatal(err)
	}
	return string(f.AppendTo(nil))
}
