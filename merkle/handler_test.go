package merkle

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"scripta/merkle/checkpoint"
	"scripta/merkle/tiles"
)

func get(h http.Handler, method, path string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, r *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHandler(t *testing.T) {
	t.Parallel()
	l := open(t, options(t, t.TempDir()))
	mustAdd(t, l, 0, 70_000)
	mustPublish(t, l)
	mustAdd(t, l, 70_000, 500) // not published
	h := l.Handler()
	for _, c := range []struct {
		path   string
		status int
		length int
		kind   string
		cache  string
	}{
		{"/checkpoint", 200, len(l.Checkpoint().Note), "text/plain; charset=utf-8", "public, max-age=2"},
		{"/tile/0/000", 200, 8192, "application/octet-stream", "public, max-age=31536000, immutable"},
		{"/tile/0/000.p/7", 200, 7 * 32, "application/octet-stream", "public, max-age=31536000, immutable"},
		{"/tile/0/272", 200, 8192, "application/octet-stream", "public, max-age=31536000, immutable"},
		{"/tile/0/273.p/112", 200, 112 * 32, "application/octet-stream", "public, max-age=31536000, immutable"},
		{"/tile/0/273.p/113", 404, 0, "", ""}, // in the log, not published
		{"/tile/0/273", 404, 0, "", ""},
		{"/tile/0/274.p/1", 404, 0, "", ""},
		{"/tile/1/000", 200, 8192, "application/octet-stream", "public, max-age=31536000, immutable"},
		{"/tile/1/001.p/17", 200, 17 * 32, "application/octet-stream", "public, max-age=31536000, immutable"},
		{"/tile/2/000.p/1", 200, 32, "application/octet-stream", "public, max-age=31536000, immutable"},
		{"/tile/2/000", 404, 0, "", ""},
		{"/tile/3/000.p/1", 404, 0, "", ""},
		{"/tile/63/000.p/1", 404, 0, "", ""},
		{"/tile/entries/000", 200, 256 * 36, "application/octet-stream", "public, max-age=31536000, immutable"},
		{"/tile/entries/273.p/112", 200, 112 * 36, "application/octet-stream", "public, max-age=31536000, immutable"},
		{"/tile/entries/273.p/113", 404, 0, "", ""},
		{"/", 404, 0, "", ""}, {"/x", 404, 0, "", ""}, {"/tile/0/0", 404, 0, "", ""}, {"/checkpoint/", 404, 0, "", ""}, {"//checkpoint", 404, 0, "", ""},
		{"/" + strings.Repeat("a", 10_000), 404, 0, "", ""},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			r := get(h, method, c.path)
			if r.StatusCode != c.status {
				t.Errorf("%s %.40s: %s", method, c.path, r.Status)
				continue
			}
			if c.status != 200 {
				if strings.Contains(r.Header.Get("Cache-Control"), "immutable") {
					t.Errorf("%s: a 404 that lasts", c.path)
				}
				continue
			}
			if r.ContentLength != int64(c.length) || r.Header.Get("Content-Type") != c.kind || r.Header.Get("Cache-Control") != c.cache || r.Header.Get("Content-Encoding") != "" {
				t.Errorf("%s %s: %d bytes, headers %v", method, c.path, r.ContentLength, r.Header)
			}
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE"} {
		if r := get(h, method, "/checkpoint"); r.StatusCode != 405 || r.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s, Allow %q", method, r.Status, r.Header.Get("Allow"))
		}
	}
	plain := body(t, get(h, "GET", "/tile/entries/000"))
	zipped := get(h, "GET", "/tile/entries/000", "Accept-Encoding", "br, gzip;q=0.5")
	z, err := gzip.NewReader(zipped.Body)
	if err != nil || zipped.Header.Get("Content-Encoding") != "gzip" || zipped.Header.Get("Vary") != "Accept-Encoding" {
		t.Fatalf("%v, headers %v", err, zipped.Header)
	}
	if b, err := io.ReadAll(z); err != nil || !bytes.Equal(b, plain) {
		t.Errorf("unzipped: %d bytes, %v", len(b), err)
	}
	for _, no := range []string{"", "br", "gzip;q=0", "gzip;q=0.0", "identity"} {
		if r := get(h, "GET", "/tile/entries/000", "Accept-Encoding", no); r.Header.Get("Content-Encoding") != "" {
			t.Errorf("zipped for %q", no)
		}
	}
	closeLog(t, l)
	if r := get(h, "GET", "/tile/0/000"); r.StatusCode != 503 {
		t.Errorf("a closed log: %s", r.Status)
	}
}

// TestAuditor reads the log over HTTP alone, with the Go checksum database's
// client for tiles, and checks every entry.
func TestAuditor(t *testing.T) {
	t.Parallel()
	l := open(t, options(t, t.TempDir()))
	mustAdd(t, l, 0, 20_123)
	mustPublish(t, l)
	srv := httptest.NewServer(http.StripPrefix("/scripta/1", l.Handler()))
	defer srv.Close()
	fetch := func(path string) []byte {
		t.Helper()
		r, err := srv.Client().Get(srv.URL + "/scripta/1/" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if r.StatusCode != 200 {
			t.Fatalf("%s: %s", path, r.Status)
		}
		return body(t, r)
	}
	c, err := checkpoint.Open(fetch("checkpoint"), l.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	tree := tlog.Tree{N: int64(c.Size), Hash: tlog.Hash(c.Root)}
	// Its TileHashReader verifies each tile against the tree.
	hashes := tlog.TileHashReader(tree, tileReader(func(tile tlog.Tile) []byte {
		return fetch(tiles.Tile{Level: tile.L, Index: uint64(tile.N), Width: tile.W}.Path())
	}))
	for index, first := uint64(0), uint64(0); first < c.Size; index++ {
		width := int(min(c.Size-first, tiles.Width))
		entries, err := tiles.ParseBundle(fetch(tiles.Tile{Level: tiles.Entries, Index: index, Width: width}.Path()), width)
		if err != nil {
			t.Fatal(err)
		}
		at := make([]int64, width)
		for i := range at {
			at[i] = tlog.StoredHashIndex(0, int64(first)+int64(i))
		}
		want, err := hashes.ReadHashes(at)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range entries {
			if tlog.RecordHash(e) != want[i] {
				t.Fatalf("entry %d has not the hash in the tree", first+uint64(i))
			}
		}
		first += uint64(width)
	}
	proof, err := tlog.ProveRecord(tree.N, 12_345, hashes)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := l.Inclusion(context.Background(), 12_345, c.Size)
	if err != nil || len(ours) != len(proof) {
		t.Fatal(ours, err)
	}
	for i := range proof {
		if [32]byte(proof[i]) != ours[i] {
			t.Errorf("hash %d of the proof differs", i)
		}
	}
}

// tileReader is tlog.TileReader with tiles of height 8.
type tileReader func(tlog.Tile) []byte

func (tileReader) Height() int                     { return 8 }
func (tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
func (f tileReader) ReadTiles(ts []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(ts))
	for i, t := range ts {
		data[i] = f(t)
	}
	return data, nil
}
