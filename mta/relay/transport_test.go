package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestSendsTheOctetsThatItRead(t *testing.T) {
	t.Parallel()
	p := newPeer(t, map[string]string{"EHLO": "250-peer.example\n250-SIZE 0\n250 8BITMIME"})
	for name, message := range map[string]string{
		"dots":       text,
		"empty":      "",
		"one line":   "\r\n",
		"first dot":  ".\r\n",
		"8-bit":      "Subject: citt\xe0\r\n\r\nperch\xc3\xa9 \xff\xfe\r\n",
		"long line":  "a: b\r\n\r\n" + strings.Repeat(".x", 100_000) + "\r\n",
		"many dots":  strings.Repeat(".\r\n..\r\n", 30_000),
		"bare of it": "From: a@b\r\n\r\n\t trailing \t\r\n\r\n\r\n",
	} {
		for _, chunks := range []bool{false, true} {
			l := mailTo("lucia@b.example")
			l.Size, l.EightBit = int64(len(message)), strings.Contains(name, "8-bit")
			opener := open(message)
			if chunks && len(message) < 10_000 {
				opener = func(context.Context, *Letter) (io.ReadCloser, error) {
					return io.NopCloser(iotest.OneByteReader(strings.NewReader(message))), nil
				}
			}
			a := one(t, direct(p).Send(t.Context(), l, opener))
			a.want(t, Taken, "250", "ok")
			got := p.taken()[len(p.taken())-1]
			if string(got.data) != message {
				t.Errorf("%s: sent %d octets, %d arrived, or not the same", name, len(message), len(got.data))
			}
			if want := "FROM:<mario@pec.example>"; !strings.HasPrefix(got.from, want) || l.EightBit != strings.HasSuffix(got.from, " BODY=8BITMIME") {
				t.Errorf("%s: MAIL %s", name, got.from)
			}
		}
	}
}

// Octets that would be changed on their way, or be taken for two messages, are not sent at all.
func TestRefusesOctetsThatChange(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil)
	for _, message := range []string{"a\n.\r\nb\r\n", "a\r\n.\nb\r\n", "a\r.\rb\r\n", "a\n.\nb\r\n", "a\x00b\r\n", "no end", "a\r\n\r", "a\r\r\nb\r\n", strings.Repeat("x\r\n", 50_000) + "\n"} {
		l := mailTo("lucia@b.example")
		l.Size = int64(len(message))
		one(t, direct(p).Send(t.Context(), l, open(message))).want(t, Refused, "5.6.11", "line end")
	}
	if got := p.taken(); len(got) != 0 {
		t.Errorf("%d messages arrived: %q", len(got), got[0].data)
	}
}

// A message that cannot be read whole is not sent, and not given up: it is we who are at fault.
func TestNeverSendsAPart(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil)
	broken := errors.New("the disk is broken")
	for name, opener := range map[string]Opener{
		"cannot be opened": func(context.Context, *Letter) (io.ReadCloser, error) { return nil, broken },
		"breaks off": func(context.Context, *Letter) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken))), nil
		},
		"short": open(text[:len(text)-6]),
		"long":  open(text + "x\r\n"),
	} {
		r := direct(p).Send(t.Context(), mailTo("lucia@b.example"), opener)
		one(t, r).want(t, Deferred, "4.3.0", "")
		if r.Unreachable {
			t.Errorf("%s: the destination is said to be unreachable", name)
		}
	}
	if got := p.taken(); len(got) != 0 {
		t.Errorf("%d messages arrived", len(got))
	}
}

func TestJudgesReplies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says        map[string]string
		state       State
		status      string
		part        string
		unreachable bool
	}{
		"taken":                {nil, Taken, "250", "ok", false},
		"taken, of many lines": {map[string]string{".": "250-2.0.0 one\n250-2.0.0 two\n250 2.0.0 three"}, Taken, "2.0.0", "one two three", false},
		"HELO only":            {map[string]string{"EHLO": "502 what?", "HELO": "250 hello"}, Taken, "250", "ok", false},
		"no HELO either":       {map[string]string{"EHLO": "502 what?", "HELO": "550 5.7.1 go away"}, Refused, "5.7.1", "go away", true},
		"busy at EHLO":         {map[string]string{"EHLO": "421 4.3.2 later"}, Deferred, "4.3.2", "later", true},
		"no service":           {map[string]string{"greeting": "554 no SMTP here"}, Refused, "554", "no SMTP", true},
		"busy greeting":        {map[string]string{"greeting": "421 busy"}, Deferred, "421", "busy", true},
		"odd greeting":         {map[string]string{"greeting": "250 hello"}, Deferred, "250", "hello", true},
		"not SMTP":             {map[string]string{"greeting": "HTTP/1.1 400 Bad Request"}, Deferred, "4.5.0", "not an SMTP reply", true},
		"no greeting":          {map[string]string{"greeting": "hang up"}, Deferred, "4.4.2", "connection was lost", true},
		"MAIL later":           {map[string]string{"MAIL": "451 4.7.1 greylisted"}, Deferred, "4.7.1", "greylisted", false},
		"MAIL never":           {map[string]string{"MAIL": "550 5.7.1 no"}, Refused, "5.7.1", "no", false},
		"MAIL gone":            {map[string]string{"MAIL": "hang up"}, Deferred, "4.4.2", "MAIL", true},
		"shut down":            {map[string]string{"MAIL": "421 4.3.2 going down"}, Deferred, "4.3.2", "going down", true},
		"RCPT later":           {map[string]string{"RCPT": "452 4.2.2 mailbox full"}, Deferred, "4.2.2", "full", false},
		"RCPT never":           {map[string]string{"RCPT": "550-5.1.1 unknown\n550 5.1.1 here"}, Refused, "5.1.1", "unknown here", false},
		"RCPT gone":            {map[string]string{"RCPT": "hang up"}, Deferred, "4.4.2", "RCPT", false},
		"RCPT nonsense":        {map[string]string{"RCPT": "354 what?"}, Deferred, "354", "", false},
		"DATA later":           {map[string]string{"DATA": "451 no room"}, Deferred, "451", "no room", false},
		"DATA never":           {map[string]string{"DATA": "554 no"}, Refused, "554", "no", false},
		"DATA nonsense":        {map[string]string{"DATA": "250 what?"}, Deferred, "250", "", false},
		"message later":        {map[string]string{".": "451 4.3.0 try again"}, Deferred, "4.3.0", "again", false},
		"message never":        {map[string]string{".": "550 5.7.1 virus"}, Refused, "5.7.1", "virus", false},
		"gone at the end":      {map[string]string{".": "hang up"}, Deferred, "4.4.2", "waiting for the answer to the message", false},
		"wrong class":          {map[string]string{"RCPT": "550 2.1.1 unknown"}, Refused, "550", "2.1.1 unknown", false},
		"two codes":            {map[string]string{"RCPT": "250-fine\n550 or not"}, Deferred, "4.5.0", "codes 250 and 550", false},
		"control characters":   {map[string]string{"RCPT": "550 5.1.1 a\x1b[31m\x07b\tc\xff"}, Refused, "5.1.1", "a?[31m?b c?", false},
		"too long a line":      {map[string]string{"RCPT": "550 " + strings.Repeat("x", 5000)}, Deferred, "4.5.0", "more than 4096", false},
		"too many lines":       {map[string]string{"RCPT": strings.Repeat("550-x\n", 1000) + "550 x"}, Deferred, "4.5.0", "more than 128", false},
		"no room":              {map[string]string{"EHLO": "250-p\n250 SIZE 20"}, Refused, "5.3.4", "the server takes 20", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, c.says)
			r := direct(p).Send(t.Context(), mailTo("lucia@b.example"), open(text))
			a := one(t, r)
			a.want(t, c.state, c.status, c.part)
			if r.Unreachable != c.unreachable {
				t.Errorf("unreachable: %v", r.Unreachable)
			}
			if a.Peer.Address != p.address || a.Host != "127.0.0.1" || a.Peer.TLS != "" {
				t.Errorf("the answer comes from %+v", a.Hop)
			}
			if taken := c.state == Taken; taken != (len(p.taken()) == 1) {
				t.Errorf("%d messages arrived", len(p.taken()))
			}
		})
	}
}

func TestAnswersEachRecipient(t *testing.T) {
	t.Parallel()
	p := newPeer(t, map[string]string{"RCPT TO:<full@b.example>": "452 4.2.2 full", "RCPT TO:<nobody@b.example>": "550 5.1.1 unknown"})
	r := direct(p).Send(t.Context(), mailTo("a@b.example", "full@b.example", "nobody@b.example", "c@d.example", `"x y"@b.example`, "x\r\nDATA@b.example", "x y@b.example", "é@b.example", "nodomain", "a@[1.2.3.4]", "a@b..c"), open(text))
	wants := []struct {
		state  State
		status string
	}{{Taken, "250"}, {Deferred, "4.2.2"}, {Refused, "5.1.1"}, {Taken, "250"}, {Taken, "250"}, {Refused, "5.1.3"}, {Refused, "5.1.3"}, {Refused, "5.6.7"}, {Refused, "5.1.3"}, {Refused, "5.1.3"}, {Refused, "5.1.3"}}
	if len(r.Answers) != len(wants) || r.Unreachable {
		t.Fatalf("%+v", r)
	}
	for i, w := range wants {
		r.Answers[i].want(t, w.state, w.status, "")
	}
	got := p.taken()
	if len(got) != 1 || !slices.Equal(got[0].rcpts, []string{"TO:<a@b.example>", `TO:<"x y"@b.example>`, "TO:<c@d.example>"}) {
		t.Errorf("arrived: %+v", got)
	}
	if p.heard("DATA@") {
		t.Error("an address became a command")
	}
}

func TestNullReversePath(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil)
	l := mailTo("a@b.example")
	l.From = ""
	one(t, direct(p).Send(t.Context(), l, open(text))).want(t, Taken, "250", "")
	if got := p.taken()[0].from; got != "FROM:<>" {
		t.Errorf("MAIL %s", got)
	}
}

// A server that takes only so many recipients at once gets the others in another transaction.
func TestTooManyRecipients(t *testing.T) {
	t.Parallel()
	for _, refusal := range []string{"452 4.5.3 too many", "452 too many", "552 5.5.3 too many"} {
		p := newPeer(t, map[string]string{"RCPT TO:<c@b.example>": refusal})
		opened := 0
		r := direct(p).Send(t.Context(), mailTo("a@b.example", "c@b.example"), func(ctx context.Context, l *Letter) (io.ReadCloser, error) {
			if opened++; opened == 2 {
				p.say("RCPT TO:<c@b.example>", "")
			}
			return open(text)(ctx, l)
		})
		for _, a := range r.Answers {
			a.want(t, Taken, "250", "")
		}
		if got := p.taken(); len(got) != 2 || p.connections() != 1 || !bytes.Equal(got[0].data, got[1].data) || len(got[1].rcpts) != 1 {
			t.Errorf("%q: %d messages over %d connections", refusal, len(got), p.connections())
		}
	}
	// A server that takes none does not make us try for ever.
	p := newPeer(t, map[string]string{"RCPT": "452 4.5.3 too many"})
	for _, a := range direct(p).Send(t.Context(), mailTo("a@b.example", "c@b.example"), open(text)).Answers {
		a.want(t, Deferred, "4.5.3", "")
	}
}

func TestEightBitWithoutTheExtension(t *testing.T) {
	t.Parallel()
	p := newPeer(t, map[string]string{"EHLO": "250-peer.example\n250 SIZE"})
	l := mailTo("a@b.example", "c@b.example")
	l.EightBit = true
	r := direct(p).Send(t.Context(), l, open(text))
	for _, a := range r.Answers {
		a.want(t, Refused, "5.6.3", "8BITMIME")
	}
	if r.Unreachable || p.heard("MAIL") {
		t.Error("it went on")
	}
}

// The next server is tried while none has answered about the message, and no longer.
func TestTriesTheNextServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says  map[string]string
		taken bool
	}{
		"greeting":   {map[string]string{"greeting": "554 no"}, true},
		"EHLO":       {map[string]string{"EHLO": "hang up"}, true},
		"MAIL lost":  {map[string]string{"MAIL": "hang up"}, true},
		"RCPT 421":   {map[string]string{"RCPT": "421 down"}, true},
		"DATA lost":  {map[string]string{"DATA": "hang up"}, true},
		"RCPT never": {map[string]string{"RCPT": "550 no"}, false},
		"RCPT later": {map[string]string{"RCPT": "450 later"}, false},
		"unknown":    {map[string]string{".": "hang up"}, false},
	} {
		bad, good := newPeer(t, c.says), newPeer(t, nil)
		r := direct(bad, good).Send(t.Context(), mailTo("a@b.example"), open(text))
		if a := one(t, r); c.taken != (a.State == Taken) || c.taken != (len(good.taken()) == 1) || c.taken && a.Peer.Address != good.address {
			t.Errorf("%s: %v by %s", name, a.State, a.Peer.Address)
		}
	}
	// What one server refused for good is not asked of the next.
	half, good := newPeer(t, map[string]string{"RCPT TO:<no@b.example>": "550 no", "RCPT TO:<a@b.example>": "421 down"}), newPeer(t, nil)
	r := direct(half, good).Send(t.Context(), mailTo("no@b.example", "a@b.example"), open(text))
	r.Answers[0].want(t, Refused, "550", "")
	r.Answers[1].want(t, Taken, "250", "")
	// None left: refused only if all refused.
	for name, c := range map[string]struct {
		first, second string
		state         State
	}{"both refuse": {"554 no", "521 no mail", Refused}, "one may come back": {"554 no", "421 busy", Deferred}, "the other": {"421 busy", "554 no", Deferred}} {
		r := direct(newPeer(t, map[string]string{"greeting": c.first}), newPeer(t, map[string]string{"greeting": c.second})).Send(t.Context(), mailTo("a@b.example"), open(text))
		if a := one(t, r); a.State != c.state || !r.Unreachable {
			t.Errorf("%s: %v, unreachable %v", name, a.State, r.Unreachable)
		}
	}
}

// A server that says nothing, at whichever point, is left after the time that it has.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	for at, change := range map[string]func(*Timeouts, time.Duration){
		"greeting": func(t *Timeouts, d time.Duration) { t.Greeting = d },
		"EHLO":     func(t *Timeouts, d time.Duration) { t.Hello = d },
		"MAIL":     func(t *Timeouts, d time.Duration) { t.Mail = d },
		"RCPT":     func(t *Timeouts, d time.Duration) { t.Recipient = d },
		"DATA":     func(t *Timeouts, d time.Duration) { t.Data = d },
		".":        func(t *Timeouts, d time.Duration) { t.End = d },
		"none":     func(t *Timeouts, d time.Duration) { t.Session = d },
	} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			says := map[string]string{at: "-"}
			if at == "none" {
				says = map[string]string{"RCPT": "-"}
			}
			p := newPeer(t, says)
			tr := direct(p)
			change(&tr.Timeouts, 50*time.Millisecond)
			one(t, tr.Send(t.Context(), mailTo("a@b.example"), open(text))).want(t, Deferred, "4.4.2", "no answer in time")
		})
	}
}

// A server that talks, but never ends its reply, gets no more time for it.
func TestDrippingServer(t *testing.T) {
	t.Parallel()
	p := newPeer(t, map[string]string{"greeting": strings.Repeat("220-x\n", 5) + "220-and", "EHLO": "-"})
	tr := direct(p)
	tr.Timeouts.Greeting = 50 * time.Millisecond
	one(t, tr.Send(t.Context(), mailTo("a@b.example"), open(text))).want(t, Deferred, "4.4.2", "no answer in time")
}

// When the provider stops, an attempt ends at once, without an answer.
func TestStopsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"greeting", "EHLO", "MAIL", "RCPT", "DATA", "."} {
		p := newPeer(t, map[string]string{at: "-"})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan *Result)
		go func() { done <- direct(p).Send(ctx, mailTo("a@b.example"), open(text)) }()
		go func() {
			for at != "greeting" && at != "." && !p.heard(at) || at == "." && !p.heard("DATA") {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}()
		select {
		case r := <-done:
			if len(r.Answers) != 0 {
				t.Errorf("at %s: %+v", at, r.Answers)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("at %s: it goes on", at)
		}
	}
}

// A server that has heard enough of a message may say so before its end.
func TestServerCutsTheMessageShort(t *testing.T) {
	t.Parallel()
	p := newPeer(t, map[string]string{"DATA": "354 go on\n552 5.3.4 too much"})
	l := mailTo("a@b.example")
	big := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1000)
	l.Size = int64(len(big))
	one(t, direct(p).Send(t.Context(), l, open(big))).want(t, Refused, "5.3.4", "too much")
}
