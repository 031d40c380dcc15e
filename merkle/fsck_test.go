package merkle

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"scripta/merkle/checkpoint"
)

// Tessera's own fsck reads every tile and bundle of a log with tiles on three
// levels, as it is served, and recomputes the root. It is not parallel: a process
// that is being started holds the locks of the other tests' databases for a
// moment.
func TestFsck(t *testing.T) {
	leaves := uint64(200_123)
	if testing.Short() {
		leaves = 66_000
	}
	program, err := exec.LookPath("fsck-tessera")
	if err != nil {
		if os.Getenv("CI_STRICT") == "1" {
			t.Fatal("fsck-tessera is not installed")
		}
		t.Skip("fsck-tessera is not installed")
	}
	opt := options(t, t.TempDir())
	l := open(t, opt)
	for first := uint64(0); first < leaves; first += 4096 {
		mustAdd(t, l, first, min(leaves-first, 4096))
	}
	mustPublish(t, l)
	srv := httptest.NewServer(http.StripPrefix("/scripta/1", l.Handler()))
	defer srv.Close()
	key := filepath.Join(t.TempDir(), "log.vkey")
	if err := os.WriteFile(key, []byte(vkey(t, opt.Verifier)), 0o600); err != nil {
		t.Fatal(err)
	}
	fsck := func() (out string, ok bool) {
		b, err := exec.Command(program, "--storage_url", srv.URL+"/scripta/1/", "--public_key", key, "--ui=false").CombinedOutput()
		out = string(b)
		// Its exit code is 0 whatever it found.
		return out, err == nil && strings.Contains(out, fmt.Sprintf("checking log of size %d", leaves)) && !strings.Contains(out, "failed")
	}
	if out, ok := fsck(); !ok {
		t.Error(out)
	}
	// It would have told: the same tree under a checkpoint that lies.
	c := l.Checkpoint().Checkpoint
	c.Root[0] ^= 1
	lie, err := checkpoint.Sign(c, opt.Signer)
	if err != nil {
		t.Fatal(err)
	}
	defer l.published.Store(l.published.Swap(lie))
	if out, ok := fsck(); ok {
		t.Errorf("a wrong root passed\n%s", out)
	}
}

// vkey is the text of the test key's verifier.
func vkey(t *testing.T, v note.Verifier) string {
	t.Helper()
	_, text, err := checkpoint.NewVerifier(v.Name(), testPublic(1))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
