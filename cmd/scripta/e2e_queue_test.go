package main

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"scripta/internal/config"
)

// ordinaryServer takes every message that comes to an address.
type ordinaryServer struct {
	mu   sync.Mutex
	came []string // "recipient: message"
}

func (s *ordinaryServer) NewSession(*smtp.Conn) (smtp.Session, error) {
	return &ordinarySession{server: s}, nil
}

func (s *ordinaryServer) messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.came
}

type ordinarySession struct {
	server *ordinaryServer
	rcpt   []string
}

func (s *ordinarySession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *ordinarySession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.rcpt = append(s.rcpt, to)
	return nil
}
func (s *ordinarySession) Reset()        { s.rcpt = nil }
func (s *ordinarySession) Logout() error { return nil }
func (s *ordinarySession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for _, to := range s.rcpt {
		s.server.came = append(s.server.came, to+": "+string(b))
	}
	return nil
}

// serveOrdinary listens at address until the test ends.
func serveOrdinary(t *testing.T, address string) *ordinaryServer {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp", address))
	server := new(ordinaryServer)
	s := smtp.NewServer(server)
	s.Domain, s.MaxMessageBytes = "mx.ordinaria.example", 1<<24
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return server
}

// What cannot be sent is listed with the reason, held, also over a restart,
// retried when a person says so, and gone when it is through.
func TestQueueCommands(t *testing.T) {
	t.Parallel()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	at := l.Addr().String()
	l.Close()
	p := newProvider(t, []string{"mario"}, func(c *config.Config) {
		c.Relay.Ordinary, c.Relay.Routes = true, []string{"*=" + at}
		c.Relay.FirstDelay = config.Duration{Duration: time.Hour} // what is sent after the first attempt was asked for
		c.Relay.MaxDelay = c.Relay.FirstDelay
	})
	if code, out := p.scripta(t, "queue", "list"); code != 1 || !strings.Contains(out, "no daemon serves this folder") {
		t.Errorf("a stopped provider's queue: exit %d\n%s", code, out)
	}
	p.start(t)
	if out := p.command(t, "queue", "list"); out != "0 messages wait\n" {
		t.Errorf("an empty queue: %q", out)
	}
	for i, to := range []string{"anna@ordinaria.example", "bruno@altra.example"} {
		p.send(t, letter{id: "<q" + string(rune('a'+i)) + "@mario.example>", from: address("mario"), to: []string{to}, subject: "Coda"})
	}
	var list string
	eventually(t, patience, "both were tried", func() bool {
		list = p.command(t, "queue", "list")
		return strings.Count(list, "connection refused") == 2
	})
	for _, want := range []string{"altra.example", "ordinaria.example", "ordinary", "unreachable, 1 times", "2 messages wait"} {
		if !strings.Contains(list, want) {
			t.Errorf("the list does not say %q:\n%s", want, list)
		}
	}
	one := strings.Fields(p.command(t, "queue", "list", "--destination", "ordinaria.example"))[0]
	show := p.command(t, "queue", "show", one)
	for _, want := range []string{"message      " + one, "anna@ordinaria.example", "from         " + address("mario"), "attempts     1", "connection refused", "next attempt in ", "given up     in 2"} {
		if !strings.Contains(show, want) {
			t.Errorf("show does not say %q:\n%s", want, show)
		}
	}
	if out := p.command(t, "queue", "hold", one); out != "1 messages are held\n" {
		t.Errorf("hold says %q", out)
	}
	server := serveOrdinary(t, at)
	if out := p.command(t, "queue", "retry", "--all"); out != "2 messages are due now\n" {
		t.Errorf("retry says %q", out)
	}
	eventually(t, patience, "the one that is not held arrives", func() bool { return len(server.messages()) == 1 })
	if m := server.messages()[0]; !strings.HasPrefix(m, "bruno@altra.example: ") {
		t.Errorf("arrived: %.100q", m)
	}
	p.stop(t)
	p.start(t)
	if out := p.command(t, "queue", "list", "--all"); !strings.Contains(out, one) || !strings.Contains(out, "held") {
		t.Errorf("after a restart:\n%s", out)
	}
	p.command(t, "queue", "release", one) // a start tries everything again that is not held
	eventually(t, patience, "the released one arrives", func() bool { return len(server.messages()) == 2 })
	eventually(t, patience, "nothing waits", func() bool { return p.command(t, "queue", "list") == "0 messages wait\n" })
	if code, out := p.scripta(t, "queue", "show", one); code != 1 || !strings.Contains(out, "it is not in the queue") {
		t.Errorf("showing what is gone: exit %d\n%s", code, out)
	}
	for _, wrong := range [][]string{{"show"}, {"show", "xyz"}, {"hold"}, {"hold", one, "--all"}, {"retry", one, one}, {"list", one}, {"list", "--max", "0"}, {"list", "--all", "--destination", "x"}} {
		if code, out := p.scripta(t, append([]string{"queue"}, wrong...)...); code != 2 {
			t.Errorf("queue %v: exit %d\n%s", wrong, code, out)
		}
	}
}
