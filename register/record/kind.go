package record

import "fmt"

// Class says whose events a record is about. It is part of the leaf, in clear.
type Class byte

const (
	// Personal records are about people: they are sealed under the secret of
	// their month and become unreadable when it is destroyed.
	Personal Class = 1
	// Service records are about the service itself. They hold no personal data,
	// may be opened to anybody and are never disposed of.
	Service Class = 2
)

// Kind is what happened. The set is closed; codes are only ever appended, and
// the high bit gives the class. An unknown code verifies as opaque.
type Kind uint16

// Kinds about people.
const (
	Submitted             Kind = 0x0001 + iota // the Access Point took a message from its author
	AcceptanceIssued                           // ricevuta di accettazione
	NonAcceptanceIssued                        // avviso di non accettazione
	Enveloped                                  // busta di trasporto made
	Relayed                                    // handed to another provider
	Received                                   // the Incoming Point took an envelope
	TakeChargeIssued                           // ricevuta di presa in carico
	Delivered                                  // an envelope put into a mailbox
	DeliveryIssued                             // ricevuta di avvenuta consegna
	NonDeliveryIssued                          // avviso di mancata consegna
	DelayNoticeIssued                          // avviso of the 12 hours
	TimeoutNoticeIssued                        // avviso of the 24 hours
	VirusDetectionIssued                       // avviso di rilevazione virus
	NotificationReceived                       // a receipt or notice of another provider came
	NotificationDelivered                      // a receipt or notice put into a mailbox
	NotificationFailed                         // a receipt or notice that could not be put into its mailbox
	Deferred                                   // an attempt to pass a message on failed for now
	Bounced                                    // an attempt failed for good
	VirusFound
	Quarantined
	AnomalyEnveloped // busta di anomalia made
	OrdinaryRefused  // ordinary mail refused
	ExtractAsked
	ExtractProduced
	ExtractDelivered
	ExtractRefused
	ReceiptReproduced
	RecordDisclosed
	HoldPlaced
	HoldLifted
	DisposalApproved
	MailboxCreated
	MailboxSuspended
	MailboxClosed
	ConfigurationChanged // by a person
	UncertifiedReceived  // the Incoming Point took a message that is no correct PEC message
)

// Kinds of the service itself.
const (
	Started Kind = 0x8001 + iota
	Stopped
	Heartbeat
	ClockMeasured
	CheckpointStamped
	DayClosed
	KeyRotated
	Adopted // another node took over the log
	Void    // fills an index that was never acknowledged
	DisposalDone
	RollbackAccepted // a log was frozen and this one begun in its place; commits what was lost
	IndexChanged     // the directory of providers that is used became another one
)

var kindNames = map[Kind]string{
	Submitted: "submitted", AcceptanceIssued: "acceptance-issued", NonAcceptanceIssued: "non-acceptance-issued",
	Enveloped: "enveloped", Relayed: "relayed", Received: "received", TakeChargeIssued: "take-charge-issued",
	Delivered: "delivered", DeliveryIssued: "delivery-issued", NonDeliveryIssued: "non-delivery-issued",
	DelayNoticeIssued: "delay-notice-issued", TimeoutNoticeIssued: "timeout-notice-issued",
	VirusDetectionIssued: "virus-detection-issued", NotificationReceived: "notification-received",
	NotificationDelivered: "notification-delivered", NotificationFailed: "notification-failed",
	Deferred: "deferred", Bounced: "bounced", VirusFound: "virus-found", Quarantined: "quarantined",
	AnomalyEnveloped: "anomaly-enveloped", OrdinaryRefused: "ordinary-refused", ExtractAsked: "extract-asked",
	ExtractProduced: "extract-produced", ExtractDelivered: "extract-delivered", ExtractRefused: "extract-refused",
	ReceiptReproduced: "receipt-reproduced", RecordDisclosed: "record-disclosed", HoldPlaced: "hold-placed",
	HoldLifted: "hold-lifted", DisposalApproved: "disposal-approved", MailboxCreated: "mailbox-created",
	MailboxSuspended: "mailbox-suspended", MailboxClosed: "mailbox-closed", ConfigurationChanged: "configuration-changed",
	UncertifiedReceived: "uncertified-received",

	Started: "started", Stopped: "stopped", Heartbeat: "heartbeat", ClockMeasured: "clock-measured",
	CheckpointStamped: "checkpoint-stamped", DayClosed: "day-closed", KeyRotated: "key-rotated",
	Adopted: "adopted", Void: "void", DisposalDone: "disposal-done", RollbackAccepted: "rollback-accepted", IndexChanged: "index-changed",
}

// Class is fixed by the kind's high bit, for unknown kinds too.
func (k Kind) Class() Class {
	if k&0x8000 != 0 {
		return Service
	}
	return Personal
}

// Known reports whether this release has a name for the kind.
func (k Kind) Known() bool { _, ok := kindNames[k]; return ok }

func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind-%04x", uint16(k))
}

// KindNamed returns the kind of this name, as [Kind.String] writes it.
func KindNamed(name string) (k Kind, ok bool) {
	for k, n := range kindNames {
		if n == name {
			return k, true
		}
	}
	return 0, false
}

// Issued reports whether the record's digest is that of a message that the
// provider itself made, and whose bytes it therefore keeps.
func (k Kind) Issued() bool {
	switch k {
	case AcceptanceIssued, NonAcceptanceIssued, Enveloped, TakeChargeIssued, DeliveryIssued, NonDeliveryIssued,
		DelayNoticeIssued, TimeoutNoticeIssued, VirusDetectionIssued, AnomalyEnveloped:
		return true
	}
	return false
}
