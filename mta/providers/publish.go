package providers

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// PublishedPath is where a provider's own signed LDIF is on its HTTPS service.
const PublishedPath = "/provider.ldif.p7m"

// ContentType is that of a signed LDIF file (RFC 6109 §4.5.6, RFC 8551 §3.2).
const ContentType = "application/pkcs7-mime; smime-type=signed-data; name=provider.ldif.p7m"

// Publisher gives out this provider's own records, signed (RFC 6109 §4.5): who
// keeps the directory fetches them daily.
type Publisher struct {
	Own  []*Provider
	Sign func(content []byte, at time.Time) (p7m []byte, err error)
	Now  func() (time.Time, error)

	mu     sync.Mutex // guards what follows, the file of one day
	signed time.Time
	file   []byte
}

// Make returns the LDIF of our own records as they are published at a time, and
// the same signed. Certificates that are over are not in it.
func (p *Publisher) Make(at time.Time) (plain, p7m []byte, err error) {
	d := &Directory{}
	for _, own := range p.Own {
		record := *own
		record.Certificates = slices.DeleteFunc(slices.Clone(own.Certificates), func(c *x509.Certificate) bool { return at.After(c.NotAfter) })
		d.Providers = append(d.Providers, &record)
	}
	plain = d.LDIF()
	if p7m, err = p.Sign(plain, at); err != nil {
		return nil, nil, fmt.Errorf("couldn't sign our own LDIF: %w", err)
	}
	return plain, p7m, nil
}

// day returns the file of the day, which is signed anew when the day is over.
func (p *Publisher) day() ([]byte, time.Time, error) {
	now, err := p.Now()
	if err != nil {
		return nil, now, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil || now.UTC().Truncate(24*time.Hour) != p.signed.Truncate(24*time.Hour) {
		_, file, err := p.Make(now)
		if err != nil {
			return nil, now, err
		}
		p.file, p.signed = file, now.UTC().Truncate(time.Second)
	}
	return p.file, p.signed, nil
}

// ServeHTTP gives out the file of the day.
func (p *Publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	file, signed, err := p.day()
	if err != nil {
		http.Error(w, "not available now", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", ContentType)
	http.ServeContent(w, r, "", signed, bytes.NewReader(file))
}
