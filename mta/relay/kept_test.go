package relay

import (
	"crypto/tls"
	"sync"
	"testing"
	"time"
)

// Messages for one server follow each other over one connection, as long as nothing went wrong.
func TestConnectionIsKept(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil).withTLS(&tls.Config{Certificates: []tls.Certificate{certificate(t)}})
	tr := direct(p)
	tr.Timeouts.Idle = time.Minute
	var first Answer
	for n := range maxUses + 1 {
		a := one(t, tr.Send(t.Context(), certified("a@b.example"), open(text)))
		a.want(t, Taken, "250", "")
		if n == 0 {
			first = a
		} else if n < maxUses && (a.Peer.Address != first.Peer.Address || a.Peer.TLS != first.Peer.TLS || string(a.Peer.Certificate) != string(first.Peer.Certificate)) {
			t.Errorf("message %d went over %+v, the first over %+v", n+1, a.Peer, first.Peer)
		}
	}
	if got := p.taken(); len(got) != maxUses+1 || p.connections() != 2 || string(got[maxUses-1].data) != text || !got[maxUses-1].tls {
		t.Errorf("%d messages over %d connections", len(got), p.connections())
	}
	// Ordinary mail does not go over what was made for certified mail, nor the other way round.
	one(t, tr.Send(t.Context(), mailTo("a@b.example"), open(text))).want(t, Taken, "250", "")
	one(t, tr.Send(t.Context(), certified("a@b.example"), open(text))).want(t, Taken, "250", "")
	if p.connections() != 3 {
		t.Errorf("%d connections", p.connections())
	}
	// After a refusal the connection is left.
	p.say("RCPT", "550 no")
	one(t, tr.Send(t.Context(), certified("a@b.example"), open(text))).want(t, Refused, "550", "")
	p.say("RCPT", "")
	one(t, tr.Send(t.Context(), certified("a@b.example"), open(text))).want(t, Taken, "250", "")
	if p.connections() != 4 {
		t.Errorf("%d connections after a refusal", p.connections())
	}
}

// A kept connection that is dead, or that the server has had enough of, costs nothing but a new one.
func TestKeptConnectionIsDead(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]map[string]string{"closed": {"after .": "hang up"}} {
		p := newPeer(t, says)
		tr := direct(p)
		tr.Timeouts.Idle = time.Minute
		for range 5 {
			r := tr.Send(t.Context(), mailTo("a@b.example"), open(text))
			one(t, r).want(t, Taken, "250", "")
		}
		if len(p.taken()) != 5 || p.connections() != 5 {
			t.Errorf("%s: %d messages over %d connections", name, len(p.taken()), p.connections())
		}
	}
	// One that answers 421 to what comes over it, or wants no second message, and is well when it is called anew.
	for _, x := range []struct{ at, reply string }{{"MAIL", "421 idle for too long"}, {"RCPT", "421 idle for too long"}, {"DATA", "421 idle for too long"},
		{"MAIL", "550 5.5.1 one message over a connection"}} {
		at := x.at
		p := newPeer(t, nil)
		tr := direct(p)
		tr.Timeouts.Idle = time.Minute
		one(t, tr.Send(t.Context(), mailTo("a@b.example"), open(text))).want(t, Taken, "250", "")
		old := map[string]string{"DATA": "354 go on"}[at]
		p.say(at, x.reply)
		p.mu.Lock()
		p.onConnect = func() { p.say(at, old) }
		p.mu.Unlock()
		r := tr.Send(t.Context(), mailTo("a@b.example"), open(text))
		one(t, r).want(t, Taken, "250", "")
		if p.connections() != 2 || len(p.taken()) != 2 || r.Unreachable {
			t.Errorf("%s: %d connections, %d messages", at, p.connections(), len(p.taken()))
		}
	}
	// When the new one fails as well, that is the answer, once.
	p := newPeer(t, nil)
	tr := direct(p)
	tr.Timeouts.Idle = time.Minute
	one(t, tr.Send(t.Context(), mailTo("a@b.example"), open(text))).want(t, Taken, "250", "")
	p.say("MAIL", "421 4.3.2 down")
	one(t, tr.Send(t.Context(), mailTo("a@b.example"), open(text))).want(t, Deferred, "4.3.2", "down")
	// What was transferred, and not answered, is not sent twice in one attempt.
	p.say("MAIL", "")
	one(t, tr.Send(t.Context(), mailTo("a@b.example"), open(text))).want(t, Taken, "250", "")
	p.say(".", "hang up")
	before := p.connections()
	one(t, tr.Send(t.Context(), mailTo("a@b.example"), open(text))).want(t, Deferred, "4.4.2", "answer to the message")
	if p.connections() != before {
		t.Error("it was sent again at once")
	}
}

// Nobody keeps a connection for long, nor any number of them.
func TestKeptConnectionsEnd(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil)
	tr := direct(p)
	tr.Timeouts.Idle = time.Millisecond
	one(t, tr.Send(t.Context(), mailTo("a@b.example"), open(text))).want(t, Taken, "250", "")
	for deadline := time.Now().Add(20 * time.Second); !p.heard("QUIT"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no leave was taken")
		}
	}
	tr = direct(p)
	tr.Timeouts.Idle = time.Minute
	var wg sync.WaitGroup
	for range 3 * maxAlike {
		wg.Go(func() { tr.Send(t.Context(), mailTo("a@b.example"), open(text)) })
	}
	wg.Wait()
	tr.kept.mu.Lock()
	defer tr.kept.mu.Unlock()
	n := 0
	for _, list := range tr.kept.sessions {
		n += len(list)
	}
	if n == 0 || n > maxAlike || n != tr.kept.n {
		t.Errorf("%d connections are kept, counted %d", n, tr.kept.n)
	}
}

// Where a policy asks for a certain certificate, each message is sure of it by itself.
func TestVerifiedConnectionIsNotKept(t *testing.T) {
	t.Parallel()
	s := newSTSLan(t, "mx.b.example", true)
	tr := s.transport()
	tr.Timeouts.Idle = time.Minute
	for range 2 {
		one(t, tr.Send(t.Context(), mailTo("a@b.example"), open(text))).want(t, Taken, "250", "")
	}
	if s.mail.connections() != 2 {
		t.Errorf("%d connections", s.mail.connections())
	}
}
