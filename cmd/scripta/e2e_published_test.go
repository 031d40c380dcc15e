package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"scripta/internal/config"
)

// Tessera's own fsck reads every tile and entry of the published log over HTTPS
// and recomputes the root of the checkpoint.
func TestPublishedLog(t *testing.T) {
	t.Parallel()
	fsck := need(t, "fsck-tessera")
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	p.start(t)
	n := size(5, 60, 3000) // over the first full tile, of 256 leaves, in CI
	for i := range n {
		p.send(t, letter{id: "<p" + strconv.Itoa(i) + "@client>", from: address("mario"), to: []string{address("lucia")}, subject: "log"})
	}
	p.idle(t, patience)
	c := must[config.Config](t)(config.Load(p.dir.Config()))
	for _, url := range []string{"https://" + p.listen.HTTPS + "/", "https://" + p.listen.HTTPS + "/scripta/" + c.Log.ID + "/"} {
		cmd := exec.Command(fsck, "--storage_url", url, "--public_key", p.dir.PublicLogKey(), "--ui=false")
		cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+p.dir.PublicTLSCA())
		// Its exit code is 0 whatever it found.
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "checking log of size ") || strings.Contains(string(out), "failed") {
			t.Errorf("%s: %v\n%s", url, err, out)
		}
	}
	// A record's proof, as it is served, against the leaf of an evidence file.
	r := p.extract(t, "--mailbox", address("mario")).records[3]
	name := filepath.Join(t.TempDir(), "record.tlog-proof")
	curl := need(t, "curl")
	if out, err := run(t, curl, "-sSf", "--cacert", p.dir.PublicTLSCA(), "-o", name, fmt.Sprintf("https://%s/v1/records/%d/proof", p.listen.HTTPS, r.Index)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := run(t, binary, "verify", name, "--leaf", r.Leaf, "--trust", p.dir.Public()); err != nil || !strings.HasSuffix(out, "VERIFIED\n") {
		t.Errorf("%v\n%s", err, out)
	}
	other := "0101" + strings.Repeat("00", 32)
	if out, err := run(t, binary, "verify", name, "--leaf", other, "--trust", p.dir.Public()); err == nil {
		t.Errorf("another leaf verified\n%s", out)
	}
	p.stop(t)
}
