// Package mta is the pipeline of certified mail (RFC 6109): the Access Point
// that takes a message from its author, the Incoming Point that takes an
// envelope from a provider, and the Delivery Point that puts it into a mailbox.
//
// The way of a message between two accounts of this provider:
//
//  1. Access Point (§3.1). SMTP hands the message in; its octets go, sealed, to
//     the content store while the formal checks run over them. At the end the
//     transaction's id, its one time reading and the outcome of the checks are
//     made durable as a job, and the record "submitted" is appended. Only then
//     is 250 answered.
//  2. A worker issues the acceptance and the transport envelope, or a
//     non-acceptance that names the reasons. Each message is stored, then
//     recorded, then delivered.
//  3. Incoming Point (§3.2). The envelope's signature and form are checked and a
//     take-charge goes to the sending provider: here, to ourselves.
//  4. Delivery Point (§3.3). The envelope is put into each recipient's mailbox
//     and the author gets a delivery receipt, or a non-delivery.
//
// For recipients elsewhere the envelope becomes relay jobs, one for each provider or
// ordinary domain, which mta/relay sends. The job then waits, without a worker, for
// receipts ([Pipeline.heard]), for what other servers answer ([Pipeline.Relayed]) and
// for time (§3.1.6: notices after 12 hours and before 24). Each is noted before anybody
// is told (dispatch). Receipts for authors elsewhere go the same way.
//
// What other servers bring to port 25 is judged while they wait ([NewIncomingPoint]):
// a provider's correct envelope goes on at 3, its receipts and notices go to the
// mailboxes they came for, what it signed in no correct form goes into an anomaly
// envelope (§3.2), and ordinary mail does, or is refused, as its mailbox says. Where a
// scanner is configured (mta/scan), it looks into every message at 1 and on port 25
// before that is answered; what is infected is kept in quarantine (§3.1.3, §3.2.3),
// but for ordinary mail, which is refused.
//
// What it promises: every message answered 250 ends in exactly one acceptance
// and, for each certified recipient, an outcome: a delivery or non-delivery of ours,
// or what another provider sends, or the notice that nothing came; whatever
// process dies when. Each of them is one record in the register. A job that a
// crash interrupts is run again from the start: what was decided is read from
// its notes, what was issued comes from the receipt store, what was appended is
// found again by its record id, and what was published is not published twice.
//
// A forged receipt inside a message is content, never an event: only the signed
// top level of a message counts.
package mta
