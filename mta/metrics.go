package mta

import (
	"sync/atomic"
	"time"
)

// Metrics counts what the pipeline did since it was opened. Fields may be read
// at any time.
type Metrics struct {
	Connections   atomic.Int64  // open now
	AuthFailures  atomic.Uint64 // refused passwords
	AuthSlowed    atomic.Uint64 // logins refused unchecked, after too many of these
	Accepted      atomic.Uint64 // messages answered 250
	Refused       atomic.Uint64 // messages answered 4xx or 5xx
	NonAccepted   atomic.Uint64 // of the accepted: those that got a non-acceptance
	Delivered     atomic.Uint64 // recipients
	NotDelivered  atomic.Uint64 // recipients
	Finished      atomic.Uint64 // messages with every outcome issued
	FinishedNanos atomic.Uint64 // worker time spent on them
	Retries       atomic.Uint64 // jobs that failed and were put off
	Abused        atomic.Uint64 // infected messages that accounts handed in
	Suspended     atomic.Uint64 // accounts whose sending was suspended because of these
	Alarms        atomic.Uint64 // what a person must look at

	Scanned    atomic.Uint64 // messages that the virus scanner gave a verdict on
	Infected   atomic.Uint64 // messages that it found something in
	NotScanned atomic.Uint64 // messages that it gave none on
	Scored     atomic.Uint64 // ordinary messages that the spam scorer gave a score
	NotScored  atomic.Uint64 // ordinary messages that it gave none
	Spam       atomic.Uint64 // mailboxes that did not want an ordinary message because of its score

	DelayNotices   atomic.Uint64 // recipients of whom nothing was heard for 12 hours
	TimeoutNotices atomic.Uint64 // recipients without an outcome after 24 hours
	Returned       atomic.Uint64 // ordinary recipients whom a message did not reach
	// Of the port of other mail servers.
	Received          atomic.Uint64 // messages answered 250
	Duplicates        atomic.Uint64 // messages answered 250 and dropped: they came before
	Anomalies         atomic.Uint64 // anomaly envelopes
	IncomingRefused   atomic.Uint64 // commands and messages answered 4xx or 5xx
	OrdinaryRefused   atomic.Uint64 // mailboxes that ordinary mail was refused for
	RevocationUnknown atomic.Uint64 // certificates of which nobody told whether they were revoked
}

func (m *Metrics) finished(d time.Duration) {
	m.Finished.Add(1)
	m.FinishedNanos.Add(uint64(d))
}
