package mta

import (
	"context"
	"io"
	"net"

	"scripta/mta/senderauth"
	"scripta/register/receipts"
)

// SenderResolver is asked about the senders of ordinary mail.
type SenderResolver = senderauth.Resolver

// authenticate finds out what the sender of a message can show for himself, once:
// a rerun makes the same envelope. Of what a provider signed nothing is asked.
func (p *Pipeline) authenticate(ctx context.Context, t *task, r *reception, content receipts.Content) ([]string, error) {
	var results []string
	if done, err := t.noted("authentication", &results); err != nil || done {
		return results, err
	}
	if p.incoming.Resolver == nil || r.Class != isOrdinary {
		return nil, nil
	}
	results = senderauth.Check(ctx, p.incoming.Resolver, senderauth.Sender{IP: net.ParseIP(addressOf(r.Peer)), Helo: r.Helo, ReversePath: r.From, From: r.Message.From},
		io.NewSectionReader(content, 0, content.Size()))
	return results, p.note(t, "authentication", results)
}
