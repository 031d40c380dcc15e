package mta

import (
	"time"
)

// lookEvery is how often the pipeline looks for recipients of whom nothing was
// heard for too long.
const lookEvery = 30 * time.Second

// watch runs until the pipeline stops.
func (p *Pipeline) watch() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		p.look()
		select {
		case <-ticker.C:
		case <-p.ctx.Done():
			return
		}
	}
}

// look notes every notice that is due by the measured clock. What cannot be noted
// is tried again at the next look.
func (p *Pipeline) look() {
	list := p.dispatches.list()
	if len(list) == 0 {
		return
	}
	reading, err := p.clock.Now()
	if err != nil {
		p.log.Warn("no notice of delay is issued while the time is not traceable", "err", err)
		return
	}
	for _, d := range list {
		elsewhere := func(i int) bool { return !d.fates[i].here }
		if err := p.lateness(d, reading.Time, elsewhere); err != nil {
			p.metrics.Alarms.Add(1)
			p.log.Error("a notice of delay could not be noted; it will be tried again", "tx", d.t.id(), "err", err)
		}
	}
}
