package api

import (
	"slices"
	"strings"
	"time"

	"scripta/internal/keys"
	"scripta/register"
	"scripta/register/extract"
	"scripta/register/record"
)

// message is a certified message as one of its parties sees it.
type message struct {
	ID         string      `json:"id"`          // PEC identifier
	OriginalID string      `json:"original_id"` // the author's Message-ID, without angle brackets
	Subject    string      `json:"subject"`
	Sender     string      `json:"sender"`
	Recipients []recipient `json:"recipients"`
	Direction  string      `json:"direction"`
	Time       time.Time   `json:"time"`    // of its first event
	Updated    time.Time   `json:"updated"` // of its last event
	State      string      `json:"state"`
	Href       string      `json:"href"`
}

type recipient struct {
	Address   string `json:"address"`
	Certified bool   `json:"certified"`
}

// Directions of a message.
const (
	sent     = "sent"
	received = "received"
	toSelf   = "self" // sent, and received by the sender
)

// States of a message, as far as it concerns the mailbox: of a sent message all
// recipients count, of a received one the mailbox alone.
const (
	stateSubmitted       = "submitted"        // taken from its author
	stateAccepted        = "accepted"         // acceptance issued
	stateNotAccepted     = "not-accepted"     // non-acceptance issued: it goes nowhere
	stateInTransit       = "in-transit"       // on its way, nobody has it yet
	stateDelivered       = "delivered"        // everybody has it
	statePartlyDelivered = "partly-delivered" // some have it; for the others it failed, or it is on its way
	stateNotDelivered    = "not-delivered"    // nobody gets it
)

// eventOfMessage says that a kind is an event of a message's life. What is done
// with it later, such as reproducing a receipt, is not.
func eventOfMessage(k record.Kind) bool {
	return k >= record.Submitted && k <= record.OrdinaryRefused || k == record.UncertifiedReceived
}

// placeOf is where a record stands in the order of a mailbox's records.
func placeOf(f *register.Found) position {
	if f.Record.Kind.Class() != record.Personal {
		return position{0, f.Position}
	}
	return position{uint16(keys.MonthOf(f.Record.Time)), f.Position}
}

// visible is a record without the fields that the mailbox's holder may not see.
func visible(mailbox string, rec *record.Record) *record.Record {
	show := extract.Shows(mailbox, rec)
	v := *rec
	for f, hide := range map[record.Field]func(){
		record.FieldMessageID:   func() { v.MessageID = "" },
		record.FieldOriginalID:  func() { v.OriginalID = "" },
		record.FieldSender:      func() { v.Sender = "" },
		record.FieldRecipients:  func() { v.Recipients = nil },
		record.FieldSubject:     func() { v.Subject = "" },
		record.FieldAbout:       func() { v.About = nil },
		record.FieldGenerated:   func() { v.Generated = nil },
		record.FieldProvider:    func() { v.Provider = "" },
		record.FieldReceiptType: func() { v.ReceiptType = "" },
		record.FieldOutcome:     func() { v.Outcome = record.Outcome{} },
		record.FieldDigest:      func() { v.Digest = nil },
		record.FieldContent:     func() { v.Content = nil },
		record.FieldSize:        func() { v.Size = 0 },
		record.FieldPeer:        func() { v.Peer = record.Peer{} },
		record.FieldActor:       func() { v.Actor = "" },
		record.FieldDetail:      func() { v.Detail = nil },
	} {
		if !show(f) {
			hide()
		}
	}
	return &v
}

// summary tells of a message by its events, of which there is at least one, in
// the order of the register.
func summary(mailbox string, events []*register.Found) *message {
	first := visible(mailbox, events[0].Record)
	m := &message{ID: first.MessageID, OriginalID: strings.Trim(first.OriginalID, "<>"), Subject: first.Subject, Sender: first.Sender,
		Recipients: []recipient{}, Direction: direction(mailbox, first), Time: first.Time, Href: messageHref(first.MessageID)}
	for _, r := range first.Recipients {
		m.Recipients = append(m.Recipients, recipient{r.Address, r.Certified})
	}
	for _, e := range events {
		if e.Record.Time.After(m.Updated) {
			m.Updated = e.Record.Time
		}
	}
	m.State = state(mailbox, m, events)
	return m
}

func direction(mailbox string, r *record.Record) string {
	if !strings.EqualFold(r.Sender, mailbox) {
		return received
	}
	if slices.ContainsFunc(r.Recipients, func(x record.Recipient) bool { return strings.EqualFold(x.Address, mailbox) }) {
		return toSelf
	}
	return sent
}
