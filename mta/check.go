package mta

import "scripta/mta/pec"

// checkForm runs the formal checks of RFC 6109 §3.1.1 and the provider's policy
// over a submitted message and returns the reasons, in Italian, for which it
// must not be accepted; none means that it is accepted.
func (p *Pipeline) checkForm(o *pec.Original, sender string, recipients []string) []string {
	var reasons []string
	add := func(r string) { reasons = append(reasons, r) }
	switch {
	case len(o.From) == 0:
		add(pec.ReasonNoFrom)
	case len(o.From) > 1 || !pec.SameAddress(o.From[0], sender):
		add(pec.ReasonSenderNotFrom(sender))
	}
	if len(o.To) == 0 {
		add(pec.ReasonNoTo)
	}
	const most = 20 // the notice stays readable
	missing := 0
	listed := make(map[string]bool, len(o.To)+len(o.Cc))
	for _, list := range [][]string{o.To, o.Cc} {
		for _, a := range list {
			listed[pec.NormalizeAddress(a)] = true
		}
	}
	for _, r := range recipients {
		if !listed[pec.NormalizeAddress(r)] {
			if missing++; missing <= most {
				add(pec.ReasonRecipientNotListed(r))
			}
		}
	}
	if missing > most {
		add(pec.ReasonMoreNotListed(missing - most))
	}
	if o.BccNonEmpty {
		add(pec.ReasonBcc)
	}
	if n := len(recipients); n > p.limits.Recipients {
		add(pec.ReasonTooManyRecipients(n, p.limits.Recipients))
	}
	if o.Size*int64(len(recipients)) > p.limits.BytesTimesRecipients {
		add(pec.ReasonTooLarge)
	}
	return reasons
}
