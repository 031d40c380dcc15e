package smtpd

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
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

// clearDialog is what is said in clear before STARTTLS (RFC 3207).
type clearDialog struct {
	domain       string
	tls          *tls.Config
	patience     time.Duration
	optional     bool     // the client may go on without TLS
	capabilities []string // offered by EHLO beside STARTTLS
}

// secure holds the dialog: a greeting, EHLO, STARTTLS. Anything else is answered
// with 530 or, when TLS is optional, begins the dialog with the SMTP server, on
// the connection in clear and with the last EHLO or HELO replayed: from there on
// STARTTLS is not offered any more. What a client sends behind STARTTLS in the
// same packet is never read as a command: the connection is closed.
func (d *clearDialog) secure(c net.Conn) (secured, bool) {
	_ = c.SetDeadline(time.Now().Add(d.patience))
	r := bufio.NewReaderSize(c, maxClearLine)
	say := func(format string, a ...any) bool {
		_, err := fmt.Fprintf(c, format+"\r\n", a...)
		return err == nil
	}
	if !say("220 %s ESMTP", d.domain) {
		return secured{}, false
	}
	hello := "" // the last one that was answered, as it came
	for range maxClear {
		line, err := r.ReadSlice('\n')
		if d.optional && errors.Is(err, bufio.ErrBufferFull) {
			return d.goOn(c, r, hello, string(line)), true
		}
		if err != nil {
			return secured{}, false // too long, or gone
		}
		verb, arg, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
		ok := true
		switch strings.ToUpper(verb) {
		case "EHLO", "HELO":
			if d.optional && strings.TrimSpace(arg) == "" {
				ok = say("501 5.5.4 Manca il nome del client / Name of the client missing")
				break
			}
			hello = string(line)
			if strings.EqualFold(verb, "HELO") {
				ok = say("250 %s", d.domain)
				break
			}
			for _, x := range append([]string{d.domain, "ENHANCEDSTATUSCODES"}, d.capabilities...) {
				ok = ok && say("250-%s", x)
			}
			ok = ok && say("250 STARTTLS")
		case "NOOP", "RSET":
			ok = say("250 2.0.0 OK")
		case "QUIT":
			say("221 2.0.0 Connessione chiusa / Closing connection")
			return secured{}, false
		case "STARTTLS":
			if arg != "" {
				ok = say("501 5.5.4 STARTTLS non ha argomenti / STARTTLS takes no argument")
				break
			}
			if r.Buffered() > 0 || !say("220 2.0.0 Pronto per TLS / Ready to start TLS") {
				return secured{}, false
			}
			t, ok := handshake(c, d.tls, d.patience)
			return secured{Conn: t, greeted: true}, ok
		default:
			if d.optional {
				return d.goOn(c, r, hello, string(line)), true
			}
			ok = say("530 5.7.0 Prima occorre STARTTLS / Must issue a STARTTLS command first")
		}
		if !ok {
			return secured{}, false
		}
	}
	say("421 4.7.0 Troppi comandi / Too many commands")
	return secured{}, false
}

// goOn hands a connection on in clear. The SMTP server reads the client's last
// EHLO or HELO again, the line that was not for this dialog, and what follows, octet
// for octet.
func (d *clearDialog) goOn(c net.Conn, r *bufio.Reader, hello, line string) secured {
	_ = c.SetDeadline(time.Time{})
	return secured{Conn: &replayed{c, io.MultiReader(strings.NewReader(hello+line), r)}, greeted: true, answered: hello != ""}
}

// replayed is a connection whose first octets were read before.
type replayed struct {
	net.Conn
	r io.Reader
}

// Read implements [net.Conn].
func (c *replayed) Read(p []byte) (int, error) { return c.r.Read(p) }
