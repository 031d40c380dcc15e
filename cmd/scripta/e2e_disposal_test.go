package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/keys"
	"scripta/register"
	"scripta/register/record"
)

// A month whose retention is over is disposed of by the program: its records are
// gone, what is held is not, and everything still verifies.
func TestDisposeOfAMonth(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"anna", "bruno"}, nil)
	copied, backups := filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "backups")
	p.start(t)
	p.sendAll(t, "today", 1)
	p.stop(t)

	// Records of a month long ago, as this provider would have had them.
	a := must[*app](t)(openApp(t.Context(), p.dir, slog.New(slog.DiscardHandler)))
	now, _ := a.months.Last()
	month := now - 32
	old, from := month.Start().AddDate(0, 0, 9), keys.DisposableFrom(month)
	tooEarly, today := from.AddDate(0, 0, -1).Format(time.DateOnly), from.AddDate(0, 0, 1).Format(time.DateOnly)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(a.months.Confirm(month))
	for i, who := range []string{"tenuta", "scartata"} {
		_, err := a.register.Append(t.Context(), register.Entry{ID: record.MakeID([16]byte{0xd1, byte(i)}, 0, 0),
			Record: &record.Record{Kind: record.OrdinaryRefused, Time: old, Sender: "x@altrove.example", About: []string{address(who)}, Subject: "segretissimo " + who}})
		check(err)
	}
	check(a.months.Confirm(now))
	secret, err := a.months.Secret(month)
	check(err)
	check(a.close())
	p.command(t, "archive", "close")
	p.command(t, "keys", "backup", "--to", copied)
	p.command(t, "backup", "--to", backups)
	p.command(t, "keys", "hold", "--mailbox", address("tenuta"), "--reason", "Tribunale di Prova")

	if code, out := p.scripta(t, "keys", "dispose", "--month", now.String(), "--as-of", now.Start().AddDate(20, 0, 0).Format(time.DateOnly)); code != 1 || !strings.Contains(out, "kept longer") {
		t.Errorf("the open month: exit %d\n%s", code, out)
	}
	if code, out := p.scripta(t, "keys", "dispose", "--month", month.String(), "--as-of", tooEarly); code != 1 || !strings.Contains(out, "until "+from.Format(time.DateOnly)) {
		t.Errorf("a day too early: exit %d\n%s", code, out)
	}
	period := []string{"--from", month.String() + "-01", "--to", month.String() + "-20"}
	p.start(t) // the rest while it runs
	p.extract(t, append([]string{"--mailbox", address("scartata")}, period...)...)
	away := copied + ".away"
	check(os.Rename(copied, away))
	if code, out := p.scripta(t, "keys", "dispose", "--month", month.String(), "--as-of", today); code != 1 || !strings.Contains(out, "PENDING") {
		t.Errorf("without the copy: exit %d\n%s", code, out)
	}
	if code, out := p.scripta(t, "status"); code != 0 || !strings.Contains(out, "PENDING") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	check(os.Rename(away, copied))
	if out := p.command(t, "keys", "dispose", "--month", month.String(), "--as-of", today); !strings.Contains(out, "1 records of it are held") {
		t.Errorf("with the copy: %s", out)
	}
	if code, out := p.scripta(t, append([]string{"extract", "--out", filepath.Join(t.TempDir(), "x"), "--mailbox", address("scartata")}, period...)...); code != 1 {
		t.Errorf("the disposed record is found: exit %d\n%s", code, out)
	}
	held := p.extract(t, append([]string{"--mailbox", address("tenuta")}, period...)...)
	if s := subjects(held); len(s) != 1 || s[0] != "segretissimo tenuta" {
		t.Errorf("held are %q", s)
	}
	out, err := run(t, binary, "verify", held.path, "--trust", p.dir.Public())
	if err != nil || !strings.Contains(out, month.String()+" were destroyed") || !bytes.Contains(held.files["LEGGIMI.txt"], []byte("SCARTO: ")) {
		t.Errorf("verify of what is held: %v\n%s", err, out)
	}
	p.stop(t)
	if out := p.command(t, "log", "verify"); !strings.Contains(out, "2 disposed of") {
		t.Errorf("log verify: %s", out)
	}
	p.command(t, "archive", "close")
	if out := p.command(t, "archive", "verify"); strings.Contains(out, "NOT") {
		t.Errorf("archive verify: %s", out)
	}
	for _, dir := range []string{string(p.dir), copied, backups} {
		check(filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(name)
			if bytes.Contains(b, secret[:]) || bytes.Contains(b, []byte("segretissimo")) {
				t.Errorf("%s holds it", name)
			}
			return err
		}))
	}
	// An old backup of the data with the keys of today.
	r, _ := p.bringBack(t, backups, copied, "--nothing-newer")
	if code, out := r.scripta(t, append([]string{"extract", "--out", filepath.Join(t.TempDir(), "x"), "--mailbox", address("tenuta")}, period...)...); code != 1 {
		t.Errorf("a backup gives what was disposed of: exit %d\n%s", code, out)
	}
	r.audited(t)
}
