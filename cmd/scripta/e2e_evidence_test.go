package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"testing"
)

// evidenceFile is an evidence file as a stranger reads it: a ZIP archive of JSON
// and messages.
type evidenceFile struct {
	path    string
	raw     []byte
	names   []string // in the archive's order
	files   map[string][]byte
	records []shownRecord // by index
}

// shownRecord is records/INDEX.json.
type shownRecord struct {
	Index      uint64
	Leaf       string
	Checkpoint uint64
	Proof      []string
	Receipt    string
	Fields     []struct {
		Name, Value, Text string
		Elements          []struct{ Text string }
	}
}

// text is what a field says; elements of a list are joined by a line break.
func (r *shownRecord) text(name string) string {
	for _, f := range r.Fields {
		if f.Name != name {
			continue
		}
		if len(f.Elements) == 0 {
			return f.Text
		}
		var all []string
		for _, e := range f.Elements {
			all = append(all, e.Text)
		}
		return strings.Join(all, "\n")
	}
	return ""
}

func readEvidence(t *testing.T, path string) *evidenceFile {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e := &evidenceFile{path: path, raw: raw, files: map[string][]byte{}}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		e.names = append(e.names, f.Name)
		e.files[f.Name] = b
		if strings.HasPrefix(f.Name, "records/") {
			var rec shownRecord
			if err := json.Unmarshal(b, &rec); err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
			e.records = append(e.records, rec)
		}
	}
	return e
}

// unpack writes the files into a folder, for programs that are not ours.
func (e *evidenceFile) unpack(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	if err := os.CopyFS(folder, must[*zip.Reader](t)(zip.NewReader(bytes.NewReader(e.raw), int64(len(e.raw))))); err != nil {
		t.Fatal(err)
	}
	return folder
}

// pack is the container of these files with a manifest's list and SHA256SUMS that
// fit: what an attacker, who has no key, can do to hide a change.
func pack(t *testing.T, names []string, files map[string][]byte) []byte {
	t.Helper()
	files["manifest.json"] = fitManifest(t, files)
	files["SHA256SUMS"] = sumsOf(names, files)
	return packAsIs(t, names, files)
}

// sumsOf is SHA256SUMS.
func sumsOf(names []string, files map[string][]byte) []byte {
	var sums bytes.Buffer
	for _, n := range names {
		if n != "SHA256SUMS" {
			sums.WriteString(sha256Hex(files[n]) + "  " + n + "\n")
		}
	}
	return sums.Bytes()
}

// packAsIs is the container of these files in the form that the provider gives it.
func packAsIs(t *testing.T, names []string, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, n := range names {
		b := files[n]
		w, err := z.CreateRaw(&zip.FileHeader{Name: n, Method: zip.Store, CRC32: crc32.ChecksumIEEE(b),
			CompressedSize64: uint64(len(b)), UncompressedSize64: uint64(len(b))})
		if err == nil {
			_, err = w.Write(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// fitManifest changes sizes and digests in the manifest's text to those of the
// files, without touching its form. A manifest that cannot be read stays as it is.
func fitManifest(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	raw := files["manifest.json"]
	var m struct {
		Files []struct {
			Name   string
			Size   int64
			SHA256 string
		}
	}
	if json.Unmarshal(raw, &m) != nil {
		return raw
	}
	head, _, ok := bytes.Cut(raw, []byte(` "files": [`))
	if !ok {
		return raw
	}
	var list []byte
	for _, f := range m.Files {
		b, there := files[f.Name]
		if !there {
			continue
		}
		entry, err := json.MarshalIndent(struct {
			Name   string `json:"name"`
			Size   int    `json:"size"`
			SHA256 string `json:"sha256"`
		}{f.Name, len(b), sha256Hex(b)}, "  ", " ")
		if err != nil {
			t.Fatal(err)
		}
		if list != nil {
			list = append(list, ",\n"...)
		}
		list = append(append(list, "  "...), entry...)
	}
	out := append(append([]byte(nil), head...), " \"files\": [\n"...)
	return append(append(out, list...), "\n ]\n}\n"...)
}

func sha256Hex(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}
