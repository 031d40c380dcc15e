package smtpd

import (
	"fmt"
	"strings"
	"testing"
)

// What a client hears is in plain words, Italian and English, and never what it
// said itself at length.
func TestReplies(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, &backend{}, nil)
	d := dialTLS(t, addr)
	long := strings.Repeat("x", 9000)
	for _, x := range []struct{ say, want string }{
		{"MAIL FROM:<a@b.c>", "503 5.5.1 Prima occorre EHLO / Send EHLO first"},
		{"HELO me.example", "250 pec.example"},
		{"HELO " + long, "250 pec.example"},
		{"EHLO " + long, "250-pec.example"},
		{"DATA", "503 5.5.1 Prima occorre RCPT TO / Send RCPT TO first"},
		{"RCPT TO:<a@b.c>", "503 5.5.1 Prima occorre MAIL FROM / Send MAIL FROM first"},
		{"MAIL FROM:<a@b.c>", "250 2.1.0 Mittente accettato / Sender accepted"},
		{"RCPT TO:<\"I'll make sure\"@e.f>", "250 2.1.5 Destinatario accettato / Recipient accepted"},
		{"RCPT TO:<" + long + "@e.f>", "250 2.1.5 Destinatario accettato / Recipient accepted"},
		{"NOOP", "250 2.0.0 OK"},
		{"WHAT " + long, "500 5.5.2 Comando sconosciuto / Unknown command"},
		{long, "500 5.5.2 Comando sconosciuto / Unknown command"},
		{"DATA", "354 Inviare il messaggio / Send the message, and end it with <CR><LF>.<CR><LF>"},
		{"Subject: x\r\n\r\nx\r\n.", "250 2.0.0 Messaggio ricevuto / Message received"},
		{"QUIT", "221 2.0.0 Connessione chiusa / Closing connection"},
	} {
		got := d.say(x.say+"\r\n", x.want[:3])
		first, _, _ := strings.Cut(got, "\r\n")
		if first != x.want {
			t.Errorf("%.40q: %q, want %q", x.say, first, x.want)
		}
	}
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"250-SIZE 1000\r\n", "334 VXNlcm5hbWU6\r\n", "550 5.7.1 no\r\n"} {
		if got, drop := rewrite(line, "d", false); got != line || drop {
			t.Errorf("%q became %q", line, got)
		}
	}
	for _, line := range []string{"250-CHUNKING\r\n", "250-8BITMIME\r\n"} {
		if _, drop := rewrite(line, "d", false); !drop {
			t.Errorf("%q is said", line)
		}
	}
	for _, n := range []int{500, 511, 512, 513, 4096} {
		if got, _ := rewrite(fmt.Sprintf("550 %0*d\r\n", n-6, 0), "d", false); len(got) != min(n, 512) || !strings.HasSuffix(got, "\r\n") {
			t.Errorf("a line of %d octets became one of %d", n, len(got))
		}
	}
	if got, _ := rewrite("550 "+strings.Repeat("x", 4092), "d", false); len(got) != 512 || !strings.HasSuffix(got, "\r\n") {
		t.Errorf("a line cut short became %d octets", len(got))
	}
}
