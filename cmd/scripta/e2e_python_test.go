package main

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The second implementation, too, says what is wrong instead of leaving a trace.
func TestPythonVerifierSaysWhy(t *testing.T) {
	t.Parallel()
	python := need(t, "python3")
	script := abs(t, filepath.Join("..", "..", "testdata", "verify_evidence.py"))
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	archive := func(files ...string) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for i := 0; i < len(files); i += 2 {
			w, err := z.CreateHeader(&zip.FileHeader{Name: files[i], Method: zip.Store})
			if err == nil {
				_, err = w.Write([]byte(files[i+1]))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	sums := func(json string) string { return sha256Hex([]byte(json)) + "  manifest.json\n" }
	odd := archive("a", "b")
	for _, mark := range []string{"PK\x01\x02", "PK\x03\x04"} { // where the method stands
		odd[bytes.Index(odd, []byte(mark))+map[string]int{"PK\x01\x02": 10, "PK\x03\x04": 8}[mark]] = 99
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--help"}, "verify_evidence.py FILE [LOG.vkey"},
		{nil, "verify_evidence.py FILE [LOG.vkey"},
		{[]string{filepath.Join(dir, "absent")}, "FAILED: couldn't read "},
		{[]string{write("text", []byte("no archive"))}, "FAILED: this is no evidence file"},
		{[]string{write("empty.zip", archive())}, "FAILED: the archive has no file SHA256SUMS"},
		{[]string{write("odd.zip", odd)}, "FAILED: the archive is compressed or encrypted in a way"},
		{[]string{write("list.zip", archive("manifest.json", "[]", "SHA256SUMS", sums("[]")))}, "FAILED: a file is not in the form of docs/format.md"},
		{[]string{write("member.zip", archive("manifest.json", "{}", "SHA256SUMS", sums("{}")))}, "FAILED: a JSON file lacks the member 'files'"},
	} {
		out, err := run(t, python, append([]string{script}, c.args...)...)
		if !strings.Contains(out, c.want) || strings.Contains(out, "Traceback") || (err == nil) != (len(c.args) > 0 && c.args[0] == "--help") {
			t.Errorf("%v: %v, %s; want %q", c.args, err, out, c.want)
		}
	}
}
