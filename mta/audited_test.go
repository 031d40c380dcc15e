package mta

import (
	"context"

	"scripta/mta/audit"
)

// audit checks the rules of certified e-mail over all records, as far as they are
// there: every test ends its processes by it, those that crashed, too.
func (p *process) audit() {
	at, err := p.world.clock.Now()
	if err != nil || p.world.odd {
		return
	}
	a := audit.New(audit.Options{Now: at.Time, ServiceMailbox: p.composer.Provider.ServiceAddress})
	for i := range p.log.Size() {
		f, err := p.register.Read(context.Background(), i)
		if err != nil {
			return // the test broke it
		}
		a.Add(i, f.Record)
	}
	for _, f := range a.Finish().Findings {
		p.world.t.Errorf("audit: %v", f)
	}
}
