package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register"
	"scripta/register/receipts"
	"scripta/register/record"
	"scripta/register/stamps"
)

var start = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

var quickstart = sync.OnceValues(func() (*keys.Quickstart, error) {
	return keys.NewQuickstart(keys.QuickstartConfig{Domain: "pec.example", Provider: "Prova", LogID: "0001", Now: start})
})

// fixture is a register in a temporary folder.
type fixture struct {
	t        *testing.T
	dir      string
	log      *merkle.Log
	register *register.Register
	options  Options
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir()}
	q, err := quickstart()
	f.must(err)
	months, err := keys.CreateMonths(durable.OS, filepath.Join(f.dir, "months"), filepath.Join(f.dir, "master"))
	f.must(err)
	signer, err := note.NewSigner(q.LogSigner)
	f.must(err)
	verifier, err := note.NewVerifier(q.LogVerifier)
	f.must(err)
	quiet := slog.New(slog.DiscardHandler)
	f.log, err = merkle.Open(t.Context(), merkle.Options{Dir: filepath.Join(f.dir, "log"), Origin: signer.Name(), Signer: signer, Verifier: verifier, Logger: quiet, MinFree: 1 << 20})
	f.must(err)
	f.register, err = register.Open(t.Context(), register.Options{Dir: f.dir, FS: durable.OS, Origin: f.log.Origin(), Log: f.log, Months: months,
		Samples: [][]byte{bytes.Repeat([]byte("Content-Type: multipart/signed\r\n"), 10)}, Logger: quiet})
	f.must(err)
	t.Cleanup(func() {
		if err := errors.Join(f.register.Close(), f.log.Close()); err != nil {
			t.Error(err)
		}
	})
	store, err := stamps.Open(durable.OS, filepath.Join(f.dir, "stamps"), verifier, x509.NewCertPool())
	f.must(err)
	f.options = Options{Register: f.register, Stamps: store, FS: durable.OS, KeepsContents: true, Logger: quiet, StateFile: filepath.Join(f.dir, "state"),
		Databases: []string{filepath.Join(f.dir, "log", "db"), filepath.Join(f.dir, "absent")}}
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// message submits a message, wraps it and records it; store false leaves the
// envelope out of the receipt store, tell false leaves out its record.
func (f *fixture) message(n int, store, tell bool) *receipts.Issued {
	f.t.Helper()
	tx := sha256.Sum256(fmt.Append(nil, n))
	id := [16]byte(tx[:16])
	content := bytes.Repeat(fmt.Appendf(nil, "line %d\r\n", n), 20)
	f.must(f.register.Begin(start))
	month := uint16(keys.MonthOf(start))
	w, err := f.register.Contents().Create(id, month)
	f.must(err)
	_, err = w.Write(content)
	f.must(err)
	f.must(w.Commit())
	sum := sha256.Sum256(content)
	submitted := &record.Record{Kind: record.Submitted, Time: start, MessageID: fmt.Sprintf("m%d@pec.example", n), Sender: "anna@pec.example", Digest: sum[:], Size: uint64(len(content))}
	x := &receipts.Issued{ID: record.MakeID(id, 4, 0), Month: month, MessageID: fmt.Sprintf("<m%d@pec.example>", n), Prefix: []byte("before"), Suffix: []byte("after"),
		Included: &receipts.Included{Source: receipts.Source{ID: record.MakeID(id, 0, 0), Month: month}, Length: int64(len(content))}}
	whole := slices.Concat(x.Prefix, content, x.Suffix)
	x.Digest, x.Size = sha256.Sum256(whole), int64(len(whole))
	if store {
		f.must(f.register.Receipts().Put(x))
	}
	entries := []register.Entry{{ID: record.MakeID(id, 1, 0), Record: submitted}}
	if tell {
		enveloped := &record.Record{Kind: record.Enveloped, Time: start, MessageID: submitted.MessageID, Sender: submitted.Sender, Generated: []string{submitted.MessageID},
			Digest: x.Digest[:], Content: x.Content[:], Size: uint64(x.Size)}
		entries = append(entries, register.Entry{ID: x.ID, Record: enveloped})
	}
	_, err = f.register.Append(f.t.Context(), entries...)
	f.must(err)
	return x
}

func (f *fixture) run(o Options) *Report {
	f.t.Helper()
	r, err := Run(f.t.Context(), o)
	f.must(err)
	return r
}

// only checks that there are findings which say these things, and no others.
func (f *fixture) only(r *Report, say ...string) {
	f.t.Helper()
	for i, s := range say {
		if i < len(r.Findings) && !strings.Contains(r.Findings[i].String(), s) {
			f.t.Errorf("finding %d does not say %q", i, s)
		}
	}
	if len(r.Findings) != len(say) {
		f.t.Errorf("%d findings", len(r.Findings))
	}
	if f.t.Failed() {
		for _, x := range r.Findings {
			f.t.Log(x)
		}
	}
}

func TestSound(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 300 {
		f.message(i, true, true)
	}
	r := f.run(f.options)
	f.only(r)
	if !r.OK() || r.Leaves != 600 || r.Opened != 600 || r.Messages != 300 || r.Contents != 300 || r.Disposed != 0 {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(f.options.StateFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state of a finished audit: %v", err)
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cp, err := f.log.Publish(t.Context())
	f.must(err)
	f.message(0, true, true)
	lost := f.message(1, false, true) // the record tells of a message that is not there
	orphan := f.message(2, true, false)
	bad := f.message(3, true, true)
	damaged := f.message(4, true, true)
	flip := func(name string, at int64) {
		t.Helper()
		file, err := os.OpenFile(name, os.O_RDWR, 0)
		f.must(err)
		defer file.Close()
		var b [1]byte
		_, err = file.ReadAt(b[:], at)
		f.must(err)
		_, err = file.WriteAt([]byte{b[0] ^ 4}, at)
		f.must(err)
	}
	content := f.register.Contents().Name(bad.ID.Transaction(), bad.Month)
	flip(content, 40)
	var last receipts.Frame
	f.must(f.register.Receipts().Each(receipts.Frame{}, func(x receipts.Frame) error { last = x; return nil }, nil))
	if last.ID != damaged.ID {
		t.Fatal("another last message")
	}
	flip(last.File, last.Offset+100)
	o := f.options
	o.Marks = func(wrong func(string, string)) []Mark {
		wrong("a file", "no checkpoint")
		return []Mark{{"right", 0, cp.Root}, {"other root", 3, [32]byte{1}}, {"other empty root", 0, [32]byte{2}}, {"ahead", 100, [32]byte{}}}
	}
	var told []string
	o.Found = func(x Finding) { told = append(told, x.Text) }
	o.Steps = []Step{{"more", func(_ context.Context, wrong func(string, string)) error { wrong("there", "and this"); return nil }}}
	r := f.run(o)
	f.only(r, "a file: no checkpoint", "other empty root", "ahead: a checkpoint of 100 leaves was kept, the log has 9", "other root: it has the root 0100", "leaf 3: the message that it tells of (enveloped) cannot be read",
		"leaf 5: the author's message cannot be read", "leaf 6: the message that it tells of cannot be made whole", "leaf 8: the message that it tells of (enveloped) cannot be read",
		"no record tells of the message", fmt.Sprintf("messages: %s at %d: what is behind this is not read", last.File, last.Offset), content, "more: there: and this")
	if r.OK() || r.Wrong() != 11 || len(told) != len(r.Findings) {
		t.Errorf("%d wrong, %d told", r.Wrong(), len(told))
	}
	o.UnderWay = func([16]byte) bool { return false }
	if r := f.run(o); r.Wrong() != 12 {
		t.Errorf("%d wrong", r.Wrong())
	}
	o.UnderWay = func(tx [16]byte) bool { return tx == orphan.ID.Transaction() }
	if r := f.run(o); slices.ContainsFunc(r.Findings, func(x Finding) bool { return x.Note }) {
		t.Error("a message of a transaction under way is told of")
	}
	_ = lost
}

// An audit that was given up anywhere goes on, and comes to the same.
func TestResumed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 400 {
		f.message(i, i != 30, true)
	}
	errStop := errors.New("stop")
	for stop := range 12 {
		o := f.options
		o.Restart = true
		calls := 0
		o.Pace = func(context.Context, int) error {
			if calls++; calls == 1+stop*80 {
				return errStop
			}
			return nil
		}
		resumed := 0
		for {
			r, err := Run(t.Context(), o)
			if err == nil {
				f.only(r, "leaf 61: the message that it tells of")
				if r.Leaves != 800 || r.Opened != 800 || r.Messages != 399 || r.Contents != 400 {
					t.Errorf("given up at the %dth step, %d times: %+v", 1+stop*80, resumed, r)
				}
				break
			}
			if !errors.Is(err, errStop) {
				t.Fatal(err)
			}
			resumed++
			o.Restart = false
			calls = -1 << 30 // once
			if s, err := os.ReadFile(o.StateFile); err != nil {
				t.Fatal(err)
			} else if _, err := parseState(s); err != nil {
				t.Error(err)
			}
		}
		if resumed != 1 && stop < 10 {
			t.Errorf("step %d: given up %d times", stop, resumed)
		}
	}
}

func TestStateOfAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 10 {
		f.message(i, true, true)
	}
	for what, s := range map[string]*state{
		"another log":  {Format: stateFormat, Origin: "other/1", Leaf: 3, Step: 2, edge: [][32]byte{{}, {}}},
		"other hashes": {Format: stateFormat, Origin: f.log.Origin(), Leaf: 3, Step: 1, edge: [][32]byte{{}, {}}},
		"beyond":       {Format: stateFormat, Origin: f.log.Origin(), Leaf: 300, Step: 4},
	} {
		b, err := s.encode()
		f.must(err)
		f.must(os.WriteFile(f.options.StateFile, b, 0o600))
		if r := f.run(f.options); r.Opened != 20 || r.Messages != 10 || !r.OK() {
			t.Errorf("%s: %+v", what, r)
		}
	}
	f.must(os.WriteFile(f.options.StateFile, []byte("00000000\n{}"), 0o600))
	if r := f.run(f.options); r.Opened != 20 || !r.OK() {
		t.Errorf("no state: %+v", r)
	}
}

func FuzzState(f *testing.F) {
	b, err := (&state{Format: stateFormat, Origin: "a/b", Leaf: 3, edge: [][32]byte{{1}, {2}}}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseState(b); err == nil && len(s.edge) != len(s.Hashes) {
			t.Errorf("%d hashes, %d", len(s.edge), len(s.Hashes))
		}
	})
}

// A message in quarantine is read like any other, and must be there when a record
// says so.
func TestQuarantined(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ids := make([][16]byte, 3)
	for i := range ids {
		x := f.message(i, false, false)
		ids[i] = x.ID.Transaction()
		f.must(f.register.Contents().MoveTo(f.register.Quarantine(), ids[i], x.Month))
		content := bytes.Repeat(fmt.Appendf(nil, "line %d\r\n", i), 20)
		sum := sha256.Sum256(content)
		_, err := f.register.Append(t.Context(), register.Entry{ID: record.MakeID(ids[i], 40, 0), Record: &record.Record{Kind: record.Quarantined, Time: start, Digest: sum[:]}})
		f.must(err)
	}
	month := uint16(keys.MonthOf(start))
	r := f.run(f.options)
	f.only(r)
	if r.Quarantined != 3 || r.Contents != 0 {
		t.Errorf("%+v", r)
	}
	f.must(os.Remove(f.register.Quarantine().Name(ids[0], month)))
	f.must(os.Rename(f.register.Quarantine().Name(ids[1], month), f.register.Contents().Name(ids[1], month)))
	f.must(os.Truncate(f.register.Quarantine().Name(ids[2], month), 30))
	o := f.options
	o.Restart = true
	r = f.run(o)
	f.only(r, "leaf 0: the author's message is not kept", "leaf 1: the infected message cannot be read", "leaf 3: the infected message cannot be read",
		"leaf 4: the author's message cannot be read", "leaf 5: the infected message cannot be read", f.register.Quarantine().Name(ids[2], month))
	if r.Wrong() != 5 {
		t.Errorf("%d wrong", r.Wrong())
	}
}
