package relay

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"mime/quotedprintable"
	"net/netip"
	"strings"
	"time"
)

// Report is what a delivery status notification says (RFC 3464): that a message could not be delivered to ordinary
// recipients. It has no legal value, and says so: about certified recipients a signed non-delivery is issued instead.
type Report struct {
	Host      string    // the reporting server's name: what EHLO says
	From      string    // address of the sender of the report, such as postmaster@pec.example.it
	To        string    // the reverse path of the message
	MessageID string    // of the report, with <>
	Date      time.Time // in the zone that it is to be written in
	Arrival   time.Time // when the message was handed in
	Answers   []Answer  // one for each recipient; those that are not refusals are left out
	Header    []byte    // the original's header, up to its empty line; lines end in CRLF
}

// ErrReport says that a report has nothing to tell, or would have a broken header.
var ErrReport = errors.New("relay: not a report")

// maxReportHeader bounds what is given back of the original, octets.
const maxReportHeader = 64 << 10

// Compose makes the report's octets; the same report gives the same octets. They are ASCII in lines that end in CRLF.
func (r *Report) Compose() ([]byte, error) {
	var refused []Answer
	for _, a := range r.Answers {
		if a.State == Refused {
			refused = append(refused, a)
		}
	}
	for _, s := range []string{r.Host, r.From, r.To, r.MessageID} {
		if s == "" || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			return nil, fmt.Errorf("%w: %.100q cannot stand in its header", ErrReport, s)
		}
	}
	if len(refused) == 0 {
		return nil, fmt.Errorf("%w: nothing was refused", ErrReport)
	}
	sum := sha256.Sum256([]byte("scripta/dsn/v1" + r.MessageID))
	boundary := "=_" + hex.EncodeToString(sum[:16])
	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	field("Date", r.Date.Format(time.RFC1123Z))
	field("From", "Sistema di posta <"+r.From+">")
	field("To", "<"+r.To+">")
	field("Subject", "Messaggio non consegnato - Undelivered mail")
	field("Message-ID", r.MessageID)
	field("Auto-Submitted", "auto-replied") // RFC 3834 §5
	field("MIME-Version", "1.0")
	field("Content-Type", "multipart/report; report-type=delivery-status;\r\n boundary=\""+boundary+"\"")
	b.WriteString("\r\n")
	part := func(kind, encoding string) {
		fmt.Fprintf(&b, "--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n", boundary, kind, encoding)
	}
	part("text/plain; charset=UTF-8", "quoted-printable")
	quotedPrintable(&b, r.text(refused))
	b.WriteString("\r\n")
	part("message/delivery-status", "7bit")
	r.status(&b, refused)
	b.WriteString("\r\n")
	part("text/rfc822-headers; charset=UTF-8", "quoted-printable")
	quotedPrintable(&b, string(r.Header[:min(len(r.Header), maxReportHeader)]))
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return b.Bytes(), nil
}

func quotedPrintable(b *bytes.Buffer, text string) {
	w := quotedprintable.NewWriter(b)
	_, _ = w.Write([]byte(text)) // to memory: it cannot fail
	_ = w.Close()
}

func (r *Report) text(refused []Answer) string {
	var list strings.Builder
	for i := range refused {
		fmt.Fprintf(&list, "  %s\r\n    %s\r\n", refused[i].Recipient, refused[i].String())
	}
	return "Il messaggio non è stato consegnato ai seguenti destinatari di posta ordinaria:\r\n\r\n" + list.String() +
		"\r\nQuesto avviso non è una ricevuta di posta elettronica certificata.\r\n" +
		"\r\n-----\r\n\r\nThe message was not delivered to these recipients of ordinary mail:\r\n\r\n" + list.String() +
		"\r\nThis notice is not a receipt of certified e-mail.\r\n"
}

// status writes the fields that programs read (RFC 3464 §2).
func (r *Report) status(b *bytes.Buffer, refused []Answer) {
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\n", r.Host)
	fmt.Fprintf(b, "Arrival-Date: %s\r\n", r.Arrival.In(r.Date.Location()).Format(time.RFC1123Z))
	for i := range refused {
		a := &refused[i]
		fmt.Fprintf(b, "\r\nFinal-Recipient: rfc822; %s\r\nAction: failed\r\n", ascii(a.Recipient))
		status := a.Enhanced
		if status == "" || status[0] != '5' {
			status = "5.0.0"
		}
		fmt.Fprintf(b, "Status: %s\r\n", status)
		if a.Host != "" {
			host := a.Host
			if _, err := netip.ParseAddr(host); err == nil {
				host = "[" + host + "]"
			}
			fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", ascii(host))
		}
		if a.Code != 0 {
			text := fmt.Sprintf("Diagnostic-Code: smtp; %d", a.Code)
			if a.Enhanced != "" {
				text += " " + a.Enhanced
			}
			fold(b, text+" "+ascii(a.Text))
		}
	}
}

// ascii is s as a field for programs may have it.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// fold writes a field in lines of some 76 octets, broken at spaces.
func fold(b *bytes.Buffer, line string) {
	for len(line) > 76 {
		i := strings.LastIndexByte(line[:77], ' ')
		if i <= strings.IndexByte(line, ' ') { // the first one follows the field's name, or begins the line
			if i = strings.IndexByte(line[77:], ' '); i < 0 {
				break
			}
			i += 77
		}
		b.WriteString(line[:i] + "\r\n")
		line = line[i:]
	}
	b.WriteString(line + "\r\n")
}
