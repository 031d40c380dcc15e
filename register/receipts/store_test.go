package receipts

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"scripta/internal/durable"
	"scripta/register/index"
	"scripta/register/record"
)

type testKeys struct{}

func (testKeys) ReceiptKey(month uint16) (*[32]byte, error) {
	return &[32]byte{byte(month >> 8), byte(month)}, nil
}

type fixture struct {
	*Store
	contents *ContentStore
	index    *index.DB
}

func open(t *testing.T, dir string) fixture {
	t.Helper()
	idx, err := index.Open(durable.OS, filepath.Join(dir, "index"), "pec.example/scripta/0001", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(durable.OS, filepath.Join(dir, "issued"), "pec.example/scripta/1", testKeys{}, idx, [][]byte{bytes.Repeat([]byte("Content-Type: multipart/signed; "), 20)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := OpenContents(durable.OS, filepath.Join(dir, "contents"), "pec.example/scripta/1", testKeys{})
	if err != nil {
		t.Fatal(err)
	}
	return fixture{s, c, idx}
}

func (f fixture) close(t *testing.T) {
	t.Helper()
	if err := errors.Join(f.Store.Close(), f.index.Close()); err != nil {
		t.Fatal(err)
	}
}

const month = 2026*12 + 10

func sampleMessage(n int) *Issued {
	m := &Issued{ID: record.MakeID([16]byte{byte(n), byte(n >> 8)}, 2, 0), Month: month, MessageID: fmt.Sprintf("<%d@pec.example>", n),
		Prefix: []byte("Content-Type: multipart/signed; boundary=x\r\n\r\n"), Suffix: []byte(fmt.Sprintf("--%d--\r\n", n))}
	whole := append(bytes.Clone(m.Prefix), m.Suffix...)
	m.Digest, m.Size = sha256.Sum256(whole), int64(len(whole))
	return m
}

func TestPutGet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir)
	const n = 1500 // more than fit in memory unindexed
	for i := range n {
		if err := f.Put(sampleMessage(i)); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		for i := 0; i < n; i += 37 {
			want := sampleMessage(i)
			m, err := f.Open(want.ID, f.contents)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.ReadAll()
			if err != nil || sha256.Sum256(got) != want.Digest {
				t.Fatalf("message %d: %q, %v", i, got, err)
			}
		}
	}
	check()
	f.close(t)
	f = open(t, dir)
	check()
	f.close(t)
}

// After a crash the index may lack what the segments hold, or be gone.
func TestIndexLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir)
	if err := f.Put(sampleMessage(1), sampleMessage(2)); err != nil {
		t.Fatal(err)
	}
	if err := f.index.Close(); err != nil { // without Store.Close: nothing flushed
		t.Fatal(err)
	}
	f = open(t, dir)
	defer f.close(t)
	if _, err := f.Get(sampleMessage(2).ID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(sampleMessage(3).ID); !errors.Is(err, ErrNotFound) {
		t.Fatalf("a message never stored: %v", err)
	}
}

// A receipt that includes a part of an envelope, which includes the edited
// original, comes back byte for byte.
func TestIncluded(t *testing.T) {
	t.Parallel()
	f := open(t, t.TempDir())
	defer f.close(t)
	tx := [16]byte{42}
	original := bytes.Repeat([]byte("Message-ID: <old>\r\n"), 10_000)
	w, err := f.contents.Create(tx, month)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.contents.OpenContent(tx, month); !errors.Is(err, ErrNotFound) {
		t.Fatalf("an unfinished content is there: %v", err)
	}
	if _, err := w.Write(original); err != nil {
		t.Fatal(err)
	}
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.contents.OpenContent(tx, month); !errors.Is(err, ErrNotFound) {
		t.Fatalf("a content that is not committed is there: %v", err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	patched := append([]byte("Message-ID: <new>\r\n"), original[19:]...)
	patched = append(patched[:190:190], append([]byte("X-More: 1\r\n"), patched[190:]...)...)

	envelope := sampleMessage(1)
	envelope.Included = &Included{Source: Source{ID: record.MakeID(tx, 0, 0), Month: month}, Length: int64(len(patched)),
		Edits: []Edit{{0, 19, []byte("Message-ID: <new>\r\n")}, {190, 0, []byte("X-More: 1\r\n")}}}
	receipt := sampleMessage(2)
	receipt.Included = &Included{Source: Source{Issued: true, ID: envelope.ID}, Offset: int64(len(envelope.Prefix)), Length: int64(len(patched))}
	if err := f.Put(envelope, receipt); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Issued{envelope, receipt} {
		got, err := f.Open(m.ID, f.contents)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(io.NewSectionReader(got, 0, got.Size()))
		want := append(append(bytes.Clone(m.Prefix), patched...), m.Suffix...)
		if err != nil || !bytes.Equal(b, want) {
			t.Fatalf("%v: %d bytes, want %d (%v)", m.MessageID, len(b), len(want), err)
		}
		if err := got.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.contents.Remove(tx, month); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(receipt.ID, f.contents); !errors.Is(err, ErrNotFound) {
		t.Fatalf("without its content: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sampleMessage(1).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(Issued)
		if err := m.decode(b); err == nil && !bytes.Equal(m.encode(), b) {
			t.Fatal("decoding and encoding gives other bytes")
		}
	})
}
