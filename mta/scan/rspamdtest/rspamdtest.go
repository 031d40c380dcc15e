// Package rspamdtest runs a real rspamd for tests, without DNS, without its rules
// and without a service of the system: it knows GTUBE alone.
package rspamdtest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// GTUBE returns the line that every spam filter takes for spam. It is put together
// here, so that no filter of source files finds it.
func GTUBE() string {
	return strings.Join([]string{"XJS*C4JDBQADN1.NSBN3*2IDNEN*", "GTUBE-STANDARD", "-ANTI-UBE-TEST-EMAIL", "*C.34X"}, "")
}

// Start runs rspamd until the test ends and returns its URL. Without the program
// the test is skipped, or fails where CI_STRICT=1.
func Start(t testing.TB) string {
	t.Helper()
	name, err := exec.LookPath("rspamd")
	if err != nil {
		if os.Getenv("CI_STRICT") == "1" {
			t.Fatalf("%v: install rspamd", err)
		}
		t.Skipf("%v: install rspamd", err)
	}
	const tries = 5 // the port that is free now may be another's a moment later
	for range tries {
		url, stop, terr := start(name, t.TempDir())
		if err = terr; err == nil {
			t.Cleanup(stop)
			return url
		}
	}
	t.Fatalf("rspamd does not start: %v", err)
	return ""
}

func start(program, dir string) (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address := l.Addr().String()
	_ = l.Close()
	in := func(name string) string { return filepath.Join(dir, name) }
	// The list of top-level domains that comes with it takes ten seconds to read.
	if err := os.WriteFile(in("tld"), []byte("com\nit\ntest\n"), 0o600); err != nil {
		return "", nil, err
	}
	conf := fmt.Sprintf("options {\n pidfile = %q; tempdir = %q; url_tld = %q; filters = \"\"; control_socket = %q; hs_cache_dir = %q; rrd = \"\"; stats_file = %q; history_file = %q;\n"+
		" dns { nameserver = [\"127.0.0.1:9\"]; timeout = 0.1s; retransmits = 1; }\n}\nlogging { type = \"console\"; level = \"error\"; }\n"+
		"worker \"normal\" { bind_socket = %q; count = 1; }\nactions { reject = 15; add_header = 6; greylist = 4; }\n",
		in("pid"), dir, in("tld"), in("control.sock")+" mode=0600", dir, in("stats"), in("history"), address)
	if err := os.WriteFile(in("rspamd.conf"), []byte(conf), 0o600); err != nil {
		return "", nil, err
	}
	var out strings.Builder
	cmd := exec.Command(program, "--no-fork", "--insecure", "--config", in("rspamd.conf"))
	cmd.Stdout, cmd.Stderr, cmd.Dir = &out, &out, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // should the test process die
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	stop = func() {
		_ = cmd.Process.Signal(os.Interrupt) // it ends its workers
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	deadline := time.After(time.Minute)
	for {
		resp, err := http.Get("http://" + address + "/ping")
		if err == nil {
			_ = resp.Body.Close()
			return "http://" + address, stop, nil
		}
		select {
		case <-ended:
			return "", nil, fmt.Errorf("it ended: %s", out.String())
		case <-deadline:
			stop()
			return "", nil, fmt.Errorf("it does not answer: %w", err)
		case <-time.After(20 * time.Millisecond): // and ask again
		}
	}
}
