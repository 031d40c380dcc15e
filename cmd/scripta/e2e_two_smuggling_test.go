package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
)

// falseEnds are what some server takes for the end of a message and others do
// not, between a message and another that is hidden in it.
var falseEnds = []string{"\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n.\r\r\n", "\n.\r", "\r.\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\n\n.\r\n", "\r\n \r\n.\n", "\n..\r\n"}

const smuggled = "contrabbando"

// hidden is a transaction that an attacker hides in another message.
func hidden(from, to string) string {
	return "MAIL FROM:<" + from + ">\r\nRCPT TO:<" + to + ">\r\nDATA\r\nFrom: " + from + "\r\nTo: " + to + "\r\nSubject: " + smuggled + "\r\n\r\nNascosto.\r\n"
}

// One message never becomes two, whatever its author hides in it: at the port
// for other servers as at the one for clients, in clear as under TLS.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	d := newDuo(t, duoOptions{edit: func(c *config.Config) { c.Incoming.Ordinary = config.OrdinaryAccept }})
	p := d.a
	d.start(t)
	olga, anna, aldo := "olga@"+ordinaryDomain, p.address("anna"), p.address("aldo")
	ways := []struct {
		name, from string
		dial       func() (*client, error)
	}{
		{"port 25 in clear", olga, func() (*client, error) { return p.dialIncoming(false) }},
		{"port 25 under TLS", olga, func() (*client, error) { return p.dialIncoming(true) }},
		{"submission", anna, func() (*client, error) { return p.login("anna") }},
	}
	taken := 0
	for _, w := range ways {
		dialog := func(name string, commands []string, message string) {
			t.Helper()
			c := must[*client](t)(w.dial())
			defer c.Close()
			for _, say := range commands {
				if text, err := c.command(say); err != nil {
					t.Fatalf("%s, %s: %s is answered %q, %v", w.name, name, say, text, err)
				}
			}
			_ = c.conn.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(c.conn, message+"QUIT\r\n"); err != nil {
				t.Fatal(err)
			}
			var codes []string
			lines := bufio.NewScanner(c.R)
			for lines.Scan() {
				if line := lines.Text(); len(line) > 3 && line[3] == ' ' {
					codes = append(codes, line[:3])
				}
			}
			switch answers := strings.Join(codes, " "); answers {
			case "250 221":
				taken++
			case "550 221", "550":
			default:
				t.Errorf("%s, %s: answered %s", w.name, name, answers)
			}
		}
		begin := []string{"MAIL FROM:<" + w.from + ">", "RCPT TO:<" + aldo + ">"}
		head := fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: intero\r\n\r\nUna riga.", w.from, aldo)
		for _, end := range falseEnds {
			dialog(fmt.Sprintf("DATA %q", end), append(begin[:2:2], "DATA"), head+end+hidden(w.from, aldo)+".\r\n")
		}
		for _, end := range append(falseEnds, "\r\n.\r\n") {
			content := head + end + hidden(w.from, aldo)
			dialog(fmt.Sprintf("BDAT %q", end), begin, fmt.Sprintf("BDAT %d LAST\r\n%s", len(content), content))
		}
		// Chunks that end within what could be taken for an end.
		first, second := head+"\r\n.", "\r\n"+hidden(w.from, aldo)
		c := must[*client](t)(w.dial())
		for _, say := range begin {
			if err := c.expect(250, say); err != nil {
				t.Fatal(err)
			}
		}
		for _, chunk := range []string{fmt.Sprintf("BDAT %d\r\n%s", len(first), first), fmt.Sprintf("BDAT %d LAST\r\n%s", len(second), second)} {
			if _, err := io.WriteString(c.conn, chunk); err != nil {
				t.Fatal(err)
			}
			if text, err := c.answer(); err != nil {
				t.Errorf("%s: BDAT is answered %q, %v", w.name, text, err)
			}
		}
		taken++
		_ = c.Close()
	}
	p.idle(t, waitMail)
	found := 0
	for _, m := range p.mailbox(t, "aldo") {
		found++
		if strings.Contains(m.Subject, smuggled) {
			t.Errorf("%s was smuggled in: %s", m.path, m.Subject)
		}
	}
	if found != taken {
		t.Errorf("%d messages in the mailbox, %d were answered 250", found, taken)
	}
	d.stop(t)
}
