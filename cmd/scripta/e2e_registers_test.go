package main

import (
	"log/slog"
	"strings"
	"testing"

	"scripta/internal/config"
	"scripta/mta/audit"
	"scripta/register/record"
)

// records reads every record of a stopped provider, in the order of its log.
func (p *provider) records(t *testing.T) []*record.Record {
	t.Helper()
	a, err := openApp(t.Context(), p.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var all []*record.Record
	err = a.readRecords(t.Context(), func(_ uint64, r *record.Record) { all = append(all, r) })
	if closing := a.close(); err == nil {
		err = closing
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// registersAgree audits each of some stopped providers, under which nothing is
// on its way, and then compares their registers record by record: every envelope
// and receipt that one says it passed on to another was received there once,
// with the same bytes, and nothing came that was not sent. It returns the records
// of each, for tests that count more.
func registersAgree(t *testing.T, providers ...*provider) [][]*record.Record {
	t.Helper()
	var (
		all       [][]*record.Record
		registers []audit.Register
	)
	for _, p := range providers {
		if code, out := p.scripta(t, "audit", "--settled"); code != 0 {
			t.Errorf("%s: audit: %s", p.dir, out)
		}
		c, err := config.Load(p.dir.Config())
		if err != nil {
			t.Fatal(err)
		}
		records := p.records(t)
		all, registers = append(all, records), append(registers, audit.Register{Provider: c.Provider, Records: records})
	}
	for _, m := range audit.Cross(registers...) {
		t.Errorf("the registers contradict one another: %v", m)
	}
	return all
}

// An audit leaves a record of its reading, and finds nothing in a provider that
// did its work.
func TestAuditIsRecorded(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	p.start(t)
	l := letter{id: "<audit@mario.example>", from: address("mario"), to: []string{address("lucia"), address("nessuno")}, subject: "Controllo"}
	c := must[*client](t)(p.login("mario"))
	if err := c.submit(l.from, l.to, l.String()); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	p.idle(t, patience)
	if out := p.command(t, "audit"); !strings.Contains(out, ": 0 anomalies") {
		t.Errorf("audit beside the provider: %s", out)
	}
	p.stop(t)
	if out := must[string](t)(run(t, binary, "audit", "--rules")); strings.Count(out, "\n") != len(audit.Rules()) || !strings.Contains(out, "DPR 68/2005 art. 12") {
		t.Errorf("audit --rules: %s", out)
	}
	read := 0
	for _, r := range registersAgree(t, p)[0] {
		if r.Kind == record.RecordDisclosed && r.Outcome.Code == "audit" {
			read++
		}
	}
	if read != 2 {
		t.Errorf("%d records of 2 audits", read)
	}
	p.verifyLog(t)
}
