package main

import (
	"archive/zip"
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"scripta/mta/pec"
	"scripta/register/evidence"
)

// One changed bit anywhere in an evidence file is found, and the check that
// fails is named; also when the one who changed it makes the container, the sums
// and the manifest's list fit again. Only he cannot sign.
func TestMutation(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	p.start(t)
	e := p.sampleEvidence(t)
	trust := must[*evidence.Trust](t)(loadTrust(p.dir.Public()))
	m := &mutation{evidenceFile: e, trust: *trust}
	if failed := m.failures(e.raw); len(failed) > 0 {
		t.Fatalf("the evidence file as it was made fails: %q", failed)
	}
	if again := pack(t, e.names, maps.Clone(e.files)); !bytes.Equal(again, e.raw) {
		t.Fatal("the test does not know the container's form")
	}
	t.Run("targeted", func(t *testing.T) { m.targeted(t) })
	t.Run("bits", func(t *testing.T) { m.bits(t, seeded(t).Uint64(), size(300, 1200, 20_000)) })
}

// sampleEvidence is of every kind of event, over two time stamps. The daemon is
// stopped by then.
func (p *provider) sampleEvidence(t *testing.T) *evidenceFile {
	t.Helper()
	p.send(t, letter{id: "<uno@x.example>", from: address("mario"), to: toLucia, subject: "Uno"})
	p.one(t, "mario", pec.Delivery, "<uno@x.example>")
	p.idle(t, waitMail)
	p.extract(t, "--mailbox", address("mario")) // buys the first time stamp
	p.send(t, letter{id: "<due@x.example>", from: address("mario"), to: []string{address("nessuno")}, cc: toLucia, subject: "Due"})
	p.send(t, letter{id: "<tre@x.example>", from: address("mario"), to: toLucia, subject: "Tre", more: "Bcc: x@y.example\r\n"})
	p.one(t, "mario", pec.NonAcceptance, "<tre@x.example>")
	p.idle(t, waitMail)
	p.stop(t)
	return p.extract(t, "--mailbox", address("mario"))
}

// mutation is an evidence file that is about to be changed.
type mutation struct {
	*evidenceFile
	trust evidence.Trust
}

// failures are the names of the checks that a changed file fails.
func (m *mutation) failures(raw []byte) (names []string) {
	r := evidence.Verify(bytes.NewReader(raw), int64(len(raw)), m.trust)
	for _, c := range r.Checks {
		if c.Err != nil && !c.Warning {
			names = append(names, c.Name)
		}
	}
	if r.OK() != (len(names) == 0) {
		panic("the report contradicts itself")
	}
	return names
}

// place is a byte of an evidence file; class says what it belongs to.
type place struct {
	offset int
	class  string
}

// classes lists the bytes of the file by what they belong to.
func (m *mutation) classes(t *testing.T) map[string][]place {
	t.Helper()
	z := must[*zip.Reader](t)(zip.NewReader(bytes.NewReader(m.raw), int64(len(m.raw))))
	all := map[string][]place{}
	at := 0
	until := func(end int, class string) {
		for ; at < end; at++ {
			all[class] = append(all[class], place{at, class})
		}
	}
	for _, f := range z.File {
		begin := int(must[int64](t)(f.DataOffset()))
		until(begin, "header of an entry")
		until(begin+int(f.UncompressedSize64), classOf(f.Name))
	}
	until(len(m.raw), "directory of the archive")
	return all
}

// classOf is the class of the bytes of a file in the container.
func classOf(name string) string {
	folder, rest, ok := strings.Cut(name, "/")
	if !ok || folder != "checkpoints" {
		return folder
	}
	return folder + rest[strings.LastIndexByte(rest, '.'):]
}

// bits flips one bit at many places, spread over all classes.
func (m *mutation) bits(t *testing.T, seed uint64, total int) {
	classes := m.classes(t)
	names := slices.Sorted(maps.Keys(classes))
	if len(names) < 12 {
		t.Fatalf("only %d classes of bytes: %q", len(names), names)
	}
	var tried atomic.Int64
	t.Cleanup(func() {
		if n := int(tried.Load()); n < total {
			t.Errorf("only %d of %d places were tried", n, total)
		}
	})
	for i, class := range names {
		t.Run(class, func(t *testing.T) {
			t.Parallel()
			places, random := classes[class], rand.New(rand.NewPCG(seed, uint64(i)))
			for range (total + len(names) - 1) / len(names) {
				at, bit := places[random.IntN(len(places))].offset, byte(1)<<random.IntN(8)
				tried.Add(1)
				m.flip(t, class, at, bit)
			}
		})
	}
}

// flip flips a bit, first as damage and then with all that its author can do to
// hide it.
func (m *mutation) flip(t *testing.T, class string, at int, bit byte) {
	t.Helper()
	raw := bytes.Clone(m.raw)
	raw[at] ^= bit
	if failed := m.failures(raw); !slices.ContainsFunc(failed, func(s string) bool { return strings.HasPrefix(s, "container") }) {
		t.Errorf("bit %#x at %d, %s: only %q fails", bit, at, class, failed)
	}
	name, offset := m.entryAt(t, at)
	if name == "" {
		return
	}
	files := maps.Clone(m.files)
	files[name] = bytes.Clone(files[name])
	files[name][offset] ^= bit
	failed := m.failures(m.hide(t, name, files))
	if len(failed) == 0 || !slices.ContainsFunc(failed, expected(name)) {
		t.Errorf("bit %#x at %d of %s, hidden: %q fails", bit, offset, name, failed)
	}
}

// entryAt returns the file that an offset of the container lies in, "" for the
// container's own bytes.
func (m *mutation) entryAt(t *testing.T, at int) (name string, offset int) {
	t.Helper()
	z := must[*zip.Reader](t)(zip.NewReader(bytes.NewReader(m.raw), int64(len(m.raw))))
	for _, f := range z.File {
		if offset := at - int(must[int64](t)(f.DataOffset())); offset >= 0 && offset < int(f.UncompressedSize64) {
			return f.Name, offset
		}
	}
	return "", 0
}

// hide is the container after a change of one file. What the change itself is
// about is not made to fit: that would undo it.
func (m *mutation) hide(t *testing.T, name string, files map[string][]byte) []byte {
	t.Helper()
	switch name {
	case "SHA256SUMS", "manifest.json.p7s":
		return packAsIs(t, m.names, files)
	case "manifest.json":
		files["SHA256SUMS"] = sumsOf(m.names, files)
		return packAsIs(t, m.names, files)
	}
	return pack(t, m.names, files)
}

// expected tells the checks that are about a file, beside the signature that
// covers them all.
func expected(name string) func(check string) bool {
	number := func(prefix string) string {
		var n int
		if _, err := fmt.Sscanf(name[strings.IndexByte(name, '/')+1:], "%d", &n); err != nil {
			panic(err)
		}
		return fmt.Sprintf("%s %d", prefix, n)
	}
	is := func(names ...string) func(string) bool {
		return func(check string) bool { return slices.Contains(names, check) }
	}
	switch classOf(name) {
	case "SHA256SUMS", "manifest.json.p7s":
		return is("SHA256SUMS") // CMS has octets that say nothing and that nothing signs, such as its version
	case "manifest.json":
		return is("manifest", "manifest signature")
	case "checkpoints.txt":
		return is(number("checkpoint"))
	case "checkpoints.tsr":
		return is(number("time stamp"), "manifest signature") // for the same reason
	case "checkpoints.proof":
		return func(check string) bool { return strings.HasPrefix(check, "consistency ") }
	case "records":
		return is(number("record"), number("inclusion"), number("receipt"))
	case "receipts":
		return is(number("receipt"))
	}
	return is("manifest signature")
}
