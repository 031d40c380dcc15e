package relay

import "time"

// Timeouts bound one attempt. A zero field takes the value of [DefaultTimeouts].
type Timeouts struct {
	Lookup    time.Duration // all DNS of a domain
	Connect   time.Duration // TCP, to one address
	TLS       time.Duration // handshake
	Greeting  time.Duration // the whole reply; so do all below
	Hello     time.Duration
	Mail      time.Duration
	Recipient time.Duration
	Data      time.Duration // until 354
	Block     time.Duration // writing a part of the message
	End       time.Duration // until the answer to the final dot
	Quit      time.Duration
	Idle      time.Duration // a connection is kept so long for the next message
	// Session bounds a whole attempt, with the time added that the message needs at slowest octets a second: a server
	// that takes each of the times above as far as it can must not keep a place for ever.
	Session time.Duration
}

// slowest is the rate, octets a second, below which a message is not worth waiting for.
const slowest = 4 << 10

// DefaultTimeouts are those of RFC 5321 §4.5.3.2, where it has any.
func DefaultTimeouts() Timeouts {
	return Timeouts{Lookup: 30 * time.Second, Connect: 30 * time.Second, TLS: time.Minute, Greeting: 5 * time.Minute, Hello: 5 * time.Minute,
		Mail: 5 * time.Minute, Recipient: 5 * time.Minute, Data: 2 * time.Minute, Block: 3 * time.Minute, End: 10 * time.Minute,
		Quit: 2 * time.Second, Idle: 3 * time.Second, Session: 30 * time.Minute}
}

// filled returns t with its zero fields set.
func (t Timeouts) filled() Timeouts {
	d := DefaultTimeouts()
	for _, f := range []struct {
		have *time.Duration
		take time.Duration
	}{
		{&t.Lookup, d.Lookup}, {&t.Connect, d.Connect}, {&t.TLS, d.TLS}, {&t.Greeting, d.Greeting}, {&t.Hello, d.Hello}, {&t.Mail, d.Mail},
		{&t.Recipient, d.Recipient}, {&t.Data, d.Data}, {&t.Block, d.Block}, {&t.End, d.End}, {&t.Quit, d.Quit}, {&t.Idle, d.Idle}, {&t.Session, d.Session},
	} {
		if *f.have == 0 {
			*f.have = f.take
		}
	}
	return t
}
