package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/internal/cms"
	"scripta/internal/keys"
	"scripta/register/evidence"
)

// forgery is a change made on purpose, and exactly the checks that must fail
// beside the manifest's signature.
type forgery struct {
	name string
	edit func(f *forged)
	want []string
}

// forged is an evidence file that is being changed.
type forged struct {
	t     *testing.T
	names []string
	files map[string][]byte
}

// replace changes the first match of a pattern in a file; the change must be one.
func (f *forged) replace(name, pattern, with string) {
	f.t.Helper()
	re := regexp.MustCompile(pattern)
	at := re.FindSubmatchIndex(f.files[name])
	if at == nil {
		f.t.Fatalf("%s has no %s", name, pattern)
	}
	old := f.files[name]
	changed := slices.Concat(old[:at[0]], re.Expand(nil, []byte(with), old, at), old[at[1]:])
	if bytes.Equal(changed, old) {
		f.t.Fatalf("%s: %s changes nothing", name, pattern)
	}
	f.files[name] = changed
}

// turn changes the first hexadecimal digit after a mark.
func (f *forged) turn(name, mark string) {
	f.t.Helper()
	i := bytes.Index(f.files[name], []byte(mark))
	if i < 0 {
		f.t.Fatalf("%s has no %s", name, mark)
	}
	b := bytes.Clone(f.files[name])
	if i += len(mark); b[i] == '0' {
		b[i] = '1'
	} else {
		b[i] = '0'
	}
	f.files[name] = b
}

func (f *forged) remove(name string) {
	delete(f.files, name)
	f.names = slices.DeleteFunc(slices.Clone(f.names), func(n string) bool { return n == name })
}

func recordName(r *shownRecord) string { return fmt.Sprintf("records/%012d.json", r.Index) }

// ofKind is the first record of a kind.
func (m *mutation) ofKind(t *testing.T, kind string) *shownRecord {
	t.Helper()
	for i := range m.records {
		if m.records[i].text("kind") == kind {
			return &m.records[i]
		}
	}
	t.Fatalf("no record of kind %s", kind)
	return nil
}

// forgeries are what somebody would do who has something to gain.
func (m *mutation) forgeries(t *testing.T) []forgery {
	submitted, acceptance, notice := m.ofKind(t, "submitted"), m.ofKind(t, "acceptance-issued"), m.ofKind(t, "notification-delivered")
	delivery, failed := m.ofKind(t, "delivery-issued"), m.ofKind(t, "non-delivery-issued")
	var stamps []string
	for _, n := range m.names {
		if strings.HasSuffix(n, ".tsr") {
			stamps = append(stamps, n)
		}
	}
	if len(stamps) != 2 {
		t.Fatalf("time stamps %q, want two", stamps)
	}
	check := func(name string, r *shownRecord) string { return fmt.Sprintf("%s %d", name, r.Index) }
	stampOf := func(name string) string {
		var n int
		fmt.Sscanf(name, "checkpoints/%d", &n)
		return fmt.Sprintf("time stamp %d", n)
	}
	orphan := "no other files" // the message of a record that is not believed
	return []forgery{
		{"text of a receipt", func(f *forged) { f.replace(acceptance.Receipt, "accettato dal sistema", "rifiutato dal sistema") }, []string{check("receipt", acceptance)}},
		{"header of a receipt", func(f *forged) { f.replace(acceptance.Receipt, `(?m)^Subject: ACC`, "Subject: XCC") }, []string{check("receipt", acceptance)}},
		{"another genuine receipt", func(f *forged) { f.files[delivery.Receipt] = f.files[failed.Receipt] }, []string{check("receipt", delivery)}},
		{"receipt and the digest in its record", func(f *forged) {
			old := sha256Hex(f.files[acceptance.Receipt])
			f.replace(acceptance.Receipt, "accettato dal sistema", "rifiutato dal sistema")
			f.replace(recordName(acceptance), old, sha256Hex(f.files[acceptance.Receipt]))
		}, []string{check("record", acceptance), orphan}},
		{"receipt taken away", func(f *forged) {
			f.remove(delivery.Receipt)
		}, []string{check("receipt", delivery)}},
		{"receipt denied", func(f *forged) {
			f.remove(delivery.Receipt)
			f.replace(recordName(delivery), ` "receipt": "[^"]*",\n`, "")
		}, nil}, // a receipt may be absent; that it was removed shows in the signature
		{"leaf", func(f *forged) { f.turn(recordName(submitted), `"leaf": "0101`) }, []string{check("record", submitted)}},
		{"class of a leaf", func(f *forged) { f.replace(recordName(submitted), `"leaf": "0101`, `"leaf": "0102`) }, []string{check("record", submitted)}},
		{"proof", func(f *forged) { f.turn(recordName(submitted), "\"proof\": [\n  \"") }, []string{check("inclusion", submitted)}},
		{"shorter proof", func(f *forged) {
			f.replace(recordName(submitted), `"proof": \[\n  "[0-9a-f]{64}",\n`, "\"proof\": [\n")
		}, []string{check("inclusion", submitted)}},
		{"salt", func(f *forged) { f.turn(recordName(submitted), `"salt": "`) }, []string{check("record", submitted)}},
		{"text of a field", func(f *forged) { f.replace(recordName(submitted), `"text": "Uno"`, `"text": "Due"`) }, []string{check("record", submitted)}},
		{"value and text of a field", func(f *forged) {
			f.replace(recordName(submitted), `"value": "556e6f",(\s+"salt": "[0-9a-f]+",\s+)"text": "Uno"`, `"value": "447565",${1}"text": "Due"`)
		}, []string{check("record", submitted)}},
		{"field hidden behind a false digest", func(f *forged) {
			f.replace(recordName(submitted), `"value": "556e6f",\s+"salt": "([0-9a-f]+)",\s+"text": "Uno"`, `"digest": "$1"`)
		}, []string{check("record", submitted)}},
		{"another record's fields and leaf", func(f *forged) {
			body := regexp.MustCompile(`"fields": (?s:.*)`).Find(f.files[recordName(notice)])
			f.replace(recordName(submitted), `"leaf": "[0-9a-f]+"`, `"leaf": "`+notice.Leaf+`"`)
			f.replace(recordName(submitted), `"fields": (?s:.*)`, strings.ReplaceAll(string(body), "$", "$$"))
		}, []string{check("inclusion", submitted)}},
		{"record at another index", func(f *forged) {
			f.replace(recordName(submitted), `"index": \d+`, `"index": 0`)
		}, []string{check("record", submitted)}},
		{"record left out", func(f *forged) {
			f.remove(recordName(submitted))
		}, []string{"records"}},
		{"record left out and not counted", func(f *forged) {
			f.remove(recordName(submitted))
			f.replace("manifest.json", `"records": \d+`, fmt.Sprintf(`"records": %d`, len(m.records)-1))
		}, nil},
		{"question", func(f *forged) { f.replace("manifest.json", `"mailbox": "mario@`, `"mailbox": "luigi@`) }, nil},
		{"creation time", func(f *forged) { f.replace("manifest.json", `"created": "20`, `"created": "19`) }, nil},
		{"provider's name", func(f *forged) { f.replace("manifest.json", "Scripta di prova", "Scripta di truffa") }, nil},
		{"time stamp taken away", func(f *forged) { f.remove(stamps[1]) }, nil},
		{"time stamp of another checkpoint", func(f *forged) { f.files[stamps[1]] = f.files[stamps[0]] }, []string{stampOf(stamps[1])}},
		{"file beside the others", func(f *forged) {
			f.names = slices.Insert(slices.Clone(f.names), len(f.names)-1, "receipts/999999999999.eml")
			f.files["receipts/999999999999.eml"] = f.files[delivery.Receipt]
		}, []string{"files", orphan}},
	}
}

// targeted makes every forgery.
func (m *mutation) targeted(t *testing.T) {
	for _, g := range m.forgeries(t) {
		t.Run(g.name, func(t *testing.T) {
			f := &forged{t: t, names: m.names, files: maps.Clone(m.files)}
			g.edit(f)
			want := g.want
			if !bytes.Equal(fitManifest(t, f.files), m.files["manifest.json"]) {
				want = append([]string{"manifest signature"}, want...)
			}
			if failed := m.failures(pack(t, f.names, f.files)); !slices.Equal(failed, want) {
				t.Errorf("%q fails, want %q", failed, want)
			}
		})
	}
	t.Run("signed by another provider", func(t *testing.T) { m.signedByAnother(t) })
	t.Run("checkpoint of another log", func(t *testing.T) { m.otherLog(t) })
	t.Run("container", m.containers)
}

// signedByAnother has a manifest that was changed signed by somebody who has a
// signing certificate, but from an authority that nobody here trusts.
func (m *mutation) signedByAnother(t *testing.T) {
	other := newProvider(t, nil, nil)
	key, chain, err := keys.LoadPair(other.dir.PECKey(), other.dir.PECCertificate())
	if err != nil {
		t.Fatal(err)
	}
	signer := must[*cms.Signer](t)(cms.NewSigner(key, chain[0], chain[1:]...))
	f := &forged{t: t, names: m.names, files: maps.Clone(m.files)}
	f.replace("manifest.json", `"mailbox": "mario@`, `"mailbox": "luigi@`)
	f.files["manifest.json.p7s"] = must[[]byte](t)(signer.Sign(sha256.Sum256(f.files["manifest.json"]), time.Now()))
	if failed := m.failures(pack(t, f.names, f.files)); !slices.Equal(failed, []string{"manifest signature"}) {
		t.Errorf("%q fails", failed)
	}
}

// otherLog verifies the file with another log's key: no checkpoint may count, and
// so no record.
func (m *mutation) otherLog(t *testing.T) {
	other := newProvider(t, nil, nil)
	stranger := *m
	stranger.trust.Log = must[*evidence.Trust](t)(loadTrust(other.dir.Public())).Log
	failed := stranger.failures(m.raw)
	for _, r := range m.records {
		if !slices.Contains(failed, fmt.Sprintf("inclusion %d", r.Index)) {
			t.Errorf("record %d is believed on another log's word", r.Index)
		}
	}
}

// containers are archives with the right files in another form.
func (m *mutation) containers(t *testing.T) {
	reordered := slices.Clone(m.names)
	reordered[3], reordered[4] = reordered[4], reordered[3]
	write := func(header func(n string) zip.FileHeader, comment string, names ...string) []byte {
		var out bytes.Buffer
		z := zip.NewWriter(&out)
		for _, n := range names {
			h := header(n)
			w, err := z.CreateHeader(&h)
			if err == nil {
				_, err = w.Write(m.files[n])
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := z.SetComment(comment); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	stored := func(n string) zip.FileHeader { return zip.FileHeader{Name: n, Method: zip.Store} }
	for name, raw := range map[string][]byte{
		"a byte after the end":   append(bytes.Clone(m.raw), 0),
		"bytes before the start": append([]byte("#!/bin/sh\n"), m.raw...),
		"empty":                  {},
		"data descriptors":       write(stored, "", m.names...),
		"a comment":              write(stored, "nota", m.names...),
		"compressed":             write(func(n string) zip.FileHeader { return zip.FileHeader{Name: n, Method: zip.Deflate} }, "", m.names...),
		"with dates":             write(func(n string) zip.FileHeader { return zip.FileHeader{Name: n, Modified: time.Now()} }, "", m.names...),
		"other order":            pack(t, reordered, maps.Clone(m.files)),
		"a file twice":           pack(t, append([]string{m.names[0]}, m.names...), maps.Clone(m.files)),
	} {
		if failed := m.failures(raw); !slices.ContainsFunc(failed, func(s string) bool { return strings.HasPrefix(s, "container") || s == "files" }) {
			t.Errorf("%s: %q fails", name, failed)
		}
	}
	for cut := 1; cut < len(m.raw); cut += len(m.raw) / 50 {
		if failed := m.failures(m.raw[:cut]); !slices.Equal(failed, []string{"container"}) {
			t.Errorf("cut at %d: %q fails", cut, failed)
		}
	}
}
