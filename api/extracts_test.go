package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/register"
	"scripta/register/record"
)

// produce runs the worker until nothing is open.
func (f *fixture) produce() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { f.requests.Run(ctx) })
	for ctx.Err() == nil {
		if open, _ := f.requests.Waiting(start); open == 0 {
			break
		}
		time.Sleep(time.Millisecond) // the condition is looked at again
	}
	failed := ctx.Err()
	cancel()
	wg.Wait()
	f.must(failed)
}

func TestExtractFlow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.submit(1, start, anna, bruno)
	m.deliver(start.Add(time.Minute), bruno)
	f.submit(2, start.Add(2*time.Minute), carla, bruno)
	f.set(time.Date(2026, 10, 9, 21, 59, 30, 0, time.UTC)) // a Friday, 23:59:30 in Rome
	w := f.do(request{method: "POST", path: "/v1/extracts", mailbox: anna, body: `{"from":"2026-10-01T00:00:00+02:00","message_id":"<` + m.id() + `>"}`})
	var asked extractState
	f.decode(w, "Extract", &asked)
	if w.Code != 202 || w.Header().Get("Location") != "/v1/extracts/"+asked.ID || asked.State != "asked" || asked.MessageID != m.id() || asked.File != nil ||
		asked.Due.Format(time.RFC3339) != "2026-10-16T23:59:59+02:00" {
		t.Fatalf("%d %v %+v", w.Code, w.Header(), asked)
	}
	w = f.do(request{path: asked.Href + "/file", mailbox: anna})
	f.wantProblem(w, 409, "not-ready")
	if w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	f.openRequests() // a restart before it is produced
	f.produce()
	var ready extractState
	f.get(anna, asked.Href, "Extract", &ready)
	if ready.State != "produced" || ready.Events != 6 || ready.File == nil || !ready.Due.Equal(asked.Due) {
		t.Fatalf("%+v", ready)
	}
	for _, mailbox := range []string{bruno, carla} {
		f.wantProblem(f.do(request{path: asked.Href, mailbox: mailbox}), 404, "not-found")
		f.wantProblem(f.do(request{path: ready.File.Href, mailbox: mailbox}), 404, "not-found")
		var list struct{ Extracts []extractState }
		f.get(mailbox, "/v1/extracts", "ExtractList", &list)
		if len(list.Extracts) != 0 {
			t.Errorf("%s lists %+v", mailbox, list)
		}
	}
	var first []byte
	for range 2 {
		w = f.do(request{path: ready.File.Href, mailbox: anna})
		sum := sha256.Sum256(w.Body.Bytes())
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/zip" || hex.EncodeToString(sum[:]) != ready.File.SHA256 || int64(w.Body.Len()) != ready.File.Size {
			t.Fatalf("%d %v", w.Code, w.Header())
		}
		if first != nil && !bytes.Equal(first, w.Body.Bytes()) {
			t.Error("another file the second time")
		}
		first = w.Body.Bytes()
		f.openRequests() // a restart after the delivery
	}
	var list struct{ Extracts []extractState }
	f.get(anna, "/v1/extracts", "ExtractList", &list)
	if len(list.Extracts) != 1 || list.Extracts[0].State != "delivered" {
		t.Errorf("%+v", list)
	}
	count := map[record.Kind]int{}
	f.must(f.register.Search(t.Context(), register.Query{Mailbox: anna}, f.wall(), func(x *register.Found) bool {
		count[x.Record.Kind]++
		return true
	}))
	if count[record.ExtractAsked] != 1 || count[record.ExtractProduced] != 1 || count[record.ExtractDelivered] != 1 {
		t.Errorf("%v", count)
	}
	// Its own records are not messages.
	if got := f.pages(anna, 50, nil); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

// An extract has the filters that the list of messages has, and its record tells
// them.
func TestExtractFilters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.submit(1, start, anna, bruno)
	m.deliver(start.Add(time.Minute), bruno)
	f.submit(2, start.Add(2*time.Minute), anna, carla)
	f.set(start.Add(time.Hour))
	for _, c := range []struct {
		body   string
		events int
		want   func(x *extractState) bool
		detail record.Pair
	}{
		{`{"counterpart":"` + strings.ToUpper(bruno) + `"}`, 6, func(x *extractState) bool { return x.Counterpart == bruno }, record.Pair{Name: "counterpart", Value: bruno}},
		{`{"kind":"acceptance-issued"}`, 2, func(x *extractState) bool { return x.Kind == "acceptance-issued" }, record.Pair{Name: "kinds", Value: "acceptance-issued"}},
		{`{"kind":"acceptance-issued","counterpart":"` + carla + `"}`, 1, func(x *extractState) bool { return x.Kind != "" && x.Counterpart == carla }, record.Pair{Name: "counterpart", Value: carla}},
		{`{"subject":"nothing of that kind"}`, 0, func(x *extractState) bool { return x.Reason == "no-events" }, record.Pair{Name: "subject", Value: "nothing of that kind"}},
		{`{"receipt_id":"<no@such>"}`, 0, func(x *extractState) bool { return x.ReceiptID == "no@such" }, record.Pair{Name: "receipt-id", Value: "no@such"}},
	} {
		w := f.do(request{method: "POST", path: "/v1/extracts", mailbox: anna, body: c.body})
		var x extractState
		f.decode(w, "Extract", &x)
		f.produce()
		f.get(anna, x.Href, "Extract", &x)
		if x.Events != c.events || !c.want(&x) {
			t.Errorf("%s: %+v", c.body, x)
		}
		told := false
		f.must(f.register.Search(t.Context(), register.Query{Mailbox: anna, Kinds: []record.Kind{record.ExtractAsked}}, f.wall(), func(r *register.Found) bool {
			for _, d := range r.Record.Detail {
				told = told || d == c.detail
			}
			return true
		}))
		if !told {
			t.Errorf("%s: no record has %v", c.body, c.detail)
		}
	}
}

func TestExtractWithoutEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.do(request{method: "POST", path: "/v1/extracts", mailbox: carla, body: `{}`})
	var x extractState
	f.decode(w, "Extract", &x)
	f.produce()
	f.get(carla, x.Href, "Extract", &x)
	if x.State != "refused" || x.Reason != "no-events" || x.Text != "nessun evento" || x.File != nil {
		t.Errorf("%+v", x)
	}
	w = f.do(request{path: x.Href + "/file", mailbox: carla})
	f.wantProblem(w, 404, "extract-refused")
	if !strings.Contains(w.Body.String(), "no-events") {
		t.Errorf("%s", w.Body)
	}
}

func TestAskIsChecked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.submit(1, start, anna, bruno)
	f.set(start.Add(time.Hour))
	for _, c := range []struct {
		body   string
		status int
		name   string
	}{
		{`{"mailbox":"bruno@pec.example"}`, 400, "bad-body"},
		{`{"from":"2026"}`, 400, "bad-body"},
		{`{"from":1}`, 400, "bad-body"},
		{`{"from":"2027-01-01T00:00:00Z"}`, 400, "bad-body"},
		{`{"from":"2026-01-02T00:00:00Z","to":"2026-01-01T00:00:00Z"}`, 400, "bad-body"},
		{`{"message_id":"a\u0000b"}`, 400, "bad-body"},
		{`{"message_id":""}`, 400, "bad-body"},
		{`{"message_id":"` + strings.Repeat("a", 999) + `"}`, 400, "bad-body"},
		{`{"receipt_id":""}`, 400, "bad-body"},
		{`{"counterpart":"nobody"}`, 400, "bad-body"},
		{`{"subject":"!"}`, 400, "bad-body"},
		{`{"kind":"started"}`, 400, "bad-body"},
		{`{"kind":["delivered"]}`, 400, "bad-body"},
		{`{} {}`, 400, "bad-body"},
		{`[]`, 400, "bad-body"},
		{`null`, 400, "bad-body"},
		{`{`, 400, "bad-body"},
		{`{"from":"` + strings.Repeat("0", maxBody) + `"}`, 413, "too-large"},
	} {
		f.wantProblem(f.do(request{method: "POST", path: "/v1/extracts", mailbox: anna, body: c.body}), c.status, c.name)
	}
	// A form that another site lets a browser send is not taken.
	w := f.do(request{method: "POST", path: "/v1/extracts", mailbox: anna, body: `{}`, header: http.Header{"Content-Type": {"text/plain"}}})
	f.wantProblem(w, 415, "media-type")
	for i := range 4 {
		w := f.do(request{method: "POST", path: "/v1/extracts", mailbox: anna, body: `{"to":null}`})
		if i < 3 && w.Code != 202 {
			t.Errorf("request %d: %d %s", i, w.Code, w.Body)
		}
		if i == 3 {
			f.wantProblem(w, 429, "too-many-requests")
		}
	}
}
