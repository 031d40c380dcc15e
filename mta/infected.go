package mta

import (
	"context"
	"fmt"

	"scripta/mta/pec"
	"scripta/register/record"
)

// refuseInfectedReception keeps an infected message of a provider, and delivers it
// to nobody. Of an envelope its sender's provider is told, for each recipient (RFC
// 6109 §3.2.3); of a notification the register says that it was not passed on.
// Infected mail of anybody else never gets here: it is refused.
func (p *Pipeline) refuseInfectedReception(ctx context.Context, t *task, r *reception) error {
	id := t.job.ID
	tx := r.transaction(id)
	b := p.batch(t)
	if err := p.quarantine(b, r.ContentMonth, r.Virus, r.Message.Digest, r.Message.Size, func(k record.Kind) *record.Record {
		rec := r.record(p, id, k)
		rec.About = r.Recipients
		return rec
	}); err != nil {
		return err
	}
	text := pec.VirusFound(r.Virus.Virus)
	outcome := record.Outcome{Code: text.Code, Text: text.Text}
	var told []notice
	for i, a := range r.Recipients {
		switch r.Class {
		case isEnvelope:
			rec := r.record(p, id, record.VirusDetectionIssued)
			rec.About, rec.Outcome = []string{a}, outcome
			m, err := b.message(record.MakeID(id, stepVirusDetection, uint32(i)), rec, nil, func() (*pec.Message, error) {
				return p.composer.VirusDetection(tx.Issue(stepVirusDetection, uint32(i)), r.Certification.Facts(), r.Service, a, r.Virus.Virus)
			})
			if err != nil {
				return err
			}
			told = append(told, notice{&placement{mailbox: r.Service, message: m.Issued, bypassQuota: true}, record.MakeID(id, stepVirusDetectionNotified, uint32(i))})
		case isNotification:
			rec := r.record(p, id, record.NotificationFailed)
			rec.About, rec.Generated, rec.Outcome = []string{a}, []string{trimID(r.Message.MessageID)}, outcome
			rec.Digest, rec.Content, rec.Size = r.Message.Digest, r.Message.Content, uint64(r.Message.Size)
			b.event(record.MakeID(id, stepReached, uint32(i)), rec)
		}
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	if r.Class == isNotification {
		return p.hear(ctx, r)
	}
	weight, err := r.weight(p, id)
	if err != nil {
		return err
	}
	about := func() *record.Record { return r.record(p, id, record.NotificationDelivered) }
	var held waits
	for from, stage := 0, stageOf(weight); from < len(told); from += stage {
		if err := held.keep(p.handOver(ctx, t, fmt.Sprintf("virus/%d", from), r.Moment.Time, told[from:min(from+stage, len(told))], about)); err != nil {
			return err
		}
	}
	return held.err()
}
