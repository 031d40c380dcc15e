package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"scripta/merkle/witness"
)

// ofWitnesses tells how the log is cosigned.
func (m *Metrics) ofWitnesses(s Sources) {
	if s.Witnesses == nil || len(s.Witnesses()) == 0 {
		return
	}
	if s.Cosigned != nil {
		m.gauge("log_cosigned_leaves", "Leaves of the latest checkpoint that a quorum of witnesses cosigned.", func() float64 {
			if c := s.Cosigned(); c != nil {
				return float64(c.Size)
			}
			return 0
		})
	}
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("scripta_witness_"+name, help, []string{"witness"}, nil)
	}
	m.registry.MustRegister(&witnesses{states: s.Witnesses,
		leaves: describe("cosigned_leaves", "Leaves of the last checkpoint that the witness cosigned since the start."),
		age:    describe("cosigned_age_seconds", "Time since the witness last cosigned a checkpoint; absent before it did."),
		asked:  describe("asked_total", "Cosignatures asked for."),
		failed: describe("failed_total", "Cosignatures asked for that were not got."),
		forked: describe("contradicts", "Whether the witness says that it saw another history of the log, or a later one."),
	})
}

// witnesses collects what is known of each witness.
type witnesses struct {
	states                             func() []witness.PeerState
	leaves, age, asked, failed, forked *prometheus.Desc
}

func (w *witnesses) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{w.leaves, w.age, w.asked, w.failed, w.forked} {
		ch <- d
	}
}

func (w *witnesses) Collect(ch chan<- prometheus.Metric) {
	for _, p := range w.states() {
		ch <- prometheus.MustNewConstMetric(w.leaves, prometheus.GaugeValue, float64(p.Size), p.Name)
		if !p.At.IsZero() {
			ch <- prometheus.MustNewConstMetric(w.age, prometheus.GaugeValue, time.Since(p.At).Seconds(), p.Name)
		}
		ch <- prometheus.MustNewConstMetric(w.asked, prometheus.CounterValue, float64(p.Asked), p.Name)
		ch <- prometheus.MustNewConstMetric(w.failed, prometheus.CounterValue, float64(p.Failed), p.Name)
		ch <- prometheus.MustNewConstMetric(w.forked, prometheus.GaugeValue, truth(witness.Contradiction(p.Err)), p.Name)
	}
}
