// Package relay hands messages over to other mail servers: to the Incoming Points of other providers of certified
// e-mail, and to the servers of ordinary domains.
//
// It has two parts, which know each other by values only:
//
//   - [Transport] makes one attempt to send one letter. It finds the servers (configured routes, then MX records), talks
//     SMTP to them and returns an answer for each recipient. It never returns an error: whatever goes wrong is an answer.
//   - [Queue] says when an attempt is made. It holds the letters that wait, bounds how many are sent at once, in all and
//     to one destination, and gives up at the letter's limit.
//
// What it promises:
//
//   - The octets that are sent are the octets that were read, but for the dots that SMTP doubles (RFC 5321 §4.5.2): a
//     signed message arrives as it was signed.
//   - A certified destination is talked to over TLS 1.2 or later, or not at all. No certificate is asked for that leads
//     to a public authority, because providers do not have one; version, cipher and certificate are reported.
//   - A destination that is dead or slow, or a mailbox that answers "later", holds up nobody else.
//   - Delivery is at least once, with the same octets: a crash between the other server's 250 and the moment at which
//     the [Handler] has made it durable sends the letter again.
//
// It never keeps a message, and keeps no letter beyond the process's end: both are durable elsewhere (mta/spool,
// register/receipts), and letters are added again at each start. What operators hold is the one thing that it keeps
// ([Holds]).
//
// Sources: RFC 5321 (SMTP, MX), RFC 3207 (STARTTLS), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 7505 (null MX), RFC 3463
// (enhanced codes), RFC 3464 (delivery status notifications), RFC 8461 (MTA-STS), RFC 7672 (DANE), RFC 6109 §2.2.2 for
// the limit of 24 hours.
package relay
