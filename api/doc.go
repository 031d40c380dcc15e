// Package api is the REST interface by which the holder of a mailbox finds what
// happened to his messages, gets a lost receipt back and asks for extracts of
// the log, and by which anybody reads the published log and its time stamps.
// api/openapi.yaml describes all of it and is served at /openapi.yaml.
//
// What it promises:
//
//   - A holder sees his own mailbox only. What another mailbox has to do with
//     does not exist for him: 404, never 403. Of events that he did not cause,
//     he does not see what extract.Shows hides.
//   - A receipt comes back with the bytes that were issued, or not at all: its
//     digest is compared with its record before the first byte is sent, and the
//     reproduction is a record of its own.
//   - Every error is application/problem+json (RFC 9457) with a type that does
//     not change. Its text never tells what went wrong inside; the log does,
//     under the request id that the answer carries.
//
// What it never does: accept a password over a connection without TLS, trust a
// header about where a request comes from, put a mailbox or a message identifier
// into a log line above debug level.
//
// Sources: RFC 6109 §2.3 (what a provider's log tells), DPR 68/2005 art. 11,
// RFC 9110, RFC 9457, c2sp.org/tlog-tiles.
package api
