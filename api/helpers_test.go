package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/cms"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/register"
	"scripta/register/calendar"
	"scripta/register/extract"
	"scripta/register/receipts"
	"scripta/register/record"
	"scripta/register/stamps"
	"scripta/tsa"
)

const (
	anna  = "anna@pec.example"
	bruno = "bruno@pec.example"
	carla = "carla@pec.example"
)

var start = time.Date(2026, 10, 5, 9, 0, 0, 0, time.UTC)

// passwords is an Authenticator: a mailbox's password is its local part and "-pw".
type passwords struct{ calls atomic.Int64 }

func (p *passwords) Verify(_ context.Context, login, password string) (bool, error) {
	p.calls.Add(1)
	local, domain, _ := strings.Cut(strings.ToLower(login), "@")
	return domain == "pec.example" && password == local+"-pw", nil
}

// quickstart has the keys that all tests sign with.
var quickstart = sync.OnceValues(func() (*keys.Quickstart, error) {
	return keys.NewQuickstart(keys.QuickstartConfig{Domain: "pec.example", Provider: "Prova", LogID: "0001", Now: start})
})

// fixture is an API over a real register in a temporary folder.
type fixture struct {
	*API
	t        *testing.T
	dir      string
	log      *merkle.Log
	register *register.Register
	months   *keys.Months
	extract  *extract.Extractor
	requests *extract.Requests
	stamps   *stamps.Store
	auth     *passwords
	logged   *bytes.Buffer // above debug level

	mu  sync.Mutex
	now time.Time
	err error // of the clock
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), now: start, auth: &passwords{}, logged: &bytes.Buffer{}}
	q, err := quickstart()
	f.must(err)
	f.months, err = keys.CreateMonths(durable.OS, filepath.Join(f.dir, "months"), filepath.Join(f.dir, "master"))
	f.must(err)
	signer, err := note.NewSigner(q.LogSigner)
	f.must(err)
	verifier, err := note.NewVerifier(q.LogVerifier)
	f.must(err)
	quiet := slog.New(slog.DiscardHandler)
	f.log, err = merkle.Open(t.Context(), merkle.Options{Dir: filepath.Join(f.dir, "log"), Origin: signer.Name(), Signer: signer, Verifier: verifier, Logger: quiet, MinFree: 1 << 20})
	f.must(err)
	f.register, err = register.Open(t.Context(), register.Options{Dir: filepath.Join(f.dir, "register"), FS: durable.OS, Origin: f.log.Origin(), Log: f.log,
		Months: f.months, Samples: [][]byte{bytes.Repeat([]byte("Content-Type: multipart/signed\r\n"), 10)}, Logger: quiet})
	f.must(err)
	t.Cleanup(func() {
		if err := errors.Join(f.register.Close(), f.log.Close()); err != nil {
			t.Error(err)
		}
	})
	roots := x509.NewCertPool()
	roots.AddCert(q.TSAAuthority.Certificate)
	f.stamps, err = stamps.Open(durable.OS, filepath.Join(f.dir, "stamps"), verifier, roots)
	f.must(err)
	sign, err := cms.NewSigner(q.PEC.Key, q.PEC.Certificate)
	f.must(err)
	f.extract = extract.New(extract.Options{Register: f.register, Stamps: f.stamps, Signer: sign, Provider: "Prova", Logger: quiet})
	f.openRequests()
	f.API, err = New(Options{Domain: "pec.example", Provider: "Prova <SpA>", LogKey: q.LogVerifier, Register: f.register, Requests: f.requests, Stamps: f.stamps,
		Log: f.log.Handler(), Auth: f.auth, Now: f.clock, Wall: f.wall, Logger: slog.New(slog.NewTextHandler(f.logged, nil))})
	f.must(err)
	return f
}

// stamp stamps a checkpoint and returns the reply.
func (f *fixture) stamp(cp *checkpoint.Signed) []byte {
	f.t.Helper()
	q, err := quickstart()
	f.must(err)
	authority, err := tsa.NewAuthority(tsa.AuthorityConfig{Key: q.TSU.Key, Certificate: q.TSU.Certificate, Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1},
		Now: func() (time.Time, error) { return start, nil }})
	f.must(err)
	srv := httptest.NewServer(authority)
	defer srv.Close()
	nonce, err := tsa.NewNonce()
	f.must(err)
	r, err := (&tsa.Client{URL: srv.URL}).Stamp(f.t.Context(), sha256.Sum256(cp.Stamped()), nonce)
	f.must(err)
	st, err := f.stamps.Verify(cp, r.Reply, tsa.Check{Nonce: nonce})
	f.must(err)
	f.must(f.stamps.Put(st, r.Request))
	return r.Reply
}

// openRequests opens the requests for extracts as a restart does.
func (f *fixture) openRequests() {
	f.t.Helper()
	r, err := extract.OpenRequests(extract.RequestOptions{Dir: filepath.Join(f.dir, "extracts"), FS: durable.OS, Months: f.months, Register: f.register,
		Calendar: &calendar.Calendar{}, Write: f.extract.Write, Now: f.clock, Logger: slog.New(slog.DiscardHandler)})
	f.must(err)
	f.requests = r
	if f.API != nil {
		f.o.Requests = r
	}
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) clock() (time.Time, []record.Pair, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(time.Second)
	return f.now, []record.Pair{{Name: "clock", Value: "time not traceable: unknown"}}, f.err
}

func (f *fixture) wall() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fixture) set(t time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = t
}

// append appends records under the ids of one transaction.
func (f *fixture) append(tx [16]byte, recs ...*record.Record) []register.Appended {
	f.t.Helper()
	var entries []register.Entry
	for i, r := range recs {
		f.must(f.register.Begin(r.Time))
		entries = append(entries, register.Entry{ID: record.MakeID(tx, uint16(i+1), 0), Record: r})
	}
	at, err := f.register.Append(f.t.Context(), entries...)
	f.must(err)
	return at
}

// mail is a message on its way through the register, as package mta writes it.
type mail struct {
	f        *fixture
	n        byte
	at       time.Time
	from     string
	to       []string
	envelope *receipts.Issued
	bytes    map[string][]byte // by Message-ID: what was issued
}

func (m *mail) id() string       { return fmt.Sprintf("opec.%d@pec.example", m.n) }
func (m *mail) original() string { return fmt.Sprintf("<orig%d@client.example>", m.n) }

// base is what all records of the message say.
func (m *mail) base(kind record.Kind, about ...string) *record.Record {
	r := &record.Record{Kind: kind, Time: m.at, MessageID: m.id(), OriginalID: m.original(), Sender: m.from, Subject: fmt.Sprintf("Oggetto %d è", m.n),
		Provider: "Prova", About: about, Detail: []record.Pair{{Name: "clock", Value: "time not traceable: unknown"}}}
	for _, a := range m.to {
		r.Recipients = append(r.Recipients, record.Recipient{Address: a, Certified: true})
	}
	return r
}

// issue stores a message of the provider and returns its record.
func (m *mail) issue(step uint16, kind record.Kind, id string, in *receipts.Included, content []byte, about ...string) *record.Record {
	x := &receipts.Issued{ID: record.MakeID([16]byte{m.n}, step, 0), Month: uint16(keys.MonthOf(m.at)), MessageID: "<" + id + ">",
		Prefix: []byte("Message-ID: <" + id + ">\r\n\r\n--a\r\n"), Suffix: []byte("\r\n--a--\r\n"), Included: in}
	whole := append(append(bytes.Clone(x.Prefix), content...), x.Suffix...)
	x.Digest, x.Size = sha256.Sum256(whole), int64(len(whole))
	m.f.must(m.f.register.Receipts().Put(x))
	m.bytes[id] = whole
	if kind == record.Enveloped {
		m.envelope = x
	}
	r := m.base(kind, about...)
	r.Generated, r.Digest, r.Size = []string{id}, x.Digest[:], uint64(x.Size)
	return r
}

// submit takes a message and, unless refused, wraps it.
func (f *fixture) submit(n byte, at time.Time, from string, to ...string) *mail {
	f.t.Helper()
	m := &mail{f: f, n: n, at: at, from: from, to: to, bytes: map[string][]byte{}}
	f.must(f.register.Begin(at))
	content := []byte(strings.Repeat(fmt.Sprintf("Message-ID: %s\r\n", m.original()), 5000))
	month := uint16(keys.MonthOf(at))
	w, err := f.register.Contents().Create([16]byte{n}, month)
	f.must(err)
	_, err = w.Write(content)
	f.must(err)
	f.must(w.Commit())
	submitted := m.base(record.Submitted)
	submitted.Actor, submitted.Peer = from, record.Peer{Address: "192.0.2.7:4711", TLS: "TLS 1.3"}
	acceptance := m.issue(2, record.AcceptanceIssued, fmt.Sprintf("acc.%d@pec.example", n), nil, nil)
	envelope := m.issue(3, record.Enveloped, m.id(), &receipts.Included{Source: receipts.Source{ID: record.MakeID([16]byte{n}, 0, 0), Month: month}, Length: int64(len(content))}, content)
	f.append([16]byte{n}, submitted, acceptance, envelope)
	return m
}

// deliver puts the message into the mailboxes of some of its recipients at a
// time, and tells the sender.
func (m *mail) deliver(at time.Time, to ...string) {
	m.f.t.Helper()
	m.at = at
	recs := []*record.Record{m.base(record.Received, m.to...)}
	for i, a := range to {
		d := m.base(record.Delivered, a)
		d.Digest, d.Size = m.envelope.Digest[:], uint64(m.envelope.Size)
		content := m.bytes[m.id()][len(m.envelope.Prefix) : len(m.bytes[m.id()])-len(m.envelope.Suffix)]
		r := m.issue(uint16(100+i), record.DeliveryIssued, fmt.Sprintf("del.%d.%d@pec.example", m.n, i),
			&receipts.Included{Source: receipts.Source{Issued: true, ID: m.envelope.ID}, Offset: int64(len(m.envelope.Prefix)), Length: int64(len(content))}, content, a)
		recs = append(recs, d, r)
	}
	m.appendAs(recs...)
}

// appendAs gives issued messages the ids that they are stored under.
func (m *mail) appendAs(recs ...*record.Record) {
	m.f.t.Helper()
	var entries []register.Entry
	deliveries := uint16(0)
	for i, r := range recs {
		m.f.must(m.f.register.Begin(r.Time))
		id := record.MakeID([16]byte{m.n}, uint16(10+i), uint32(len(recs)))
		if r.Kind == record.DeliveryIssued {
			id = record.MakeID([16]byte{m.n}, 100+deliveries, 0)
			deliveries++
		}
		entries = append(entries, register.Entry{ID: id, Record: r})
	}
	_, err := m.f.register.Append(m.f.t.Context(), entries...)
	m.f.must(err)
}

// request is one request to the API.
type request struct {
	method, path, mailbox, password, body string
	header                                http.Header
	remote                                string
	plain                                 bool // without TLS
}

func (f *fixture) do(r request) *httptest.ResponseRecorder {
	f.t.Helper()
	if r.method == "" {
		r.method = http.MethodGet
	}
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req := httptest.NewRequest(r.method, "https://pec.example"+r.path, body)
	if r.plain {
		req.TLS = nil
	} else {
		req.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
	}
	if r.remote != "" {
		req.RemoteAddr = r.remote
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if r.mailbox != "" {
		if r.password == "" {
			local, _, _ := strings.Cut(r.mailbox, "@")
			r.password = strings.ToLower(local) + "-pw"
		}
		req.SetBasicAuth(r.mailbox, r.password)
	}
	w := httptest.NewRecorder()
	f.Handler().ServeHTTP(w, req)
	return w
}

// get asks for a path as a mailbox and decodes the JSON answer into v, which must
// have the schema that the description gives it.
func (f *fixture) get(mailbox, path, schema string, v any) {
	f.t.Helper()
	w := f.do(request{path: path, mailbox: mailbox})
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		f.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	f.decode(w, schema, v)
}

func (f *fixture) decode(w *httptest.ResponseRecorder, schema string, v any) {
	f.t.Helper()
	checkSchema(f.t, schema, w.Body.Bytes())
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		f.t.Fatal(err)
	}
}

// wantProblem checks that an answer is a problem of a type.
func (f *fixture) wantProblem(w *httptest.ResponseRecorder, status int, name string) {
	f.t.Helper()
	if w.Code != status || w.Header().Get("Content-Type") != "application/problem+json" {
		f.t.Errorf("%d %s %s, want %d %s", w.Code, w.Header().Get("Content-Type"), w.Body, status, name)
		return
	}
	var p problem
	f.decode(w, "Problem", &p)
	if p.Type != problemPrefix+name || p.Status != status || p.Request == "" || p.Request != w.Header().Get("X-Request-Id") {
		f.t.Errorf("problem %+v, want %s", p, name)
	}
}
