package mta

import (
	"context"
	"fmt"
	"io"
	"slices"

	"scripta/mta/pec"
	"scripta/mta/scan"
	"scripta/register/record"
)

// SpamScorer says how much a message looks like spam (mta/scan).
type SpamScorer interface {
	Check(ctx context.Context, m scan.Mail) (*scan.Spam, error)
}

// score has ordinary mail scored, and takes those of its recipients off who do not
// want mail of such a score; it is an error when nobody is left. What a provider
// signed is never scored, nor is a bounce of an envelope of ours. A scorer that does not answer costs the score alone: unlike a virus, spam does no
// harm.
func (p *Pipeline) score(ctx context.Context, a *arrival, rec *reception, m *transit) error {
	ofOurs := slices.ContainsFunc(rec.Detail, func(d record.Pair) bool { return d.Name == "about" })
	if p.incoming.Spam == nil || rec.Class != isOrdinary || ofOurs {
		return nil
	}
	content, err := a.content.Written(a.id, uint16(a.month))
	if err != nil {
		return err
	}
	defer content.Close()
	s, err := p.incoming.Spam.Check(ctx, scan.Mail{Body: io.NewSectionReader(content, 0, content.Size()), Size: content.Size(), From: m.from,
		Recipients: rec.Recipients, Peer: m.peer.Address, Helo: m.helo})
	if err != nil {
		p.metrics.NotScored.Add(1)
		p.log.Warn("ordinary mail passes without a spam score", "err", err)
		return nil
	}
	p.metrics.Scored.Add(1)
	rec.Spam = s
	rec.Detail = append(rec.Detail, record.Pair{Name: "spam", Value: fmt.Sprintf("score %.2f, %s", s.Score, s.Action)})
	var left, refused []string
	for _, to := range rec.Recipients {
		if limit, ok := p.incoming.SpamLimit(to); ok && s.Score >= float64(limit) {
			refused = append(refused, to)
			continue
		}
		left = append(left, to)
	}
	if len(refused) > 0 {
		p.metrics.Spam.Add(uint64(len(refused)))
		p.ordinaryRefused(ctx, m, replySpam, rec.Message.Subject, refused...)
	}
	if rec.Recipients = left; len(left) == 0 {
		return replySpam
	}
	return nil
}

// spamMark is what an anomaly envelope says of the score.
func (r *reception) spamMark() *pec.SpamMark {
	if r.Spam == nil {
		return nil
	}
	marked := r.Spam.Action != "no action" && r.Spam.Action != "greylist"
	return &pec.SpamMark{Score: r.Spam.Score, Spam: marked, Tests: r.Spam.Symbols}
}
