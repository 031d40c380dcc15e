package main

import (
	"fmt"
	"math/rand/v2"
	mailmessage "net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/mta/scan/clamdtest"
	"scripta/register/record"
)

// Two providers are killed all the time, and the network between them is cut,
// silenced, slowed down and half-closed. Every message that one of them answered
// 250 to ends in exactly one outcome for each recipient, and both registers agree.
func TestTwoProvidersChaos(t *testing.T) {
	t.Parallel()
	s := &duoStorm{t: t, rand: seeded(t), messages: size(16, 60, 2000), kills: size(2, 10, 50)}
	engine := clamdtest.Start(t)
	s.d = newDuo(t, duoOptions{ordinary: []string{"olga"}, edit: func(c *config.Config) {
		if c.Domain == duoB {
			c.Scan.Clamd, c.Limits.InfectedPerDay = engine.Address, 0
		}
	}})
	s.d.scans = []*provider{s.d.b}
	s.d.start(t)
	s.run()
	s.d.quiet(t, size(2*time.Minute, 5*time.Minute, time.Hour))
	want := s.want(s.d.stop(t))
	want.compare(t, "in the mailboxes", s.d.sightings(t))
	if !*soak { // twenty thousand messages would take longer than the storm
		want.compare(t, "by the independent parser", s.d.inspect(t))
	}
}

// duoStorm is clients of two providers that are killed, on a network that fails.
type duoStorm struct {
	t               *testing.T
	rand            *rand.Rand // of the goroutine that kills
	d               *duo
	messages, kills int // kills: of each
	crowd
}

// shape makes the n-th message; the try gives the Message-ID. Its author is of one
// provider or the other, its one to three recipients are of both.
func (s *duoStorm) shape(n, try int) *attempt {
	home, away := duoA, duoB
	if n%2 == 1 {
		home, away = duoB, duoA
	}
	at := func(domain string, i int) string {
		return duoAccounts[domain][i%len(duoAccounts[domain])] + "@" + domain
	}
	a := &attempt{letter: letter{id: fmt.Sprintf("<caos-%d-%d@client.example>", n, try), from: at(home, n/2), subject: fmt.Sprintf("caos %d", n)}}
	switch n / 2 % 10 {
	case 0:
		a.to = []string{at(away, n)}
	case 1:
		a.to, a.cc = []string{at(away, n)}, []string{at(home, n/2+1)}
	case 2:
		a.to = []string{at(away, n), at(away, n+1), at(home, n/2+1)}
	case 3:
		a.to = []string{at(away, n), noBox + "@" + away}
		a.letter = withAttachment(a.letter)
		a.more += "X-TipoRicevuta: breve\r\n"
	case 4:
		a.to = []string{at(away, n), fullBox + "@" + away}
		a.more = "X-TipoRicevuta: sintetica\r\n"
	case 5:
		a.to, a.cc = []string{at(home, n/2+1)}, []string{at(away, n), at(away, n+2)}
	case 6: // large enough to be cut while it passes
		a.to = []string{at(away, n)}
		a.more = "X-TipoRicevuta: sintetica\r\n"
		a.body = strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 3000)
	case 7:
		a.to, a.cc = []string{at(away, n+1)}, []string{"olga@" + ordinaryDomain}
	case 8:
		a.to = []string{at(away, n), at(away, n+1)}
		a.body, a.infected = clamdtest.EICAR()+"\r\n", true
	case 9:
		a.to = []string{noBox + "@" + away, noBox + "@" + home}
	}
	a.rcpt = a.recipients()
	return a
}

// run hands in all messages while it kills and cuts.
func (s *duoStorm) run() {
	work := make(chan int, s.messages)
	for n := range s.messages {
		work <- n
	}
	close(work)
	var clients, network sync.WaitGroup
	stop, finished, calm := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s.write, s.home = s.shape, s.d.of
	for range killClients {
		clients.Go(func() { s.client(s.t, work, stop) })
	}
	for i, w := range []*wire{s.d.ab, s.d.ba} {
		r := rand.New(rand.NewPCG(s.rand.Uint64(), uint64(i)))
		network.Go(func() { weatherOf(w, r, calm) })
	}
	go func() { clients.Wait(); close(finished) }()
	failed := true
	defer func() {
		if failed {
			close(stop)
		}
		close(calm)
		network.Wait()
		<-finished
	}()
	both := []*provider{s.d.a, s.d.b}
	strike := func(p *provider, k int) {
		p.daemon.kill()
		p.spawn(s.t)
		if s.rand.IntN(3) == 0 { // also while it recovers
			s.pause(200 * time.Millisecond)
			p.daemon.kill()
			p.spawn(s.t)
		}
		select {
		case <-p.daemon.ready:
		case <-p.daemon.ended:
			s.t.Fatalf("%s did not start after kill %d: %v\n%s", p.domain, k+1, p.daemon.err, p.logged(s.t))
		}
	}
	for k := range 2 * s.kills {
		s.reach(s.t, int64((k+1)*s.messages/(2*s.kills+2)), finished)
		s.pause(60 * time.Millisecond)
		strike(both[k%2], k)
	}
	// And while the last messages are on their way.
	<-finished
	for k, p := range both {
		s.pause(30 * time.Millisecond)
		strike(p, 2*s.kills+k)
	}
	failed = false
}

// weatherOf troubles a wire until it is told to be calm, and leaves it whole.
func weatherOf(w *wire, r *rand.Rand, calm <-chan struct{}) {
	for {
		select {
		case <-calm:
			return
		case <-time.After(time.Duration(r.Int64N(int64(400 * time.Millisecond)))):
			w.trouble(r, 200*time.Millisecond)
		}
	}
}

// pause waits for a random time: the moment of a kill.
func (s *duoStorm) pause(most time.Duration) {
	<-time.After(time.Duration(s.rand.Int64N(int64(most))))
}

// want is what must be in all mailboxes: of each attempt that was taken, whether
// or not its client heard so.
func (s *duoStorm) want(registers [][]*record.Record) ledger {
	t := s.t
	taken := map[string]bool{}
	for _, records := range registers {
		for _, r := range records {
			if r.Kind == record.Submitted {
				taken[r.OriginalID] = true
			}
		}
	}
	want := ledger{}
	outsiders := s.outsiders()
	acked, repeated, silent, outside := 0, 0, 0, 0
	for _, a := range s.attempts {
		switch {
		case a.acked:
			acked++
			if !taken[a.id] {
				t.Errorf("%s got 250, and there is no record of it", a.id)
			}
		case taken[a.id]:
			silent++
		default:
			repeated++
			continue
		}
		want.add(s.d.outcomes(a.letter)...)
		if slices.Contains(a.rcpt, "olga@"+ordinaryDomain) {
			outside++
			if n := outsiders[a.id]; n != 1 {
				t.Errorf("%s came to the ordinary world as %d messages", a.id, n)
			}
		}
	}
	if len(outsiders) != outside {
		t.Errorf("%d letters came to the ordinary world, want %d", len(outsiders), outside)
	}
	if acked != s.messages {
		t.Errorf("%d of %d messages got 250", acked, s.messages)
	}
	t.Logf("%d messages accepted; %d attempts cut off before they were taken, %d taken without the client hearing of it; %d and %d connections between the two",
		acked, repeated, silent, s.d.ab.called(), s.d.ba.called())
	return want
}

// outsiders are the letters that came to the ordinary world, and as how many
// different messages: one may come twice, as the same.
func (s *duoStorm) outsiders() map[string]int {
	came := map[string]map[string]bool{}
	for _, text := range s.d.postfix.box(s.t, "olga") {
		m, err := mailmessage.ReadMessage(strings.NewReader(text))
		if err != nil {
			s.t.Fatal(err)
		}
		id := m.Header.Get("X-Riferimento-Message-ID")
		if came[id] == nil {
			came[id] = map[string]bool{}
		}
		came[id][m.Header.Get("Message-ID")] = true
	}
	n := map[string]int{}
	for id, messages := range came {
		n[id] = len(messages)
	}
	return n
}
