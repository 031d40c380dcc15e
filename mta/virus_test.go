package mta

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/durable/faultfs"
	"scripta/mta/pec"
	"scripta/mta/scan"
	"scripta/mta/scan/clamdtest"
	"scripta/register"
	"scripta/register/record"
)

// marker is what wordScanner takes for a virus.
const marker = "Questo e' un virus."

// wordScanner finds marker, and counts how often it was asked.
type wordScanner struct {
	asked atomic.Int64
	down  atomic.Pointer[error]
}

// Scan implements VirusScanner.
func (w *wordScanner) Scan(_ context.Context, r io.Reader) (*scan.Finding, error) {
	w.asked.Add(1)
	if err := w.down.Load(); err != nil {
		return nil, *err
	}
	b, err := io.ReadAll(r)
	if err != nil || !strings.Contains(string(b), marker) {
		return nil, err
	}
	return &scan.Finding{Virus: "Test.Word", Engine: "words 1", Signatures: "1 of today"}, nil
}

// body is what follows a submission's header fields in send.
func infectedHeader(to, body string) string {
	return "To: " + to + "@" + domain + "\r\nSubject: prova\r\n\r\n" + body + "\r\n"
}

// of an infected submission.
var (
	infectedSender   = map[pec.Kind]int{pec.NonAcceptance: 1}
	infectedRegister = map[record.Kind]int{record.Submitted: 1, record.VirusFound: 1, record.Quarantined: 1, record.NonAcceptanceIssued: 1, record.NotificationDelivered: 1}
)

// recordsOf returns the records about a message by kind.
func (p *process) recordsOf(t *testing.T, id string) map[record.Kind]*register.Found {
	t.Helper()
	got := map[record.Kind]*register.Found{}
	err := p.register.Search(t.Context(), register.Query{Identifier: id + "@client"}, time.Now().Add(time.Hour), func(f *register.Found) bool {
		got[f.Record.Kind] = f
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// quarantined returns what is in quarantine.
func (p *process) quarantined(t *testing.T) (all []string) {
	t.Helper()
	q := p.register.Quarantine()
	err := q.Each(func(tx [16]byte, month uint16) error {
		c, err := q.OpenContent(tx, month)
		if err != nil {
			return err
		}
		defer c.Close()
		b, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		all = append(all, string(b))
		return err
	}, func(file string) { t.Errorf("%s does not belong into the quarantine", file) })
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The real engine finds the test file however it is packed; the author alone is
// told, and the message is kept.
func TestInfectedSubmission(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.scanner = scan.New(scan.Options{Clamd: clamdtest.Start(t).Address, Timeout: 30 * time.Second, Concurrency: 1, Logger: slog.New(slog.DiscardHandler)})
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	encoded := base64.StdEncoding.EncodeToString([]byte(clamdtest.EICAR()))
	envelope := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822; name=postacert.eml\r\n\r\n" +
		"From: x@y.test\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded + "\r\n--b--\r\n"
	to := "To: lucia@" + domain + "\r\nSubject: prova\r\nMIME-Version: 1.0\r\n"
	messages := map[string]string{
		"plain":    to + "\r\n" + clamdtest.EICAR() + "\r\n",
		"base64":   to + "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded + "\r\n",
		"enclosed": to + envelope,
		"informal": "Subject: senza destinatari\r\n\r\n" + clamdtest.EICAR() + "\r\n", // has formal errors, too
	}
	for name, header := range messages {
		s, err := p.send(name, header, "lucia@"+domain)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := p.drain(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := p.records(t, name); !maps.Equal(got, infectedRegister) {
			t.Errorf("%s: records %v (%+v)", name, got, s.inspection)
			continue
		}
		all := p.recordsOf(t, name)
		detail := map[string]string{}
		for _, d := range all[record.VirusFound].Record.Detail {
			detail[d.Name] = d.Value
		}
		if detail["virus"] != clamdtest.Virus || !strings.HasPrefix(detail["engine"], "ClamAV ") || detail["signatures"] == "" {
			t.Errorf("%s: what was found is recorded as %v", name, detail)
		}
		if kept := all[record.Quarantined].Record; string(kept.Digest) != string(s.Digest) || kept.Size != uint64(s.Facts.Size) {
			t.Errorf("%s: another message is in quarantine", name)
		}
		if o := all[record.NonAcceptanceIssued].Record.Outcome; o.Code != "5.5.1" || !strings.Contains(o.Text, clamdtest.Virus) {
			t.Errorf("%s: the outcome is %+v", name, o)
		}
	}
	if got := w.mailboxOf("mario"); !maps.Equal(got, map[pec.Kind]int{pec.NonAcceptance: len(messages)}) {
		t.Errorf("the author has %v", got)
	}
	if got := w.mailboxOf("lucia"); len(got) != 0 {
		t.Errorf("the recipient has %v", got)
	}
	kept := p.quarantined(t)
	if len(kept) != len(messages) {
		t.Errorf("%d messages are in quarantine", len(kept))
	}
	for name, header := range messages {
		found := false
		for _, k := range kept {
			found = found || strings.Contains(k, "<"+name+"@client>") && strings.Contains(k, header)
		}
		if !found {
			t.Errorf("%s is not in quarantine as it came", name)
		}
	}
	if err := p.register.Contents().Each(func([16]byte, uint16) error { return errors.New("there is one") }, func(string) {}); err != nil {
		t.Errorf("among the contents: %v", err)
	}
	if s, err := p.send("clean", to+"\r\nBuongiorno\r\n", "lucia@"+domain); err != nil || s.infected() {
		t.Errorf("a clean message: %+v, %v", s.inspection, err)
	}
}

// Without an engine a message is put off with 451, and nothing of it stays; with
// it back the message is taken. The policy to let it pass shows in its record.
func TestEngineDown(t *testing.T) {
	t.Parallel()
	words := &wordScanner{}
	for _, down := range []error{scan.ErrUnavailable, scan.ErrTooLarge} {
		for _, pass := range []bool{false, true} {
			w := newWorld(t)
			w.scanner, w.passUnscanned = words, pass
			p, err := w.begin(durable.OS)
			if err != nil {
				t.Fatal(err)
			}
			words.down.Store(&down)
			header := infectedHeader("lucia", "innocuo")
			_, err = p.send("down", header, "lucia@"+domain)
			if got := replyFor(err, slog.New(slog.DiscardHandler)); !pass && !errors.Is(got, replyNotScanned) || pass && got != nil {
				t.Errorf("%v, pass %v: answered %v", down, pass, got)
			}
			if b := p.Backlog(); !pass && b != (Backlog{}) {
				t.Errorf("%v: left in the spool: %+v", down, b)
			}
			words.down.Store(nil)
			if _, err = p.send("up", header, "lucia@"+domain); err != nil {
				t.Errorf("with the engine back: %v", err)
			}
			if err := p.drain(); err != nil {
				t.Error(err)
			}
			for id, missed := range map[string]bool{"down": pass, "up": false} {
				all := p.recordsOf(t, id)
				if id == "down" && !pass {
					if len(all) != 0 {
						t.Errorf("%v: records of a refused message: %v", down, p.records(t, id))
					}
					continue
				}
				said := false
				for _, d := range all[record.Submitted].Record.Detail {
					said = said || d == record.Pair{Name: "scan", Value: "missed"}
				}
				if said != missed || all[record.Delivered] == nil {
					t.Errorf("%v, pass %v, %s: record says missed: %v; %v", down, pass, id, said, p.records(t, id))
				}
			}
			if p.metrics.NotScanned.Load() != 1 {
				t.Errorf("%d not scanned", p.metrics.NotScanned.Load())
			}
			if err := p.end(); err != nil {
				t.Error(err)
			}
		}
	}
}

// The disk stops, or the power goes, at every call of an infected message's way:
// what was answered 250 ends in one notice and in quarantine, and is scanned once.
func TestInfectedCrashAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, power := range []bool{false, true} {
		t.Run(fmt.Sprintf("power=%v", power), func(t *testing.T) {
			t.Parallel()
			step := 1
			if testing.Short() {
				step = 3
			}
			for n := 1; ; n += step {
				w := newWorld(t)
				words := &wordScanner{}
				w.scanner = words
				fsys, err := faultfs.New(w.fault, nil)
				if err != nil {
					t.Fatal(err)
				}
				p, err := w.begin(fsys)
				if err != nil {
					t.Fatal(err)
				}
				fsys.SetFault(faultfs.CrashAt(len(fsys.Calls()) + n))
				_, sent := p.send("one", infectedHeader("lucia", marker), "lucia@"+domain)
				if sent == nil {
					_ = p.drain()
				}
				crashed := fsys.Crashed()
				_ = p.end()
				if power {
					if err := fsys.PowerLoss(); err != nil {
						t.Fatal(err)
					}
				}
				w.checkInfected(n, sent, words)
				if !crashed {
					if n < 15 {
						t.Errorf("only %d calls", n)
					}
					break
				}
			}
		})
	}
}

func (w *world) checkInfected(n int, sent error, words *wordScanner) {
	w.t.Helper()
	asked := words.asked.Load()
	p, err := w.begin(durable.OS)
	if err != nil {
		w.t.Fatalf("call %d: starting again: %v", n, err)
	}
	if err := p.drain(); err != nil {
		w.t.Fatalf("call %d: running again: %v", n, err)
	}
	sender, recipient, service, records, kept := w.mailboxOf("mario"), w.mailboxOf("lucia"), w.mailboxOf("posta-certificata"), p.records(w.t, "one"), p.quarantined(w.t)
	nothing := len(sender) == 0 && len(records) == 0 && len(kept) == 0
	all := maps.Equal(sender, infectedSender) && maps.Equal(records, infectedRegister) && len(kept) == 1 && strings.Contains(kept[0], marker)
	if len(recipient)+len(service) > 0 || !all && (sent == nil || !nothing) {
		w.t.Errorf("call %d (250: %v): sender %v, recipient %v, service %v, records %v, %d in quarantine", n, sent == nil, sender, recipient, service, records, len(kept))
	}
	if words.asked.Load() != asked || sent == nil && asked != 1 {
		w.t.Errorf("call %d: scanned %d times, then %d", n, asked, words.asked.Load()-asked)
	}
	if err := p.register.Contents().Each(func([16]byte, uint16) error { return errors.New("there is one") }, func(string) {}); err != nil {
		w.t.Errorf("call %d: among the contents: %v", n, err)
	}
	if b := p.Backlog(); b != (Backlog{}) {
		w.t.Errorf("call %d: the backlog is %+v", n, b)
	}
	if err := p.end(); err != nil {
		w.t.Errorf("call %d: %v", n, err)
	}
}
