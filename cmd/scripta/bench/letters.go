package bench

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"time"
)

// letters makes messages of one size: plain text on the outside, with lines of
// 76 characters that no compression makes small.
type letters struct {
	body []byte
	size int
}

func newLetters(size int) *letters {
	raw := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(raw)
	text := base64.StdEncoding.EncodeToString(raw)
	var b bytes.Buffer
	for len(text) > 76 {
		b.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	return &letters{body: b.Bytes(), size: size}
}

// letter makes message n, as it goes over the wire, its end included. No line of
// it begins with a dot.
func (l *letters) letter(n int, from, to string) []byte {
	b := make([]byte, 0, l.size+512)
	b = fmt.Appendf(b, "Message-ID: %s\r\nDate: %s\r\nFrom: Mittente <%s>\r\nTo: Destinatario <%s>\r\nSubject: Richiesta di accesso agli atti, pratica %d\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n", letterID(n), time.Now().Format(time.RFC1123Z), from, to, n)
	rest := max(0, l.size-len(b))
	b = append(b, l.body[:min(rest, len(l.body))]...)
	if !bytes.HasSuffix(b, []byte("\n")) {
		b = append(bytes.TrimSuffix(b, []byte("\r")), "\r\n"...)
	}
	return append(b, ".\r\n"...)
}

func letterID(n int) string { return fmt.Sprintf("<%d.bench@client.example>", n) }
