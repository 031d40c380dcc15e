// Package smtpd is the SMTP server of the Access and Incoming Points: go-smtp,
// with what a provider that certifies acceptance must not leave open.
//
//   - EHLO does not offer CHUNKING, and 8BITMIME only where asked to. A message
//     that BDAT cut short is recognised by [Conn.Broken] and must be refused.
//   - STARTTLS is answered by a dialog of its own before the SMTP server sees
//     the connection: nothing sent in clear reaches it inside TLS. Between mail
//     servers, who may do without TLS, the dialog hands the connection on in clear
//     at the first command of its own.
//   - Connections are bounded, in all and for each address; a silent peer is
//     cut after an idle time, any peer after a total time for each message.
//   - [Conn.TakeBare] tells of bare CR, bare LF and NUL octets, by which one
//     message can be made to look like two elsewhere (SMTP smuggling).
//
// Source: RFC 5321, RFC 3207, RFC 4954.
package smtpd
