package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"scripta/merkle/checkpoint"
)

// Proofs are checked with the Go checksum database's own code.
func TestProofs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.submit(1, start, anna, bruno)
	first, err := f.log.Publish(t.Context())
	f.must(err)
	f.submit(2, start, anna, bruno)
	f.submit(3, start, anna, bruno)
	second, err := f.log.Publish(t.Context())
	f.must(err)
	f.submit(4, start, anna, bruno) // not published
	leaves, err := f.log.Leaves(t.Context(), 0, f.log.Size())
	f.must(err)
	for i := range second.Size {
		path := fmt.Sprintf("/v1/records/%d/proof", i)
		w := f.do(request{path: path, plain: true})
		h := w.Header()
		if w.Code != 200 || h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("Cache-Control") != "public, max-age=60" || h.Get("Access-Control-Allow-Origin") != "*" ||
			h.Get("Content-Disposition") != fmt.Sprintf(`attachment; filename="%d.tlog-proof"`, i) {
			t.Fatalf("%d %v", w.Code, h)
		}
		p, err := checkpoint.ParseProof(w.Body.Bytes())
		f.must(err)
		n, err := note.Open(p.Note, note.VerifierList(f.log.Verifier()))
		f.must(err)
		tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + strings.SplitN(n.Text, "\n", 2)[1]))
		f.must(err)
		var proof tlog.RecordProof
		for _, h := range p.Hashes {
			proof = append(proof, tlog.Hash(h))
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, int64(p.Index), tlog.RecordHash(leaves[i].Value)); err != nil || p.Index != i || uint64(tree.N) != second.Size {
			t.Errorf("%d: %v", i, err)
		}
		if w := f.do(request{method: http.MethodHead, path: path}); w.Code != 200 {
			t.Errorf("HEAD: %d", w.Code)
		}
	}
	w := f.do(request{path: fmt.Sprintf("/v1/log/consistency?from=%d&to=%d", first.Size, second.Size)})
	if w.Code != 200 || w.Header().Get("Cache-Control") != immutable {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	var proof tlog.TreeProof
	for line := range strings.Lines(w.Body.String()) {
		h, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(line, "\n"))
		f.must(err)
		proof = append(proof, tlog.Hash(h))
	}
	if err := tlog.CheckTree(proof, int64(second.Size), tlog.Hash(second.Root), int64(first.Size), tlog.Hash(first.Root)); err != nil {
		t.Error(err)
	}
	if w := f.do(request{path: "/v1/log/consistency?from=0&to=5"}); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("from the empty log: %d %q", w.Code, w.Body)
	}
	for _, path := range []string{"/v1/records/9/proof", "/v1/records/09/proof", "/v1/records/-1/proof", "/v1/records/18446744073709551616/proof", "/v1/records/x/proof",
		"/v1/records/9223372036854775807/proof", "/v1/log/consistency?from=0&to=10"} {
		f.wantProblem(f.do(request{path: path}), 404, "not-found")
	}
	for _, query := range []string{"", "?from=1", "?to=1", "?from=2&to=1", "?from=1&to=2&to=3", "?from=1&to=2&x=3", "?from=01&to=2", "?from=-1&to=2", "?from=%zz"} {
		f.wantProblem(f.do(request{path: "/v1/log/consistency" + query}), 400, "bad-parameter")
	}
	// A witness's signatures come along when there are any.
	cosigned := *first
	cosigned.Note = append(append([]byte(nil), first.Note...), "— witness.example/1 AAAAAAAAAAAAAAAAAAAAAAAA\n"...)
	f.o.Checkpoint = func() *checkpoint.Signed { return &cosigned }
	if w := f.do(request{path: "/v1/records/0/proof"}); !strings.HasSuffix(w.Body.String(), string(cosigned.Note)) {
		t.Errorf("%s", w.Body)
	}
}
