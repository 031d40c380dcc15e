package relay

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// ID is a letter's: the id of the job that it is sent for.
type ID [16]byte

// String returns the ID in lower-case hexadecimal digits, as logs and operators write it.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what [ID.String] returns.
func ParseID(s string) (id ID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%.80q is no letter's id: it has 32 hexadecimal digits", s)
	}
	return ID(b), nil
}

// Letter is one message for one destination. From [Queue.Add] on it belongs to the queue, which changes Recipients,
// Tries, Next and Last; a [Handler] and an [Opener] may read it until they return.
type Letter struct {
	ID          ID
	Destination string   // name of a provider, or a domain: what concurrency and backoff are bounded by
	Certified   bool     // towards a provider of certified e-mail: TLS always
	From        string   // reverse path, without <>; empty: the null reverse path
	Recipients  []string // those still without a final answer
	Size        int64    // of the message, in octets
	EightBit    bool     // there are octets of 0x80 or more in it
	Begun       time.Time
	Until       time.Time // when the queue gives up; zero: never
	Tries       int       // attempts made so far; in a handler the one that it is told of is counted
	Next        time.Time // no attempt before; in a handler: when the next one is, if a recipient was deferred
	Last        string    // why it still waits, for people; kept short
}

// State says what an answer means.
type State uint8

const (
	// Deferred: not now; the queue tries again.
	Deferred State = iota + 1
	// Taken: the other server answers for the message from now on.
	Taken
	// Refused: never.
	Refused
)

func (s State) String() string {
	switch s {
	case Deferred:
		return "deferred"
	case Taken:
		return "taken"
	case Refused:
		return "refused"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Peer is the other side of a connection. It has the fields of record.Peer, which it converts to.
type Peer struct {
	Address     string // IP address and port; empty: there was no connection
	TLS         string // version, such as "TLS 1.3"; empty: not encrypted
	Cipher      string
	Certificate []byte // SHA-256 of the server's certificate, or empty
}

// Hop is the server that an answer comes from.
type Hop struct {
	Host string // its name as routes or MX records have it; empty: there is none
	Peer Peer
}

// Answer is what became of one recipient in one attempt. Taken and Refused are final.
type Answer struct {
	Recipient string
	State     State
	Code      int    // of the SMTP reply; 0: it is our own judgement
	Enhanced  string // RFC 3463, such as "5.1.1"; empty: the server gave none
	Text      string // one line, printable, at most 1,000 octets, without the codes
	Hop
}

// Status is the enhanced code, or the basic one where the server gave no other.
func (a *Answer) Status() string {
	if a.Enhanced == "" && a.Code != 0 {
		return fmt.Sprint(a.Code)
	}
	return a.Enhanced
}

// String returns the answer as one line for people: "host said: 550 5.1.1 text".
func (a *Answer) String() string {
	s := a.Text
	if a.Enhanced != "" {
		s = a.Enhanced + " " + s
	}
	switch {
	case a.Code != 0:
		return fmt.Sprintf("%s said: %d %s", a.Host, a.Code, s)
	case a.Host != "":
		return a.Host + ": " + s
	}
	return s
}

// Result is what became of one attempt, or of a letter whose time is over.
type Result struct {
	// Answers has one answer at most for each recipient. A recipient without one was not tried (the provider is
	// stopping) and stays in the queue.
	Answers []Answer
	// Unreachable says that no server of the destination took up a transaction: it is the destination that is
	// out of order, not this letter.
	Unreachable bool
	// Time is when the attempt ended, by the queue's clock.
	Time time.Time
}

// Opener opens a letter's message for reading, as often as it is asked. Its lines end in CRLF, the last one too.
type Opener func(ctx context.Context, l *Letter) (io.ReadCloser, error)

// Handler makes a result durable before the queue goes on: records, notes, non-deliveries. l.Tries counts the attempt,
// so that records of it can be named by it, and l.Next is when the next one would be. After an error the queue asks it
// again later, with the same letter and result, and sends nothing meanwhile. It is called once at a time for a letter,
// and concurrently for several. Its context is not cancelled when the provider stops.
type Handler func(ctx context.Context, l *Letter, r *Result) error

// Sender makes one attempt: [Transport.Send].
type Sender func(ctx context.Context, l *Letter, open Opener) *Result
