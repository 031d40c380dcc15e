package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ID identifies a record before it has an index: 16 random bytes drawn with the
// transaction ‖ uint16 step ‖ uint32 ordinal. The same step of the same
// transaction has the same ID on every rerun, which is what makes appending
// idempotent.
type ID [22]byte

// MakeID puts an ID together.
func MakeID(transaction [16]byte, step uint16, ordinal uint32) (id ID) {
	copy(id[:], transaction[:])
	binary.BigEndian.PutUint16(id[16:], step)
	binary.BigEndian.PutUint32(id[18:], ordinal)
	return id
}

// Transaction returns the ID's first 16 bytes.
func (id ID) Transaction() [16]byte { return [16]byte(id[:16]) }

func (id ID) String() string { return fmt.Sprintf("%x", id[:]) }

// Recipient is one addressee of a message.
type Recipient struct {
	Address   string
	Certified bool // its domain is in the index of providers
}

// Outcome says how a step ended: a code such as "5.1.1" and a text.
type Outcome struct{ Code, Text string }

// Peer is the other end of the connection by which a message came or went.
type Peer struct {
	Address     string // IP address and port
	TLS         string // version, such as "TLS 1.3"; empty: not encrypted
	Cipher      string
	Certificate []byte // SHA-256 of the peer's certificate, or empty
}

// Pair is one named detail.
type Pair struct{ Name, Value string }

// Record is one event. The zero value of a field is stored as empty.
type Record struct {
	Kind        Kind
	Time        time.Time   // the transaction's one clock reading, kept in milliseconds
	MessageID   string      // PEC message identifier, without < >
	OriginalID  string      // Message-ID of the author's message, with < >
	Sender      string      // reverse path of the author's message
	Recipients  []Recipient // of the message
	Subject     string
	About       []string // the recipients, or mailboxes, that this event concerns
	Generated   []string // identifiers of the messages that the event generated
	Provider    string   // the sending provider
	ReceiptType string   // completa, breve, sintetica
	Outcome     Outcome
	Digest      []byte // SHA-256 of the message the event is about, as issued or received
	Content     []byte // SHA-256 of that message's signed entity
	Size        uint64 // of that message, bytes
	Peer        Peer
	Actor       string // authenticated user
	Detail      []Pair // sorted by unique name
}

// Values of a recipient's second part and of the ways to write them.
const (
	certified = "certificato"
	external  = "esterno"
)

// Fields encodes the record's 18 fields. It returns an error for what cannot be
// encoded: an unknown class, details that are not sorted by unique name, digests
// of another length than 32.
func (r *Record) Fields() (*Fields, error) {
	var f Fields
	f.setScalar(FieldKind, binary.BigEndian.AppendUint16(nil, uint16(r.Kind)))
	f.setScalar(FieldTime, binary.BigEndian.AppendUint64(nil, uint64(r.Time.UnixMilli())))
	f.setScalar(FieldMessageID, []byte(r.MessageID))
	f.setScalar(FieldOriginalID, []byte(r.OriginalID))
	f.setScalar(FieldSender, []byte(r.Sender))
	for _, x := range r.Recipients {
		kind := external
		if x.Certified {
			kind = certified
		}
		f.add(FieldRecipients, compound(x.Address, kind))
	}
	f.setScalar(FieldSubject, []byte(r.Subject))
	for _, a := range r.About {
		f.add(FieldAbout, []byte(a))
	}
	for _, g := range r.Generated {
		f.add(FieldGenerated, []byte(g))
	}
	f.setScalar(FieldProvider, []byte(r.Provider))
	f.setScalar(FieldReceiptType, []byte(r.ReceiptType))
	if r.Outcome != (Outcome{}) {
		f.setScalar(FieldOutcome, compound(r.Outcome.Code, r.Outcome.Text))
	}
	for _, d := range [][]byte{r.Digest, r.Content, r.Peer.Certificate} {
		if len(d) != 0 && len(d) != 32 {
			return nil, fmt.Errorf("record: a digest has %d bytes, not 32", len(d))
		}
	}
	f.setScalar(FieldDigest, r.Digest)
	f.setScalar(FieldContent, r.Content)
	if r.Size != 0 {
		f.setScalar(FieldSize, binary.BigEndian.AppendUint64(nil, r.Size))
	}
	if r.Peer.Address != "" || r.Peer.TLS != "" {
		f.setScalar(FieldPeer, compound(r.Peer.Address, r.Peer.TLS, r.Peer.Cipher, string(r.Peer.Certificate)))
	}
	f.setScalar(FieldActor, []byte(r.Actor))
	for i, d := range r.Detail {
		if i > 0 && r.Detail[i-1].Name >= d.Name {
			return nil, fmt.Errorf("record: details %q and %q are not sorted by unique name", r.Detail[i-1].Name, d.Name)
		}
		f.add(FieldDetail, compound(d.Name, d.Value))
	}
	return &f, nil
}

// SortDetail puts details into the order that [Record.Fields] asks for.
func SortDetail(d []Pair) []Pair {
	slices.SortFunc(d, func(a, b Pair) int { return strings.Compare(a.Name, b.Name) })
	return d
}

// ErrMalformed says that bytes are not the encoding of a record or a field.
var ErrMalformed = errors.New("record: malformed")

// Record decodes the fields. Fields that do not decode give [ErrMalformed].
func (f *Fields) Record() (*Record, error) {
	r := new(Record)
	kind, time := f.Scalar(FieldKind), f.Scalar(FieldTime)
	if len(kind) != 2 || len(time) != 8 {
		return nil, fmt.Errorf("%w: kind has %d bytes, time %d", ErrMalformed, len(kind), len(time))
	}
	r.Kind = Kind(binary.BigEndian.Uint16(kind))
	r.Time = unixMilli(int64(binary.BigEndian.Uint64(time)))
	r.MessageID = string(f.Scalar(FieldMessageID))
	r.OriginalID = string(f.Scalar(FieldOriginalID))
	r.Sender = string(f.Scalar(FieldSender))
	for _, e := range f.List(FieldRecipients) {
		p, err := parts(e, 2)
		if err != nil {
			return nil, err
		}
		r.Recipients = append(r.Recipients, Recipient{Address: p[0], Certified: p[1] == certified})
	}
	r.Subject = string(f.Scalar(FieldSubject))
	for _, e := range f.List(FieldAbout) {
		r.About = append(r.About, string(e))
	}
	for _, e := range f.List(FieldGenerated) {
		r.Generated = append(r.Generated, string(e))
	}
	r.Provider = string(f.Scalar(FieldProvider))
	r.ReceiptType = string(f.Scalar(FieldReceiptType))
	if v := f.Scalar(FieldOutcome); len(v) > 0 {
		p, err := parts(v, 2)
		if err != nil {
			return nil, err
		}
		r.Outcome = Outcome{Code: p[0], Text: p[1]}
	}
	r.Digest, r.Content = f.Scalar(FieldDigest), f.Scalar(FieldContent)
	if v := f.Scalar(FieldSize); len(v) > 0 {
		if len(v) != 8 {
			return nil, fmt.Errorf("%w: size has %d bytes", ErrMalformed, len(v))
		}
		r.Size = binary.BigEndian.Uint64(v)
	}
	if v := f.Scalar(FieldPeer); len(v) > 0 {
		p, err := parts(v, 4)
		if err != nil {
			return nil, err
		}
		r.Peer = Peer{Address: p[0], TLS: p[1], Cipher: p[2]}
		if p[3] != "" {
			r.Peer.Certificate = []byte(p[3])
		}
	}
	r.Actor = string(f.Scalar(FieldActor))
	for _, e := range f.List(FieldDetail) {
		p, err := parts(e, 2)
		if err != nil {
			return nil, err
		}
		r.Detail = append(r.Detail, Pair{Name: p[0], Value: p[1]})
	}
	return r, nil
}

func unixMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// Mailboxes returns the addresses under which the record is found: its sender
// and those whom it is about, in lower case, each once. The index of a register
// is a function of its records by this rule.
func (r *Record) Mailboxes() []string {
	boxes := make([]string, 0, 2+len(r.About))
	for _, a := range append([]string{r.Sender, r.Actor}, r.About...) {
		boxes = append(boxes, strings.ToLower(a))
	}
	return distinct(boxes)
}

// Counterparts returns the addresses of the other parties of the event, as one of
// its mailboxes (in lower case) sees it, in lower case, each once: for the sender
// those whom it is about, or all recipients if it is about nobody; for anybody
// else the sender.
func (r *Record) Counterparts(mailbox string) []string {
	if sender := strings.ToLower(r.Sender); sender != mailbox {
		if sender == "" {
			return nil
		}
		return []string{sender}
	}
	var others []string
	add := func(a string) {
		if a = strings.ToLower(a); a != "" && !slices.Contains(others, a) {
			others = append(others, a)
		}
	}
	for _, a := range r.About {
		add(a)
	}
	if len(r.About) == 0 {
		for _, x := range r.Recipients {
			add(x.Address)
		}
	}
	return others
}

// Identifiers returns the message identifiers under which the record is found,
// without angle brackets, each once.
func (r *Record) Identifiers() []string {
	ids := make([]string, 0, 2+len(r.Generated))
	for _, id := range append([]string{r.MessageID, r.OriginalID}, r.Generated...) {
		ids = append(ids, strings.Trim(id, "<>"))
	}
	return distinct(ids)
}

// distinct keeps the first of each value that is not empty. Most records have a
// few; one may have thousands.
func distinct(values []string) []string {
	kept := values[:0]
	var seen map[string]bool
	if len(values) > 32 {
		seen = make(map[string]bool, len(values))
	}
	for _, v := range values {
		if v == "" || seen[v] || seen == nil && slices.Contains(kept, v) {
			continue
		}
		if seen != nil {
			seen[v] = true
		}
		kept = append(kept, v)
	}
	return kept
}

// compound encodes a value of several parts: (uint32 length ‖ bytes) each.
func compound(parts ...string) []byte {
	n := 0
	for _, p := range parts {
		n += 4 + len(p)
	}
	b := make([]byte, 0, n)
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// parts splits a compound value that must have exactly n parts.
func parts(b []byte, n int) ([]string, error) {
	out := make([]string, 0, n)
	for len(b) > 0 {
		if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
			return nil, fmt.Errorf("%w: compound value cut short", ErrMalformed)
		}
		l := binary.BigEndian.Uint32(b)
		out = append(out, string(b[4:4+l]))
		b = b[4+l:]
	}
	if len(out) != n {
		return nil, fmt.Errorf("%w: compound value of %d parts, not %d", ErrMalformed, len(out), n)
	}
	return out, nil
}
