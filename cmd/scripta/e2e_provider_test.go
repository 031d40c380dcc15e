package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"scripta/internal/config"
)

const (
	testDomain   = "pec.example.it"
	testPassword = "segreta"
)

// provider is a folder made by `scripta init`, and the daemon that serves it.
type provider struct {
	domain string
	dir    config.Dir
	listen config.Addresses
	log    string // what the daemons wrote on standard error
	daemon *daemonProcess
	boxes  boxes
	crowd  []string // further mailboxes
}

// newProvider makes a provider with accounts of these local parts. Its clock has
// no sources: tests use no network.
func newProvider(t *testing.T, accounts []string, edit func(*config.Config)) *provider {
	t.Helper()
	return newProviderIn(t, filepath.Join(t.TempDir(), "pec"), accounts, edit)
}

func newProviderIn(t *testing.T, dir string, accounts []string, edit func(*config.Config)) *provider {
	t.Helper()
	return newProviderOf(t, dir, testDomain, "Scripta di prova", accounts, edit)
}

// newProviderOf makes a provider with a domain and a name of its own.
func newProviderOf(t *testing.T, dir, domain, name string, accounts []string, edit func(*config.Config)) *provider {
	t.Helper()
	p := &provider{domain: domain, dir: config.Dir(dir), log: filepath.Join(t.TempDir(), "log")}
	args := []string{"init", "--dir", dir, "--domain", domain, "--provider", name}
	for _, a := range accounts {
		args = append(args, "--account", a+":"+testPassword)
	}
	if out, err := run(t, binary, args...); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	p.configure(t, func(c *config.Config) {
		c.Clock.Servers = nil
		c.Listen.PortBase = freePorts(t)
		if edit != nil {
			edit(c)
		}
	})
	t.Cleanup(func() { p.finish(t) })
	return p
}

func address(local string) string { return local + "@" + testDomain }

// address is an address of the provider's domain.
func (p *provider) address(local string) string { return local + "@" + p.domain }

// configure changes scripta.toml. The daemon reads it when it starts.
func (p *provider) configure(t *testing.T, edit func(*config.Config)) {
	t.Helper()
	c, err := config.Load(p.dir.Config())
	if err != nil {
		t.Fatal(err)
	}
	edit(&c)
	if err := config.Write(p.dir.Config(), c); err != nil {
		t.Fatal(err)
	}
	p.listen = c.Listen.Addresses()
}

var (
	nextPorts atomic.Int32
	// So that two runs on one machine seldom try the same.
	firstPorts, portShift = rand.IntN(21), rand.IntN(10)
)

// freePorts returns a base whose ports are free until the test ends. They lie
// below the ports that the system gives to clients.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 200 {
		base := 11000 + (firstPorts+int(nextPorts.Add(1)))%21*1000 + portShift
		if reservePorts(t, base) && portsAreFree(base) {
			return base
		}
	}
	t.Fatal("no free ports below 32768")
	return 0
}

// reservePorts keeps other runs of these tests on the machine from using a base:
// its ports are free until the daemon is started, and while it is down.
func reservePorts(t *testing.T, base int) bool {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("scripta-e2e-ports-%d", base)), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		_ = f.Close()
		return false
	}
	t.Cleanup(func() { _ = f.Close() })
	return true
}

func portsAreFree(base int) bool {
	for _, n := range []int{25, 90, 318, 443, 465, 587, 993, 995} {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(base+n)))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

// daemonProcess is one run of `scripta serve`.
type daemonProcess struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed at the line "ready"
	ended chan struct{} // closed when the process has ended; then err is set
	err   error
	last  string // line on the standard output, once it has ended
}

// spawn runs the daemon and does not wait for it.
func (p *provider) spawn(t *testing.T) *daemonProcess {
	t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, "serve", "--dir", string(p.dir))
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // should the test process die
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &daemonProcess{cmd: cmd, ready: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		lines := bufio.NewScanner(out)
		for seen := false; lines.Scan(); {
			d.last = lines.Text()
			if !seen && strings.HasPrefix(lines.Text(), "ready ") {
				seen = true
				close(d.ready)
			}
		}
		_, _ = io.Copy(io.Discard, out)
		d.err = cmd.Wait()
		close(d.ended)
	}()
	p.daemon = d
	return d
}

// start runs the daemon and returns when it is ready.
func (p *provider) start(t *testing.T) {
	t.Helper()
	d := p.spawn(t)
	select {
	case <-d.ready:
	case <-d.ended:
		t.Fatalf("serve ended before it was ready: %v\n%s", d.err, p.logged(t))
	case <-time.After(time.Minute):
		t.Fatalf("serve was not ready within a minute\n%s", p.logged(t))
	}
}

// kill ends the daemon by SIGKILL.
func (d *daemonProcess) kill() {
	_ = d.cmd.Process.Kill()
	<-d.ended
}

// stop ends the daemon by SIGTERM, which must give the exit code 0.
func (p *provider) stop(t *testing.T) {
	t.Helper()
	d := p.daemon
	p.daemon = nil
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	select {
	case <-d.ended:
		if d.err != nil {
			t.Errorf("serve ended by SIGTERM with %v\n%s", d.err, p.logged(t))
		} else if !strings.HasPrefix(d.last, "stopped: ") {
			t.Errorf("serve ended with the line %q", d.last)
		}
	case <-time.After(time.Minute):
		d.kill()
		t.Errorf("serve did not end within a minute of SIGTERM\n%s", p.logged(t))
	}
}

// crashMarks tell of the end that no daemon may have.
var crashMarks = []string{"panic:", "unexpected fault address", "fatal error:", "DATA RACE"}

// finish is the end of every test: nothing is left running, and no daemon has
// panicked, met a data race or logged a password.
func (p *provider) finish(t *testing.T) {
	if p.daemon != nil {
		p.daemon.kill()
	}
	log, err := os.ReadFile(p.log)
	if errors.Is(err, os.ErrNotExist) {
		return
	} else if err != nil {
		t.Error(err)
	}
	for _, bad := range append(crashMarks, testPassword) {
		if bytes.Contains(log, []byte(bad)) {
			t.Errorf("the daemon's log holds %q", bad)
		}
	}
	if t.Failed() {
		t.Logf("the daemon's log ends:\n%s", p.logged(t))
	}
}

// logged returns the end of what the daemons logged.
func (p *provider) logged(t *testing.T) string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	const most = 8000
	for _, mark := range crashMarks {
		if i := bytes.Index(b, []byte(mark)); i >= 0 {
			return string(b[i:min(len(b), i+most)])
		}
	}
	return string(b[max(0, len(b)-most):])
}

// scripta runs a command on the provider's folder and returns its exit code.
func (p *provider) scripta(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	out, err := run(t, binary, append(args, "--dir", string(p.dir))...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), out
	} else if err != nil {
		t.Fatal(err)
	}
	return 0, out
}

// command runs a command that must succeed.
func (p *provider) command(t *testing.T, args ...string) string {
	t.Helper()
	code, out := p.scripta(t, args...)
	if code != 0 {
		t.Fatalf("scripta %s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

var underWay = regexp.MustCompile(`pipeline +(\d+) messages under way`)

// idle waits until every accepted message has every outcome, and the daemon is
// healthy.
func (p *provider) idle(t *testing.T, long time.Duration) {
	t.Helper()
	last := ""
	deadline := time.Now().Add(long)
	eventually(t, long+time.Minute, "status", func() bool {
		var code int
		code, last = p.scripta(t, "status")
		m := underWay.FindStringSubmatch(last)
		if time.Now().After(deadline) {
			t.Fatalf("the daemon is not idle and healthy within %v: exit %d\n%s\n%s", long, code, last, p.logged(t))
		}
		return code == 0 && m != nil && m[1] == "0"
	})
}

// verifyLog recomputes the whole log of a stopped provider, under which nothing
// is on its way, and audits it.
func (p *provider) verifyLog(t *testing.T) {
	t.Helper()
	if code, out := p.scripta(t, "audit", "--settled"); code != 0 {
		t.Errorf("audit: %s", out)
	}
	// It may tell how far it is, before.
	if out := "\n" + p.command(t, "log", "verify"); !strings.Contains(out, "\nok: ") {
		t.Errorf("log verify: %s", out)
	}
}

// extract writes an evidence file and reads it.
func (p *provider) extract(t *testing.T, args ...string) *evidenceFile {
	t.Helper()
	name := filepath.Join(t.TempDir(), "evidence.zip")
	p.command(t, append([]string{"extract", "--out", name}, args...)...)
	return readEvidence(t, name)
}

// verify runs `scripta verify` with what the provider publishes.
func (p *provider) verify(t *testing.T, name string) {
	t.Helper()
	out, err := run(t, binary, "verify", name, "--trust", p.dir.Public(), "--quiet")
	if err != nil || !strings.HasSuffix(out, "VERIFIED\n") {
		t.Errorf("verify: %v\n%s", err, out)
	}
}

// peakMemory is the most that the daemon ever had in memory, bytes.
func (p *provider) peakMemory(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.daemon.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
		t.Fatalf("no VmHWM: %v", err)
	}
	return kib << 10
}

// boxes remembers what was read from mailboxes: a delivered message never
// changes.
type boxes struct {
	mu    sync.Mutex
	known map[string]*mail
}
