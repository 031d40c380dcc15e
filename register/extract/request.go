package extract

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"scripta/register"
	"scripta/register/calendar"
	"scripta/register/evidence"
	"scripta/register/record"
)

// RequestID names a request. It is the transaction of its records' ids.
type RequestID [16]byte

func (id RequestID) String() string { return hex.EncodeToString(id[:]) }

// ParseRequestID reads what [RequestID.String] writes, and nothing else.
func ParseRequestID(s string) (id RequestID, ok bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) || hex.EncodeToString(b) != s {
		return id, false
	}
	return RequestID(b), true
}

// State says how far a request has come.
type State string

// States of a request.
const (
	StateAsked     State = "asked"     // waiting for production
	StateProduced  State = "produced"  // the evidence file is ready
	StateDelivered State = "delivered" // the evidence file was handed out
	StateRefused   State = "refused"   // there is no evidence file, and Reason says why
)

// Reason is why a request ends without an evidence file.
type Reason string

// Reasons. That no event matches is an answer, too, and the most frequent one.
const (
	ReasonNoEvents Reason = "no-events"
	ReasonTooMany  Reason = "too-many-events"
	ReasonTooLarge Reason = "too-large"
)

// Text is the reason in Italian, as its record says it.
func (r Reason) Text() string {
	switch r {
	case ReasonNoEvents:
		return "nessun evento"
	case ReasonTooMany:
		return "troppi eventi: chiedere un periodo più breve"
	case ReasonTooLarge:
		return "estratto troppo grande: chiedere un periodo più breve"
	}
	return string(r)
}

// Step is one step of a request. The clock was read once for it.
type Step struct {
	Time  time.Time     `json:"time"`
	Marks []record.Pair `json:"marks,omitempty"` // what its record says of the clock
	Peer  record.Peer   `json:"peer"`            // whence the holder asked or fetched
}

// Request is one holder's request for an extract. Values do not change; the next
// step makes another one.
type Request struct {
	ID        RequestID      `json:"-"`
	Query     evidence.Query `json:"query"` // of one mailbox, in lower case; To is when it was asked, or before
	Due       time.Time      `json:"due"`   // end of the fifth working day, fixed when asked
	Asked     Step           `json:"asked"`
	Produced  *Step          `json:"produced,omitempty"`
	Delivered *Step          `json:"delivered,omitempty"`
	Refused   *Step          `json:"refused,omitempty"`
	Reason    Reason         `json:"reason,omitempty"` // why it was refused
	Events    int            `json:"events,omitempty"` // records in the evidence file
	Digest    []byte         `json:"digest,omitempty"` // SHA-256 of the evidence file
	Size      int64          `json:"size,omitempty"`   // of the evidence file, bytes
}

// State says how far the request has come.
func (r *Request) State() State {
	switch {
	case r.Refused != nil:
		return StateRefused
	case r.Delivered != nil:
		return StateDelivered
	case r.Produced != nil:
		return StateProduced
	}
	return StateAsked
}

// ended is when the request was answered; ok is false while it waits.
func (r *Request) ended() (t time.Time, ok bool) {
	switch {
	case r.Refused != nil:
		return r.Refused.Time, true
	case r.Produced != nil:
		return r.Produced.Time, true
	}
	return t, false
}

// Steps of a request. With its id they make the ids of its records, so they
// never change.
const (
	stepAsked     uint16 = 1
	stepProduced  uint16 = 2
	stepDelivered uint16 = 3
	stepRefused   uint16 = 4
)

// entries are the records of all steps that the request has made, in their
// order. They are a function of the request: made again, they are the same.
func (r *Request) entries() []register.Entry {
	all := []register.Entry{r.entry(record.ExtractAsked, stepAsked, &r.Asked, r.asked()...)}
	if s := r.Produced; s != nil {
		e := r.entry(record.ExtractProduced, stepProduced, s, record.Pair{Name: "events", Value: strconv.Itoa(r.Events)})
		e.Record.Digest, e.Record.Size = r.Digest, uint64(r.Size)
		all = append(all, e)
	}
	if s := r.Delivered; s != nil {
		e := r.entry(record.ExtractDelivered, stepDelivered, s)
		e.Record.Digest, e.Record.Size = r.Digest, uint64(r.Size)
		all = append(all, e)
	}
	if s := r.Refused; s != nil {
		e := r.entry(record.ExtractRefused, stepRefused, s)
		e.Record.Outcome = record.Outcome{Code: string(r.Reason), Text: r.Reason.Text()}
		all = append(all, e)
	}
	return all
}

func (r *Request) entry(kind record.Kind, step uint16, s *Step, more ...record.Pair) register.Entry {
	detail := append(slices.Clone(s.Marks), more...)
	detail = append(detail, record.Pair{Name: "due", Value: r.Due.In(calendar.Rome()).Format(time.RFC3339)}, record.Pair{Name: "request", Value: r.ID.String()})
	return register.Entry{ID: record.MakeID(r.ID, step, 0), Record: &record.Record{Kind: kind, Time: s.Time, Sender: r.Query.Mailbox,
		Actor: r.Query.Mailbox, Peer: s.Peer, Detail: record.SortDetail(detail)}}
}

// asked says what was asked for.
func (r *Request) asked() []record.Pair {
	var d []record.Pair
	if r.Query.MessageID != "" {
		d = append(d, record.Pair{Name: "message-id", Value: r.Query.MessageID})
	}
	for _, x := range []record.Pair{{Name: "receipt-id", Value: r.Query.ReceiptID}, {Name: "counterpart", Value: r.Query.Counterpart},
		{Name: "subject", Value: r.Query.Subject}, {Name: "kinds", Value: strings.Join(r.Query.Kinds, " ")}} {
		if x.Value != "" {
			d = append(d, x)
		}
	}
	if r.Query.From != nil {
		d = append(d, record.Pair{Name: "from", Value: r.Query.From.UTC().Format(time.RFC3339Nano)})
	}
	return append(d, record.Pair{Name: "to", Value: r.Query.To.UTC().Format(time.RFC3339Nano)})
}

// newQuery is what a holder asks for at a time, or [ErrPeriod]. It reaches no
// further than that time: so the records of the request itself are not part of
// the answer, and "no event" stays an answer.
func newQuery(a Ask, at time.Time) (evidence.Query, error) {
	q := evidence.Query{Mailbox: strings.ToLower(a.Mailbox), MessageID: strings.Trim(a.MessageID, "<>"), ReceiptID: strings.Trim(a.ReceiptID, "<>"),
		Counterpart: strings.ToLower(a.Counterpart), Subject: a.Subject, To: &at}
	for _, k := range a.Kinds {
		q.Kinds = append(q.Kinds, k.String())
	}
	if !a.To.IsZero() && a.To.Before(at) {
		to := a.To.UTC()
		q.To = &to
	}
	if !a.From.IsZero() {
		from := a.From.UTC()
		if !from.Before(*q.To) {
			return q, fmt.Errorf("%w: %s to %s", ErrPeriod, from.Format(time.RFC3339), q.To.Format(time.RFC3339))
		}
		q.From = &from
	}
	return q, nil
}
