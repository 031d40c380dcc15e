package audit

import (
	"slices"
	"strings"
	"testing"

	"scripta/register/record"
)

func (w *world) registers() []Register {
	return []Register{{w.a.name, w.a.log}, {w.b.name, w.b.log}}
}

// Two registers of one correct history agree.
func TestCrossIsClean(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		for _, m := range Cross(history(seed, 40).registers()...) {
			t.Fatalf("seed %d: %v", seed, m)
		}
	}
}

// What is spoiled in one register of what both know is seen beside the other.
func TestCrossFaults(t *testing.T) {
	t.Parallel()
	crossing := func(h *house, other string) func(*record.Record) bool {
		return func(r *record.Record) bool {
			switch r.Kind {
			case record.Relayed:
				return detail(r, "destination") == other
			case record.Received, record.NotificationReceived:
				return r.Provider == other
			}
			return false
		}
	}
	spoils := map[string]func([]*record.Record, int) []*record.Record{
		"missing":           gone,
		"twice":             twice,
		"of another digest": altered(func(r *record.Record) { r.Digest = digest("other") }),
		"of another size":   altered(func(r *record.Record) { r.Size++ }),
		"of another sender": altered(func(r *record.Record) { r.Sender = "x@y" }),
		"of another name":   altered(func(r *record.Record) { r.MessageID = "x@y" }),
	}
	n := 0
	w := flows()
	for _, h := range []*house{w.a, w.b} {
		other := w.b.name
		if h == w.b {
			other = w.a.name
		}
		knows := crossing(h, other)
		for i, r := range h.log {
			for name, alter := range spoils {
				if !knows(r) {
					continue
				}
				n++
				spoiled := alter(slices.Clone(h.log), i)
				all := w.registers()
				for j := range all {
					if all[j].Provider == h.name {
						all[j].Records = spoiled
					}
				}
				found := Cross(all...)
				if len(found) == 0 {
					t.Errorf("%s, %d %s %s %s: nothing found", h.name, i, r.Kind, typeOf(r), name)
				}
				for _, m := range found {
					if m.Message != r.MessageID && m.Message != "x@y" {
						t.Errorf("%s, %d %s %s: imagined %v", h.name, i, r.Kind, name, m)
					}
				}
			}
		}
	}
	t.Logf("%d faults", n)
	for name, alter := range map[string]func([]*record.Record, int) []*record.Record{
		"about":  altered(about("altro@pec.beta.it")),
		"code":   altered(func(r *record.Record) { r.Outcome.Code = "5.9.9" }),
		"came":   altered(setDetail("type", typeNonDelivery)),
		"nobody": altered(identifier("nobody@x")),
	} {
		w := flows()
		i := slices.IndexFunc(w.a.log, isType(record.NotificationReceived, "ok1", typeDelivery))
		w.a.log = alter(w.a.log, i)
		if found := Cross(w.registers()...); len(found) == 0 || !strings.Contains(found[0].String(), "message ") {
			t.Errorf("%s: %v", name, found)
		}
	}
}
