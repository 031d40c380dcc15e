package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"testing"
	"time"

	"scripta/register"
	"scripta/register/receipts"
	"scripta/register/record"
	"scripta/tsa/clock"
)

// reproductions returns the records of reproductions about a mailbox.
func (f *fixture) reproductions(mailbox string) (all []*register.Found) {
	f.t.Helper()
	f.must(f.register.Search(f.t.Context(), register.Query{Mailbox: mailbox}, f.wall(), func(x *register.Found) bool {
		if x.Record.Kind == record.ReceiptReproduced {
			all = append(all, x)
		}
		return true
	}))
	return all
}

func TestReceiptsByteForByte(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.submit(1, start, anna, bruno)
	m.deliver(start.Add(time.Minute), bruno)
	f.set(start.AddDate(0, 1, 0))
	n := 0
	for _, c := range []struct {
		mailbox, id, file string
		record            uint64
	}{
		{anna, "acc.1@pec.example", "acceptance-issued-1.eml", 1},
		{anna, m.id(), "enveloped-2.eml", 2},
		{anna, "del.1.0@pec.example", "delivery-issued-5.eml", 5},
		{bruno, m.id(), "enveloped-2.eml", 2}, // it was put into his mailbox
		{bruno, "del.1.0@pec.example", "delivery-issued-5.eml", 5},
	} {
		before := len(f.reproductions(c.mailbox))
		w := f.do(request{path: receiptHref(c.id), mailbox: c.mailbox})
		want := m.bytes[c.id]
		sum := sha256.Sum256(want)
		h := w.Header()
		if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), want) {
			t.Errorf("%s %s: %d, %d bytes of %d", c.mailbox, c.id, w.Code, w.Body.Len(), len(want))
			continue
		}
		etag := `"` + hex.EncodeToString(sum[:]) + `"`
		if h.Get("Content-Type") != "message/rfc822" || h.Get("Content-Disposition") != `attachment; filename="`+c.file+`"` || h.Get("ETag") != etag ||
			h.Get("Content-Length") != fmt.Sprint(len(want)) || h.Get("Scripta-Record") != fmt.Sprint(c.record) {
			t.Errorf("%s %s: %v", c.mailbox, c.id, h)
		}
		got := f.reproductions(c.mailbox)
		if len(got) != before+1 {
			t.Fatalf("%s %s: %d records of reproductions, not %d", c.mailbox, c.id, len(got), before+1)
		}
		last := got[len(got)-1]
		if r := last.Record; fmt.Sprint(last.Index) != h.Get("Scripta-Reproduction") || r.Actor != c.mailbox || !bytes.Equal(r.Digest, sum[:]) || r.MessageID != m.id() ||
			r.Peer.Address == "" || r.Sender != "" || len(r.About) != 0 {
			t.Errorf("%+v", r)
		}
		n++
		// What has the client is not sent again, and not recorded.
		w = f.do(request{path: receiptHref(c.id), mailbox: c.mailbox, header: http.Header{"If-None-Match": {`"other", W/` + etag}}})
		if w.Code != 304 || w.Body.Len() != 0 || len(f.reproductions(c.mailbox)) != before+1 {
			t.Errorf("%s %s: %d for If-None-Match", c.mailbox, c.id, w.Code)
		}
	}
	// Nobody learns of another's reproductions.
	if a, b := len(f.reproductions(anna)), len(f.reproductions(bruno)); a != 3 || b != 2 || n != 5 {
		t.Errorf("%d of anna, %d of bruno", a, b)
	}
	var own timeline
	f.get(anna, "/v1/messages/"+m.id(), "Timeline", &own)
	if last := own.Events[len(own.Events)-1]; last.Kind != "receipt-reproduced" || own.State != stateDelivered || !own.Updated.Equal(start.Add(time.Minute)) {
		t.Errorf("the timeline ends with %+v", last)
	}
}

// A message that cannot be given back whole is not given back, nor recorded.
func TestReceiptsThatCannotBeReproduced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.submit(1, start, anna, bruno)
	f.set(start.Add(time.Hour))
	f.must(f.register.Contents().Remove([16]byte{1}, m.envelope.Month))
	f.wantProblem(f.do(request{path: receiptHref(m.id()), mailbox: anna}), 404, "not-kept")

	other := f.submit(2, start.Add(time.Minute), anna, bruno)
	x := &receipts.Issued{ID: record.MakeID([16]byte{77}, 1, 0), Month: other.envelope.Month, MessageID: "<bad@pec.example>", Prefix: []byte("other bytes")}
	x.Digest, x.Size = sha256.Sum256(x.Prefix), int64(len(x.Prefix))
	f.must(f.register.Receipts().Put(x))
	bad := other.base(record.AcceptanceIssued)
	bad.Generated, bad.Digest, bad.Size = []string{"bad@pec.example"}, bytes.Repeat([]byte{1}, 32), uint64(x.Size)
	f.append([16]byte{77}, bad)
	f.wantProblem(f.do(request{path: "/v1/receipts/bad@pec.example", mailbox: anna}), 500, "internal")

	f.err = fmt.Errorf("%w: secret reason", clock.ErrUntrusted)
	w := f.do(request{path: "/v1/receipts/acc.1@pec.example", mailbox: anna})
	f.wantProblem(w, 503, "unavailable")
	f.wantProblem(f.do(request{method: "POST", path: "/v1/extracts", mailbox: anna, body: "{}"}), 503, "unavailable")
	if bytes.Contains(w.Body.Bytes(), []byte("secret")) {
		t.Errorf("the client is told %s", w.Body)
	}
	if n := len(f.reproductions(anna)); n != 0 {
		t.Errorf("%d records of reproductions", n)
	}
}

// Identifiers of other systems hold all kinds of characters.
func TestIdentifierWithSlash(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const id = `a/b?c#d%2Fe+f&"=;@client.example`
	m := &mail{f: f, n: 9, at: start, from: anna, to: []string{bruno}, bytes: map[string][]byte{}}
	f.must(f.register.Begin(start))
	r := m.issue(1, record.AcceptanceIssued, id, nil, nil)
	r.MessageID = id
	f.append([16]byte{9}, r)
	f.set(start.Add(time.Hour))
	w := f.do(request{path: receiptHref(id), mailbox: anna})
	if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), m.bytes[id]) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	var got timeline
	f.get(anna, messageHref(id), "Timeline", &got)
	if got.ID != id || got.Href != messageHref(id) {
		t.Errorf("%+v", got.message)
	}
}
