package smtpd

import "strings"

// lostCount says whether a line is go-smtp's answer to a BDAT command that does not
// say how long the chunk behind it is. go-smtp goes on to read the chunk as
// commands (RFC 3030 §2 leaves nothing better but to end the connection).
func lostCount(line string) bool {
	for _, begins := range [...]string{"501 5.5.4 Missing chunk size", "501 5.5.4 Too many arguments", "501 5.5.4 Unknown BDAT argument", "501 5.5.4 Malformed size argument"} {
		if strings.HasPrefix(line, begins) {
			return true
		}
	}
	return false
}

// rewrite returns the line that a client gets instead of one that go-smtp says: in
// plain words, Italian first, in ASCII, and never longer than 512 octets (RFC
// 5321 §4.5.3.1.5), whatever of the client's own words it repeats. drop says that
// the client gets none: a capability that is not offered.
func rewrite(line, domain string, eightBit bool) (said string, drop bool) {
	switch line {
	case "250-CHUNKING\r\n":
		return "", true
	case "250-8BITMIME\r\n":
		return line, !eightBit
	}
	if lostCount(line) {
		return "501 5.5.4 BDAT non valido, riconnettersi / Malformed BDAT, connect again\r\n", false
	}
	for _, x := range [...]struct{ begins, said string }{
		{"250-Hello ", "250-" + domain},
		{"250 2.0.0 Hello ", "250 " + domain},
		{"250 2.0.0 Roger, accepting mail", "250 2.1.0 Mittente accettato / Sender accepted"},
		{"250 2.0.0 I'll make sure", "250 2.1.5 Destinatario accettato / Recipient accepted"},
		{"250 2.0.0 OK: queued", "250 2.0.0 Messaggio ricevuto / Message received"},
		{"250 2.0.0 I have successfully done nothing", "250 2.0.0 OK"},
		{"250 2.0.0 Session reset", "250 2.0.0 OK"},
		{"252 ", "252 2.5.0 Indirizzo non verificabile / Cannot verify the address"},
		{"221 ", "221 2.0.0 Connessione chiusa / Closing connection"},
		{"235 ", "235 2.7.0 Autenticazione riuscita / Authentication succeeded"},
		{"354 ", "354 Inviare il messaggio / Send the message, and end it with <CR><LF>.<CR><LF>"},
		{"421 4.4.2 Idle timeout", "421 4.4.2 Tempo scaduto / Timeout"},
		{"421 4.4.0 Connection error", "421 4.4.0 Errore di connessione / Connection error"},
		{"421 4.0.0 Internal server error", "421 4.3.0 Errore interno, riprovare piu' tardi / Internal error, try again later"},
		{"452 4.5.3 Maximum limit", "452 4.5.3 Troppi destinatari / Too many recipients"},
		{"500 5.4.0 Too long line", "500 5.5.2 Riga troppo lunga / Line too long"},
		{"500 5.5.1 Too many errors", "421 4.7.0 Troppi errori / Too many errors"},
		{"500 5.5.2 ", "500 5.5.2 Comando sconosciuto / Unknown command"},
		{"501 5.5.2 Bad command", "500 5.5.2 Comando sconosciuto / Unknown command"},
		{"501 5.5.2 Was expecting", "501 5.1.3 Indirizzo non valido / Address syntax error"},
		{"502 5.5.1 Please introduce yourself", "503 5.5.1 Prima occorre EHLO / Send EHLO first"},
		{"502 5.5.1 Missing MAIL FROM", "503 5.5.1 Prima occorre MAIL FROM / Send MAIL FROM first"},
		{"502 5.5.1 Missing RCPT TO", "503 5.5.1 Prima occorre RCPT TO / Send RCPT TO first"},
		{"552 5.3.4 Max message size", "552 5.3.4 Messaggio oltre il limite dichiarato da SIZE / Message larger than the limit announced by SIZE"},
	} {
		if strings.HasPrefix(line, x.begins) {
			return x.said + "\r\n", false
		}
	}
	const most = 512
	if len(line) > most || !strings.HasSuffix(line, "\r\n") {
		return strings.TrimRight(line[:min(len(line), most-2)], "\r\n") + "\r\n", false
	}
	return line, false
}
