package mta

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/mta/pec"
	"scripta/mta/scan"
	"scripta/mta/scan/rspamdtest"
	"scripta/register/record"
)

// downScorer does not answer.
type downScorer struct{}

// Check implements SpamScorer.
func (downScorer) Check(context.Context, scan.Mail) (*scan.Spam, error) {
	return nil, scan.ErrNoScore
}

// ordinary is a message of somebody who is no provider.
func ordinary(subject, body string) []byte {
	return []byte("From: x@y.example\r\nTo: lucia@" + domain + "\r\nMessage-ID: <" + subject + "@y.example>\r\nSubject: " + subject + "\r\n\r\n" + body + "\r\n")
}

// The real rspamd scores ordinary mail, and nothing else; each mailbox says what it
// takes, and the reader sees the score.
func TestSpam(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.join(newForeign(t, "Beta", "beta.example"))
	limits := map[string]int{"mario@" + domain: 15, "lucia@" + domain: 1000}
	w.incoming = Incoming{Ordinary: func(string) bool { return true }, Spam: &scan.Rspamd{URL: rspamdtest.Start(t), Timeout: 30 * time.Second},
		SpamLimit: func(a string) (int, bool) { n, ok := limits[a]; return n, ok }}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	lucia, mario := "lucia@"+domain, "mario@"+domain
	inbox := func(name string) (all []string) {
		t.Helper()
		if err := p.drain(); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(w.data, "mail", domain, name, "new", "*"))
		for _, f := range files {
			b, rerr := os.ReadFile(f)
			all, err = append(all, string(b)), errors.Join(err, rerr)
		}
		if err != nil {
			t.Fatal(err)
		}
		return all
	}

	if r, err := p.come("x@y.example", ordinary("spam", rspamdtest.GTUBE()), mario); r != nil || !errors.Is(replyFor(err, slog.New(slog.DiscardHandler)), replySpam) {
		t.Errorf("spam for mario alone: %+v, %v", r, err)
	}
	r, err := p.come("x@y.example", ordinary("spam", rspamdtest.GTUBE()), mario, lucia)
	if err != nil || !slices.Equal(r.Recipients, []string{lucia}) || r.Spam == nil || r.Spam.Action != "reject" {
		t.Fatalf("spam for both: %+v, %v", r, err)
	}
	if got := inbox("lucia"); len(got) != 1 || !strings.HasPrefix(headerOf(got[0], "X-Spam-Score"), "15.") || headerOf(got[0], "X-Spam-Flag") != "YES" ||
		!strings.Contains(headerOf(got[0], "X-Spam-Status"), "GTUBE") {
		t.Errorf("lucia has %q", got)
	}
	delete(limits, mario) // who wants everything now
	if r, err := p.come("", ordinary("altro", rspamdtest.GTUBE()), mario); err != nil || !slices.Equal(r.Recipients, []string{mario}) {
		t.Errorf("spam for who wants it: %+v, %v", r, err)
	}
	limits[mario] = 15
	if r, err := p.come("x@y.example", ordinary("buona", "Ci vediamo domani."), mario); err != nil || r.Spam == nil || r.Spam.Score >= 15 {
		t.Errorf("ham: %+v, %v", r, err)
	}
	if got := inbox("mario"); len(got) != 2 || !slices.ContainsFunc(got, func(m string) bool { return headerOf(m, "X-Spam-Flag") == "NO" }) {
		t.Errorf("mario has %q", got)
	}
	refused := 0
	for i := range p.register.Log().Size() {
		f, err := p.register.Read(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		switch f.Record.Kind {
		case record.OrdinaryRefused:
			refused++
			if f.Record.About[0] != mario || f.Record.Outcome.Text != replySpam.Message {
				t.Errorf("a refusal is recorded as %+v", f.Record)
			}
		case record.UncertifiedReceived:
			if !slices.ContainsFunc(f.Record.Detail, func(d record.Pair) bool { return d.Name == "spam" && strings.HasPrefix(d.Value, "score ") }) {
				t.Errorf("the score is not recorded: %v", f.Record.Detail)
			}
		}
	}
	if refused != 2 || p.metrics.Spam.Load() != 2 {
		t.Errorf("%d refusals are recorded, %d counted", refused, p.metrics.Spam.Load())
	}
	// A certified message is never spam.
	if r, err := p.come(b.at("anna"), b.infected("certa", rspamdtest.GTUBE(), mario), mario); err != nil || r.Spam != nil || r.Class != isEnvelope {
		t.Errorf("certified: %+v, %v", r, err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	if got := w.mailboxOf("mario"); !maps.Equal(got, map[pec.Kind]int{pec.AnomalyEnvelope: 2, pec.TransportEnvelope: 1}) {
		t.Errorf("mario has %v", got)
	}
	p.audited(t, false)
}

// headerOf returns a field of a message's header.
func headerOf(message, name string) string {
	header, _, _ := strings.Cut(message, "\r\n\r\n")
	_, after, _ := strings.Cut("\r\n"+header, "\r\n"+name+": ")
	value, _, _ := strings.Cut(after, "\r\n")
	return value
}

// Without the scorer ordinary mail passes, and says nothing of a score.
func TestScorerDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.incoming = Incoming{Ordinary: func(string) bool { return true }, Spam: downScorer{}, SpamLimit: func(string) (int, bool) { return 1, true }}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	r, err := p.come("x@y.example", ordinary("x", rspamdtest.GTUBE()), "lucia@"+domain)
	if err != nil || r == nil || r.Spam != nil || p.metrics.NotScored.Load() != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(w.data, "mail", domain, "lucia", "new", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("lucia has %q, %v", files, err)
	}
	f, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil || headerOf(string(head), "X-Spam-Flag") != "" {
		t.Errorf("%v\n%s", err, head)
	}
}
