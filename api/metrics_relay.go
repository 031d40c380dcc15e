package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"scripta/mta/relay"
)

// ofRelay registers what is sent to other servers and what comes of it.
func (m *Metrics) ofRelay(s Sources) {
	if s.Relay == nil {
		return
	}
	x := s.Relay.Metrics()
	for _, c := range []struct {
		name, help string
		read       func() uint64
	}{
		{"relay_attempts_total", "Attempts to send a message to another server.", x.Attempts.Load},
		{"relay_attempts_unreachable_total", "Attempts that reached no server.", x.Failed.Load},
		{"relay_expired_total", "Messages to other servers that were given up at their limit.", x.Expired.Load},
		{"relay_unrecorded_total", "Times that what came of an attempt could not be recorded, and was put off.", x.Unhandled.Load},
	} {
		m.counter(c.name, c.help, func() float64 { return float64(c.read()) })
	}
	m.gauge("relay_sending", "Attempts to send a message to another server under way.", func() float64 { return float64(x.Sending.Load()) })
	m.registry.MustRegister(relayCollector{s.Relay})
}

// relayCollector reads the queue once for each scrape. Its labels are names of providers, of which the index bounds the
// number, and two for all others.
type relayCollector struct{ queue *relay.Queue }

var (
	relayLetters     = prometheus.NewDesc("scripta_relay_waiting_messages", "Messages that wait for other servers.", nil, nil)
	relayHeld        = prometheus.NewDesc("scripta_relay_held_messages", "Messages to other servers that an operator holds.", nil, nil)
	relayUnreachable = prometheus.NewDesc("scripta_relay_unreachable_destinations", "Destinations whose last attempt reached no server.", nil, nil)
	relayOldest      = prometheus.NewDesc("scripta_relay_oldest_seconds", "Time since the oldest message that waits for other servers was handed in; 0 when there is none.", nil, nil)
	relayRecipients  = prometheus.NewDesc("scripta_relay_recipients_total", "Recipients at other servers, by provider and by what the server said.", []string{"destination", "answer"}, nil)
)

// Describe implements [prometheus.Collector].
func (c relayCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{relayLetters, relayHeld, relayUnreachable, relayOldest, relayRecipients} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c relayCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	g := c.queue.Gauges()
	gauge(relayLetters, float64(g.Letters))
	gauge(relayHeld, float64(g.Held))
	gauge(relayUnreachable, float64(g.Unreachable))
	age := 0.0
	if !g.Oldest.IsZero() {
		age = time.Since(g.Oldest).Seconds()
	}
	gauge(relayOldest, age)
	for _, t := range c.queue.Metrics().Traffic() {
		for answer, n := range map[string]uint64{"taken": t.Taken, "deferred": t.Deferred, "refused": t.Refused} {
			ch <- prometheus.MustNewConstMetric(relayRecipients, prometheus.CounterValue, float64(n), t.Destination, answer)
		}
	}
}
