package mta

import (
	"context"
	"io"
	"net"

	"scripta/mta/senderauth"
)

// SenderResolver is asked about the senders of ordinary mail.
type SenderResolver = senderauth.Resolver

// authenticate finds out what the sender of ordinary mail can show for himself. It is
// asked in his own session: DNS is his, and may be as slow as he likes, while no
// worker and no place among the accepted messages waits for it. A rerun asks nobody
// again. Of what a provider signed nothing is asked.
func (p *Pipeline) authenticate(ctx context.Context, a *arrival, r *reception) error {
	if p.incoming.Resolver == nil || r.Class != isOrdinary {
		return nil
	}
	content, err := a.content.Written(a.id, uint16(a.month))
	if err != nil {
		return err
	}
	defer content.Close()
	r.Results = senderauth.Check(ctx, p.incoming.Resolver, senderauth.Sender{IP: net.ParseIP(addressOf(r.Peer)), Helo: r.Helo, ReversePath: r.From, From: r.Message.From},
		io.NewSectionReader(content, 0, content.Size()))
	return nil
}

// authenticationDetail is the record's detail with the results.
const authenticationDetail = "authentication"
