package mta

import (
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/internal/durable"
)

// A bounce of an envelope of ours is known by the envelope's identifier, wherever the
// other server put it, and for its author alone.
func TestBounceOfOurEnvelope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	s, err := p.send("one", listed(rossi), rossi)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	id := trimID(s.envelopeID(p.Pipeline, p.txOf(s)))
	unknown := strings.Repeat("0", 32) + "@" + domain
	acceptance := trimID(s.transaction(p.txOf(s)).Issue(stepAcceptance, 0).MessageID(p.composer.Provider))
	report := "From: MAILER-DAEMON@altro.example\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n--x\r\n\r\nSorry.\r\n--x\r\n" +
		"Content-Type: message/delivery-status\r\n\r\nFinal-Recipient: rfc822; rossi@altro.example\r\nStatus: 5.0.0\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n"
	for _, x := range []struct {
		name, message string
		rcpt          []string
		found         bool
	}{
		{"report", report + "Message-ID: <" + id + ">\r\n\r\n--x--\r\n", []string{"mario@" + domain}, true},
		{"upper-case domain", report + "Message-ID: <" + strings.ReplaceAll(id, domain, strings.ToUpper(domain)) + ">\r\n", []string{"Mario@" + domain}, true},
		{"as text", "Subject: failure\r\n\r\nthe message " + id + " was not delivered\r\n", []string{"mario@" + domain}, true},
		{"in a field", "X-Riferimento-Message-ID: <" + id + ">\r\n\r\n", []string{"lucia@" + domain, "mario@" + domain}, true},
		{"after a long line", "Subject: " + strings.Repeat("x", 3*maxBounceLine) + "\r\n\r\n<" + id + ">\r\n", []string{"mario@" + domain}, true},
		{"to somebody else", report + "Message-ID: <" + id + ">\r\n", []string{"lucia@" + domain}, false},
		{"of a receipt", report + "Message-ID: <" + acceptance + ">\r\n", []string{"mario@" + domain}, false},
		{"of an unknown message", report + "Message-ID: <" + unknown + ">\r\n", []string{"mario@" + domain}, false},
		{"of nothing", "Subject: buongiorno\r\n\r\nciao\r\n", []string{"mario@" + domain}, false},
	} {
		of, envelope, err := p.bounceOf(t.Context(), strings.NewReader(x.message), x.rcpt)
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
		}
		if found := len(of) == 1 && envelope == id && strings.EqualFold(of[0], "mario@"+domain); found != x.found || !x.found && len(of) > 0 {
			t.Errorf("%s: of %q, envelope %q", x.name, of, envelope)
		}
	}
	w.odd = true // for weeks nothing is sent, nor told
	w.clock.advance(bounceTerm + time.Hour)
	if of, _, err := p.bounceOf(t.Context(), strings.NewReader(report+"Message-ID: <"+id+">\r\n"), []string{"mario@" + domain}); err != nil || len(of) > 0 {
		t.Errorf("after %v: of %q, %v", bounceTerm, of, err)
	}
}

func FuzzIdentifiersIn(f *testing.F) {
	f.Add("Message-ID: <0123456789abcdefghijklmnopqrstuv@pec.example>\r\n")
	f.Add(strings.Repeat("x", maxBounceLine) + "@pec.example\r\nÉ@PEC.example")
	f.Add(strings.Repeat("aaaaaaaaaaaaaaaaaaaa@pec.example ", 40))
	f.Fuzz(func(t *testing.T, message string) {
		ids, err := identifiersIn(strings.NewReader(message), "@pec.example")
		if err != nil || len(ids) > maxBounceIDs {
			t.Fatalf("%d identifiers, %v", len(ids), err)
		}
		for i, id := range ids {
			if name, ok := strings.CutSuffix(id, "@pec.example"); !ok || len(name) < minIdentifier || len(name) > maxIdentifier || slices.Contains(ids[:i], id) {
				t.Fatalf("identifiers %q", ids)
			}
		}
	})
}
