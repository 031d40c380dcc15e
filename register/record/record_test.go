package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the test vectors anew")

func sample() *Record {
	digest := sha256.Sum256([]byte("message"))
	content := sha256.Sum256([]byte("content"))
	return &Record{
		Kind: DeliveryIssued, Time: time.UnixMilli(1795420800123).UTC(),
		MessageID: "scripta.20261123090000.00ff@pec.example", OriginalID: "<1@client.example>",
		Sender:     "mario@pec.example",
		Recipients: []Recipient{{"lucia@pec.example", true}, {"ufficio@example.org", false}},
		Subject:    "Prova è \"così\"", About: []string{"lucia@pec.example"},
		Generated: []string{"scripta.20261123090000.00ff.9@pec.example"}, Provider: "Esempio PEC", ReceiptType: "completa",
		Outcome: Outcome{"2.0.0", "consegnato"}, Digest: digest[:], Content: content[:], Size: 10240,
		Peer:  Peer{"192.0.2.1:4000", "TLS 1.3", "TLS_AES_128_GCM_SHA256", nil},
		Actor: "mario@pec.example", Detail: []Pair{{"clock", "untraceable"}, {"note", ""}},
	}
}

func testNonce() (n Nonce) {
	for i := range n {
		n[i] = byte(i)
	}
	return n
}

func TestFieldsRoundTrip(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]*Record{
		"full": sample(), "least": {Kind: Started, Time: time.UnixMilli(0).UTC()},
	} {
		f, err := want.Fields()
		if err != nil {
			t.Fatal(err)
		}
		b := f.AppendTo(nil)
		if f.Size() != len(b) {
			t.Errorf("size %d, encoded in %d bytes", f.Size(), len(b))
		}
		g, err := ParseFields(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := g.Record()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: got %+v, want %+v (%v)", name, got, want, err)
		}
		if g.Commit(testNonce(), want.Kind.Class()) != f.Commit(testNonce(), want.Kind.Class()) {
			t.Fatalf("%s: another leaf after decoding", name)
		}
	}
}

func TestFieldsRefuse(t *testing.T) {
	t.Parallel()
	bad := sample()
	bad.Detail = []Pair{{"b", ""}, {"a", ""}}
	if _, err := bad.Fields(); err == nil {
		t.Error("details out of order accepted")
	}
	bad = sample()
	bad.Digest = []byte{1}
	if _, err := bad.Fields(); err == nil {
		t.Error("digest of one byte accepted")
	}
	f, _ := sample().Fields()
	b := f.AppendTo(nil)
	for cut := 1; cut < len(b); cut++ {
		if g, err := ParseFields(b[:cut]); err == nil {
			if g.Commit(testNonce(), Personal) == f.Commit(testNonce(), Personal) {
				t.Fatalf("cut at %d gives the same leaf", cut)
			}
		}
	}
	if _, err := ParseFields(append(bytes.Clone(b), 1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("trailing byte: %v", err)
	}
}

// Every way to choose what is shown commits to the same leaf, and changing any
// shown value, salt or digest gives another.
func TestDisclosure(t *testing.T) {
	t.Parallel()
	f, err := sample().Fields()
	if err != nil {
		t.Fatal(err)
	}
	want := f.Commit(testNonce(), Personal)
	for hidden := Field(0); hidden <= NumFields; hidden++ {
		d := f.Disclose(testNonce(), Personal, func(i Field) bool { return i != hidden })
		if got, err := d.Leaf(); err != nil || got != want {
			t.Fatalf("%v hidden: leaf %x, %v", hidden, got, err)
		}
	}
	d := f.Disclose(testNonce(), Personal, func(i Field) bool { return i != FieldPeer })
	r, err := d.Shown()
	if err != nil || r.Peer.Address != "" || r.Subject != sample().Subject {
		t.Fatalf("shown: %+v, %v", r, err)
	}
	change := func(what string, edit func(d *Disclosure)) {
		d := f.Disclose(testNonce(), Personal, func(i Field) bool { return i != FieldPeer })
		edit(d)
		if got, err := d.Leaf(); err == nil && got == want {
			t.Errorf("%s changed, leaf did not", what)
		}
	}
	change("value", func(d *Disclosure) { d.Fields[FieldSender].Value = []byte("x") })
	change("salt", func(d *Disclosure) { d.Fields[FieldSender].Salt[0]++ })
	change("hidden digest", func(d *Disclosure) { d.Fields[FieldPeer].Digest[31]++ })
	change("element", func(d *Disclosure) { d.Fields[FieldRecipients].Elements[1].Value = []byte("x") })
	change("elements' order", func(d *Disclosure) {
		e := d.Fields[FieldRecipients].Elements
		e[0], e[1] = e[1], e[0]
	})
	change("number of elements", func(d *Disclosure) {
		d.Fields[FieldRecipients].Elements = d.Fields[FieldRecipients].Elements[:1]
	})
	change("class", func(d *Disclosure) { d.Class = Service })
}

func TestSealed(t *testing.T) {
	t.Parallel()
	key, other := &[32]byte{1}, &[32]byte{2}
	f, _ := sample().Fields()
	id := MakeID([16]byte{9}, 3, 4)
	nonce := NewNonce(key, "pec.example/scripta/1", id)
	leaf := f.Commit(nonce, Personal)
	s := Seal(key, "pec.example/scripta/1", 24322, leaf, id, nonce, f)
	if m, err := s.Month(); err != nil || m != 24322 {
		t.Fatalf("Month = %d, %v", m, err)
	}
	o, err := s.Open(key, "pec.example/scripta/1", leaf)
	if err != nil || o.ID != id || o.Nonce != nonce {
		t.Fatalf("Open: %v, %v", o, err)
	}
	if _, err := s.Open(other, "pec.example/scripta/1", leaf); err == nil {
		t.Error("opened with another key")
	}
	if _, err := s.Open(key, "other.example/scripta/1", leaf); err == nil {
		t.Error("opened under another origin")
	}
	leaf[5]++
	if _, err := s.Open(key, "pec.example/scripta/1", leaf); err == nil {
		t.Error("opened beside another leaf")
	}
}

// vector is one test vector of docs/format.md; testdata/verify_evidence.py
// recomputes the same file.
type vector struct {
	Origin   string            `json:"origin"`
	NonceKey string            `json:"nonce_key"`
	ID       string            `json:"record_id"`
	Nonce    string            `json:"nonce"`
	Identity string            `json:"identity"`
	Class    byte              `json:"class"`
	Fields   map[string]any    `json:"fields"` // hex, or a list of hex
	Digests  map[string]string `json:"digests"`
	Encoding string            `json:"encoding"`
	Leaf     string            `json:"leaf"`
}

func makeVector(r *Record) vector {
	key := &[32]byte{}
	for i := range key {
		key[i] = byte(0xa0 + i)
	}
	origin := "pec.example/scripta/0f1e2d3c"
	id := MakeID([16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, 7, 2)
	n := NewNonce(key, origin, id)
	f, err := r.Fields()
	if err != nil {
		panic(err)
	}
	identity := Identity(id)
	leaf := f.Commit(n, r.Kind.Class())
	v := vector{Origin: origin, NonceKey: hex.EncodeToString(key[:]), ID: id.String(), Nonce: hex.EncodeToString(n[:]),
		Identity: hex.EncodeToString(identity[:]), Class: byte(r.Kind.Class()), Fields: map[string]any{}, Digests: map[string]string{},
		Encoding: hex.EncodeToString(f.AppendTo(nil)), Leaf: hex.EncodeToString(leaf[:])}
	hidden := f.Disclose(n, r.Kind.Class(), func(Field) bool { return false })
	for i := Field(1); i <= NumFields; i++ {
		v.Digests[i.String()] = hex.EncodeToString(hidden.Fields[i].Digest[:])
		if i.IsList() {
			list := []any{}
			for _, e := range f.List(i) {
				list = append(list, hex.EncodeToString(e))
			}
			v.Fields[i.String()] = list
		} else {
			v.Fields[i.String()] = hex.EncodeToString(f.Scalar(i))
		}
	}
	return v
}

// The vectors are written once; a change in them is a change of the format that
// can never change.
func TestVectors(t *testing.T) {
	t.Parallel()
	name := filepath.Join("..", "..", "testdata", "vectors", "record.json")
	got, err := json.MarshalIndent([]vector{makeVector(sample()), makeVector(&Record{Kind: Started, Time: time.UnixMilli(1795420800123)})}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("the record format gives other values than %s", name)
	}
}

func FuzzParseFields(f *testing.F) {
	g, _ := sample().Fields()
	f.Add(g.AppendTo(nil))
	f.Add([]byte{1, 0, 0, 0, 2, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseFields(b)
		if err != nil {
			return
		}
		if !bytes.Equal(x.AppendTo(nil), b) {
			t.Fatal("decoding and encoding gives other bytes")
		}
		_, _ = x.Record()
	})
}

func BenchmarkCommitAndSeal(b *testing.B) {
	key := &[32]byte{1}
	r := sample()
	id := MakeID([16]byte{9}, 3, 4)
	b.ReportAllocs()
	for b.Loop() {
		f, _ := r.Fields()
		n := NewNonce(key, "pec.example/scripta/1", id)
		leaf := f.Commit(n, Personal)
		_ = Seal(key, "pec.example/scripta/1", 24322, leaf, id, n, f)
	}
}

// What a record is found under is each value once, in order, however many there are.
func TestMailboxesAndIdentifiers(t *testing.T) {
	t.Parallel()
	r := &Record{Sender: "A@x", Actor: "a@X", About: []string{"b@x", "", "B@x", "a@x"}, MessageID: "1@x", OriginalID: "<2@x>", Generated: []string{"<1@x>", "3@x"}}
	if got := r.Mailboxes(); !slices.Equal(got, []string{"a@x", "b@x"}) {
		t.Errorf("mailboxes %q", got)
	}
	if got := r.Identifiers(); !slices.Equal(got, []string{"1@x", "2@x", "3@x"}) {
		t.Errorf("identifiers %q", got)
	}
	many := &Record{Sender: "0@x"}
	for i := range 3000 {
		many.About = append(many.About, fmt.Sprintf("%d@X", i%1000))
	}
	if got := many.Mailboxes(); len(got) != 1000 || got[0] != "0@x" || got[999] != "999@x" {
		t.Errorf("%d mailboxes", len(got))
	}
	if got := new(Record).Mailboxes(); len(got) != 0 {
		t.Errorf("an empty record has mailboxes %q", got)
	}
}
