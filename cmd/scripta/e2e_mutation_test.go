package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"scripta/register/evidence"
)

// evidenceOfMany makes an evidence file of a real run: two stamped periods,
// receipts, a message with recipients of all kinds.
func evidenceOfMany(t *testing.T) (*evidenceFile, evidence.Trust) {
	t.Helper()
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	p.start(t)
	for _, to := range []string{"lucia", "nessuno"} {
		p.send(t, letter{id: "<" + to + "@client>", from: address("mario"), to: []string{address(to)}, subject: "Prova è così"})
		p.idle(t, patience)
		p.extract(t, "--mailbox", address("mario")) // stamps what there is
	}
	e := p.extract(t, "--mailbox", address("mario"))
	p.stop(t)
	trust, err := loadTrust(p.dir.Public())
	if err != nil {
		t.Fatal(err)
	}
	return e, *trust
}

func check(raw []byte, trust evidence.Trust) *evidence.Report {
	return evidence.Verify(bytes.NewReader(raw), int64(len(raw)), trust)
}

// Whatever byte of an evidence file is changed, verify says which check fails.
func TestMutation(t *testing.T) {
	t.Parallel()
	e, trust := evidenceOfMany(t)
	if r := check(e.raw, trust); r.Verdict() != "VERIFIED" {
		t.Fatalf("unchanged: %s", r.Verdict())
	}
	rnd := seeded(t)
	positions := size(300, 1500, 20000)
	for n := range positions {
		// Half of them anywhere, half of them in small files and the archive's
		// own structure, which are a small part of the bytes.
		at := rnd.IntN(len(e.raw))
		if n%2 == 0 {
			name := e.names[rnd.IntN(len(e.names))]
			if i := bytes.Index(e.raw, e.files[name]); i >= 0 && len(e.files[name]) > 0 {
				at = i + rnd.IntN(len(e.files[name])+40) - 40
			}
		}
		at = max(0, min(at, len(e.raw)-1))
		raw := bytes.Clone(e.raw)
		raw[at] ^= 1 << rnd.IntN(8)
		r := check(raw, trust)
		if r.OK() || strings.TrimPrefix(r.Verdict(), "NOT VERIFIED: ") == "" {
			t.Fatalf("byte %d changed: %s", at, r.Verdict())
		}
	}
	for cut := 1; cut < len(e.raw); cut += len(e.raw) / 50 {
		if check(e.raw[:cut], trust).OK() {
			t.Fatalf("cut at %d: verified", cut)
		}
	}
}

// An attacker who has no key can make the container, the sums and the manifest's
// list fit his change. The right check still fails.
func TestForgery(t *testing.T) {
	t.Parallel()
	e, trust := evidenceOfMany(t)
	var receipt string
	for _, n := range e.names {
		if strings.HasPrefix(n, "receipts/") {
			receipt = n
		}
	}
	var rec *shownRecord
	for i := range e.records {
		if e.records[i].Receipt != "" && e.records[i].text("kind") == "acceptance-issued" {
			rec = &e.records[i]
		}
	}
	name := strings.Replace(strings.Replace(rec.Receipt, "receipts/", "records/", 1), ".eml", ".json", 1)
	replace := func(file, from, to string) func(files map[string][]byte) {
		return func(files map[string][]byte) {
			if !bytes.Contains(files[file], []byte(from)) {
				t.Fatalf("%s does not hold %q", file, from)
			}
			files[file] = bytes.Replace(files[file], []byte(from), []byte(to), 1)
		}
	}
	flip := func(hex string) string {
		if hex[0] == '0' {
			return "1" + hex[1:]
		}
		return "0" + hex[1:]
	}
	salt := func() string {
		var r struct{ Fields []struct{ Salt string } }
		if err := json.Unmarshal(e.files[name], &r); err != nil {
			t.Fatal(err)
		}
		return r.Fields[4].Salt
	}()
	other := func(kind string) string {
		for i := range e.records {
			if e.records[i].text("kind") == kind {
				return e.records[i].Receipt
			}
		}
		t.Fatalf("no %s", kind)
		return ""
	}
	index := strings.TrimLeft(strings.TrimSuffix(strings.TrimPrefix(name, "records/"), ".json"), "0")
	lastCheckpoint := ""
	for _, n := range e.names {
		if strings.HasSuffix(n, ".tsr") {
			lastCheckpoint = strings.TrimSuffix(n, ".tsr")
		}
	}
	for _, x := range []struct {
		what string
		edit func(files map[string][]byte)
		want string // a check that must fail, beside the manifest's signature
	}{
		{"a receipt's text", func(f map[string][]byte) { f[receipt][len(f[receipt])/3] ^= 1 }, "receipt "},
		{"two receipts exchanged", func(f map[string][]byte) {
			a, b := rec.Receipt, other("delivery-issued")
			f[a], f[b] = f[b], f[a]
		}, "receipt " + index},
		{"a leaf", replace(name, rec.Leaf, rec.Leaf[:4]+flip(rec.Leaf[4:])), "record " + index},
		{"a proof", replace(name, rec.Proof[0], flip(rec.Proof[0])), "inclusion " + index},
		{"a salt", replace(name, salt, flip(salt)), "record " + index},
		{"a value and its text", func(f map[string][]byte) {
			replace(name, rec.value("sender"), strings.Replace(rec.value("sender"), "6d", "6e", 1))(f)
			replace(name, `"text": "mario@`, `"text": "nario@`)(f)
		}, "record " + index},
		{"a text alone", replace(name, `"text": "mario@`, `"text": "nario@`), "record " + index},
		{"the checkpoint's root", func(f map[string][]byte) {
			lines := strings.Split(string(f[lastCheckpoint+".txt"]), "\n")
			lines[2] = "A" + lines[2][1:]
			f[lastCheckpoint+".txt"] = []byte(strings.Join(lines, "\n"))
		}, "checkpoint "},
		{"the time stamp of another checkpoint", func(f map[string][]byte) {
			for _, n := range e.names {
				if strings.HasSuffix(n, ".tsr") && n != lastCheckpoint+".tsr" {
					f[lastCheckpoint+".tsr"] = f[n]
				}
			}
		}, "time stamp "},
		{"the provider's name in the manifest", replace("manifest.json", "Scripta di prova", "Scripta di truffa"), "manifest signature"},
	} {
		files := map[string][]byte{}
		for n, b := range e.files {
			files[n] = bytes.Clone(b)
		}
		x.edit(files)
		r := check(pack(t, e.names, files), trust)
		failed := map[string]bool{}
		for _, c := range r.Checks {
			if c.Err != nil && !c.Warning {
				failed[c.Name] = true
			}
		}
		found := false
		for n := range failed {
			found = found || n == x.want || (strings.HasSuffix(x.want, " ") && strings.HasPrefix(n, x.want))
		}
		if r.OK() || !found || !failed["manifest signature"] || failed["container form"] || failed["SHA256SUMS"] {
			t.Errorf("%s: failed %v, want %q", x.what, failed, x.want)
		}
	}
}
