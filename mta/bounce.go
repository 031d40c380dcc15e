package mta

import (
	"bufio"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"scripta/mta/pec"
	"scripta/register"
	"scripta/register/record"
)

// Bounds of what is looked at in a message that may be a bounce.
const (
	maxBounceOctets = 1 << 20 // of it
	maxBounceLine   = 4 << 10 // of a line; the rest of a longer one is passed over
	maxBounceIDs    = 32      // identifiers that are looked for in the register

	// bounceTerm is how old an envelope may be: servers give up after some days. Who
	// knows an identifier reaches its author for no longer, and what anybody may ask
	// for is not looked for in the register of years.
	bounceTerm = 31 * 24 * time.Hour
)

// bounceOf says which of the recipients of a message that came with the null reverse
// path are the authors of an envelope that it is a bounce of: other mail servers send
// such messages to an envelope's reverse path when they cannot deliver it, in the
// form of RFC 3464 or in their own. r reads the message. Of no bounce, or of one of
// somebody else's message, there are none.
//
// Nothing in a bounce is certified, so it changes nothing about the recipients of the
// envelope. But its author has sent the message from here, and hears of it even when
// he takes no ordinary mail.
func (p *Pipeline) bounceOf(ctx context.Context, r io.Reader, rcpt []string) (of []string, envelopeID string, err error) {
	ids, err := identifiersIn(r, "@"+strings.ToLower(p.composer.Provider.Domain))
	if err != nil {
		return nil, "", err
	}
	at, err := p.clock.Now()
	if err != nil {
		return nil, "", err
	}
	for _, id := range ids {
		author := ""
		err := p.register.Search(ctx, register.Query{Generated: id, From: at.Time.Add(-bounceTerm)}, at.Time, func(f *register.Found) bool {
			if f.Record.Kind == record.Enveloped && f.Record.MessageID == id {
				author = f.Record.Sender
			}
			return author == ""
		})
		if err != nil {
			return nil, "", err
		}
		for _, to := range rcpt {
			if author != "" && pec.SameAddress(to, author) {
				of = append(of, to)
			}
		}
		if len(of) > 0 {
			return of, id, nil
		}
	}
	return nil, "", nil
}

// identifiersIn finds the message identifiers of a domain ("@domain", lower case)
// anywhere in a message: servers give back the header of what they could not deliver,
// all of it or its Message-ID, as a part, as text, or in a field of their own. Each is
// returned once, without < >.
func identifiersIn(r io.Reader, domain string) ([]string, error) {
	var ids []string
	lines := bufio.NewReaderSize(io.LimitReader(r, maxBounceOctets), maxBounceLine)
	for {
		line, err := lines.ReadSlice('\n')
		for _, id := range identifiersOf(string(line), domain) {
			if !slices.Contains(ids, id) && len(ids) < maxBounceIDs {
				ids = append(ids, id)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return ids, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// identifiersOf finds those in a line: our envelopes' have letters and digits alone
// before the domain (pec.Issue.MessageID).
func identifiersOf(line, domain string) []string {
	var ids []string
	folded := strings.ToLower(line)
	if len(folded) != len(line) { // no ASCII
		return nil
	}
	for from := 0; ; {
		at := strings.Index(folded[from:], domain)
		if at < 0 {
			return ids
		}
		at += from
		begin := at
		for begin > from && alphanumeric(line[begin-1]) {
			begin--
		}
		if n := at - begin; n >= minIdentifier && n <= maxIdentifier {
			ids = append(ids, line[begin:at]+folded[at:at+len(domain)])
		}
		from = at + len(domain)
	}
}

// How long the part before the domain of an identifier of ours is.
const (
	minIdentifier = 16
	maxIdentifier = 64
)

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
