package mta

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/mta/pec"
	"scripta/mta/relay"
	"scripta/register"
	"scripta/register/record"
)

// To ordinary recipients the message goes without any timer; whom it does not reach,
// its author hears in an anomaly envelope, and nothing certified is said about them.
func TestOrdinaryRecipients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	const gialli = "gialli@ordinario.example"
	if _, err := p.send("one", listed(verdi, gialli), verdi, gialli); err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	letters := w.relay.all()
	if len(letters) != 1 || letters[0].Certified || letters[0].Destination != "ordinario.example" {
		t.Fatalf("letters %+v", letters)
	}
	w.clock.advance(25 * time.Hour)
	p.look()
	err = p.answer(w.relay, func(to string) relay.Answer {
		if to == gialli {
			return relay.Answer{State: relay.Refused, Enhanced: "5.4.7", Text: "nobody took it in time"}
		}
		return taken(to)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if !p.idle() {
		t.Errorf("the backlog is %+v", p.Backlog())
	}
	if got := w.mailboxOf("mario"); !maps.Equal(got, map[pec.Kind]int{pec.Acceptance: 1, pec.AnomalyEnvelope: 1}) {
		t.Errorf("mario has %v", got)
	}
	if got := p.records(t, "one"); got[record.Relayed] != 1 || got[record.Bounced] != 1 || got[record.NonDeliveryIssued]+got[record.DelayNoticeIssued]+got[record.TimeoutNoticeIssued] != 0 {
		t.Errorf("records %v", got)
	}
	files, err := filepath.Glob(filepath.Join(w.data, "mail", domain, "mario", "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var anomaly string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "X-Trasporto: errore") {
			anomaly = string(b)
		}
	}
	for _, s := range []string{"message/delivery-status", "Final-Recipient: rfc822; " + gialli, "Subject: prova", "Message-ID: <one@client>"} {
		if !strings.Contains(anomaly, s) {
			t.Errorf("the report lacks %q", s)
		}
	}
	if strings.Contains(anomaly, "Final-Recipient: rfc822; "+verdi) {
		t.Error("the report names a recipient who has the message")
	}
	var kinds []record.Kind
	err = p.register.Search(t.Context(), register.Query{Mailbox: "mario@" + domain}, w.clock.at, func(f *register.Found) bool {
		if f.Record.Sender == "postmaster@"+domain {
			kinds = append(kinds, f.Record.Kind)
		}
		return true
	})
	slices.Sort(kinds)
	if err != nil || !slices.Equal(kinds, []record.Kind{record.NotificationDelivered, record.AnomalyEnveloped, record.UncertifiedReceived}) {
		t.Errorf("records about the report: %v, %v", kinds, err)
	}
}
