package main

import (
	"os"
	"os/exec"
	"strconv"
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
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", url, err, out)
		}
	}
	p.stop(t)
}
