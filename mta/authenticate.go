package mta

import (
	"context"
	"io"
	"net"
	"strings"

	"scripta/mta/senderauth"
	"scripta/register/receipts"
	"scripta/register/record"
)

// SenderResolver is asked about the senders of ordinary mail.
type SenderResolver = senderauth.Resolver

// authenticate finds out what the sender of a message can show for himself, once:
// a rerun makes the same envelope. Of what a provider signed nothing is asked.
func (p *Pipeline) authenticate(ctx context.Context, t *task, r *reception, content receipts.Content) ([]string, error) {
	var results []string
	if done, err := t.noted(authenticationDetail, &results); err != nil || done {
		return results, err
	}
	if t.rerun { // a job that was brought back may lack the note: what was recorded stands
		if known, err := p.recorded(record.MakeID(t.job.ID, stepAnomaly, 0)); err != nil || known != nil {
			return resultsOf(known), err
		}
	}
	if p.incoming.Resolver == nil || r.Class != isOrdinary {
		return nil, nil
	}
	results = senderauth.Check(ctx, p.incoming.Resolver, senderauth.Sender{IP: net.ParseIP(addressOf(r.Peer)), Helo: r.Helo, ReversePath: r.From, From: r.Message.From},
		io.NewSectionReader(content, 0, content.Size()))
	return results, p.note(t, authenticationDetail, results)
}

// authenticationDetail is the record's detail with the results.
const authenticationDetail = "authentication"

// resultsOf reads them from a record; none of them holds a semicolon.
func resultsOf(r *record.Record) []string {
	if r == nil {
		return nil
	}
	for _, d := range r.Detail {
		if d.Name == authenticationDetail {
			return strings.Split(d.Value, "; ")
		}
	}
	return nil
}
