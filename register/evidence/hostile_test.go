package evidence

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/mod/sumdb/note"

	"scripta/merkle/checkpoint"
)

// container is the archive of these files.
func container(t *testing.T, files ...File) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeContainer(&b, files); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// signed by nobody: what anybody can write.
func unsigned(t *testing.T, m *manifest) []byte {
	t.Helper()
	m.Format = manifestFormat
	if m.Origin == "" {
		m.Origin = "pec.example/scripta/0001"
	}
	m.Created = time.Unix(0, 0).UTC()
	raw, err := encodeJSON(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// trustNobody verifies without a single root.
func trustNobody(t *testing.T) Trust {
	t.Helper()
	_, vkey, err := note.GenerateKey(strings.NewReader(strings.Repeat("0", 64)), "pec.example/scripta/0001")
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return Trust{PEC: x509.NewCertPool(), TSA: x509.NewCertPool(), Log: v}
}

// texts are all lines that a report prints.
func texts(r *Report) (all []string) {
	for _, c := range r.Checks {
		all = append(all, c.Name, c.Detail)
		if c.Err != nil {
			all = append(all, c.Err.Error())
		}
	}
	return append(all, r.Verdict())
}

// A file with very many entries, all of them wrong, is refused in a time that
// grows with its size, and in few words. It once took the square: minutes for
// this one.
func TestManyWrongEntries(t *testing.T) {
	t.Parallel()
	const n = 40_000
	m := &manifest{Records: 1}
	files := make([]File, 0, n+2)
	for i := range n {
		name := fmt.Sprintf("records/%012d.json", i)
		files = append(files, NewFile(name, nil))
		m.Files = append(m.Files, fileEntry{Name: name, SHA256: "0"}, fileEntry{Name: "missing " + name})
	}
	raw := container(t, append(files, NewFile(nameManifest, unsigned(t, m)), NewFile(nameSums, bytes.Repeat([]byte("0"), 80*n)))...)
	r := Verify(bytes.NewReader(raw), int64(len(raw)), trustNobody(t))
	if r.OK() {
		t.Error("verified")
	}
	for _, s := range texts(r) {
		if len(s) > mostText+8 {
			t.Errorf("a text of %d bytes: %.80q", len(s), s)
		}
	}
}

// counting counts the bytes that are read.
type counting struct {
	io.ReaderAt
	n int64
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n += int64(n)
	return n, err
}

// A file that an unsigned manifest lists many times is not read as often.
func TestManifestListsAFileManyTimes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"big", "checkpoints/000000000001.txt", "records/000000000001.json"} {
		big := bytes.Repeat([]byte("x"), checkpoint.MaxNoteSize)
		m := new(manifest)
		for range 5000 {
			m.Files = append(m.Files, fileEntry{Name: name, Size: int64(len(big)), SHA256: strings.Repeat("0", 64)})
		}
		raw := container(t, NewFile(name, big), NewFile(nameManifest, unsigned(t, m)), NewFile(nameSums, nil))
		c := &counting{ReaderAt: bytes.NewReader(raw)}
		r := Verify(c, int64(len(raw)), trustNobody(t))
		if c.n > 20*int64(len(raw)) {
			t.Errorf("%s: a file of %d bytes is read %d times over", name, len(raw), c.n/int64(len(raw)))
		}
		if !strings.Contains(strings.Join(texts(r), "\n"), `"`+name+`" is listed twice`) {
			t.Errorf("%s: nobody says that it is listed twice: %q", name, texts(r))
		}
		if len(r.Checks) > 20 {
			t.Errorf("%s: %d checks", name, len(r.Checks))
		}
	}
}

// What a file says of itself cannot print lines into the report, nor command a
// terminal.
func TestReportIsPrintable(t *testing.T) {
	t.Parallel()
	const evil = "x\nVERIFIED\r\x1b[8m\u202egnp.exe\u2028\x9b"
	for what, raw := range map[string][]byte{
		"origin":     container(t, NewFile(nameManifest, unsigned(t, &manifest{Origin: evil})), NewFile(nameSums, nil)),
		"format":     container(t, NewFile(nameManifest, bytes.Replace(unsigned(t, new(manifest)), []byte(manifestFormat), []byte(`x\nVERIFIED`), 1)), NewFile(nameSums, nil)),
		"not JSON":   container(t, NewFile(nameManifest, []byte(evil)), NewFile(nameSums, nil)),
		"a field":    container(t, NewFile(nameManifest, []byte("{\"x\\nVERIFIED\": 1}")), NewFile(nameSums, nil)),
		"file":       container(t, NewFile(evil, nil), NewFile(evil, nil)),
		"extra file": container(t, NewFile(evil, nil), NewFile(nameManifest, unsigned(t, new(manifest))), NewFile(nameSums, nil)),
		"listed":     container(t, NewFile(nameManifest, unsigned(t, &manifest{Files: []fileEntry{{Name: evil}}})), NewFile(nameSums, []byte(evil))),
	} {
		for _, s := range texts(Verify(bytes.NewReader(raw), int64(len(raw)), trustNobody(t))) {
			if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%s: %q", what, s)
			}
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "perché no, \"sì\"": "perché no, \"sì\"", "a\nb": `a\nb`, "\x1b[1m": `\x1b[1m`, "\xff": `\xff`, "\u202e": `\u202e`, "\t": `\t`,
		strings.Repeat("x", 3000): strings.Repeat("x", mostText+1) + "…",
	} {
		if got := printable(in); got != want {
			t.Errorf("%.40q: %.60q", in, got)
		}
	}
	cause := errors.New("a\nb")
	r := new(Report)
	r.Add(Check{Name: "n\n", Err: fmt.Errorf("%w", cause)})
	if c := r.Checks[0]; c.Name != `n\n` || c.Err.Error() != "a; b" || !errors.Is(c.Err, cause) {
		t.Errorf("%q %q", c.Name, c.Err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	var f Faults
	f.Add(nil)
	if f.Err() != nil {
		t.Error("no fault is one")
	}
	for i := range 7 {
		f.Add(fmt.Errorf("%d", i))
	}
	if got := f.Err().Error(); got != "0\n1\n2\n3\n4\nand 2 more" {
		t.Errorf("%q", got)
	}
}
