package smtpd

import "bytes"

// controls follows a stream of octets and notices CR or LF outside a CRLF pair,
// and NUL (RFC 5321 §2.3.8). By them one message can look like two to the next
// server (SMTP smuggling). It sits below go-smtp, which swallows some of them.
type controls struct {
	cr bool // the last octet was CR
}

// clean reports whether nothing forbidden is in p, which follows what it saw before.
func (c *controls) clean(p []byte) bool {
	ok := true
	for len(p) > 0 {
		if c.cr {
			c.cr = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
			ok = false
		}
		i := bytes.IndexAny(p, "\r\n\x00")
		if i < 0 {
			break
		}
		if p[i] == '\r' {
			c.cr = true
		} else {
			ok = false
		}
		p = p[i+1:]
	}
	return ok
}
