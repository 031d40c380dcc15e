package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// metrics reads /metrics as Prometheus does.
func (p *provider) metrics(t *testing.T) (families map[string]*dto.MetricFamily, raw []byte) {
	t.Helper()
	resp := must[*http.Response](t)(http.Get("http://" + p.listen.Metrics + "/metrics"))
	defer resp.Body.Close()
	raw = must[[]byte](t)(io.ReadAll(resp.Body))
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("/metrics: %s, %s\n%s", resp.Status, resp.Header.Get("Content-Type"), raw)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("/metrics is not in Prometheus's text format: %v\n%s", err, raw)
	}
	return families, raw
}

// scrape returns the value of each counter and gauge of ours, by its name with its
// labels.
func (p *provider) scrape(t *testing.T) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	families, _ := p.metrics(t)
	for name, f := range families {
		for _, m := range f.GetMetric() {
			series := name
			for i, l := range m.GetLabel() {
				series += fmt.Sprintf("%s%s=%q", map[bool]string{true: "{", false: ","}[i == 0], l.GetName(), l.GetValue())
			}
			if len(m.GetLabel()) > 0 {
				series += "}"
			}
			switch {
			case m.Counter != nil:
				all[series] = m.Counter.GetValue()
			case m.Gauge != nil:
				all[series] = m.Gauge.GetValue()
			}
		}
	}
	return all
}

// What a running provider exposes is in the format, well named, with units and
// explained; and what it counts is what happened.
func TestMetricsOfARunningProvider(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	p.start(t)
	before := p.scrape(t)
	p.send(t, letter{from: address("mario"), to: []string{address("lucia"), address("nessuno")}, subject: "Contata"})
	p.idle(t, waitMail)
	families, raw := p.metrics(t)
	problems, err := promlint.New(bytes.NewReader(raw)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range problems {
		if strings.HasPrefix(x.Metric, "scripta_") {
			t.Errorf("%s: %s", x.Metric, x.Text)
		}
	}
	ours := 0
	for name, f := range families {
		switch {
		case strings.HasPrefix(name, "scripta_"):
			ours++
			if h := f.GetHelp(); !strings.HasSuffix(h, ".") || len(h) < 10 {
				t.Errorf("%s is explained by %q", name, h)
			}
		case !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") && !strings.HasPrefix(name, "promhttp_"):
			t.Errorf("%s is not named as ours", name)
		}
	}
	if ours < 30 {
		t.Errorf("%d metrics of ours", ours)
	}
	// An operator finds each in the manual, whose section may shorten a name of
	// several in a row to its end.
	manual := string(must[[]byte](t)(os.ReadFile("../../docs/operating.md")))
	_, manual, _ = strings.Cut(manual, "\n## Metrics\n")
	manual, _, _ = strings.Cut(manual, "\n## ")
	words := map[string]bool{}
	last := ""
	for _, w := range regexp.MustCompile("`([a-z0-9_]+)").FindAllStringSubmatch(manual, -1) {
		if end, short := strings.CutPrefix(w[1], "_"); short {
			for i := range last {
				if last[i] == '_' {
					words[last[:i+1]+end] = true
				}
			}
			continue
		}
		words[w[1]], last = true, w[1]
	}
	for name := range families {
		if short, ok := strings.CutPrefix(name, "scripta_"); ok && !words[short] {
			t.Errorf("docs/operating.md does not tell of %s", name)
		}
	}
	after := p.scrape(t)
	for name, more := range map[string]float64{"scripta_mta_messages_accepted_total": 1, "scripta_mta_messages_finished_total": 1,
		"scripta_mta_deliveries_total": 1, "scripta_mta_deliveries_failed_total": 1, "scripta_mta_messages_refused_total": 0, "scripta_spool_waiting_messages": 0} {
		if _, ok := after[name]; !ok || after[name]-before[name] != more {
			t.Errorf("%s went from %v to %v, want %v more", name, before[name], after[name], more)
		}
	}
	if after["scripta_log_leaves"] <= before["scripta_log_leaves"] {
		t.Error("the log did not grow")
	}
}
