package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"scripta/internal/config"
)

// readmeSteps are the commands that the README has a newcomer type, in order.
func readmeSteps(t *testing.T) []string {
	t.Helper()
	text := string(must[[]byte](t)(os.ReadFile(filepath.Join("..", "..", "README.md"))))
	_, rest, _ := strings.Cut(text, "## A first message, step by step\n")
	section, _, ok := strings.Cut(rest, "\n## ")
	if !ok {
		t.Fatal("the README has no such section")
	}
	var steps []string
	for line := range strings.Lines(section) {
		if code, ok := strings.CutPrefix(line, "       "); ok {
			steps = append(steps, code)
		}
	}
	return steps
}

// The README's steps do what it says, as they stand there.
func TestReadmeSteps(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"bash", "curl", "openssl", "python3"} {
		need(t, program)
	}
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	p.start(t)
	work := t.TempDir()
	root := abs(t, filepath.Join("..", ".."))
	_, smtps, _ := strings.Cut(p.listen.Submissions, ":")
	_, https, _ := strings.Cut(p.listen.HTTPS, ":")
	here := strings.NewReplacer("bin/scripta", binary, "run/pec", string(p.dir), "/tmp/prova.eml", filepath.Join(work, "prova.eml"),
		"testdata/", filepath.Join(root, "testdata")+"/", "10465", smtps, "10443", https,
		"/v1/messages/ID", "/v1/messages/$ID", "/v1/receipts/RECEIPT-ID", "/v1/receipts/$RECEIPT")
	// What a person reads from an answer and types.
	reads := map[string]string{
		"/v1/messages |":    `ID=$(api /v1/messages | python3 -c 'import json, sys; print(json.load(sys.stdin)["messages"][0]["id"])')`,
		"/v1/messages/ID |": `RECEIPT=$(api /v1/messages/$ID | python3 -c 'import json, sys; print([e["receipt"]["id"] for e in json.load(sys.stdin)["events"] if "receipt" in e][0])')`,
	}
	script := "set -eux -o pipefail\n"
	for _, line := range readmeSteps(t) {
		script += here.Replace(line)
		for mark, read := range reads {
			if strings.Contains(line, mark) {
				script += read + "\n"
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir = work
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"ok     register", "posta-certificata/new:", "\nVERIFIED\n", "recomputed to the signed root", `"state": "delivered"`,
		"Subject: ACCETTAZIONE: Prima prova", "\n\u2014 " + testDomain, "  VERIFIED"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if n := strings.Count(string(out), "erification successful"); n < 4 {
		t.Errorf("openssl verified %d messages", n)
	}
}

// What `make run` prints to be tried has the folder's own ports and domain, and
// comes only when the provider serves.
func TestTryScript(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"mario"}, nil)
	base := must[config.Config](t)(config.Load(p.dir.Config())).Listen.PortBase
	try := abs(t, filepath.Join("..", "..", "deploy", "try.sh"))
	if out, err := run(t, "sh", try, binary, string(p.dir), "4242"); err == nil || !strings.Contains(out, fmt.Sprintf("has port base %d already", base)) {
		t.Errorf("with another base: %v, %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), "sh", try, binary, string(p.dir), fmt.Sprint(base))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			// The shell has become the provider.
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	want := regexp.MustCompile(fmt.Sprintf(`(?s)^ready .*\nProva .*smtps://localhost:%d .*mario@%s:segreta.*Ctrl-C.*\nstopped: 0 jobs wait\n$`, base+465, regexp.QuoteMeta(testDomain)))
	if !want.MatchString(said.String()) {
		t.Errorf("it printed\n%s", said.String())
	}
}
