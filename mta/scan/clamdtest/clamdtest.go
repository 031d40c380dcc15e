// Package clamdtest runs a real clamd for tests, with signatures of its own: it
// needs no network, no freshclam and no service of the system.
package clamdtest

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"scripta/mta/scan"
)

// Virus is how clamd names what [EICAR] returns.
const Virus = "Scripta-Test-Eicar.UNOFFICIAL"

// EICAR returns the test file that every scanner takes for a virus and that is
// none (eicar.org). It is put together here, so that no scanner of source files
// finds it.
func EICAR() string {
	return strings.Join([]string{`X5O!P%@AP[4\PZX54(P^)7CC)7}$`, "EICAR-STANDARD", "-ANTIVIRUS-TEST-FILE!", "$H+H*"}, "")
}

// Server is a clamd that runs.
type Server struct {
	Address string // host:port, on the loopback

	t    testing.TB
	dir  string
	stop func()
}

// Start runs clamd until the test ends. extra are lines of its configuration that
// come before ours, and of two of a kind the first counts. Without the program the test is skipped, or fails where
// CI_STRICT=1.
func Start(t testing.TB, extra ...string) *Server {
	t.Helper()
	if _, err := program(); err != nil {
		if os.Getenv("CI_STRICT") == "1" {
			t.Fatalf("%v: install clamav-daemon", err)
		}
		t.Skipf("%v: install clamav-daemon", err)
	}
	s := &Server{t: t, dir: t.TempDir()}
	s.write("db/local.ndb", "Scripta-Test-Eicar:0:*:"+hex.EncodeToString([]byte(EICAR()))+"\n")
	s.write("extra", strings.Join(extra, "\n"))
	s.Up()
	t.Cleanup(s.Down)
	return s
}

// program finds clamd, which is where only root looks.
func program() (string, error) {
	if name, err := exec.LookPath("clamd"); err == nil {
		return name, nil
	}
	return exec.LookPath("/usr/sbin/clamd")
}

func (s *Server) write(name, content string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// Up runs clamd, at the address that it had before, and returns when it answers.
func (s *Server) Up() {
	s.t.Helper()
	const tries = 5 // the port that is free now may be another's a moment later
	var err error
	for range tries {
		if err = s.up(); err == nil {
			return
		}
	}
	s.t.Fatalf("clamd does not start: %v", err)
}

func (s *Server) up() error {
	address := s.Address
	if address == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		address = l.Addr().String()
		_ = l.Close()
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	extra, err := os.ReadFile(filepath.Join(s.dir, "extra"))
	if err != nil {
		return err
	}
	s.write("clamd.conf", fmt.Sprintf("%s\nDatabaseDirectory %s\nTCPSocket %s\nTCPAddr 127.0.0.1\nForeground yes\nScanMail yes\nStreamMaxLength 200M\n"+
		"MaxScanSize 400M\nMaxFileSize 200M\nMaxThreads 4\nSelfCheck 0\nTemporaryDirectory %s\n", extra, filepath.Join(s.dir, "db"), port, s.dir))
	name, err := program()
	if err != nil {
		return err
	}
	var out strings.Builder
	cmd := exec.Command(name, "--config-file", filepath.Join(s.dir, "clamd.conf"))
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // should the test process die
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	stop := func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	probe := scan.New(scan.Options{Clamd: address, Timeout: time.Second})
	deadline := time.After(30 * time.Second)
	for {
		_, err := probe.Scan(context.Background(), strings.NewReader("x"))
		if err == nil {
			s.Address, s.stop = address, stop
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("it ended: %s", out.String())
		case <-deadline:
			stop()
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(20 * time.Millisecond): // and ask again
		}
	}
}

// Down kills clamd; Up brings it back.
func (s *Server) Down() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}
