package api

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/internal/keys"
	"scripta/mta/pec"
	"scripta/register"
	"scripta/register/record"
)

// correspondence fills three months with messages: odd ones from anna to bruno,
// even ones from bruno to anna and carla. It returns their identifiers in the
// order in which anna's list has them.
func (f *fixture) correspondence() (ids []string) {
	f.t.Helper()
	for n := byte(1); n <= 12; n++ {
		at := start.AddDate(0, 0, 7*int(n))
		if n%2 == 1 {
			m := f.submit(n, at, anna, bruno)
			m.deliver(at.Add(time.Minute), bruno)
			ids = append(ids, m.id())
		} else {
			m := f.submit(n, at, bruno, anna, carla)
			m.deliver(at.Add(time.Minute), anna, carla)
			ids = append(ids, m.id())
		}
	}
	f.set(start.AddDate(0, 3, 0))
	return ids
}

// pages reads a mailbox's whole list, page by page.
func (f *fixture) pages(mailbox string, limit int, filter url.Values) (all []message) {
	f.t.Helper()
	q := url.Values{"limit": {fmt.Sprint(limit)}}
	for k, v := range filter {
		q[k] = v
	}
	for range 1000 {
		var page struct {
			Messages []message
			Next     string
		}
		f.get(mailbox, "/v1/messages?"+q.Encode(), "MessageList", &page)
		if len(page.Messages) > limit {
			f.t.Fatalf("%d messages on a page of %d", len(page.Messages), limit)
		}
		all = append(all, page.Messages...)
		if page.Next == "" {
			return all
		}
		q.Set("cursor", page.Next)
	}
	f.t.Fatal("no end of pages")
	return nil
}

func idsOf(ms []message) (ids []string) {
	for _, m := range ms {
		ids = append(ids, m.ID)
	}
	return ids
}

func TestListMessages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.correspondence()
	for _, limit := range []int{1, 2, 3, 5, 200} {
		if got := idsOf(f.pages(anna, limit, nil)); !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q", limit, got)
		}
	}
	all := f.pages(anna, 50, nil)
	first, second := all[0], all[1]
	if first.Direction != sent || first.State != stateDelivered || first.Sender != anna || first.Subject != "Oggetto 1 è" || first.OriginalID != "orig1@client.example" ||
		len(first.Recipients) != 1 || first.Recipients[0] != (recipient{bruno, true}) || !first.Updated.Equal(first.Time.Add(time.Minute)) {
		t.Errorf("%+v", first)
	}
	if second.Direction != received || second.State != stateDelivered || second.Sender != bruno || !second.Time.Equal(start.AddDate(0, 0, 14).Add(time.Minute)) {
		t.Errorf("%+v", second)
	}
	for _, c := range []struct {
		name    string
		mailbox string
		filter  url.Values
		want    []string
	}{
		{"counterpart", anna, url.Values{"counterpart": {"BRUNO@pec.example"}}, want},
		{"the other recipient is no counterpart", anna, url.Values{"counterpart": {carla}}, nil},
		{"a recipient of a sent one is", bruno, url.Values{"counterpart": {carla}}, []string{want[1], want[3], want[5], want[7], want[9], want[11]}},
		{"from", anna, url.Values{"from": {start.AddDate(0, 0, 78).Format(time.RFC3339)}}, want[11:]},
		{"to", anna, url.Values{"to": {start.AddDate(0, 0, 14).Format(time.RFC3339)}}, want[:1]},
		{"to excludes", anna, url.Values{"to": {start.AddDate(0, 0, 7).Format(time.RFC3339)}}, nil},
		{"period", anna, url.Values{"from": {"2026-11-01T01:00:00+01:00"}, "to": {"2026-12-01T00:00:00Z"}}, want[3:8]},
		{"before all", anna, url.Values{"to": {"0001-02-03T00:00:00Z"}}, nil},
		{"after all", anna, url.Values{"from": {"9999-01-01T00:00:00Z"}}, nil},
		{"another case", "Anna@Pec.Example", nil, want},
		{"subject", anna, url.Values{"subject": {"OGGÈTTO 10"}}, want[9:10]},
		{"a part of a word", anna, url.Values{"subject": {"ogget"}}, nil},
		{"another's subject", carla, url.Values{"subject": {"oggetto 11"}}, nil},
		{"message id", anna, url.Values{"message_id": {want[4]}}, want[4:5]},
		{"original id", anna, url.Values{"message_id": {"<orig5@client.example>"}}, want[4:5]},
		{"another's message", carla, url.Values{"message_id": {want[4]}}, nil},
		{"a receipt is no message", anna, url.Values{"message_id": {"acc.1@pec.example"}}, nil},
		{"receipt", anna, url.Values{"receipt_id": {"<acc.1@pec.example>"}}, want[:1]},
		{"another's receipt", carla, url.Values{"receipt_id": {"acc.2@pec.example"}}, nil},
		{"kind", anna, url.Values{"kind": {"submitted"}}, []string{want[0], want[2], want[4], want[6], want[8], want[10]}},
		{"kind of no event", anna, url.Values{"kind": {"bounced"}}, nil},
		{"all together, a word too many", anna, url.Values{"kind": {"delivered"}, "counterpart": {bruno}, "subject": {"altro oggetto"}, "message_id": {want[3]}, "from": {start.Format(time.RFC3339)}}, nil},
		{"all together, one letter does not count", anna, url.Values{"kind": {"delivered"}, "counterpart": {bruno}, "subject": {"x oggetto"}, "message_id": {want[3]}, "from": {start.Format(time.RFC3339)}}, want[3:4]},
		{"recipient only", carla, nil, []string{want[1], want[3], want[5], want[7], want[9], want[11]}},
		{"nobody", "dario@pec.example", nil, nil},
	} {
		for _, limit := range []int{1, 4, 50} {
			if got := idsOf(f.pages(c.mailbox, limit, c.filter)); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		}
	}
}

// A transaction that read the clock before the turn of a month may be recorded
// after one that read it later: neither page may lose or repeat a message.
func TestPagesOverTheTurnOfAMonth(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	turn := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	var want []string
	var late []string
	for n := byte(1); n <= 8; n++ {
		at := turn.Add(-time.Second * time.Duration(n))
		if n%2 == 0 {
			at = turn.Add(time.Second * time.Duration(n))
		}
		m := f.submit(n, at, anna, bruno)
		if n%2 == 0 {
			late = append(late, m.id())
		} else {
			want = append(want, m.id())
		}
	}
	want = append(want, late...)
	f.set(turn.Add(time.Hour))
	for limit := 1; limit <= 9; limit++ {
		if got := idsOf(f.pages(anna, limit, nil)); !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q, want %q", limit, got, want)
		}
	}
}

// A message is listed at its first event of the period only, though its last
// events come months after and on another page.
func TestMessageIsListedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	long := f.submit(1, start, anna, bruno)
	for n := byte(2); n <= 5; n++ {
		f.submit(n, start.Add(time.Duration(n)*time.Minute), anna, bruno)
	}
	f.must(f.register.Begin(start.AddDate(0, 1, 0)))
	long.deliver(start.AddDate(0, 2, 0), bruno)
	f.set(start.AddDate(0, 2, 1))
	for limit := 1; limit <= 6; limit++ {
		got := f.pages(anna, limit, nil)
		if len(got) != 5 || got[0].ID != long.id() || got[0].State != stateDelivered || got[1].State != stateAccepted {
			t.Errorf("pages of %d: %+v", limit, got)
		}
	}
	got := f.pages(anna, 2, url.Values{"from": {start.AddDate(0, 1, 0).Format(time.RFC3339)}})
	if len(got) != 1 || got[0].ID != long.id() || !got[0].Time.Equal(start) {
		t.Errorf("by its last events: %+v", got)
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	add := func(m *mail, kind record.Kind, about ...string) {
		m.at = m.at.Add(time.Second)
		f.append([16]byte{m.n, byte(kind), byte(len(about))}, m.base(kind, about...))
	}
	build := map[string]func(m *mail){
		stateAccepted:        func(*mail) {},
		stateNotAccepted:     func(m *mail) { add(m, record.NonAcceptanceIssued) },
		stateInTransit:       func(m *mail) { add(m, record.Received, m.to...) },
		stateDelivered:       func(m *mail) { m.deliver(m.at, m.to...) },
		statePartlyDelivered: func(m *mail) { add(m, record.Delivered, bruno); add(m, record.NonDeliveryIssued, carla) },
		stateNotDelivered:    func(m *mail) { add(m, record.NonDeliveryIssued, bruno); add(m, record.NonDeliveryIssued, carla, carla) },
	}
	n := byte(0)
	for want, events := range build {
		n++
		m := f.submit(n, start.Add(time.Duration(n)*time.Hour), anna, bruno, carla)
		events(m)
		f.set(start.AddDate(0, 0, 1))
		var got timeline
		f.get(anna, "/v1/messages/"+m.id(), "Timeline", &got)
		if got.State != want {
			t.Errorf("%s is called %s", want, got.State)
		}
	}
	// Of a received message the mailbox alone counts.
	m := f.submit(50, start.Add(30*time.Hour), anna, bruno, carla)
	add(m, record.Delivered, bruno)
	add(m, record.Received, bruno, carla)
	f.set(start.AddDate(0, 0, 2))
	for mailbox, want := range map[string]string{anna: statePartlyDelivered, bruno: stateDelivered, carla: stateInTransit} {
		var got timeline
		f.get(mailbox, "/v1/messages/"+m.id(), "Timeline", &got)
		if got.State != want {
			t.Errorf("%s sees %s, not %s", mailbox, got.State, want)
		}
	}
	m = f.submit(51, start.Add(60*time.Hour), anna, anna)
	m.deliver(m.at, anna)
	f.set(start.AddDate(0, 0, 3))
	var got timeline
	f.get(anna, "/v1/messages/"+m.id(), "Timeline", &got)
	if got.Direction != toSelf || got.State != stateDelivered {
		t.Errorf("to oneself: %+v", got.message)
	}
}

// Of recipients of other providers the receipts that come back tell, of ordinary
// ones what their mail server answered.
func TestStatesElsewhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	envelope, charge, delivery, failure := pec.TransportEnvelope.String(), pec.TakeCharge.String(), pec.Delivery.String(), pec.NonDelivery.String()
	type event struct {
		kind  record.Kind
		typ   string
		about string
	}
	for n, x := range []struct {
		want   string
		events []event
	}{
		{stateInTransit, []event{{record.Relayed, envelope, bruno}, {record.NotificationReceived, charge, bruno}}},
		{stateDelivered, []event{{record.Relayed, envelope, bruno}, {record.NotificationReceived, delivery, bruno}}},
		{stateNotDelivered, []event{{record.Relayed, envelope, bruno}, {record.NotificationReceived, failure, bruno}}},
		{stateNotDelivered, []event{{record.Bounced, envelope, bruno}, {record.NonDeliveryIssued, "", bruno}}},
		{stateNotDelivered, []event{{record.TimeoutNoticeIssued, "", bruno}}},
		{stateDelivered, []event{{record.TimeoutNoticeIssued, "", bruno}, {record.NotificationReceived, delivery, bruno}}},
		{stateAccepted, []event{{record.Bounced, delivery, bruno}}}, // a receipt, not the message
	} {
		m := f.submit(byte(n+1), start.Add(time.Duration(n)*time.Hour), anna, bruno)
		for i, e := range x.events {
			m.at = m.at.Add(time.Second)
			r := m.base(e.kind, e.about)
			if e.typ != "" {
				r.Detail = record.SortDetail(append(r.Detail, record.Pair{Name: "type", Value: e.typ}))
			}
			f.append([16]byte{m.n, byte(e.kind), byte(i), 1}, r)
		}
		f.set(start.AddDate(0, 0, 1))
		var got timeline
		f.get(anna, "/v1/messages/"+m.id(), "Timeline", &got)
		if got.State != x.want {
			t.Errorf("%v: %s, not %s", x.events, got.State, x.want)
		}
	}
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.submit(1, start, anna, bruno, carla)
	m.deliver(start.Add(time.Minute), bruno)
	f.set(start.Add(time.Hour))
	var own, other timeline
	f.get(anna, "/v1/messages/"+url.PathEscape(m.id()), "Timeline", &own)
	f.get(bruno, "/v1/messages/"+m.id(), "Timeline", &other)
	kinds := func(t timeline) (s []string) {
		for _, e := range t.Events {
			s = append(s, e.Kind)
		}
		return s
	}
	if got := strings.Join(kinds(own), " "); got != "submitted acceptance-issued enveloped received delivered delivery-issued" {
		t.Errorf("the sender sees %s", got)
	}
	if got := strings.Join(kinds(other), " "); got != "received delivered delivery-issued" {
		t.Errorf("the recipient sees %s", got)
	}
	submitted := own.Events[0]
	if submitted.Actor != anna || submitted.Peer == nil || submitted.Peer.Address != "192.0.2.7:4711" || submitted.Detail["clock"] == "" || len(submitted.Leaf) != 68 {
		t.Errorf("%+v", submitted)
	}
	for i, want := range []string{"", "acc.1@pec.example", m.id(), "", m.id(), "del.1.0@pec.example"} {
		e := own.Events[i]
		if (e.Receipt == nil) != (want == "") || want != "" && (e.Receipt.ID != want || e.Receipt.Href != receiptHref(want)) {
			t.Errorf("event %s leads to %+v, not %s", e.Kind, e.Receipt, want)
		}
	}
	leaves, err := f.log.Leaves(t.Context(), submitted.Index, 1)
	f.must(err)
	if fmt.Sprintf("%x", leaves[0].Value) != submitted.Leaf {
		t.Error("the leaf is not the log's")
	}
}

// Nobody sees a message in which he has no part, nor who caused what another did.
func TestOtherMailboxes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.submit(1, start, anna, bruno)
	m.deliver(start.Add(time.Minute), bruno)
	placed := m.base(record.HoldPlaced, bruno)
	placed.Actor, placed.Peer = "officer@pec.example", record.Peer{Address: "198.51.100.9:1"}
	f.append([16]byte{99}, placed)
	f.set(start.Add(time.Hour))
	for _, mailbox := range []string{carla, "anna@pec.example.example", "posta-certificata@pec.example"} {
		for _, path := range []string{"/v1/messages/" + m.id(), "/v1/messages/orig1@client.example", "/v1/receipts/" + m.id(), "/v1/receipts/acc.1@pec.example", "/v1/receipts/del.1.0@pec.example"} {
			w := f.do(request{path: path, mailbox: mailbox})
			if w.Code == 401 && mailbox == "anna@pec.example.example" {
				continue
			}
			f.wantProblem(w, 404, "not-found")
		}
	}
	// Neither does it matter who asks for what is not there at all.
	f.wantProblem(f.do(request{path: "/v1/messages/none@pec.example", mailbox: anna}), 404, "not-found")
	// The recipient cannot have the sender's acceptance.
	f.wantProblem(f.do(request{path: "/v1/receipts/acc.1@pec.example", mailbox: bruno}), 404, "not-found")
	var seen timeline
	f.get(bruno, "/v1/messages/"+m.id(), "Timeline", &seen)
	for _, e := range seen.Events {
		if e.Actor != "" || e.Peer != nil {
			t.Errorf("%s shows actor %q and peer %+v", e.Kind, e.Actor, e.Peer)
		}
	}
	if w := f.do(request{path: "/v1/messages/" + m.id(), mailbox: bruno}); strings.Contains(w.Body.String(), "officer") || strings.Contains(w.Body.String(), "192.0.2.7") || strings.Contains(w.Body.String(), "198.51.100.9") {
		t.Errorf("it leaks: %s", w.Body)
	}
}

func TestPosition(t *testing.T) {
	t.Parallel()
	p := position{uint16(keys.MonthOf(start)), 1 << 40}
	if got, err := parsePosition(p.String()); err != nil || got != p {
		t.Errorf("%v, %v", got, err)
	}
}

func FuzzMessageQuery(f *testing.F) {
	for _, s := range []string{"", "from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00%2B01:00", "counterpart=A%40b.it&limit=7", "cursor=" + position{24318, 99}.String(),
		"cursor=AF7-AAAAAAAAAGM=", "limit=007", "limit=1&limit=2", "from=0000-01-01T00:00:00Z", "%zz", "a;b", "counterpart=%00@", "to=+1",
		"subject=perch%C3%A9+no&kind=delivered&message_id=%3Ca@b%3E&receipt_id=c@d", "subject=%ff%fe", "kind=Delivered"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseMessageQuery(raw)
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) || len(err.Error()) > 300 {
				t.Fatalf("the message repeats what was sent: %q", err)
			}
			return
		}
		if q.limit < 1 || q.limit > maxLimit || len(q.Counterpart) > maxAddress || strings.ContainsAny(q.Counterpart, "\x00\r\n ") {
			t.Fatalf("%+v", q)
		}
		if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
			t.Fatalf("%+v", q)
		}
		q.Mailbox = "anna@pec.example"
		if _, err := register.NewMatcher(q.Query); err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if q.after != nil {
			if again, err := parsePosition(q.after.String()); err != nil || again != *q.after {
				t.Fatalf("%v becomes %v (%v)", *q.after, again, err)
			}
		}
	})
}
