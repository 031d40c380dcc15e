package mta

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"scripta/internal/durable"
	"scripta/internal/logins"
	"scripta/mta/smtpd"
	"scripta/register/record"
)

// falseEnds are what some server takes for the end of a message and others do
// not.
var falseEnds = []string{"\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n.\r\r\n", "\n.\r", "\r.\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\x00\r\n.\n", "\n\n.\r\n", "\r\n \r\n.\n", "\n..\r\n"}

// hostileDialog is what a client says after the recipients of its message.
type hostileDialog struct {
	name string
	// say makes the octets, in pieces that are written one after another, of a
	// message with this subject. hidden is a whole transaction that must never be
	// taken, whose subject is contraband; open one that may be, from its MAIL on.
	say func(subject, hidden, open string) []string
	// want is how many messages may come of it.
	want int
	// hang closes the connection behind the last piece.
	hang bool
}

const contraband = "contrabbando"

func hostileDialogs() []hostileDialog {
	message := func(subject string) string { return "Subject: " + subject + "\r\n\r\nUna riga.\r\n" }
	chunk := func(text, last string) string { return fmt.Sprintf("BDAT %d%s\r\n%s", len(text), last, text) }
	all := []hostileDialog{
		{name: "whole", say: func(s, _, _ string) []string { return []string{"DATA\r\n", message(s) + ".\r\n"} }, want: 1},
		{name: "whole, and another behind it at once", say: func(s, _, o string) []string { return []string{"DATA\r\n" + message(s) + ".\r\n" + o} }, want: 2},
		{name: "whole, octet by octet", say: func(s, _, _ string) []string {
			return append([]string{"DATA\r\n"}, strings.Split(message(s)+".\r\n", "")...)
		}, want: 1},
		{name: "dots", say: func(s, h, _ string) []string {
			return []string{"DATA\r\n", message(s) + "..\r\n" + strings.ReplaceAll(h, "\r\n.", "\r\n..") + ".\r\n"}
		}, want: 1},
		{name: "cut short", say: func(s, _, _ string) []string { return []string{"DATA\r\n", message(s)} }, hang: true},
		{name: "cut short before the last line break", say: func(s, _, _ string) []string { return []string{"DATA\r\n", message(s) + "."} }, hang: true},
		{name: "nothing", say: func(string, string, string) []string { return []string{"DATA\r\n.\r\n"} }},
		{name: "a line without end", say: func(s, h, _ string) []string {
			return []string{"DATA\r\n", message(s) + strings.Repeat("x", 2<<20) + "\r\n" + h + ".\r\n"}
		}},
		{name: "bare LF in a command", say: func(s, h, _ string) []string { return []string{"NOOP\nDATA\r\n", message(s) + "\r\n.\r\n" + h} }},
		{name: "bare CR in a command", say: func(s, h, _ string) []string { return []string{"NOOP x\rx\r\nDATA\r\n", message(s) + ".\r\n" + h} }},
		{name: "NUL in a command", say: func(s, h, _ string) []string { return []string{"NOOP \x00\r\nDATA\r\n", message(s) + ".\r\n" + h} }},
		{name: "BDAT", say: func(s, _, _ string) []string { return []string{chunk(message(s), " LAST")} }, want: 1},
		{name: "BDAT in chunks, one empty", say: func(s, _, _ string) []string {
			return []string{chunk(message(s), ""), "BDAT 0\r\n", chunk("fine\r\n", ""), "BDAT 0 LAST\r\n"}
		}, want: 1},
		{name: "BDAT with an end of DATA in it", say: func(s, h, _ string) []string { return []string{chunk(message(s)+".\r\n"+h, " LAST")} }, want: 1},
		{name: "BDAT cut within an end of DATA", say: func(s, h, _ string) []string {
			return []string{chunk(message(s)+".", ""), chunk("\r\n"+h, " LAST")}
		}, want: 1},
		{name: "BDAT, another behind it at once", say: func(s, _, o string) []string { return []string{chunk(message(s), " LAST") + o} }, want: 2},
		{name: "BDAT cut short", say: func(s, _, _ string) []string { return []string{"BDAT 1000 LAST\r\n" + message(s)} }, hang: true},
		{name: "BDAT without its last", say: func(s, _, _ string) []string { return []string{chunk(message(s), "")} }, hang: true},
		{name: "BDAT, then DATA", say: func(s, h, _ string) []string { return []string{chunk(message(s), ""), "DATA\r\n", h} }},
		{name: "BDAT given up", say: func(s, _, o string) []string { return []string{chunk(message(s), ""), "RSET\r\n" + o} }}, // the client has to connect again
		{name: "BDAT of no number", say: func(s, h, _ string) []string { return []string{"BDAT x LAST\r\n" + h} }},
		{name: "BDAT of a negative number", say: func(s, h, _ string) []string { return []string{"BDAT -1 LAST\r\n" + h} }},
		{name: "BDAT of too many octets", say: func(s, h, _ string) []string { return []string{"BDAT 99999999999999999999 LAST\r\n" + h} }},
		{name: "BDAT beyond the largest message", say: func(s, h, _ string) []string { return []string{"BDAT 9999999 LAST\r\n" + h} }, hang: true},
		{name: "BDAT without recipients", say: func(s, h, _ string) []string { return []string{"RSET\r\n", chunk(h, " LAST")} }},
		{name: "BDAT without recipients, at once", say: func(s, h, _ string) []string { return []string{"RSET\r\n" + chunk(h, "") + chunk(h, " LAST")} }},
		{name: "MAIL inside a transaction", say: func(s, _, o string) []string {
			again, _, _ := strings.Cut(o, "DATA\r\n")
			return []string{again, "DATA\r\n", message(s) + ".\r\n"}
		}, want: 1},
		{name: "EHLO inside a transaction", say: func(s, _, o string) []string { return []string{"EHLO b.example\r\n", o} }, want: 1},
		{name: "DATA without recipients", say: func(s, h, _ string) []string { return []string{"RSET\r\nDATA\r\n"} }},
	}
	if !raceDetector {
		// go-smtp goes on with what it read ahead after it closed the connection for too
		// many errors, and makes the channel of the message's outcome anew while the
		// message given up still looks at it. Nobody hears of that outcome any more.
		all = append(all, hostileDialog{name: "MAIL inside BDAT", say: func(s, h, _ string) []string {
			return []string{chunk(message(s), ""), h, chunk("fine\r\n", " LAST")}
		}})
	}
	for _, end := range falseEnds {
		all = append(all,
			hostileDialog{name: fmt.Sprintf("DATA %q", end), say: func(s, h, _ string) []string {
				return []string{"DATA\r\n", "Subject: " + s + "\r\n\r\nUna riga." + end + h}
			}},
			hostileDialog{name: fmt.Sprintf("DATA %q, in two pieces", end), say: func(s, h, _ string) []string {
				half := len(end) / 2
				return []string{"DATA\r\n", "Subject: " + s + "\r\n\r\nUna riga." + end[:half], end[half:] + h}
			}},
			hostileDialog{name: fmt.Sprintf("DATA %q in the header", end), say: func(s, h, _ string) []string { return []string{"DATA\r\n", "Subject: " + s + end + h} }},
			hostileDialog{name: fmt.Sprintf("BDAT %q", end), say: func(s, h, _ string) []string {
				return []string{chunk("Subject: "+s+"\r\n\r\nUna riga."+end+h, " LAST")}
			}})
	}
	return all
}

// hostilePort is a port of a provider.
type hostilePort struct {
	name, from string
	dial       func() net.Conn
	begin      string // what a client says first
}

func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// ports serves both points of a process.
func (p *process) ports(t *testing.T) []hostilePort {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	secret := selfSigned(t)
	serve := func(b smtp.Backend, how func(*smtpd.Server, net.Listener) error) string {
		s := smtpd.NewServer(smtpd.Config{Domain: domain, Backend: b, TLS: secret, MaxMessageBytes: 4 << 20, MaxRecipients: 10, EightBit: true,
			Connections: 500, PerAddress: 500, Idle: 20 * time.Second, Total: 20 * time.Second, Logger: log})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go how(s, l)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = s.Shutdown(ctx, func(*smtpd.Conn) bool { return false })
		})
		return l.Addr().String()
	}
	dial := func(addr string, secure bool) func() net.Conn {
		return func() net.Conn {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			if secure {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
	}
	login := "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00mario@"+domain+"\x00x")) + "\r\n"
	access := serve(NewAccessPoint(p.Pipeline, everybody{}, logins.New(), 500, log), (*smtpd.Server).ServeTLS)
	in := serve(NewIncomingPoint(p.Pipeline, log), (*smtpd.Server).ServeOpportunistic)
	return []hostilePort{
		{"submission", "mario@" + domain, dial(access, true), "EHLO a.example\r\n" + login},
		{"port 25", "olga@example.org", dial(in, false), "EHLO a.example\r\n"},
	}
}

// converse says a dialog, and returns when the server has closed the connection.
func (h *hostilePort) converse(t *testing.T, d *hostileDialog, subject string) {
	t.Helper()
	c := h.dial()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	lines := bufio.NewReader(c)
	answer := func() string {
		for {
			line, err := lines.ReadString('\n')
			if err != nil || len(line) > 3 && line[3] == ' ' {
				return line
			}
		}
	}
	transaction := "MAIL FROM:<" + h.from + ">\r\nRCPT TO:<lucia@" + domain + ">\r\n"
	answer()
	for _, say := range strings.SplitAfter(h.begin+transaction, "\r\n") {
		if say == "" {
			continue
		}
		if _, err := io.WriteString(c, say); err != nil {
			t.Fatal(err)
		}
		if got := answer(); got[0] != '2' {
			t.Fatalf("%s, %s: %s is answered %s", h.name, d.name, say, got)
		}
	}
	hidden := transaction + "DATA\r\nSubject: " + contraband + "\r\n\r\nNascosto.\r\n.\r\n"
	open := transaction + "DATA\r\nSubject: " + subject + " bis\r\n\r\nAperto.\r\n.\r\n"
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, lines)
	}()
	for _, piece := range d.say(subject, hidden, open) {
		if _, err := io.WriteString(c, piece); err != nil {
			break // the server may have had enough
		}
	}
	if !d.hang {
		_, _ = io.WriteString(c, "QUIT\r\n")
	} else if tc, ok := c.(interface{ CloseWrite() error }); ok {
		_ = tc.CloseWrite()
	} else {
		_ = c.Close()
	}
	<-closed
}

// One message never becomes two, nor half of one a whole: on both ports, whatever
// a client says. What counts is what the register and the spool have.
func TestHostileDialogs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.incoming = Incoming{Ordinary: func(string) bool { return true }}
	p, err := w.begin(durable.OS)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	want := map[string]int{}
	var wait sync.WaitGroup
	var mu sync.Mutex
	dialogs := hostileDialogs()
	for _, h := range p.ports(t) {
		slots := make(chan struct{}, 8)
		for i := range dialogs {
			d := &dialogs[i]
			subject := fmt.Sprintf("%s %03d", strings.ReplaceAll(h.name, " ", ""), i)
			mu.Lock()
			want[subject] = d.want
			mu.Unlock()
			slots <- struct{}{}
			wait.Go(func() {
				defer func() { <-slots }()
				h.converse(t, d, subject)
			})
		}
	}
	wait.Wait()
	if err := p.drain(); err != nil {
		t.Fatal(err)
	}
	got, firsts := map[string]int{}, 0
	for i := range p.log.Size() {
		f, err := p.register.Read(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if k := f.Record.Kind; k != record.Submitted && k != record.UncertifiedReceived {
			continue
		}
		firsts++
		if strings.Contains(f.Record.Subject, contraband) {
			t.Errorf("smuggled: %s of %s", f.Record.Kind, f.Record.Sender)
		}
		got[strings.TrimSuffix(f.Record.Subject, " bis")]++
	}
	for subject, n := range want {
		if got[subject] != n {
			var i int
			fmt.Sscan(subject[strings.IndexByte(subject, ' '):], &i)
			t.Errorf("%s, %s: %d messages, want %d", subject, dialogs[i].name, got[subject], n)
		}
	}
	if left := p.backlog.now(); !left.Oldest.IsZero() || left.Elsewhere > 0 {
		t.Errorf("left in the spool: %+v", left)
	}
	t.Logf("%d dialogs, %d messages", len(want), firsts)
}
