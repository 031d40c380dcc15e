package relay

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

func report() *Report {
	rome := time.FixedZone("CET", 3600)
	return &Report{Host: "mx.pec.example", From: "postmaster@pec.example", To: "mario@pec.example", MessageID: "<dsn1@pec.example>",
		Date: time.Date(2026, 11, 23, 15, 4, 5, 0, rome), Arrival: time.Date(2026, 11, 22, 14, 4, 5, 0, time.UTC),
		Header: []byte("From: mario@pec.example\r\nSubject: citt\xe0 e perch\xc3\xa9\r\n"),
		Answers: []Answer{
			{Recipient: "nobody@ordinary.example", State: Refused, Code: 550, Enhanced: "5.1.1", Text: "utente sconosciuto: così " + strings.Repeat("è ", 60), Hop: Hop{Host: "mx.ordinary.example"}},
			{Recipient: "fine@ordinary.example", State: Taken, Code: 250},
			{Recipient: "old@ordinary.example", State: Refused, Code: 554, Text: strings.Repeat("x", 200), Hop: Hop{Host: "192.0.2.1"}},
			{Recipient: `"late one"@ordinary.example`, State: Refused, Enhanced: "5.4.7", Text: "the time to deliver the message is over"},
		}}
}

func TestReport(t *testing.T) {
	t.Parallel()
	got, err := report().Compose()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("testdata", "report.eml")
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for i, line := range strings.SplitAfter(string(got), "\r\n") {
		if len(line) > 998 || strings.ContainsAny(strings.TrimSuffix(line, "\r\n"), "\r\n") || strings.ContainsFunc(line, func(r rune) bool { return r > '~' }) {
			t.Errorf("line %d is %q", i+1, line)
		}
	}
}

// Other programs read it as RFC 3464 says.
func TestReportReadsBack(t *testing.T) {
	t.Parallel()
	got, err := report().Compose()
	if err != nil {
		t.Fatal(err)
	}
	m, err := mail.ReadMessage(bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	kind, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || parameters["report-type"] != "delivery-status" {
		t.Fatalf("%s %v, %v", kind, parameters, err)
	}
	var kinds []string
	var parts [][]byte
	for r := multipart.NewReader(m.Body, parameters["boundary"]); ; {
		p, err := r.NextPart()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, strings.Split(p.Header.Get("Content-Type"), ";")[0])
		parts = append(parts, b)
	}
	if strings.Join(kinds, " ") != "text/plain message/delivery-status text/rfc822-headers" {
		t.Fatalf("its parts are %v", kinds)
	}
	var blocks []mail.Header
	for _, s := range strings.Split(strings.TrimSpace(string(parts[1])), "\r\n\r\n") {
		h, err := mail.ReadMessage(strings.NewReader(s + "\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, h.Header)
	}
	if len(blocks) != 4 {
		t.Fatalf("it tells of %d recipients", len(blocks)-1)
	}
	for i, want := range []map[string]string{
		{"Reporting-MTA": "dns; mx.pec.example", "Arrival-Date": "Sun, 22 Nov 2026 15:04:05 +0100"},
		{"Final-Recipient": "rfc822; nobody@ordinary.example", "Status": "5.1.1", "Remote-MTA": "dns; mx.ordinary.example", "Action": "failed"},
		{"Final-Recipient": "rfc822; old@ordinary.example", "Status": "5.0.0", "Remote-MTA": "dns; [192.0.2.1]"},
		{"Final-Recipient": `rfc822; "late one"@ordinary.example`, "Status": "5.4.7", "Remote-MTA": "", "Diagnostic-Code": ""},
	} {
		for name, value := range want {
			if got := textproto.MIMEHeader(blocks[i]).Get(name); got != value {
				t.Errorf("%s of block %d is %q, want %q", name, i, got, value)
			}
		}
	}
	if d := blocks[1].Get("Diagnostic-Code"); !strings.HasPrefix(d, "smtp; 550 5.1.1 utente sconosciuto: cos? ?") {
		t.Errorf("the diagnostic is %q", d)
	}
	if !bytes.Contains(parts[2], []byte("citt\xe0 e perch\xc3\xa9\r\n")) {
		t.Errorf("the original's header came back as %q", parts[2])
	}
}

func TestReportRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Report){
		"nothing refused": func(r *Report) { r.Answers = r.Answers[1:2] },
		"broken header":   func(r *Report) { r.To = "a@b\r\nBcc: c@d" },
		"no host":         func(r *Report) { r.Host = "" },
	} {
		r := report()
		change(r)
		if b, err := r.Compose(); !errors.Is(err, ErrReport) {
			t.Errorf("%s: %v\n%s", name, err, b)
		}
	}
}
