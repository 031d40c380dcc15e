package audit

import (
	"fmt"
	"slices"
	"strings"

	"scripta/register/record"
)

// Register is what one provider's register tells, whole, in the order of its
// log; a nil record was disposed of.
type Register struct {
	Provider string // its name in the index of providers
	Records  []*record.Record
}

// Mismatch is a place where two registers contradict one another.
type Mismatch struct {
	Provider string // whose record it is
	Leaf     uint64 // of that record
	Message  string // the PEC identifier, without < >
	Text     string // what the other register lacks or tells differently
}

func (m Mismatch) String() string {
	return fmt.Sprintf("%s, leaf %d, message %s: %s", m.Provider, m.Leaf, m.Message, m.Text)
}

// Cross compares the registers of several providers, record by record, when
// nothing is under way between them any more:
//
//   - each envelope that one passed on to another was received there once for each
//     recipient, with the same bytes, and each that was received was passed on;
//   - each receipt that one passed on to another came there once, with the same
//     bytes, about the same message, recipients and error, and each that came was
//     issued as what it came as.
//
// What went to or came from a provider whose register is not among them is not
// looked at. Each register is to be audited by itself before.
func Cross(registers ...Register) []Mismatch {
	c := &comparison{by: map[string]*indexed{}}
	for _, r := range registers {
		c.by[r.Provider] = index(r)
	}
	for _, r := range registers {
		c.sent(c.by[r.Provider])
		c.came(c.by[r.Provider])
	}
	return c.found
}

// indexed is a register with what is looked for in it.
type indexed struct {
	Register
	received  map[[16]byte][]entry // by message and recipient
	relayed   map[[16]byte][]entry // envelopes, by message and recipient
	enveloped map[string]entry     // by message
	issued    map[string]entry     // by what was issued
	passed    map[string][]entry   // receipts that were relayed, by their identifier
	notified  map[string][]entry   // receipts that came, by their identifier
}

func index(r Register) *indexed {
	x := &indexed{Register: r, received: map[[16]byte][]entry{}, relayed: map[[16]byte][]entry{}, enveloped: map[string]entry{}, issued: map[string]entry{},
		passed: map[string][]entry{}, notified: map[string][]entry{}}
	for i, rec := range r.Records {
		if rec == nil {
			continue
		}
		e := entry{uint64(i), rec}
		switch {
		case rec.Kind == record.Received:
			for _, a := range rec.About {
				x.received[shortOf(rec.MessageID, a)] = append(x.received[shortOf(rec.MessageID, a)], e)
			}
		case rec.Kind == record.Relayed && typeOf(rec) == typeEnvelope:
			for _, a := range rec.About {
				x.relayed[shortOf(rec.MessageID, a)] = append(x.relayed[shortOf(rec.MessageID, a)], e)
			}
		case rec.Kind == record.Relayed:
			id := detail(rec, "message")
			x.passed[id] = append(x.passed[id], e)
		case rec.Kind == record.NotificationReceived && len(rec.Generated) == 1:
			x.notified[rec.Generated[0]] = append(x.notified[rec.Generated[0]], e)
		case rec.Kind == record.Enveloped:
			x.enveloped[rec.MessageID] = e
		case rec.Kind.Issued() && len(rec.Generated) == 1:
			x.issued[rec.Generated[0]] = e
		}
	}
	return x
}

type comparison struct {
	by    map[string]*indexed
	found []Mismatch
}

func (c *comparison) find(x *indexed, e entry, format string, args ...any) {
	c.found = append(c.found, Mismatch{x.Provider, e.leaf, e.MessageID, fmt.Sprintf(format, args...)})
}

// sent looks whether what x passed on came.
func (c *comparison) sent(x *indexed) {
	for i, rec := range x.Records {
		if rec == nil || rec.Kind != record.Relayed {
			continue
		}
		e := entry{uint64(i), rec}
		y := c.by[detail(rec, "destination")]
		if y == nil {
			continue
		}
		if typeOf(rec) == typeEnvelope {
			for _, a := range rec.About {
				c.one(x, y, e, y.received[shortOf(rec.MessageID, a)], "received for "+a)
			}
			continue
		}
		id := detail(rec, "message")
		there := c.one(x, y, e, y.notified[id], "notification "+id)
		if from, ok := x.issued[id]; ok && there.Record != nil {
			c.agree(x, from, y, there)
		}
	}
}

// one returns the only record of what e passed on; another number, or other
// bytes, are reported.
func (c *comparison) one(x, y *indexed, e entry, there []entry, what string) entry {
	if len(there) != 1 {
		c.find(x, e, "%s was relayed to %s, which has %d records of it (%s)", typeOf(e.Record), y.Provider, len(there), what)
		return entry{}
	}
	c.bytes(x, e, y, there[0])
	return there[0]
}

// bytes compares two records of one message on its way.
func (c *comparison) bytes(x *indexed, e entry, y *indexed, there entry) {
	switch {
	case !slices.Equal(e.Digest, there.Digest) || e.Size != there.Size:
		c.find(x, e, "%s has %d octets with SHA-256 %x; %s has at leaf %d %d with %x", e.Kind, e.Size, e.Digest, y.Provider, there.leaf, there.Size, there.Digest)
	case len(e.Content) > 0 && len(there.Content) > 0 && !slices.Equal(e.Content, there.Content):
		c.find(x, e, "%s has signed content with another SHA-256 than %s has at leaf %d", e.Kind, y.Provider, there.leaf)
	case e.MessageID != there.MessageID:
		c.find(x, e, "%s is about this message, and to %s, at leaf %d, about %s", e.Kind, y.Provider, there.leaf, there.MessageID)
	case !same(e.Sender, there.Sender):
		c.find(x, e, "%s has the sender %q, and %s, at leaf %d, %q", e.Kind, e.Sender, y.Provider, there.leaf, there.Sender)
	}
}

// agree compares a receipt that was issued with what came.
func (c *comparison) agree(x *indexed, e entry, y *indexed, there entry) {
	switch {
	case receiptType(e.Kind) != typeOf(there.Record):
		c.find(x, e, "%s came to %s, at leaf %d, as %q", e.Kind, y.Provider, there.leaf, typeOf(there.Record))
	case !sameAddresses(e.About, there.About):
		c.find(x, e, "%s is about %q, and to %s, at leaf %d, about %q", e.Kind, e.About, y.Provider, there.leaf, there.About)
	case e.Outcome.Code != there.Outcome.Code:
		c.find(x, e, "%s has the code %q, and to %s, at leaf %d, %q", e.Kind, e.Outcome.Code, y.Provider, there.leaf, there.Outcome.Code)
	}
	c.bytes(x, e, y, there)
}

// came looks whether what came to y was issued and passed on.
func (c *comparison) came(y *indexed) {
	for i, rec := range y.Records {
		if rec == nil || rec.Kind != record.Received && rec.Kind != record.NotificationReceived {
			continue
		}
		e := entry{uint64(i), rec}
		x := c.by[rec.Provider]
		if x == nil || x == y {
			continue
		}
		if rec.Kind == record.NotificationReceived {
			id := strings.Join(rec.Generated, " ")
			if from, ok := x.issued[id]; !ok {
				c.find(y, e, "%s came from %s, which issued no %s", typeOf(rec), x.Provider, id)
			} else {
				c.bytes(y, e, x, from)
			}
			if n := len(x.passed[id]); n != 1 {
				c.find(y, e, "%s came from %s, which passed it on %d times", id, x.Provider, n)
			}
			continue
		}
		if from, ok := x.enveloped[rec.MessageID]; !ok {
			c.find(y, e, "an envelope came from %s, which made none", x.Provider)
		} else {
			c.bytes(y, e, x, from)
		}
		for _, a := range rec.About {
			if n := len(x.relayed[shortOf(rec.MessageID, a)]); n != 1 {
				c.find(y, e, "the envelope for %s came from %s, which passed it on %d times", a, x.Provider, n)
			}
		}
	}
}

// sameAddresses compares two lists of addresses in any order.
func sameAddresses(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x string) bool { return count(a, x) != count(b, x) })
}
