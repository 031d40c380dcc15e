package register

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/register/receipts"
	"scripta/register/record"
)

// Disposal destroys the records of a month in every place, with every copy of the
// keys that there ever was but a kept one of the old master, and leaves every
// proof and what is held.
func TestDisposal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	may := time.Date(2024, 5, 20, 10, 0, 0, 0, time.UTC)
	month := keys.MonthOf(may)
	const held, gone, mine = "tenuta@pec.example", "scartata@pec.example", "altra@pec.example"
	f.append(event(1, may, mine, held), event(2, may, mine, gone))
	message := &receipts.Issued{ID: event(2, may, "").ID, Month: uint16(month), MessageID: "<r@pec.example>", Prefix: []byte("From: x\r\n\r\nciao\r\n")}
	message.Size, message.Digest = int64(len(message.Prefix)), sha256.Sum256(message.Prefix)
	must(t, f.Receipts().Put(message))
	content, err := f.Contents().Create([16]byte{7}, uint16(month))
	must(t, err)
	_, err = io.WriteString(content, strings.Repeat("segreto ", 10000))
	must(t, err)
	must(t, content.Commit())
	f.append(event(3, may.AddDate(0, 1, 0), mine, gone))
	must(t, f.PlaceHold(t.Context(), Hold{Mailbox: held, Reason: "tribunale", Placed: may.AddDate(0, 1, 1)}))

	months := f.options.Months
	copyDir := filepath.Join(f.dir, "usb")
	must(t, months.CopyTo(copyDir))
	backup := t.TempDir() // of everything but the keys, before the disposal
	for _, d := range []string{"log", "register", "holds"} {
		must(t, os.CopyFS(filepath.Join(backup, d), os.DirFS(filepath.Join(f.dir, d))))
	}
	secret, err := months.Secret(month)
	must(t, err)
	now := keys.DisposableFrom(month)
	must(t, months.CheckDisposal(month, now))
	if n, err := f.KeepHeld(t.Context(), month); err != nil || n != 1 {
		t.Fatalf("%d records are kept: %v", n, err)
	}
	if pending, err := months.Dispose(month, now, []string{copyDir}); err != nil || len(pending) > 0 {
		t.Fatal(pending, err)
	}
	must(t, f.Forget())

	check := func(when string) {
		t.Helper()
		if _, err := f.Read(t.Context(), 1); !errors.Is(err, keys.ErrDisposed) {
			t.Errorf("%s: the record opens: %v", when, err)
		}
		if _, err := f.Receipts().Open(message.ID, f.Contents()); !errors.Is(err, keys.ErrDisposed) {
			t.Errorf("%s: the receipt opens: %v", when, err)
		}
		if _, err := f.Contents().OpenContent([16]byte{7}, uint16(month)); !errors.Is(err, keys.ErrDisposed) {
			t.Errorf("%s: the content opens: %v", when, err)
		}
		if _, err := f.PackageKey(uint16(month), []byte("package")); !errors.Is(err, keys.ErrDisposed) {
			t.Errorf("%s: packages open: %v", when, err)
		}
		x, err := f.Read(t.Context(), 0)
		if err != nil || x.Opened.Fields.Commit(x.Opened.Nonce, record.Personal) != x.Opened.Leaf || x.Record.About[0] != held {
			t.Errorf("%s: the held record: %v", when, err)
		}
		if got := f.search(Query{Mailbox: held, From: may.AddDate(0, 0, -1)}); len(got) < 1 || got[0] != "1@pec.example" {
			t.Errorf("%s: a search finds of the held ones %v", when, got)
		}
		if got := f.search(Query{Mailbox: gone, From: may.AddDate(0, 0, -1)}); len(got) != 1 || got[0] != "3@pec.example" {
			t.Errorf("%s: a search finds of the others %v", when, got)
		}
		if got := f.Disposed(may, time.Time{}, now); len(got) != 1 || got[0] != month {
			t.Errorf("%s: disposed of are %v", when, got)
		}
		must(t, f.log.Verify(t.Context()))
		if _, err := f.log.Inclusion(t.Context(), 1, f.log.Size()); err != nil {
			t.Errorf("%s: the leaf is not proved: %v", when, err)
		}
	}
	check("at once")
	f.close()
	f.open()
	check("opened again")
	if r, err := f.VerifyIndex(t.Context()); err != nil || r.Disposed == 0 {
		t.Errorf("the index: %+v, %v", r, err)
	}

	// Nothing that is kept anywhere has the secret, or gives it.
	for _, dir := range []string{f.dir, backup} {
		must(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(name)
			if bytes.Contains(b, secret[:]) || bytes.Contains(b, []byte("segreto segreto")) {
				t.Errorf("%s holds it", name)
			}
			return err
		}))
	}
	old, err := keys.OpenMonths(durable.OS, filepath.Join(copyDir, "months"), filepath.Join(copyDir, "master.key"))
	must(t, err)
	if _, err := old.Secret(month); !errors.Is(err, keys.ErrDisposed) {
		t.Errorf("the copy of the keys gives it: %v", err)
	}
	// The backup of the data, opened with the keys as they are now.
	signer, verifier, err := checkpoint.NewSigner(origin, f.key)
	must(t, err)
	log, err := merkle.Open(t.Context(), merkle.Options{Dir: filepath.Join(backup, "log"), Origin: origin, Verifier: verifier, Signer: signer, Logger: f.options.Logger, MinFree: 1 << 20})
	must(t, err)
	o := f.options
	o.Dir, o.Log, o.Holds = filepath.Join(backup, "register"), log, nil
	o.Months, err = keys.OpenMonths(durable.OS, filepath.Join(f.dir, "months"), filepath.Join(f.dir, "master"))
	must(t, err)
	restored, err := Open(t.Context(), o)
	must(t, err)
	for i := range uint64(2) {
		if _, err := restored.Read(t.Context(), i); !errors.Is(err, keys.ErrDisposed) {
			t.Errorf("record %d opens in the backup: %v", i, err)
		}
	}
	must(t, errors.Join(restored.Close(), log.Close()))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzHeld holds that a file of the side store cannot bring the register down.
func FuzzHeld(f *testing.F) {
	f.Add([]byte("\x00\x01x12345678\x01\x01" + strings.Repeat("l", 32) + "\x01\x5e\x10" + strings.Repeat("s", 60)))
	f.Fuzz(func(t *testing.T, b []byte) { _, _, _, _ = parseHeld(b) })
}
