package mta

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"scripta/mta/pec"
)

// sayings are what receipts and notices say, by their type on the wire.
var sayings = map[string]what{pec.TakeCharge.String(): isTaken, pec.Delivery.String(): isDelivered, pec.NonDelivery.String(): isFailed, pec.VirusDetection.String(): isInfected}

// heard makes durable what a receipt or notice of another provider says of
// recipients of a message of ours, if it is new and its submission still waits for
// it: it ends their timers, and of a virus the author is told. A take-charge, a
// delivery, a non-delivery and a virus detection say something. It may be told the
// same again.
//
// The caller has checked the signature, and that the signer is the provider of each
// recipient's domain: of nobody else's recipients does a receipt count. envelopeID
// is its "identificativo", at the moment of its receipt, signer the provider's name;
// detail is its "errore-esteso", or the virus alone.
func (p *Pipeline) heard(_ context.Context, kind pec.Kind, envelopeID string, about []string, at moment, signer, detail string) error {
	what, ok := sayings[kind.String()]
	if !ok {
		return nil
	}
	d := p.dispatches.ofEnvelope(envelopeID)
	if d == nil {
		return nil
	}
	var elsewhere []int
	for _, i := range d.places(about) {
		if d.s.Recipients[i].Certified && slices.Contains(d.s.Remote, i) {
			elsewhere = append(elsewhere, i)
		}
	}
	known := turn{Moment: at, What: what, Places: elsewhere, Provider: signer}
	if what == isInfected {
		known.Virus = virusName(detail)
	}
	if err := p.happened(d, known); err != nil {
		return fmt.Errorf("couldn't note what another provider said of a message of ours: %w", err)
	}
	return nil
}

// virusName finds the virus in an errore-esteso: what stands in parentheses at its
// end, as we write it, or after the provider's name; else it is all of it.
func virusName(detail string) string {
	name := strings.TrimSpace(detail)
	if open := strings.LastIndexByte(name, '('); open >= 0 && strings.HasSuffix(name, ")") && open < len(name)-2 {
		name = name[open+1 : len(name)-1]
	} else if parts := strings.SplitN(name, " - ", 3); len(parts) == 3 {
		name = strings.TrimSpace(parts[2])
	}
	if name == "" {
		return "virus"
	}
	return name
}
