package witness

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"scripta/merkle/checkpoint"
)

// TestTesseraIsCosigned has a log of another make ask our witness: its client and
// its verifier of cosignatures are not ours. Then its folder is copied, and the copy
// goes on by itself.
func TestTesseraIsCosigned(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	for from, to := range map[string]string{"go.mod": "go.mod", "go.sum": "go.sum", "main.go.txt": "main.go"} {
		b, err := os.ReadFile(filepath.Join("testdata", "tessera", from))
		if err == nil {
			err = os.WriteFile(filepath.Join(source, to), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(source, "tessera")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=") // a module of its own, not vendored
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI_STRICT") == "1" {
			t.Fatalf("couldn't build the log: %v\n%s", err, out)
		}
		t.Skipf("couldn't build the log, perhaps without network: %v\n%s", err, out)
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, "tessera.example/log")
	if err != nil {
		t.Fatal(err)
	}
	log, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	s := newSigner(t, "w.example/1")
	w, err := OpenServer(ServerOptions{Dir: t.TempDir(), Signer: s, Logs: []note.Verifier{log}, PerAddress: 1e6, PerLog: 1e6, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	refused := make(chan struct{}, 1)
	c := newClient(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			rw.Header()[k] = v
		}
		rw.WriteHeader(rec.Code)
		_, _ = rw.Write(rec.Body.Bytes())
		if rec.Code == http.StatusUnprocessableEntity {
			select {
			case refused <- struct{}{}:
			default:
			}
		}
	}), s)
	policy := &Policy{Quorum: 1, Members: []Member{{Key: vkeyOf(s), URL: c.URL + "/", Verifier: s.Verifier()}}}
	command := func(folder string, entries int) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, folder, skey, policy.Text(), strconv.Itoa(entries))
		cmd.Stderr = t.Output()
		return cmd
	}
	add := func(folder string, entries int) *checkpoint.Signed {
		t.Helper()
		signed, err := command(folder, entries).Output()
		if err != nil {
			t.Fatal(err)
		}
		cp, err := checkpoint.Open(signed, log)
		if err != nil || !policy.Satisfied(signed) {
			t.Fatalf("%v in\n%s", err, signed)
		}
		return cp
	}
	folder, fork := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "fork")
	if cp := add(folder, 5); cp.Size < 5 {
		t.Errorf("%d leaves are cosigned", cp.Size)
	}
	if err := os.CopyFS(fork, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	last := add(folder, 4)
	other := command(fork, 7)
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- other.Wait() }()
	select {
	case <-refused:
		_ = other.Process.Kill()
		<-ended
	case err := <-ended: // by itself after its own minute
		t.Errorf("the fork's log ended with %v, and the witness refused nothing", err)
	}
	seen := LatestSeen(t.Context(), []*Client{c}, log, last)[0]
	if seen.Err != nil || seen.Checkpoint == nil || seen.Size != last.Size || seen.Checkpoint.Root != last.Root {
		t.Errorf("the witness saw %+v, the log has %d leaves", seen, last.Size)
	}
}
