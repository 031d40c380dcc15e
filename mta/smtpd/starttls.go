package smtpd

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"
)

// maxClear bounds the dialog before STARTTLS: commands, and octets of a command.
const (
	maxClear     = 20
	maxClearLine = 1024
)

// handshake secures a connection, or gives it up.
func handshake(c net.Conn, cfg *tls.Config, patience time.Duration) (*tls.Conn, bool) {
	_ = c.SetDeadline(time.Now().Add(patience))
	t := tls.Server(c, cfg)
	if err := t.Handshake(); err != nil {
		return nil, false
	}
	_ = c.SetDeadline(time.Time{})
	return t, true
}

// startTLS holds the dialog in clear of RFC 3207: a greeting, EHLO, STARTTLS.
// Everything else is answered with 530. What a client sends behind STARTTLS in
// the same packet is never read as a command: the connection is closed.
func startTLS(c net.Conn, domain string, cfg *tls.Config, patience time.Duration) (*tls.Conn, bool) {
	_ = c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReaderSize(c, maxClearLine)
	say := func(format string, a ...any) bool {
		_, err := fmt.Fprintf(c, format+"\r\n", a...)
		return err == nil
	}
	if !say("220 %s ESMTP", domain) {
		return nil, false
	}
	for range maxClear {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, false // too long, or gone
		}
		verb, arg, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
		ok := true
		switch strings.ToUpper(verb) {
		case "EHLO":
			ok = say("250-%s\r\n250-ENHANCEDSTATUSCODES\r\n250 STARTTLS", domain)
		case "HELO":
			ok = say("250 %s", domain)
		case "NOOP", "RSET":
			ok = say("250 2.0.0 OK")
		case "QUIT":
			say("221 2.0.0 Connessione chiusa / Closing connection")
			return nil, false
		case "STARTTLS":
			if arg != "" {
				ok = say("501 5.5.4 STARTTLS non ha argomenti / STARTTLS takes no argument")
				break
			}
			if r.Buffered() > 0 || !say("220 2.0.0 Pronto per TLS / Ready to start TLS") {
				return nil, false
			}
			return handshake(c, cfg, patience)
		default:
			ok = say("530 5.7.0 Prima occorre STARTTLS / Must issue a STARTTLS command first")
		}
		if !ok {
			return nil, false
		}
	}
	say("421 4.7.0 Troppi comandi / Too many commands")
	return nil, false
}
