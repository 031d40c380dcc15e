package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"scripta/internal/durable"
	"scripta/mta/relay"
)

// relayDrain is how long messages that are being sent when the daemon stops may
// take to end; they are sent again at the next start.
const relayDrain = 10 * time.Second

// openRelay makes the queue of messages to other servers. The pipeline adds to it
// as soon as it is opened; nothing is sent before the queue runs.
func (d *daemon) openRelay() error {
	holds, err := relay.OpenHolds(durable.OS, d.dir.RelayHolds())
	if err != nil {
		return err
	}
	transport, err := d.transport()
	if err != nil {
		return err
	}
	c := d.cfg.Relay
	d.queue = relay.NewQueue(relay.Options{
		Send: transport.Send,
		Open: func(ctx context.Context, l *relay.Letter) (io.ReadCloser, error) {
			return d.pipeline.OpenLetter(ctx, l)
		},
		Handle: func(ctx context.Context, l *relay.Letter, r *relay.Result) error {
			return d.pipeline.Relayed(ctx, l, r)
		},
		Holds:    holds,
		Sessions: c.Sessions, PerDestination: c.PerDestination, FirstDelay: c.FirstDelay.Duration, MaxDelay: c.MaxDelay.Duration,
		Logger: d.log,
	})
	return nil
}

// transport is what sends, as [relay] says.
func (d *daemon) transport() (*relay.Transport, error) {
	c := d.cfg.Relay
	routes, err := relay.ParseRoutes(c.Routes)
	if err != nil {
		return nil, err
	}
	t := &relay.Transport{Name: d.cfg.RelayHostname(), Routes: routes, Resolver: relay.NewResolver(c.Resolver), Timeouts: relay.Timeouts{Connect: c.ConnectTimeout.Duration}}
	if c.MTASTS {
		t.Policies = relay.NewPolicies(t.Resolver, nil, nil)
	}
	if c.DANE {
		t.DANE = &relay.DANE{Server: c.Resolver}
	}
	return t, nil
}

// relayRole says how sending to other servers goes.
func (d *daemon) relayRole() (string, error) {
	g := d.queue.Gauges()
	text := fmt.Sprintf("%d messages wait for other servers", g.Letters)
	switch {
	case g.Unrecorded > 0:
		return text, fmt.Errorf("what other servers answered about %d messages cannot be recorded, and is tried again: the log tells why", g.Unrecorded)
	case len(g.Providers) > 0:
		return text, warn("%s cannot be reached: scripta queue list tells more", strings.Join(g.Providers[:min(len(g.Providers), 5)], ", "))
	case g.Held > 0:
		return text, warn("an operator holds %d of them: scripta queue release lets them go", g.Held)
	}
	return text, nil
}
